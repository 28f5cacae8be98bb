"""The image with Terraform, built for real on a small base: what it adds, and that it takes no other program."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest

from sandbox import parts
from sandbox.pytest_parts import require
from tests.images.test_tools_image import make, run, tar

if TYPE_CHECKING:
    from collections.abc import Iterator

    import docker

    from sandbox.engine import Engine

TAG = "pipeline-tools/terraform:test"


@pytest.fixture(scope="module")
def client(engine: Engine) -> Iterator[docker.DockerClient]:
    with contextlib.closing(engine.client()) as opened:
        yield opened


def build(client: docker.DockerClient, program: bytes) -> None:
    """Build it with this program in place of the official image's, on the base of the demo."""
    client.api.import_image_from_data(tar({"bin/terraform": program}), repository="terraform", tag="test")
    arguments = {"TOOLS_IMAGE": "busybox:1.35", "TERRAFORM_IMAGE": "terraform:test"}
    make(client, TAG, path=str(parts.ROOT), dockerfile="images/terraform/Dockerfile", buildargs=arguments)


def terraform() -> bytes:
    require(parts.TERRAFORM)
    found = parts.TERRAFORM.find("terraform")
    assert found
    return found.read_bytes()


def test_a_job_has_terraform(client: docker.DockerClient) -> None:
    build(client, terraform())
    assert "Terraform v1.11.4" in run(client, TAG, "terraform version")


def test_another_program_is_not_taken(client: docker.DockerClient) -> None:
    with pytest.raises(AssertionError, match="sha256sum"):
        build(client, terraform() + b"\0")
