"""What `ci_templates/terraform.yml` says: valid, typed as the command line, and credentials where they belong."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from pipeline_tools import settings
from pipeline_tools.cli import cli
from pipeline_tools.options import CATALOGUE
from tests.templates.template import (
    BLOCK,
    EXAMPLES,
    FOLDER,
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

SPEC, BODY = load("terraform.yml")
EXAMPLE = EXAMPLES / "infra" / ".gitlab-ci.yml"
VAULT: dict[str, Any] = {
    "vault_identity": "inputs",
    "vault_address": "https://vault.example.com",
    "vault_auth": "jwt",
    "plan_vault_role": "infra-plan",
    "apply_vault_role": "infra-apply",
    "plan_secret": ["PT_PASSPORT_KEY=secret/infra#passport"],
    "apply_secret": ["PT_PASSPORT_KEY=secret/infra#passport", "PT_PLAN_IDENTITY=secret/infra#identity"],
}
OPTIONS = sorted(set(SPEC) - settings.OF_THE_JOBS)
READERS, WRITERS = ("plan", "drift"), ("apply", "apply-as-reviewed", "destroy")
JOBS = ("check", *READERS, *WRITERS)


def filled(**inputs: Any) -> dict[str, Any]:
    """The body with the example's inputs and these."""
    found: dict[str, Any] = fill(BODY, {**defaults(SPEC), **example_inputs(EXAMPLE), **inputs})
    return found


def job(name: str, **inputs: Any) -> dict[str, Any]:
    """One job with everything that it extends."""
    found: dict[str, Any] = resolved(filled(**inputs))[f"terraform-{name}"]
    return found


@pytest.mark.parametrize("inputs", [{}, VAULT], ids=["runner", "inputs"])
def test_header_and_body_are_valid(tmp_path: Path, inputs: dict[str, Any]) -> None:
    assert schema_says(tmp_path, {"spec": {"inputs": SPEC}}) == ""
    assert schema_says(tmp_path, filled(**inputs)) == ""
    assert schema_says(tmp_path, resolved(filled(**inputs))) == ""


def test_the_jobs_are_these() -> None:
    assert sorted(resolved(filled())) == sorted(f"terraform-{name}" for name in JOBS)


@pytest.mark.parametrize("name", OPTIONS)
def test_an_input_is_its_option(name: str) -> None:
    entry = SPEC[name]
    assert entry.get("type", "string") == kind(name)
    assert entry["description"].endswith(".")
    assert entry["default"] == default(name)


@pytest.mark.parametrize("name", OPTIONS)
def test_an_input_reaches_its_option_by_its_variable(name: str) -> None:
    variable = option(name).envvar
    texts = [
        str(each["variables"][variable]) for each in BODY.values() if variable in each.get("variables", {})
    ]
    assert texts
    assert all(BLOCK.findall(text) == [name] for text in texts)


@pytest.mark.parametrize("inputs", [{}, VAULT], ids=["runner", "inputs"])
def test_every_variable_is_text(inputs: dict[str, Any]) -> None:
    """GitLab refuses a boolean or an array (lib/gitlab/ci/config/entry/variable.rb)."""
    for each in filled(**inputs).values():
        assert all(isinstance(value, str) for value in each.get("variables", {}).values())


@pytest.mark.parametrize("name", [name for name, entry in SPEC.items() if "regex" in entry])
def test_a_regex_takes_default_and_vault_and_no_shell(name: str) -> None:
    for values in (defaults(SPEC), example_inputs(EXAMPLE), VAULT):
        if name in values:
            assert re.search(SPEC[name]["regex"], values[name])
    assert not re.search(SPEC[name]["regex"], "a b;$(id)")


def test_nothing_is_global() -> None:
    reserved = {"workflow", "stages", "default", "variables", "image", "services", "cache", "include"}
    assert not reserved & set(BODY)
    assert all("$[[ inputs.job_prefix ]]" in name for name in BODY)


