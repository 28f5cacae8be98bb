"""Terraform's own `s3` backend with a lock file on the object storage."""

import json
from pathlib import Path

import pytest

from sandbox.object_storage import ObjectStorage
from sandbox.parts import TERRAFORM
from sandbox.pytest_parts import require
from tests.terraform_root import RESOURCES, Terraform

KEY = "network/terraform.tfstate"
LOCK = {
    "ID": "lock-1",
    "Operation": "OperationTypeApply",
    "Info": "",
    "Who": "anna@laptop",
    "Version": "1.11.4",
}


@pytest.fixture
def terraform(object_storage: ObjectStorage, tmp_path: Path) -> Terraform:
    """A root with a bucket of its own, named as the folder is."""
    require(TERRAFORM)
    object_storage.create_bucket(bucket := bucket_of(tmp_path))
    made = Terraform(tmp_path, object_storage.variables)
    made.write(object_storage.backend(bucket, KEY) + RESOURCES.format(value="a"))
    made.run("init")
    return made


def bucket_of(folder: Path) -> str:
    return folder.name.replace("_", "-")[:60].strip("-")


def planted(created: str = "2026-01-01T00:00:00Z") -> bytes:
    return json.dumps({**LOCK, "Created": created, "Path": KEY}).encode()


def test_apply_keeps_the_state_and_leaves_no_lock(
    object_storage: ObjectStorage, terraform: Terraform
) -> None:
    terraform.apply()
    bucket = bucket_of(terraform.directory)
    state = json.loads(object_storage.read(bucket, KEY) or b"")
    assert state["outputs"]["one"]["value"] == "a"
    assert object_storage.read(bucket, f"{KEY}.tflock") is None
    assert "No changes" in terraform.run("plan", "-lock=false")


def test_a_lock_of_another_stops_apply_until_it_is_forced(
    object_storage: ObjectStorage, terraform: Terraform
) -> None:
    bucket = bucket_of(terraform.directory)
    object_storage.write(bucket, f"{KEY}.tflock", planted())
    said = terraform.apply(exit_code=1)
    assert "Error acquiring the state lock" in said
    assert "anna@laptop" in said
    assert object_storage.read(bucket, KEY) is None
    terraform.run("force-unlock", "-force", "lock-1")
    terraform.apply()


def test_a_lock_that_goes_away_is_waited_for(object_storage: ObjectStorage, terraform: Terraform) -> None:
    bucket = bucket_of(terraform.directory)
    object_storage.write(bucket, f"{KEY}.tflock", planted())
    process = terraform.start("apply", "-auto-approve", "-lock-timeout=60s", "-no-color")
    object_storage.delete(bucket, f"{KEY}.tflock")
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
