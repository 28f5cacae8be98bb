"""What `ci_templates/release.yml` says: valid, typed as the command line, and harmless to its user's pipeline."""

import re
import tomllib
from itertools import pairwise
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from pipeline_tools import settings
from pipeline_tools.cli import COMMANDS, cli
from pipeline_tools.options import Setting, of
from pipeline_tools.text.google_identity import provider
from tests.templates.template import (
    BLOCK,
    EXAMPLES,
    FOLDER,
    as_text,
    default,
    defaults,
    example_inputs,
    fill,
    kind,
    load,
    option,
    resolved,
    schema_says,
)

SPEC, BODY = load("release.yml")
EXAMPLE = EXAMPLES / "app" / ".gitlab-ci.yml"
FILLED = fill(BODY, {**defaults(SPEC), **example_inputs(EXAMPLE)})
OPTIONS = sorted(set(SPEC) - settings.OF_THE_JOBS)
JOBS = ("tag", "build", "push", "bump", "trigger")


def test_header_and_body_are_valid(tmp_path: Path) -> None:
    assert schema_says(tmp_path, {"spec": {"inputs": SPEC}}) == ""
    assert schema_says(tmp_path, FILLED) == ""
    assert schema_says(tmp_path, resolved(FILLED)) == ""


def test_the_schema_would_notice(tmp_path: Path) -> None:
    base = FILLED[".release-base"] | {"interruptible": "never"}
    assert "interruptible" in schema_says(tmp_path, resolved(FILLED | {".release-base": base}))


@pytest.mark.parametrize("name", OPTIONS)
def test_an_input_is_its_option(name: str) -> None:
    entry = SPEC[name]
    assert entry.get("type", "string") == kind(name)
    assert entry["description"].endswith(".")
    required = name in {"repository", "env_project", "overlay", "image"}
    assert ("default" not in entry) == required
    if not required:
        assert entry["default"] == default(name)


@pytest.mark.parametrize("name", OPTIONS)
def test_an_input_reaches_its_option_by_its_variable(name: str) -> None:
    variable = BODY[".$[[ inputs.job_prefix ]]base"]["variables"][option(name).envvar]
    text = variable["value"] if isinstance(variable, dict) else variable
    assert BLOCK.findall(text) == [name]


def test_every_variable_is_text() -> None:
    """GitLab refuses a boolean or an array (lib/gitlab/ci/config/entry/variable.rb)."""
    for job in FILLED.values():
        for name, value in job.get("variables", {}).items():
            text = value["value"] if isinstance(value, dict) else value
            assert isinstance(text, str), name


@pytest.mark.parametrize("name", [name for name, entry in SPEC.items() if "regex" in entry])
def test_a_regex_takes_the_default_and_the_example(name: str) -> None:
    for values in (defaults(SPEC), example_inputs(EXAMPLE)):
        if name in values:
            assert re.search(SPEC[name]["regex"], values[name])
    assert not re.search(SPEC[name]["regex"], "a b;$(id)")


def test_nothing_is_global() -> None:
    reserved = {"workflow", "stages", "default", "variables", "image", "services", "cache", "include"}
    assert not reserved & set(BODY)
    assert all("$[[ inputs.job_prefix ]]" in job for job in BODY)


def test_who_builds_and_pushes_asks_for_an_id_token() -> None:
    asking = {name for name, job in resolved(FILLED).items() if "id_tokens" in job}
    assert asking == {"release-build", "release-push"}


def test_the_id_token_is_for_the_provider_that_is_named() -> None:
    pool = "projects/1/locations/global/workloadIdentityPools/gitlab"
    named = provider(f"{pool}/providers/gitlab")
    inputs = {**defaults(SPEC), **example_inputs(EXAMPLE), "google_workload_identity_provider": str(named)}
    assert re.search(SPEC["google_workload_identity_provider"]["regex"], str(named))
    job = resolved(fill(BODY, inputs))["release-push"]
    variable = "PT_GOOGLE_WORKLOAD_IDENTITY_PROVIDER"
    audience = job["id_tokens"]["PT_GOOGLE_ID_TOKEN"]["aud"].replace(
        f"${variable}", job["variables"][variable]
    )
    assert audience == named.id_token_audience


@pytest.mark.parametrize(
    "written", ["//iam.googleapis.com/projects/1", "https://iam.googleapis.com/projects/1"]
)
def test_a_provider_is_not_written_as_an_audience(written: str) -> None:
    """The default audience begins with Google's address already."""
    assert not re.search(SPEC["google_workload_identity_provider"]["regex"], written)


def test_no_value_stands_in_a_script() -> None:
    lines = [line for job in BODY.values() for line in job.get("script", [])]
    assert lines == [f"pipeline-tools {words}" for words in ("tag check", *JOBS[1:])]
    assert not {"before_script", "after_script"} & {key for job in BODY.values() for key in job}


def test_the_jobs_are_a_chain() -> None:
    needs = {name: job.get("needs") for name, job in FILLED.items() if not name.startswith(".")}
    chain = {f"release-{after}": [f"release-{before}"] for before, after in pairwise(JOBS)}
    assert needs == {"release-tag": None, **chain}


def test_no_secret_is_an_input() -> None:
    assert not re.search("token|password|secret", " ".join(SPEC))


def test_image_and_example_are_of_this_version() -> None:
    version = tomllib.loads((FOLDER.parent / "pyproject.toml").read_text())["project"]["version"]
    assert SPEC["tools_image"]["default"].endswith(f":{version}")
    assert f"    ref: v{version}\n" in EXAMPLE.read_text()


def test_every_script_line_is_a_command_there_is() -> None:
    for job in JOBS:
        assert job in COMMANDS
        assert CliRunner().invoke(cli, [job, "--help"]).exit_code == 0


@pytest.mark.parametrize(
    "items",
    [["a", "b c"], ['say "hi"', "back\\slash"], ["KEY=#{id}", "#$HOME", "#@x", "#plain", "\\#{x}"], []],
)
def test_an_array_arrives_as_it_was_given(monkeypatch: pytest.MonkeyPatch, items: list[str]) -> None:
    @click.command()
    @of(also=("overlay",))
    def probe(**params: Any) -> None:
        click.echo("\0".join(params["overlay"]), nl=False)

    monkeypatch.setenv("PT_OVERLAY", f" {as_text(items)}")
    result = CliRunner().invoke(probe)
    assert result.output.split("\0") == (items or [""])
    assert isinstance(option("overlay"), Setting)
