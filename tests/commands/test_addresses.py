"""Addresses, programs and files that are not what they should be: one line, and nothing is written."""

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.listener import listening, reply
from tests.world import DIGEST, World, error, git

IMAGE = ("--image", f"demo-app=registry.example.com/apps/demo-app:1.0.0@{DIGEST}", "--no-render")
BUMP = ("bump", "--env-project", "platform/env", "--overlay", "overlays/dev", *IMAGE)
WHERE = ("--overlay", "overlays/dev", *IMAGE)

pytestmark = pytest.mark.servers


def files(folder: Path) -> str:
    """The content of every file of a folder, one after the other."""
    return "".join(path.read_text(errors="replace") for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("command", ["bump", "trigger"])
def test_a_password_in_the_address_is_refused_and_written_nowhere(world: World, command: str) -> None:
    address = world.env_project.http_url.replace("://", "://someone:sekret-password@")
    tip = world.env_tip
    words = WHERE if command == "bump" else ("--env-branch", "main", "--env-commit", tip)
    reports = ("--report", "annotations=a.json", "--report", "dotenv=d.env")
    for more in ((), ("-v", "--output", "json")):
        result = world.run(command, "--env-project", address, *words, *reports, *more, exit_code=1)
        assert "sekret-password" not in result.output
        assert "without a password" in result.output
        assert "PT_ENV_TOKEN" in result.output
    assert "sekret-password" not in files(world.app)
    assert world.env_tip == tip
    assert not world.gitlab.pipelines(world.env_project)


@pytest.mark.parametrize("rest", ["127.0.0.1:99999999/x/y.git", "[::1/x/y.git", "p@ss@127.0.0.1:9x/x/y.git"])
def test_a_password_in_an_address_that_is_none_is_not_said_either(world: World, rest: str) -> None:
    address = f"http://someone:sekret-password@{rest}"
    for words in (("bump", "--env-project", address, *WHERE), (*BUMP, "--gitlab-url", address)):
        for more in ((), ("-v", "--output", "json")):
            result = world.run(*words, *more, exit_code=1)
            assert "sekret-password" not in result.output
            assert "is not an address" in result.output


def test_a_password_in_the_address_of_gitlab_is_not_said_either(world: World) -> None:
    """The address stands in messages, links and reports."""
    words = ("trigger", "--env-project", "platform/env", "--env-branch", "main", "--env-commit", "a" * 40)
    for address in ("http://someone:sekret-password@127.0.0.1:9", "ssh://someone:sekret-password@127.0.0.1"):
        result = world.run(*words, "--gitlab-url", address, exit_code=1)
        assert "sekret-password" not in result.output
        error(result)


def test_a_relative_local_env_repository(world: World) -> None:
    bare = world.app.parent / "env.git"
    git(world.app, "clone", "--quiet", "--bare", str(world.env_project.repository), str(bare))
    world.run("bump", "--env-project", "../env.git", *WHERE)
    assert "1.0.0" in git(bare, "show", "main:overlays/dev/kustomization.yaml")


@pytest.mark.parametrize(
    "words",
    [
        ("bump", "--env-project", "http://[::1/x.git", *WHERE),
        ("bump", "--env-project", "https://host:99999999/x/y.git", *WHERE),
        (*BUMP, "--gitlab-url", "nonsense"),
        ("tag", "check", "--gitlab-url", "nonsense"),
        ("build", "--repository", "127.0.0.1:99999/x"),
        ("build", "--dry-run", "--repository", "127.0.0.1:99999/x"),
    ],
)
def test_an_address_that_is_none_is_one_line(world: World, words: tuple[str, ...]) -> None:
    world.tag("v1.0.0")
    before = world.snapshot()
    result = world.run(*words, exit_code=1)
    assert "address" in error(result)[0]
    assert len(result.stderr.splitlines()) <= 2
    assert world.snapshot() == before


def test_git_is_not_installed(world: World, tmp_path: Path) -> None:
    """At the first use of the library as at the first use of the program."""
    programs = tmp_path / "bin"
    programs.mkdir()
    path: dict[str, Any] = {"PATH": str(programs)}
    for words in (BUMP, ("tag", "check")):
        assert error(world.process(*words, exit_code=1, **path))[0] == "git is not installed"
    assert "Usage" in world.process("--help", **path).stdout


def test_kustomize_is_not_installed(world: World, tmp_path: Path) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "git").symlink_to(str(shutil.which("git")))
    path: dict[str, Any] = {"PATH": str(programs)}
    assert error(world.process(*BUMP[:-1], exit_code=1, **path))[0] == "kustomize is not installed"


