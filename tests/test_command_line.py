"""The command line as a contract: names, variables, help, completion, imports, exit codes, the envelope."""

import json
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from pipeline_tools import errors, options
from pipeline_tools.cli import COMMANDS, cli
from pipeline_tools.options import SecretSetting
from pipeline_tools.settings import INPUTS
from tests.listener import listening, reply
from tests.world import git

REPOSITORY = Path(__file__).parent.parent


def leaves(command: click.Command = cli, path: tuple[str, ...] = ()) -> Iterator[tuple[str, click.Command]]:
    """Every leaf command by its words."""
    if not isinstance(command, click.Group):
        yield " ".join(path), command
        return
    context = click.Context(command)
    for name in command.list_commands(context):
        child = command.get_command(context, name)
        assert child is not None
        yield from leaves(child, (*path, name))


LEAVES = dict(leaves())


def python(*words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        (sys.executable, *words), capture_output=True, text=True, check=False, env={**os.environ, **variables}
    )


def test_the_commands_of_the_release_are_there() -> None:
    assert set(LEAVES) == {
        "tag check",
        "tag next",
        "tag create",
        "build",
        "push",
        "bump",
        "trigger",
        "release",
        "terraform check",
        "terraform plan",
        "terraform apply",
        "terraform destroy",
        "terraform drift",
        "terraform unlock",
        "runner render",
        "runner lint",
        "runner bind",
        "vault exec",
        "vault doctor",
    }


@pytest.mark.parametrize("name", COMMANDS)
def test_the_one_line_help_is_the_commands_own(name: str) -> None:
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    assert (command.help or "").splitlines()[0] == COMMANDS[name]


def test_one_parameter_name_has_one_meaning_everywhere() -> None:
    meanings: dict[str, set[str]] = defaultdict(set)
    for command in LEAVES.values():
        for param in command.params:
            if isinstance(param, click.Option):
                meanings[str(param.name)].add(repr(param.to_info_dict()))
    assert {name: found for name, found in meanings.items() if len(found) > 1} == {}


def test_one_variable_belongs_to_one_parameter() -> None:
    owners: dict[str, set[str]] = defaultdict(set)
    for command in LEAVES.values():
        for param in command.params:
            for variable in [param.envvar] if isinstance(param.envvar, str) else param.envvar or []:
                owners[variable].add(str(param.name))
    assert {variable: names for variable, names in owners.items() if len(names) > 1} == {}


@pytest.mark.parametrize("words", LEAVES)
def test_help_names_each_variable(words: str) -> None:
    text = " ".join(CliRunner().invoke(cli, [*words.split(), "--help"]).output.split())
    for param in LEAVES[words].params:
        if isinstance(param, click.Option):
            assert param.envvar
            names = [param.envvar] if isinstance(param.envvar, str) else param.envvar
            assert f"[env var: {', '.join(names)}" in text, param.name


@pytest.mark.parametrize("words", LEAVES)
def test_every_leaf_can_say_json_and_verbose(words: str) -> None:
    names = {param.name for param in LEAVES[words].params}
    assert {"output", "verbose"} <= names
    assert "dry_run" in names or words in REPORTS


REPORTS = {"runner lint", "terraform check"}
"""What only answers a question has nothing to leave undone."""


PLACES = {"build_secret", "secret", "secrets_below", "kubernetes_token_file"}
"""Where a secret is, not what it is."""


def test_no_secret_is_an_argument() -> None:
    words = ("token", "password", "secret", "auth_config")
    secrets = {
        str(param.name): param
        for command in LEAVES.values()
        for param in command.params
        if any(word in str(param.name) for word in words) and str(param.name) not in PLACES
    }
    assert secrets
    for param in secrets.values():
        assert isinstance(param, SecretSetting)
        assert param.opts[0].endswith("-file")


def test_an_include_can_set_only_what_is_an_option() -> None:
    assert set(options.CATALOGUE) >= INPUTS
    assert not {
        name
        for name in INPUTS
        if "token" in name or "password" in name or "docker" in name or "gitlab" in name
    }


@pytest.mark.parametrize(
    ("incomplete", "expected"),
    [
        ("pipeline-tools ", list(COMMANDS)),
        ("pipeline-tools b", ["build", "bump"]),
        ("pipeline-tools tag ", ["check", "create", "next"]),
    ],
)
def test_completion_works(incomplete: str, expected: list[str]) -> None:
    words = incomplete.split(" ")
    answer = python(
        "-c",
        "from pipeline_tools.cli import main; main()",
        _PIPELINE_TOOLS_COMPLETE="bash_complete",
        COMP_WORDS=incomplete,
        COMP_CWORD=str(len(words) - 1),
    )
    assert sorted(line.partition(",")[2] for line in answer.stdout.splitlines()) == sorted(expected)


