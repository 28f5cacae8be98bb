"""Bad input and a world that does not play along: an exit code, one line, a hint, and nothing written."""

from pathlib import Path
from typing import Any

import pytest

from sandbox.engine import Engine
from sandbox.gitlab import Access
from sandbox.proxy import Fault, refusal
from sandbox.registry import Registry
from tests import registry_images as images
from tests.conftest import CI_PASSWORD, CI_USER, READER, READER_PASSWORD
from tests.world import World, error


@pytest.fixture
def ready(world: World, engine: Engine, token_registry: Registry, repository: str, kustomize: Path) -> World:
    """A world in which a release would work."""
    world.variables |= {
        "PT_REPOSITORY": f"{token_registry.host}/{repository}",
        "PT_REGISTRY_USER": CI_USER,
        "PT_REGISTRY_PASSWORD": CI_PASSWORD,
        "DOCKER_HOST": engine.url,
    }
    world.tag("v1.0.0")
    return world


def refused(world: World, exit_code: int, **variables: Any) -> tuple[str, str]:
    """A release that is refused; env repository and pipelines are as before."""
    before = world.env_tip, len(world.gitlab.pipelines(world.env_project))
    found = error(world.run("release", exit_code=exit_code, **variables))
    assert (world.env_tip, len(world.gitlab.pipelines(world.env_project))) == before
    return found


def test_a_wrong_password(ready: World, token_registry: Registry, repository: str) -> None:
    message, hint = refused(ready, 4, PT_REGISTRY_PASSWORD="wrong-password")
    assert "Unauthorized" in message
    assert "PT_REGISTRY_PASSWORD" in hint
    assert images.contents(token_registry, repository) == {}


def test_a_user_that_may_only_pull(ready: World, token_registry: Registry, repository: str) -> None:
    refused(ready, 4, PT_REGISTRY_USER=READER, PT_REGISTRY_PASSWORD=READER_PASSWORD)
    assert images.contents(token_registry, repository) == {}


@pytest.mark.parametrize(("status", "exit_code"), [(401, 4), (403, 4), (404, 1), (503, 5)])
def test_a_registry_that_refuses_the_version_tag(
    ready: World, token_registry: Registry, repository: str, status: int, exit_code: int
) -> None:
    fault = Fault(method="PUT", path=r"/manifests/1\.0\.0$", times=None, answer=refusal(status))
    with token_registry.failing(fault):
        refused(ready, exit_code)
    assert "1.0.0" not in images.contents(token_registry, repository)
    assert ready.json("release")["status"] == "done"


def test_no_credential_goes_to_a_registry_that_only_the_include_names(
    ready: World, token_registry: Registry
) -> None:
    include = ready.app / ".gitlab-ci.yml"
    repository = ready.variables.pop("PT_REPOSITORY")
    include.write_text(
        include.read_text().replace("europe-west1-docker.pkg.dev/demo-project/apps/demo-app", repository)
    )
    ready.commit("feat: another registry")
    ready.tag("v1.1.0")
    with token_registry.recording() as seen:
        message, hint = refused(ready, 4)
    assert message == f"no credential goes to {token_registry.host}: only .gitlab-ci.yml names it"
    assert "docker login" in hint
    assert {exchange.scheme for exchange in seen} <= {""}


def test_docker_is_not_running(ready: World, tmp_path: Path) -> None:
    message, hint = refused(ready, 1, DOCKER_HOST=f"unix://{tmp_path}/none.sock", PT_BUILDER="docker")
    assert "docker does not answer" in message
    assert "DOCKER_HOST" in hint


def test_a_dry_run_without_docker_still_plans(ready: World, tmp_path: Path) -> None:
    nobody = {"DOCKER_HOST": f"unix://{tmp_path}/none.sock", "PT_BUILDER": "docker"}
    text = ready.run("release", "--dry-run", **nobody).stdout  # type: ignore[arg-type]
    assert "not read: docker does not answer" in text
    assert "trigger  planned" in text


def test_the_env_branch_is_protected(ready: World) -> None:
    ready.gitlab.protect_branch(ready.env_project, "main", push_access=Access.MAINTAINER)
    message, hint = refused(ready, 4)
    assert "protected branches" in message
    assert "PT_ENV_TOKEN" in hint


def test_the_env_token_is_empty(ready: World, token_registry: Registry, repository: str) -> None:
    message, hint = refused(ready, 4, PT_ENV_TOKEN="")
    assert "asks for a login" in message
    assert "PT_ENV_TOKEN" in hint
    assert images.contents(token_registry, repository) == {}, "found out before anything was built"


def test_an_overlay_that_is_not_there_is_found_before_anything_is_built(
    ready: World, token_registry: Registry, repository: str
) -> None:
    assert "no folder overlays/none" in refused(ready, 1, PT_OVERLAY="overlays/none")[0]
    assert "'other' matches no workload" in refused(ready, 1, PT_IMAGE="other")[0]
    assert images.contents(token_registry, repository) == {}


def test_gitlab_is_unreachable(ready: World) -> None:
    message, _ = refused(ready, 5, CI_SERVER_URL="http://127.0.0.1:9")
    assert "127.0.0.1:9" in message


def test_a_checkout_that_was_changed(ready: World) -> None:
    (ready.app / "Dockerfile").write_text("FROM busybox:1.35\n")
    message, hint = refused(ready, 3)
    assert message == "uncommitted changes: Dockerfile"
    assert "commit or restore" in hint
    text = ready.run("release", "--dry-run").stdout
    assert "would be refused: uncommitted changes: Dockerfile" in text
    assert "trigger  planned" in text


@pytest.mark.parametrize("context", ["../elsewhere", "/etc"])
def test_a_context_outside_the_checkout(ready: World, context: str) -> None:
    assert "outside the checkout" in refused(ready, 1, PT_CONTEXT=context)[0]


def test_a_dockerfile_that_is_not_there(ready: World) -> None:
    assert "no none/Dockerfile" in refused(ready, 1, PT_CONTEXT="none")[0]


def test_a_build_that_fails_shows_its_last_lines(ready: World) -> None:
    (ready.app / "Dockerfile").write_text("FROM busybox:1.35\nRUN echo the-last-words && false\n")
    ready.commit("feat: broken")
    ready.tag("v1.1.0")
    result = ready.run("release", exit_code=1)
    assert "the-last-words" in result.stderr
