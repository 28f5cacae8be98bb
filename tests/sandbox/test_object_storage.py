"""Terraform's own `s3` backend with a lock file on the object storage."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandbox.object_storage import ObjectStorage
from sandbox.parts import TERRAFORM
from sandbox.pytest_parts import require
from tests.sandbox.terraform import RESOURCES, Terraform

pytestmark = pytest.mark.servers
KEY = "network/terraform.tfstate"
LOCK = {
    "ID": "lock-1",
    "Operation": "OperationTypeApply",
    "Info": "",
    "Who": "anna@laptop",
    "Version": "1.11.4",
}


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStorage]:
    with ObjectStorage.start(tmp_path_factory.mktemp("storage")) as started:
        yield started


@pytest.fixture
def terraform(storage: ObjectStorage, tmp_path: Path, request: pytest.FixtureRequest) -> Terraform:
    """A root with a bucket of its own, named as the folder is."""
    require(TERRAFORM)
    storage.create_bucket(bucket := bucket_of(tmp_path))
    made = Terraform(tmp_path, storage.variables)
    made.write(storage.backend(bucket, KEY) + RESOURCES.format(value="a"))
    made.run("init")
    return made


def bucket_of(folder: Path) -> str:
    return folder.name.replace("_", "-")[:60].strip("-")


def planted(created: str = "2026-01-01T00:00:00Z") -> bytes:
    return json.dumps({**LOCK, "Created": created, "Path": KEY}).encode()


def test_apply_keeps_the_state_and_leaves_no_lock(storage: ObjectStorage, terraform: Terraform) -> None:
    terraform.apply()
    bucket = bucket_of(terraform.directory)
    state = json.loads(storage.read(bucket, KEY) or b"")
    assert state["outputs"]["one"]["value"] == "a"
    assert storage.read(bucket, f"{KEY}.tflock") is None
    assert "No changes" in terraform.run("plan", "-lock=false")


def test_a_lock_of_another_stops_apply_until_it_is_forced(
    storage: ObjectStorage, terraform: Terraform
) -> None:
    bucket = bucket_of(terraform.directory)
    storage.write(bucket, f"{KEY}.tflock", planted())
    said = terraform.apply(exit_code=1)
    assert "Error acquiring the state lock" in said
    assert "anna@laptop" in said
    assert storage.read(bucket, KEY) is None
    terraform.run("force-unlock", "-force", "lock-1")
    terraform.apply()


def test_a_lock_that_goes_away_is_waited_for(storage: ObjectStorage, terraform: Terraform) -> None:
    bucket = bucket_of(terraform.directory)
    storage.write(bucket, f"{KEY}.tflock", planted())
    process = terraform.start("apply", "-auto-approve", "-lock-timeout=60s", "-no-color")
    storage.delete(bucket, f"{KEY}.tflock")
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