def imported(code: str) -> set[str]:
    answer = python("-c", f"{code}\nimport sys; print(*sorted(sys.modules))")
    return set(answer.stdout.split())


def test_help_and_completion_import_no_command() -> None:
    code = (
        "import click; from pipeline_tools.cli import cli\n"
        "cli.get_help(click.Context(cli)); cli.shell_complete(click.Context(cli), 'b')"
    )
    found = imported(code)
    assert not {name for name in found if name.startswith("pipeline_tools.") and name != "pipeline_tools.cli"}
    assert not found & {"rich", "ruamel", "gitlab", "docker", "git", "requests", "jinja2"}


@pytest.mark.parametrize(
    ("command", "unused"),
    [
        (
            "tag",
            {"docker", "gitlab", "pipeline_tools.adapters.registry", "pipeline_tools.adapters.kustomize"},
        ),
        ("build", {"gitlab", "pipeline_tools.adapters.kustomize"}),
        ("push", {"gitlab", "pipeline_tools.adapters.docker", "pipeline_tools.adapters.kustomize"}),
        ("bump", {"gitlab", "docker", "requests", "ruamel", "semver", "pipeline_tools.adapters.registry"}),
        (
            "vault",
            {"docker", "git", "gitlab", "ruamel", "rich", "pipeline_tools.adapters.registry", "subprocess"},
        ),
        (
            "trigger",
            {"docker", "gitlab", "pipeline_tools.adapters.registry", "pipeline_tools.adapters.kustomize"},
        ),
    ],
)
def test_no_command_imports_an_adapter_it_does_not_use(command: str, unused: set[str]) -> None:
    late = "import sys; from pipeline_tools.cli import Late; sys.meta_path.insert(0, Late())"
    assert imported(f"{late}\nimport pipeline_tools.commands.{command}") & unused == set()


def test_exit_codes_are_the_contract() -> None:
    found = {
        error.code: error.exit_code
        for error in (errors.PipelineError, errors.Refused, errors.Denied, errors.Unavailable, errors.Differs)
    }
    assert found == {"failed": 1, "refused": 3, "denied": 4, "unavailable": 5, "differs": 6}


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    git(tmp_path, "init", "--quiet", "--initial-branch=main")
    git(tmp_path, "commit", "--quiet", "--allow-empty", "-m", "feat: first")
    monkeypatch.chdir(tmp_path)
    return tmp_path


ENVELOPE = ["schema", "command", "status", "exit_code", "plan", "result", "warnings", "errors"]


def document(words: list[str], exit_code: int, **variables: str) -> dict[str, Any]:
    """The envelope that a command writes, and nothing but it."""
    result = CliRunner().invoke(cli, words, env=variables)
    assert result.exit_code == exit_code, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    assert list(found) == ENVELOPE
    assert found["schema"] == 1
    assert found["exit_code"] == exit_code
    return found


@pytest.mark.parametrize(
    ("words", "exit_code", "code", "command"),
    [
        (["tag", "check", "v1..0"], 3, "refused", "tag check"),
        (["tag", "check"], 1, "failed", "tag check"),
        (["bump"], 2, "usage", "bump"),
        (["bump", "--nonsense"], 2, "usage", "bump"),
        (["nonsense"], 2, "usage", "nonsense"),
        (["push", "--moving", "sometimes"], 2, "usage", "push"),
        (["release"], 2, "usage", "release"),
    ],
)
def test_a_failure_is_one_document_too(
    checkout: Path, words: list[str], exit_code: int, code: str, command: str
) -> None:
    found = document([*words, "--output", "json"], exit_code)
    assert found["status"] == "failed"
    assert found["command"] == command
    assert [error["code"] for error in found["errors"]] == [code]
    assert found["errors"][0]["message"]