def test_every_script_line_is_a_command_there_is_and_holds_no_value() -> None:
    lines = [line for each in BODY.values() for line in each.get("script", [])]
    assert len(lines) == len(JOBS)
    for line in lines:
        program, *words = line.split()
        assert program == "pipeline-tools"
        assert CliRunner().invoke(cli, [*words, "--help"]).exit_code == 0
    assert not {"before_script", "after_script"} & {key for each in BODY.values() for key in each}


def test_an_include_that_says_nothing_of_vault_takes_nothing_away_from_the_runner() -> None:
    """A job's variable wins over the runner's, an empty one too (gitlab-runner!5782: they are appended at the end)."""
    given = {name for values in map(job, JOBS) for name in values["variables"]}
    assert not given & {option(name).envvar for name in ("vault_address", "vault_auth", "vault_role")}


@pytest.mark.parametrize(
    ("names", "role", "tags", "is_lent_the_identity"),
    [
        (READERS, "infra-plan", ["sw-dev-plan"], False),
        (WRITERS, "infra-apply", ["sw-dev-apply"], True),
    ],
)
def test_who_a_job_is_and_what_it_is_lent(
    names: tuple[str, ...], role: str, tags: list[str], is_lent_the_identity: bool
) -> None:
    for found in (job(name, **VAULT) for name in names):
        assert found["variables"]["PT_VAULT_ROLE"] == role
        assert found["variables"]["VAULT_ADDR"] == "https://vault.example.com"
        assert found["tags"] == tags
        assert found["id_tokens"] == {"VAULT_ID_TOKEN": {"aud": "vault"}}
        assert "PT_PASSPORT_KEY" in found["variables"]["PT_SECRET"]
        assert ("PT_PLAN_IDENTITY" in found["variables"]["PT_SECRET"]) is is_lent_the_identity


def test_the_check_has_no_credential() -> None:
    found = job("check", **VAULT, scaleway="demo")
    assert "id_tokens" not in found
    assert not [name for name in found["variables"] if re.search("VAULT|SECRET|SCALEWAY|VALUE", name)]


@pytest.mark.parametrize("name", WRITERS)
def test_what_writes_is_alone_uncut_and_recorded(name: str) -> None:
    found = job(name)
    assert found["resource_group"] == "terraform-state"
    assert found["interruptible"] is False
    assert found["environment"]["name"] == "infrastructure"
    assert "runner_system_failure" not in found["retry"]["when"]


def test_only_apply_reads_a_plan_and_only_that_of_its_own_pipeline() -> None:
    assert {name: job(name).get("dependencies") for name in WRITERS} == {
        "apply": ["terraform-plan"],
        "apply-as-reviewed": ["terraform-plan"],
        "destroy": [],
    }


@pytest.mark.parametrize("name", JOBS)
def test_artifacts_are_for_members_and_go_soon(name: str) -> None:
    artifacts = job(name).get("artifacts", {})
    assert ("paths" in artifacts) <= (artifacts.get("access") == "developer" and "expire_in" in artifacts)


@pytest.mark.parametrize("name", ["check", "plan"])
def test_a_report_is_written_where_gitlab_takes_it_from(name: str) -> None:
    found = job(name)
    kind_and_path = found["variables"]["PT_REPORT"].split("=")
    assert [kind_and_path] == [[*item] for item in found["artifacts"]["reports"].items()]


def test_no_secret_is_an_input() -> None:
    paths = {"plan_secret", "apply_secret"}  # paths in Vault, not values
    assert not [name for name in SPEC if re.search("token|password|secret", name) and name not in paths]


def test_every_input_of_every_template_has_its_place_in_settings() -> None:
    specs = {**load("release.yml")[0], **SPEC}
    assert set(specs) == settings.INPUTS | settings.NOT_BELIEVED | settings.OF_THE_JOBS
    assert not settings.OF_THE_JOBS & set(CATALOGUE)
    assert set(CATALOGUE) >= settings.INPUTS | settings.NOT_BELIEVED
    assert not settings.INPUTS & settings.NOT_BELIEVED


def test_image_and_example_are_of_this_version() -> None:
    version = tomllib.loads((FOLDER.parent / "pyproject.toml").read_text())["project"]["version"]
    assert SPEC["tools_image"]["default"].endswith(f":{version}")
    assert f"    ref: v{version}\n" in EXAMPLE.read_text()
