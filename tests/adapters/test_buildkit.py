"""BuildKit's binary could not be had: what it would be asked is tested, and what is missing where it is not."""

from __future__ import annotations

import json
import os
from contextlib import nullcontext
from pathlib import Path

import pytest

from pipeline_tools.adapters import buildkit
from pipeline_tools.adapters.buildkit import Buildkit
from pipeline_tools.adapters.credential_agent import Agent
from pipeline_tools.errors import PipelineError
from pipeline_tools.text.credentials import Credential
from pipeline_tools.text.masks import Secret
from pipeline_tools.text.recipes import BuildSecret, Recipe

CONTEXT, FILE, IMAGE = Path("app"), Path("app/docker/Other"), Path("image")


def test_what_it_is_asked() -> None:
    secrets = (BuildSecret("one", path="token"), BuildSecret("two", variable="TOKEN"))
    platforms = ("linux/amd64", "linux/arm64")
    recipe = Recipe(
        {"a": "b c"}, {"K": "v=1"}, "last", platforms, secrets, "r.example.com/cache", 7, attest=True
    )
    assert list(buildkit.arguments(recipe, CONTEXT, FILE, IMAGE)) == [
        "build",
        "--progress=plain",
        "--frontend=dockerfile.v0",
        "--local=context=app",
        "--local=dockerfile=app/docker",
        "--opt=filename=Other",
        "--opt=target=last",
        "--opt=platform=linux/amd64,linux/arm64",
        "--opt=build-arg:SOURCE_DATE_EPOCH=7",
        "--opt=build-arg:K=v=1",
        "--opt=label:a=b c",
        "--secret=id=one,src=token",
        "--secret=id=two,env=TOKEN",
        "--import-cache=type=registry,ref=r.example.com/cache",
        "--export-cache=type=registry,ref=r.example.com/cache,mode=max",
        "--opt=attest:provenance=mode=min",
        "--opt=attest:sbom=",
        "--output=type=oci,dest=image,tar=false,rewrite-timestamp=true,oci-artifact=true",
    ]


def test_what_is_not_asked_for_is_left_out() -> None:
    words = " ".join(buildkit.arguments(Recipe(), CONTEXT, FILE, IMAGE))
    for word in ("target", "platform", "secret", "cache", "attest", "artifact", "label"):
        assert word not in words


def test_what_it_needs(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match="buildctl is not installed"):
        Buildkit({"PATH": str(tmp_path)}).ready()
    program = tmp_path / "buildctl"
    program.write_text('#!/bin/sh\ntest "$1" = --version || { echo no daemon >&2; exit 1; }\n')
    program.chmod(0o755)
    with pytest.raises(PipelineError, match="rootlesskit is not installed"):
        Buildkit({"PATH": str(tmp_path)}).ready()
    with pytest.raises(PipelineError, match="no daemon"):
        Buildkit({"PATH": str(tmp_path), "BUILDKIT_HOST": "tcp://127.0.0.1:9"}).ready()


def test_a_daemon_elsewhere_needs_no_other_here() -> None:
    assert Buildkit({}).program == "buildctl-daemonless.sh"
    assert Buildkit({"BUILDKIT_HOST": "tcp://buildkitd:1234"}).program == "buildctl"


def test_it_can_ask_for_logins_and_finds_none_written(tmp_path: Path) -> None:
    """As buildctl does: the helper that `credHelpers` of its configuration names, asked for the registry's host."""
    said = tmp_path / "said"
    program = tmp_path / "buildctl-daemonless.sh"
    program.write_text(
        f'#!/bin/sh\ncat "$DOCKER_CONFIG/config.json" > {said}\n'
        f"echo r.example.com | docker-credential-pipeline-tools get >> {said}\n"
    )
    program.chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    login = Credential("ci", Secret("the-password"))
    with Agent(lambda _: login, ["r.example.com"]) as agent:
        lent = Buildkit(environment, lambda given: nullcontext(agent.variables(given)))
        with lent.building(Recipe(), CONTEXT, FILE, "made:0"):
            config, answer = said.read_text().replace("}{", "}\n{").splitlines()
    assert json.loads(config) == {"credHelpers": {"r.example.com": "pipeline-tools"}}
    assert (json.loads(answer)["Username"], json.loads(answer)["Secret"]) == ("ci", "the-password")


@pytest.mark.parametrize("said", ["line 403: unknown instruction: FOO", "line 3: unknown instruction: EOF"])
def test_a_dockerfile_that_is_wrong(tmp_path: Path, said: str) -> None:
    program = tmp_path / "buildctl-daemonless.sh"
    program.write_text(
        f"#!/bin/sh\necho 'error: failed to solve: dockerfile parse error on {said}' >&2\nexit 1\n"
    )
    program.chmod(0o700)
    builder = Buildkit({**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}, nullcontext)
    with (
        pytest.raises(PipelineError, match="parse error") as caught,
        builder.building(Recipe(), tmp_path, tmp_path / "Dockerfile", "made:0"),
    ):
        """It does not come here."""
    assert type(caught.value) is PipelineError