def test_a_wrapper_says_json_only_of_itself(checkout: Path) -> None:
    words = ["vault", "exec", "--vault-auth", "token"]
    given = {
        "VAULT_ADDR": "http://127.0.0.1:9",
        "VAULT_TOKEN": "a-token-of-somebody",
        "PT_VAULT_TIMEOUT": "0",
    }
    theirs = CliRunner().invoke(cli, [*words, "--", "echo", "--output", "json"], env=given)
    assert theirs.exit_code == 0, theirs.output
    assert theirs.stdout == ""
    refused = CliRunner().invoke(
        cli, ["vault", "exec", "--nonsense", "--", "echo", "--output", "json"], env=given
    )
    assert (refused.exit_code, refused.stdout) == (2, "")
    found = document([*words, "--output", "json", "--secret=A=b#c", "--", "true"], 5, **given)
    assert found["command"] == "vault exec"


def test_json_by_variable(checkout: Path) -> None:
    assert document(["tag", "check"], 1, PT_OUTPUT="json")["command"] == "tag check"


def test_an_answer_is_one_document(checkout: Path) -> None:
    found = document(["tag", "next", "--output=json"], 0)
    assert found["status"] == "planned"
    assert found["result"]["name"] == "v0.1.0"
    assert found["errors"] == []


def test_a_bug_keeps_its_traceback_and_is_exit_70(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("glpat-planted-secret")

    monkeypatch.setattr("pipeline_tools.adapters.checkout.Checkout", broken)
    result = CliRunner().invoke(cli, ["tag", "check"], env={"PT_GITLAB_TOKEN": "glpat-planted-secret"})
    assert result.exit_code == 70
    assert "Traceback" in result.stderr
    assert "ZeroDivisionError" in result.stderr
    assert "planted-secret" not in result.output


def test_an_error_is_a_line_and_a_hint(checkout: Path) -> None:
    result = CliRunner().invoke(cli, ["tag", "check", "v1..0"])
    assert result.stdout == ""
    assert result.stderr.splitlines() == [
        "error: tag 'v1..0' is not a SemVer 2.0 version",
        "hint: name tags like v1.4.0 or v1.4.0-rc.1",
    ]


def test_sections_in_a_gitlab_job_log(checkout: Path) -> None:
    git(checkout, "tag", "v1.0.0")
    text = CliRunner().invoke(cli, ["tag", "check"], env={"GITLAB_CI": "true"}).stdout
    assert "\x1b[0Ksection_start:" in text
    assert ":tag[collapsed=" in text
    assert "\x1b[0Ksection_end:" in text


def test_plain_lines_elsewhere(checkout: Path) -> None:
    git(checkout, "tag", "v1.0.0")
    text = CliRunner().invoke(cli, ["tag", "check"]).stdout
    assert "\x1b" not in text
    assert text.splitlines()[-1].startswith("tag      unchanged")


def test_a_repeatable_option_takes_an_array_or_lines(checkout: Path) -> None:
    git(checkout, "tag", "v1.0.0")
    git(checkout, "branch", "b")
    for value in ('["a", "b"]', "a\nb\n", "b"):
        found = document(["tag", "check"], 0, PT_BRANCH=value, PT_OUTPUT="json", PT_RECEIPT="r.json")
        assert found["result"]["branch"] == "b"
    assert document(["tag", "check"], 2, PT_BRANCH='["a"', PT_OUTPUT="json")["errors"][0]["code"] == "usage"


def test_a_secret_from_a_file(checkout: Path, tmp_path: Path) -> None:
    """It is read, without the last newline, and sent to the instance that was named; nobody sees it here."""
    file = tmp_path / "token"
    file.write_text("glpat-from-a-file\n")
    words = [
        "tag",
        "create",
        "v1.0.0",
        "--branch",
        "main",
        "--gitlab-token-file",
        str(file),
        "--project",
        "a/b",
    ]
    with listening(reply(401, b"{}")) as gitlab:
        result = CliRunner().invoke(cli, [*words, "--gitlab-url", gitlab.url])
    assert result.exit_code == 4
    assert {seen.headers.get("PRIVATE-TOKEN") for seen in gitlab.seen} == {"glpat-from-a-file"}
    assert "glpat" not in result.output


def test_a_secret_too_short_to_mask_is_refused(checkout: Path) -> None:
    result = CliRunner().invoke(cli, ["tag", "check"], env={"PT_GITLAB_TOKEN": "abc"})
    assert result.exit_code == 1
    assert "cannot be masked" in result.stderr


def test_ctrl_c_is_exit_130(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("pipeline_tools.adapters.checkout.Checkout", interrupted)
    found = document(["tag", "check", "--output", "json"], 130)
    assert found["status"] == "interrupted"


def test_version() -> None:
    assert CliRunner().invoke(cli, ["--version"]).output.strip() == "0.1.0"
