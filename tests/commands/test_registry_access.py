"""Who a job is at a registry: what --registry-auth chooses, where its token goes, and where it does not."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from tests import registry_images as images
from tests.google_world import APPS, CANDIDATES, GoogleWorld
from tests.listener import listening
from tests.world import DIGEST, World, error

if TYPE_CHECKING:
    from pathlib import Path

    from sandbox.engine import Engine

IMAGE, CANDIDATE = f"{APPS}/demo-app", f"{CANDIDATES}/demo-app"


@dataclass
class Push:
    """A candidate to publish as 1.0.0 in an Artifact Registry."""

    world: World
    google: GoogleWorld
    digest: str

    @property
    def words(self) -> tuple[str, ...]:
        host = self.google.registry.host
        return ("push", "--repository", f"{host}/{IMAGE}", "--source", f"{host}/{CANDIDATE}@{self.digest}")

    @property
    def published(self) -> dict[str, str]:
        return images.contents(self.google.behind, IMAGE)

    @property
    def job(self) -> dict[str, Any]:
        """The variables of a job with an id token."""
        return dict(self.google.oidc)


@pytest.fixture
def push(world: World, google_world: GoogleWorld) -> Push:
    world.tag("v1.0.0")
    return Push(world, google_world, images.put_image(google_world.behind, CANDIDATE, "sha-1"))


def files(folder: Path) -> str:
    return "".join(path.read_text(errors="replace") for path in folder.rglob("*") if path.is_file())


# What is chosen ----------------------------------------------------------------------------------------------


def test_a_job_with_an_id_token_publishes(push: Push) -> None:
    result = push.world.run(*push.words, **push.job)
    assert push.published == {"1.0.0": push.digest}
    assert "logging in by oidc, for PT_GOOGLE_ID_TOKEN is set" in result.stderr
    assert len(push.google.issued) == 1


def test_a_pod_publishes_by_its_metadata_server(push: Push) -> None:
    variables: Any = {
        "GCE_METADATA_HOST": push.google.google.host,
        "PT_GOOGLE_REGISTRY": push.google.registry.host,
    }
    ended = push.world.process(*push.words, **variables)
    assert push.published == {"1.0.0": push.digest}
    assert "logging in by metadata, for this machine is Google's" in ended.stderr


def test_an_engine_pushes_and_pulls_with_the_job_s_token(push: Push, engine: Engine) -> None:
    """The base image is in the registry too; the engine asks the registry's token server by itself."""
    host = push.google.registry.host
    images.put_image(push.google.behind, f"{APPS}/base", "1")
    (push.world.app / "Dockerfile").write_text(f"FROM {host}/{APPS}/base:1\nCOPY www /www\n")
    push.world.commit("feat: our own base")
    push.world.tag("v1.1.0")
    words = ("--repository", f"{host}/{IMAGE}", "--candidate-repository", f"{host}/{CANDIDATE}")
    built = push.world.json("build", *words, DOCKER_HOST=engine.url, **push.job)["result"]
    pushed = push.world.json("push", *words, **push.job)["result"]
    assert push.published == {"1.1.0": built["digest"]}
    assert pushed["digest"] == built["digest"]


def test_no_token_is_said_or_written(push: Push) -> None:
    job = push.job
    ended = push.world.process(*push.words, "-v", **job)
    everything = ended.stdout + ended.stderr + files(push.world.app)
    assert job["PT_GOOGLE_ID_TOKEN"] not in everything
    assert push.google.issued[0].token not in everything


def docker_login(push: Push) -> dict[str, Any]:
    auth = base64.b64encode(b"someone:docker-password").decode()
    return {"DOCKER_AUTH_CONFIG": json.dumps({"auths": {push.google.registry.host: {"auth": auth}}})}


PASSWORD = {"PT_REGISTRY_USER": "someone", "PT_REGISTRY_PASSWORD": "basic-password"}


@pytest.mark.parametrize(
    ("words", "has", "expected"),
    [
        ((), {"password", "oidc", "docker", "pod"}, "basic, for PT_REGISTRY_PASSWORD is set"),
        ((), {"oidc", "docker", "pod"}, "oidc, for PT_GOOGLE_ID_TOKEN is set"),
        ((), {"docker", "pod"}, "docker-config, for docker has a login there"),
        ((), {"pod"}, "metadata, for this machine is Google's"),
        ((), set(), "docker-config, for nothing else is there"),
        (("metadata",), {"password", "oidc", "docker", "pod"}, "metadata, as --registry-auth says"),
        (("oidc",), {"password", "oidc", "docker", "pod"}, "oidc, as --registry-auth says"),
        (("docker-config",), {"password", "oidc", "docker", "pod"}, "docker-config, as --registry-auth says"),
        (("basic",), {"password", "oidc", "docker", "pod"}, "basic, as --registry-auth says"),
    ],
)
def test_what_is_chosen_and_why(push: Push, words: tuple[str, ...], has: set[str], expected: str) -> None:
    host = push.google.registry.host
    variables: dict[str, Any] = {"PT_GOOGLE_REGISTRY": host, "NO_GCE_CHECK": "true"}
    variables |= PASSWORD if "password" in has else {}
    variables |= push.job if "oidc" in has else {}
    variables |= docker_login(push) if "docker" in has else {}
    # Not Google's own server name, which could be there: the stand-in's.
    variables |= {"GCE_METADATA_HOST": push.google.google.host, "NO_GCE_CHECK": None} if "pod" in has else {}
    option = ("--registry-auth", *words) if words else ()
    result = push.world.run(*push.words, "--dry-run", *option, **variables)
    assert re.findall(r"logging in by (.*)", result.stderr) == [expected]


