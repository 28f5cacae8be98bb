"""Terraform's own `gcs` backend and its lock."""

import json
from pathlib import Path

import pytest

from sandbox.google_storage import GoogleStorage
from sandbox.parts import TERRAFORM
from sandbox.pytest_parts import require
from tests.terraform_root import RESOURCES, Terraform

STATE, LOCK = "network/default.tfstate", "network/default.tflock"
HELD = {
    "ID": "",
    "Operation": "OperationTypeApply",
    "Info": "",
    "Who": "anna@laptop",
    "Version": "1.11.4",
    "Created": "2026-01-01T00:00:00Z",
    "Path": "",
}


@pytest.fixture
def terraform(google_storage: GoogleStorage, tmp_path: Path) -> Terraform:
    require(TERRAFORM)
    made = Terraform(tmp_path, google_storage.variables)
    made.write(google_storage.backend("states", "network") + RESOURCES.format(value="a"))
    made.run("init")
    return made


def test_its_init_already_locks_and_writes_an_empty_state(
    google_storage: GoogleStorage, terraform: Terraform
) -> None:
    """Unlike the other backends: there is no looking at a new state without the right to write it."""
    assert json.loads(google_storage.read("states", STATE) or b"")["serial"] == 1
    google_storage.delete("states", STATE)
    terraform.run("plan", "-lock=false")
    assert google_storage.read("states", STATE)


def test_apply_keeps_the_state_and_leaves_no_lock(
    google_storage: GoogleStorage, terraform: Terraform
) -> None:
    terraform.apply()
    assert json.loads(google_storage.read("states", STATE) or b"")["outputs"]["one"]["value"] == "a"
    assert google_storage.read("states", LOCK) is None
    assert "No changes" in terraform.run("plan")


def test_a_lock_of_another_stops_apply_until_it_is_forced(
    google_storage: GoogleStorage, terraform: Terraform
) -> None:
    generation = google_storage.write("states", LOCK, json.dumps(HELD).encode())
    said = terraform.apply(exit_code=1)
    assert "Error acquiring the state lock" in said
    assert "anna@laptop" in said
    assert json.loads(google_storage.read("states", STATE) or b"")["resources"] == []
    terraform.run("force-unlock", "-force", str(generation + 7), exit_code=1)
    terraform.run("force-unlock", "-force", str(generation))
    terraform.apply()


def test_another_token_is_refused(google_storage: GoogleStorage, terraform: Terraform) -> None:
    other = Terraform(terraform.directory, {**google_storage.variables, "GOOGLE_OAUTH_ACCESS_TOKEN": "other"})
    assert "401" in other.run("plan", exit_code=1)