def test_a_token_file_that_is_no_text(world: World, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_bytes(b"\xff\xfe\x00secret")
    result = world.run(*BUMP, "--env-token-file", str(file), exit_code=2, PT_ENV_TOKEN=None)
    assert "the file is not text" in result.stderr


@pytest.mark.parametrize("value", ["glpat-first-line\nsecond-line", "glpat-with-\u2192-arrow"])
@pytest.mark.parametrize("name", ["PT_GITLAB_TOKEN", "PT_ENV_TOKEN", "PT_TRIGGER_TOKEN", "CI_JOB_TOKEN"])
def test_a_token_that_no_header_can_carry(world: World, name: str, value: str) -> None:
    """As copied with too much around it: said before it is sent, and not shown."""
    words = ("trigger", "--env-project", "platform/env", "--env-branch", "main", "--env-commit", "a" * 40)
    variables: dict[str, Any] = {name: value}
    result = world.run(*words, exit_code=2, **variables)
    assert f"{name.lower().removeprefix('pt_').removeprefix('ci_').replace('_', '-')}-file" in result.stderr
    assert "one line of ASCII" in result.stderr
    for part in value.split("\n"):
        assert part not in result.output


# Files that are written --------------------------------------------------------------------------------------


def test_receipt_and_reports_are_readable_for_the_next_job(world: World) -> None:
    """Whoever it runs as: a runner keeps the mode of an artifact."""
    world.tag("v1.0.0")
    before = os.umask(0o077)
    try:
        world.run(*BUMP, "--report", "dotenv=d.env", "--report", "annotations=out/a.json")
    finally:
        os.umask(before)
    for name in ("release.json", "d.env", "out/a.json"):
        assert (world.app / name).stat().st_mode & 0o777 == 0o644


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another user")
def test_another_user_reads_the_receipt(world: World) -> None:
    world.tag("v1.0.0")
    world.run("tag", "check")
    child = os.fork()
    if not child:
        try:
            os.chdir(world.app)
            os.setgid(10001)
            os.setuid(10001)
            os._exit(0 if Path("release.json").read_bytes() else 1)
        except OSError:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.parametrize("words", [("--receipt", "{file}/r.json"), ("--report", "dotenv={file}/d.env")])
def test_a_file_that_cannot_be_written(world: World, words: tuple[str, str], tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    message, hint = error(world.run(*BUMP, words[0], words[1].format(file=blocked), exit_code=1))
    assert "cannot be written" in message
    assert "--receipt" in hint


@pytest.mark.parametrize("report", ["junit=x.xml", "novalue"])
def test_a_report_of_no_kind_is_refused_before_anything_is_written(world: World, report: str) -> None:
    before = world.snapshot()
    result = world.run(*BUMP, "--report", report, exit_code=1)
    error(result)
    assert world.snapshot() == before


def test_a_receipt_of_another_tag_is_not_read(world: World) -> None:
    """A checkout that was used before: the release begins anew, so bump does not know what to write."""
    world.tag("v1.0.0")
    world.run(*BUMP)
    first = (world.app / "release.json").read_text()
    assert world.json("trigger", "--env-project", "platform/env")["status"] in {"done", "unchanged"}
    world.commit("feat: more")
    world.tag("v1.1.0")
    (world.app / "release.json").write_text(first)
    message, _ = error(world.run("trigger", "--env-project", "platform/env", exit_code=1))
    assert "no commit" in message


# Credentials of a registry -----------------------------------------------------------------------------------


def test_a_candidate_repository_that_only_the_include_names_gets_no_credential(world: World) -> None:
    world.tag("v1.0.0")
    asks = reply(401, WWW_Authenticate='Basic realm="x"')
    with listening(asks) as named, listening(asks) as included:
        include = world.app / ".gitlab-ci.yml"
        candidate = f"inputs:\n      candidate_repository: {included.host}/x/y"
        include.write_text(include.read_text().replace("inputs:", candidate))
        world.commit("feat: candidates elsewhere")
        world.tag("v1.1.0")
        message, _ = error(
            world.run(
                "build",
                exit_code=4,
                PT_REPOSITORY=f"{named.host}/x/y",
                PT_REGISTRY_USER="ci",
                PT_REGISTRY_PASSWORD="registry-secret",
            )
        )
        assert message == f"no credential goes to {included.host}: only .gitlab-ci.yml names it"
        assert [seen for seen in included.seen if "Authorization" in seen.headers] == []
