"""Defaults from the user's own include."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from pipeline_tools.cli import cli
from pipeline_tools.errors import PipelineError
from pipeline_tools.settings import IncludeInputs
from tests.world import git

OURS = "  inputs:\n    repository: r.example.com/a/b\n    overlay: [overlays/dev, overlays/qa]\n    wait: true\n    timeout: 60\n"


def inputs(directory: Path, text: str) -> dict[str, object]:
    (directory / ".gitlab-ci.yml").write_text(text)
    return dict(IncludeInputs(directory, frozenset()))


@pytest.mark.parametrize(
    "include",
    [
        "- project: p/t\n  ref: v1\n  file: /ci_templates/release.yml\n",
        "- project: p/t\n  file: [/ci_templates/release.yml]\n",
        "- remote: https://x/ci_templates/release.yml\n",
        "- local: ci_templates/release.yml\n",
        "- component: $CI_SERVER_FQDN/p/t/release@1.0.0\n",
        "- local: ci_templates/terraform.yml\n",
        "- component: $CI_SERVER_FQDN/p/t/terraform@1.0.0\n",
    ],
)
def test_every_way_to_include_is_read(tmp_path: Path, include: str) -> None:
    found = inputs(tmp_path, f"include:\n- template: Security.yml\n{include}{OURS}")
    assert found == {
        "repository": "r.example.com/a/b",
        "overlay": ("overlays/dev", "overlays/qa"),
        "wait": True,
        "timeout": "60",
    }


def test_one_include_that_is_no_list(tmp_path: Path) -> None:
    assert inputs(tmp_path, f"include:\n  local: ci_templates/release.yml\n{OURS}")


@pytest.mark.parametrize(
    "text", ["", "include: other.yml\n", "stages: [a]\n", "include:\n- local: x.yml\n" + OURS, "[]"]
)
def test_what_is_not_ours_says_nothing(tmp_path: Path, text: str) -> None:
    assert inputs(tmp_path, text) == {}


def test_an_input_without_a_value_is_none(tmp_path: Path) -> None:
    """GitLab takes the default for it (lib/ci/inputs/base_input.rb, `actual_value`)."""
    include = "include:\n- local: ci_templates/release.yml\n  inputs: {licenses: , wait: true}\n"
    assert inputs(tmp_path, include) == {"wait": True}


@pytest.mark.parametrize("text", ["[a]", "text", ""])
def test_inputs_that_are_no_mapping_say_nothing(tmp_path: Path, text: str) -> None:
    assert inputs(tmp_path, f"include:\n- local: ci_templates/release.yml\n  inputs: {text}\n") == {}


def test_no_file(tmp_path: Path) -> None:
    assert dict(IncludeInputs(tmp_path, frozenset())) == {}


def test_gitlabs_own_tags_and_headers_are_no_obstacle(tmp_path: Path) -> None:
    text = f"spec:\n  inputs: {{}}\n---\ninclude:\n- local: ci_templates/release.yml\n{OURS}job:\n  script: !reference [a, b]\n"
    assert "repository" in inputs(tmp_path, text)


def test_values_that_only_gitlab_knows_are_left_out(tmp_path: Path) -> None:
    text = "include:\n- local: ci_templates/release.yml\n  inputs:\n    repository: r/$CI_PROJECT_NAME\n    file: D\n    overlay: ['$[[ inputs.x ]]']\n"
    assert inputs(tmp_path, text) == {"file": "D"}


@pytest.mark.parametrize(
    "name",
    [
        *("gitlab_url", "docker_host", "env_token", "registry_password", "checkout", "receipt"),
        *("state", "vault_address", "scaleway", "value", "terraform_binary", "allow_provider"),
    ],
)
def test_a_checkout_does_not_choose_hosts_or_secrets(tmp_path: Path, name: str) -> None:
    assert (
        inputs(tmp_path, f"include:\n- local: ci_templates/release.yml\n  inputs:\n    {name}: /etc/passwd\n")
        == {}
    )


def test_malformed(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match=r"\.gitlab-ci\.yml:2: malformed YAML"):
        inputs(tmp_path, "include: [\n")


def test_option_before_variable_before_include_and_none_in_ci(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "commit", "--quiet", "--allow-empty", "-m", "feat: first")
    (tmp_path / ".gitlab-ci.yml").write_text(
        "include:\n- local: ci_templates/release.yml\n  inputs:\n    tag_pattern: from-include\n"
    )

    def pattern(*words: str, **variables: str) -> str:
        return CliRunner().invoke(cli, ["tag", "check", "v1.0.0", *words], env=variables).stderr

    assert "from-option" in pattern("--tag-pattern", "from-option", PT_TAG_PATTERN="from-variable")
    assert "from-variable" in pattern(PT_TAG_PATTERN="from-variable")
    assert "from-include" in pattern()
    assert "from-include" not in pattern(GITLAB_CI="true")


def test_a_text_where_a_list_belongs_names_file_and_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".gitlab-ci.yml").write_text(
        "include:\n- local: ci_templates/release.yml\n  inputs:\n    overlay: overlays/dev\n"
    )
    result = CliRunner().invoke(cli, ["bump"])
    assert result.exit_code == 2
    assert "input overlay of the include in .gitlab-ci.yml must be a list" in result.stderr


def test_a_mistyped_input_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    inputs(
        tmp_path,
        "include:\n- local: ci_templates/release.yml\n  inputs:\n    overlays: [a]\n    stage: deploy\n",
    )
    assert [record.getMessage() for record in caplog.records] == [
        ".gitlab-ci.yml: the include has an input 'overlays', which no template has"
    ]


def test_a_folder_of_the_checkout_finds_the_file_at_its_root(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    (tmp_path / "www").mkdir()
    (tmp_path / ".gitlab-ci.yml").write_text(f"include:\n- local: ci_templates/release.yml\n{OURS}")
    assert "repository" in dict(IncludeInputs(tmp_path / "www", frozenset()))
