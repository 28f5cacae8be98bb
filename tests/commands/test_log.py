"""What others wrote (tags, commits, servers) does not steer a terminal or a job log."""

import io
from pathlib import Path

import pytest

from pipeline_tools.console import Console
from pipeline_tools.errors import PipelineError
from sandbox.gitlab import Fault, status
from tests.listener import listening
from tests.world import DIGEST, Ended, World, git

EVIL = "\x1b[2J\x1b[31mowned\rsection_end:1:bump\r\x1b[0K\u202e\x9b1m"
BUMP = ("bump", "--env-project", "platform/env", "--overlay", "overlays/dev")
IMAGE = ("--image", f"demo-app=registry.example.com/apps/demo-app:1.0.0@{DIGEST}")

pytestmark = pytest.mark.servers


def is_clean(said: Ended) -> bool:
    """Whether there is nothing but text, tabs and line ends; subprocess has kept CR as it was."""
    return not {
        character
        for character in said.stdout + said.stderr
        if character not in "\n\t"
        and (ord(character) < 32 or 127 <= ord(character) < 160 or character == "\u202e")
    }


def test_an_entry_of_the_env_repository(world: World) -> None:
    text = 'resources: [../../base]\nimages:\n- name: demo-app\n  newTag: "0.0.0\\e[2J\\nsection_end:1:bump\\r\\e[0Kowned"\n'
    world.env_commit("overlays/dev/kustomization.yaml", text)
    said = world.process(*BUMP, *IMAGE, "--dry-run", "--no-render")
    assert is_clean(said)
    assert r"\x1b[2J" in said.stdout
    said = world.process(*BUMP, "--image", "other=x/y:1.0.0", exit_code=1)
    assert is_clean(said)


def test_the_message_of_a_commit(world: World) -> None:
    world.tag("v1.0.0")
    world.commit(f"feat: a page {EVIL}")
    said = world.process("tag", "create", "--dry-run")
    assert is_clean(said)
    assert "a page" in said.stdout.lower()


def test_the_words_of_a_server(world: World) -> None:
    body = f"<h1>No</h1>\nsecond line\n{EVIL}"
    world.gitlab.faults.add(Fault(status(403, body=body), path_regex="trigger/pipeline", times=None))
    words = (
        "trigger",
        "--env-project",
        "platform/env",
        "--env-branch",
        "main",
        "--env-commit",
        world.env_tip,
    )
    said = world.process(*words, exit_code=4)
    assert is_clean(said)
    lines = said.stderr.splitlines()
    assert len([line for line in lines if line.startswith("error: ")]) == 1
    assert [line for line in lines if not line.startswith(("error: ", "hint: ", "  | ", "warning: "))] == []
    assert "second line" in said.stderr


def test_a_hook_with_many_lines(world: World) -> None:
    world.gitlab.push_hook(world.env_project, "rule", f"line one {EVIL}\nline two\nerror: line three")
    said = world.process(*BUMP, *IMAGE, "--no-render", exit_code=3)
    assert is_clean(said)
    assert len([line for line in said.stderr.splitlines() if line.startswith("error: ")]) == 1


def test_a_section_of_the_log_ends_only_where_we_end_it(world: World) -> None:
    """In a job GitLab's own control characters are there, and no others."""
    world.env_commit("README.md", "x")
    world.tag("v1.0.0")
    git(world.app, "commit", "--quiet", "--allow-empty", "-m", f"feat: {EVIL}")
    git(world.app, "push", "--quiet", "origin", "HEAD")
    said = world.process("tag", "create", "--dry-run", GITLAB_CI="true", CI_PROJECT_PATH="shop/demo-app")
    assert said.stdout.count("\x1b[0Ksection_start:") == said.stdout.count("\x1b[0Ksection_end:") == 1
    assert "\x1b[2J" not in said.stdout
    assert said.stdout.count("\r") == 2


def test_an_error_of_many_lines_is_one_error() -> None:
    stderr = io.StringIO()
    Console(io.StringIO(), stderr).finish("bump", 1, PipelineError("first\nsecond\n\x1b[31mthird", hint="do"))
    assert stderr.getvalue() == "  | second\n  | \\x1b[31mthird\nerror: first\nhint: do\n"


def test_ascii_is_enough(world: World, tmp_path: Path) -> None:
    """A job without a UTF-8 locale: → and … are escaped, nothing fails."""
    world.commit("feat: café →")
    said = world.process("tag", "create", "--dry-run", PYTHONIOENCODING="ascii", LC_ALL="C")
    assert "caf\\xe9" in said.stdout.lower()
    with listening() as registry:
        words = (
            "release",
            "--dry-run",
            "--repository",
            f"{registry.host}/x/y",
            "--docker-host",
            f"unix://{tmp_path}/none",
        )
        said = world.process(*words, PYTHONIOENCODING="ascii")
    assert said.stdout.isascii()
    assert "trigger  planned" in said.stdout
