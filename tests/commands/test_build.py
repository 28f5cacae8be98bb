"""`build` and `push` as commands: where credentials come from, and where they go."""

import base64
import json
import shutil
from pathlib import Path

import pytest

from sandbox import parts
from sandbox.engine import Engine
from sandbox.pytest_parts import require
from sandbox.registry import Registry
from tests import registry_images as images
from tests.conftest import CI_PASSWORD, CI_USER
from tests.world import World, error, git


@pytest.fixture
def ready(world: World, engine: Engine, token_registry: Registry, repository: str) -> World:
    """A tagged commit, an engine, and a registry that asks for tokens."""
    world.variables |= {
        "PT_REPOSITORY": f"{token_registry.host}/{repository}",
        "PT_REGISTRY_USER": CI_USER,
        "PT_REGISTRY_PASSWORD": CI_PASSWORD,
        "DOCKER_HOST": engine.url,
    }
    world.tag("v1.0.0")
    return world


def test_a_base_image_in_our_own_registry(ready: World, token_registry: Registry, repository: str) -> None:
    """The login that is for pushing pulls the base image too."""
    base = f"{repository}/base"
    images.put_image(token_registry, base, "1")
    (ready.app / "Dockerfile").write_text(f"FROM {token_registry.host}/{base}:1\nCOPY www /www\n")
    ready.commit("feat: our own base")
    ready.tag("v1.1.0")
    digest = ready.json("build")["result"]["digest"]
    assert list(images.contents(token_registry, repository).values()) == [digest]


def test_docker_login_does_as_well(ready: World, token_registry: Registry, repository: str) -> None:
    auth = base64.b64encode(f"{CI_USER}:{CI_PASSWORD}".encode()).decode()
    config = json.dumps({"auths": {token_registry.host: {"auth": auth}}})
    answer = ready.json("build", PT_REGISTRY_USER=None, PT_REGISTRY_PASSWORD=None, DOCKER_AUTH_CONFIG=config)
    assert answer["status"] == "done"
    assert images.contents(token_registry, repository).keys() == {answer["result"]["tag"]}


def test_the_password_is_said_nowhere(ready: World) -> None:
    result = ready.run("build", "-v")
    assert CI_PASSWORD not in result.output
    assert base64.b64encode(f"{CI_USER}:{CI_PASSWORD}".encode()).decode() not in result.output


def test_build_then_push(ready: World, token_registry: Registry, repository: str) -> None:
    built = ready.json("build")["result"]
    pushed = ready.json("push", "--moving", "minor")["result"]
    assert pushed["digest"] == built["digest"]
    assert images.contents(token_registry, repository) == dict.fromkeys(
        (built["tag"], "1.0.0", "1.0"), built["digest"]
    )
    assert ready.json("push", "--moving", "minor")["status"] == "unchanged"


@pytest.mark.parametrize("command", ["build", "push"])
def test_no_login(ready: World, command: str) -> None:
    words = (
        [command]
        if command == "build"
        else [command, "--source", f"{ready.variables['PT_REPOSITORY']}@sha256:{'a' * 64}"]
    )
    result = ready.run(*words, exit_code=4, PT_REGISTRY_USER=None, PT_REGISTRY_PASSWORD=None)
    message, hint = error(result)
    assert "401" in message
    assert "PT_REGISTRY_PASSWORD" in hint


def test_the_tagged_commit_is_what_is_built(ready: World) -> None:
    git(ready.app, "commit", "--quiet", "--allow-empty", "-m", "fix: later")
    message, hint = error(ready.run("build", "--tag", "v1.0.0", exit_code=3))
    assert "v1.0.0 is on" in message
    assert hint == "git checkout v1.0.0"


def test_a_build_secret_is_masked_and_in_no_layer(
    ready: World, token_registry: Registry, repository: str
) -> None:
    require(parts.BUILDAH, parts.BUSYBOX)
    shutil.copy(str(parts.BUSYBOX.find("busybox")), ready.app / "www" / "busybox")
    run = 'RUN --mount=type=secret,id=key echo "it is $(/busybox cat /run/secrets/key)"\n'
    shell = 'SHELL ["/busybox", "sh", "-c"]\n'
    (ready.app / "Dockerfile").write_text(f"FROM scratch\nCOPY www/busybox /busybox\n{shell}{run}")
    ready.commit("feat: a secret")
    ready.tag("v1.1.0")
    words = ("build", "-v", "--builder", "buildah", "--build-secret", "key=env:LENT")
    result = ready.run(*words, LENT="a-lent-secret")
    assert "a-lent-secret" not in result.output
    assert "it is [MASKED]" in result.output
    assert images.contents(token_registry, repository)


def test_a_build_secret_that_is_not_there(ready: World) -> None:
    message, hint = error(ready.run("build", "--build-secret", "key=env:NOWHERE", exit_code=1))
    assert "there is no variable NOWHERE" in message
    assert "protected" in hint
    assert "cannot be read" in error(ready.run("build", "--build-secret", "key=/nowhere", exit_code=1))[0]


def test_an_engine_takes_no_build_secret(ready: World) -> None:
    words = ("build", "--builder", "docker", "--build-secret", "key=env:LENT")
    assert "docker cannot do --build-secret" in error(ready.run(*words, exit_code=1, LENT="a-lent-secret"))[0]


def test_nothing_here_can_build(ready: World, tmp_path: Path) -> None:
    git_only = tmp_path / "bin"
    git_only.mkdir()
    (git_only / "git").symlink_to(str(shutil.which("git")))
    environment = {"DOCKER_HOST": f"unix://{tmp_path}/none.sock", "PATH": str(git_only)}
    message = ready.run("build", exit_code=1, **environment).stderr
    for said in ("docker does not answer", "buildah is not installed", "buildctl is not installed"):
        assert said in message


def test_the_commits_files_alone(ready: World, token_registry: Registry, repository: str) -> None:
    (ready.app / "Dockerfile").write_text("FROM nothing:1\n")
    answer = ready.json("build", "--git-context")
    assert answer["plan"]["git_context"] is True
    assert answer["plan"]["builder"] == "docker"
    assert images.contents(token_registry, repository) == {
        answer["result"]["tag"]: answer["result"]["digest"]
    }