# Where tokens go ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["oidc", "metadata"])
def test_google_s_tokens_go_to_google_s_registries_only(push: Push, way: str) -> None:
    job = push.job | {"PT_GOOGLE_REGISTRY": None}
    with listening() as other:
        words = ("push", "--repository", f"{other.host}/a/b", "--source", f"{other.host}/a/c@{DIGEST}", "--registry-auth", way)  # fmt: skip
        message, hint = error(push.world.run(*words, exit_code=1, **job))
    assert message == f"no Google token goes to {other.host}"
    assert "--google-registry" in hint
    assert push.google.issued == []
    assert other.seen == []


def test_auto_keeps_google_s_tokens_from_other_registries(push: Push) -> None:
    job = push.job | {"PT_GOOGLE_REGISTRY": None}
    with listening() as other:
        push.world.run("push", "--repository", f"{other.host}/a/b", "--source", f"{other.host}/a/c@{DIGEST}", exit_code=1, **job)  # fmt: skip
    assert other.seen
    assert not any("authorization" in {name.lower() for name in seen.headers} for seen in other.seen)
    assert push.google.issued == []


def test_a_host_that_only_the_checkout_names_gets_no_token(push: Push) -> None:
    host = push.google.registry.host
    (push.world.app / ".gitlab-ci.yml").write_text(
        f"include:\n- local: ci_templates/release.yml\n  inputs:\n    repository: {host}/{IMAGE}\n"
    )
    words = ("push", "--source", f"{host}/{CANDIDATE}@{push.digest}")
    message, hint = error(push.world.run(*words, exit_code=4, **push.job))
    assert message == f"no credential goes to {host}: only .gitlab-ci.yml names it"
    assert "PT_REPOSITORY" in hint
    assert push.google.issued == []


def test_the_include_cannot_say_how_to_log_in(push: Push) -> None:
    with listening() as other:
        (push.world.app / ".gitlab-ci.yml").write_text(
            "include:\n- local: ci_templates/release.yml\n  inputs:\n"
            f"    google_sts_url: {other.url}\n    google_registry: [{other.host}]\n    registry_auth: oidc\n"
        )
        push.world.run(*push.words, **push.job)
    assert other.seen == []
    assert push.published


# What is wrong -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("way", "changes", "said", "advice"),
    [
        ("basic", {}, "--registry-auth basic has no password", "PT_REGISTRY_USER"),
        ("auto", {"PT_REGISTRY_PASSWORD": "of-nobody"}, "set without PT_REGISTRY_USER", "both, or neither"),
        ("oidc", {"PT_GOOGLE_ID_TOKEN": None}, "needs an id token", "id_tokens: PT_GOOGLE_ID_TOKEN"),
        ("oidc", {"PT_GOOGLE_WORKLOAD_IDENTITY_PROVIDER": "projects/acme/pool"}, "not a workload identity provider", "number"),
        ("oidc", {"PT_GOOGLE_SERVICE_ACCOUNT": "x/../y"}, "not a Google service account", "iam.gserviceaccount.com"),
        ("oidc", {"PT_GOOGLE_STS_URL": "http://sts.example.com"}, "tokens do not go to 'http://sts.example.com'", "https"),
    ],
)  # fmt: skip
def test_options_that_do_not_do(
    push: Push, way: str, changes: dict[str, Any], said: str, advice: str
) -> None:
    result = push.world.run(*push.words, "--registry-auth", way, exit_code=1, **(push.job | changes))
    message, hint = error(result)
    assert said in message
    assert advice in hint
    assert push.google.issued == []


def test_a_missing_role_is_named_with_who_lacks_it(push: Push) -> None:
    push.google.door.writers[APPS] = frozenset()
    push.google.door.readers[APPS] = frozenset({push.google.job})
    message, hint = error(push.world.run(*push.words, exit_code=4, **push.job))
    assert "uploadArtifacts" in message
    assert hint.startswith(
        "grant roles/artifactregistry.writer on projects/acme/locations/europe-west1/repositories/apps to "
        f"{push.google.job};"
    )
    assert push.published == {}


def test_an_id_token_that_is_refused_is_no_plan(push: Push) -> None:
    job = push.job | {"PT_GOOGLE_ID_TOKEN": push.google.id_token(is_protected=False).reveal()}
    _, hint = error(push.world.run(*push.words, exit_code=4, **job))
    assert "ref_protected false" in hint
