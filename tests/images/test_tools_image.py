"""The image that jobs run in, built for real from this checkout."""

from __future__ import annotations

import contextlib
import io
import tarfile
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from sandbox import parts
from sandbox.pytest_parts import require

if TYPE_CHECKING:
    from collections.abc import Iterator

    import docker

    from sandbox.engine import Engine

TAG = "pipeline-tools/tools:test"
BASE = "pipeline-tools/base:test"
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")


@pytest.fixture(scope="module")
def client(engine: Engine) -> Iterator[docker.DockerClient]:
    with contextlib.closing(engine.client()) as opened:
        yield opened


@pytest.fixture(scope="module")
def image(engine: Engine, client: docker.DockerClient) -> str:
    """The image, from Debian's packages and PyPI as this machine reaches them."""
    require(parts.DEBOOTSTRAP, parts.KUSTOMIZE)
    engine.import_debian("debian:bookworm-slim")
    make(client, BASE, context=base_context())
    client.api.import_image_from_data(
        tar({"app/kustomize": kustomize_binary()}), repository="kustomize", tag="test"
    )
    arguments = {"BASE_IMAGE": BASE, "KUSTOMIZE_IMAGE": "kustomize:test"}
    make(client, TAG, path=str(parts.ROOT), dockerfile="images/tools/Dockerfile", buildargs=arguments)
    return TAG


def make(client: docker.DockerClient, tag: str, *, context: bytes | None = None, **options: object) -> None:
    if context is not None:
        options |= {"fileobj": io.BytesIO(context), "custom_context": True}
    stream = client.api.build(tag=tag, rm=True, decode=True, **options)  # type: ignore[arg-type]  # build's own options
    said = [str(line.get("stream", line.get("error", ""))) for line in stream]
    assert f"Successfully tagged {tag}" in said[-1], "".join(said[-30:])


def base_context() -> bytes:
    """Debian with the certificates that this machine trusts: where PyPI is reached through a proxy, it has its own."""
    name = CERTIFICATES.name
    dockerfile = f"FROM debian:bookworm-slim\nCOPY {name} /host/{name}\nENV PIP_CERT=/host/{name}\n"
    return tar({"Dockerfile": dockerfile.encode(), name: CERTIFICATES.read_bytes()})


def kustomize_binary() -> bytes:
    found = parts.KUSTOMIZE.find("kustomize")
    assert found
    return found.read_bytes()


def tar(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o755
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def run(client: docker.DockerClient, image: str, script: str, user: str | None = None) -> str:
    """What a job's script prints: the runner starts a shell, as here."""
    return bytes(client.containers.run(image, ["sh", "-ec", script], user=user, remove=True)).decode()


@pytest.mark.timeout(600)
def test_a_job_has_the_tools(client: docker.DockerClient, image: str) -> None:
    assert version("pipeline-tools") in run(client, image, "pipeline-tools --version")
    assert "kustomize" in run(client, image, "kustomize version")
    assert run(client, image, "git --version").startswith("git version 2.")


def test_a_job_is_not_root(client: docker.DockerClient, image: str) -> None:
    assert run(client, image, "id -u") == "10001\n"


def test_git_works_in_a_checkout_that_the_runner_made_as_root(
    client: docker.DockerClient, image: str
) -> None:
    as_job = "setpriv --reuid 10001 --regid 10001 --clear-groups"
    said = run(
        client, image, f"git init -q /builds; {as_job} git -C /builds rev-parse --is-inside-work-tree", "root"
    )
    assert said == "true\n"


def test_the_image_names_itself_and_has_no_entrypoint(client: docker.DockerClient, image: str) -> None:
    config = client.images.get(image).attrs["Config"]
    assert not config["Entrypoint"]
    assert config["User"] == "10001:10001"
    assert config["Labels"]["org.opencontainers.image.title"] == "pipeline-tools"


def test_the_image_holds_neither_pip_nor_sources(client: docker.DockerClient, image: str) -> None:
    assert (
        run(client, image, "ls /src /dist /opt/build /opt/pipeline-tools/bin/pip 2>/dev/null | wc -l")
        == "0\n"
    )


BUILD = """
import sys
from pathlib import Path
from pipeline_tools.adapters.buildah import Buildah
from pipeline_tools.text.recipes import Recipe
import os
context = Path("/tmp/context")
context.mkdir()
(context / "page").write_text("hello")
(context / "Dockerfile").write_text("FROM scratch\\nCOPY page /page\\nUSER 65534\\n")
builder = Buildah(dict(os.environ))
builder.ready()
with builder.building(Recipe(epoch=1), context, context / "Dockerfile", "made:0") as made:
    print("made", made.top.digest)
"""


@pytest.mark.parametrize("user", ["root", "10001:10001"])
def test_a_job_builds_where_the_runner_class_is_unconfined(
    client: docker.DockerClient, image: str, user: str
) -> None:
    """As GitLab's Kubernetes executor starts it where seccomp and AppArmor are Unconfined."""
    options = ["seccomp=unconfined", "apparmor=unconfined"]
    argv = ["/opt/pipeline-tools/bin/python", "-c", BUILD]
    said = client.containers.run(image, argv, user=user, security_opt=options, remove=True)
    assert b"made sha256:" in said


def test_a_job_in_a_confined_pod_is_told_which_runner_class_it_takes(
    client: docker.DockerClient, image: str
) -> None:
    script = "/opt/pipeline-tools/bin/python -c 'from pipeline_tools.adapters.pod import unshare; unshare({})' 2>&1 || true"
    said = run(client, image, script)
    assert "PipelineError: unshare" in said
    assert "seccomp: a filter" in said
