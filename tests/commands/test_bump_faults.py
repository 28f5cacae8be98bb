"""`bump` cut off, lied to and overtaken, with a real git server: exactly one commit, or nothing and a plain word."""

import getpass
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from sandbox import parts
from sandbox.gitlab import Fault, Push, delay, lost_answer, reset, truncate
from sandbox.pytest_parts import require
from sandbox.ssh import SshServer
from tests.world import ANNA, DIGEST, World, error, git

pytestmark = pytest.mark.servers

IMAGE = f"demo-app=registry.example.com/apps/demo-app:1.0.0@{DIGEST}"
BUMP = ("bump", "--env-project", "platform/env", "--overlay", "overlays/dev", "--no-render", "--image", IMAGE)
FILE = "overlays/dev/kustomization.yaml"
PUSH = r"/platform/env\.git/git-receive-pack"


def bumps(world: World, branch: str = "main") -> int:
    """How many commits on the branch are bumps."""
    return world.env("log", "--format=%(trailers:key=Bump-Id,valueonly)", branch).count("\n\n") + bool(
        world.env("log", "-1", "--grep=Bump-Id", branch)
    )


def is_written(world: World) -> bool:
    return '"1.0.0"' in world.env_file()


def started(world: World, **variables: str) -> "subprocess.Popen[bytes]":
    """The command in a process group of its own."""
    return subprocess.Popen(
        (sys.executable, "-m", "pipeline_tools", *BUMP),
        cwd=world.app,
        env={**os.environ, **world.variables, **variables},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def overtaken(world: World, change: Callable[[], object]) -> list[object]:
    """Let `change` happen once, while our push is being checked."""
    raced: list[object] = []

    def hook(*_: object) -> None:
        if not raced:
            raced.append("now")
            raced.append(change())

    world.gitlab.push_hook(world.env_project, "race", hook)
    return raced


# Killed --------------------------------------------------------------------------------------------------------


def deadly_git(directory: Path, command: str, *, after: bool) -> str:
    """A PATH with a git that kills who called it, once, before or after a real `git COMMAND`."""
    directory.mkdir()
    kill = f'case " $* " in *" {command} "*) [ -e {directory}/done ] || {{ touch {directory}/done; kill -9 $PPID; }};; esac'
    real = f'{shutil.which("git")} "$@"; code=$?'
    body = [real, kill] if after else [kill, real]
    script = directory / "git"
    script.write_text("\n".join(["#!/bin/sh", *body, "exit $code"]) + "\n")
    script.chmod(0o755)
    return f"{directory}:{os.environ['PATH']}"


@pytest.mark.parametrize(
    ("command", "after", "is_there"),
    [
        ("fetch", True, False),
        ("cat-file", False, False),
        ("commit-tree", False, False),
        ("commit-tree", True, False),
        ("push", False, None),
        ("push", True, True),
    ],
)
def test_killed_at_any_boundary_and_run_again(
    world: World, tmp_path: Path, command: str, *, after: bool, is_there: bool | None
) -> None:
    child = started(world, PATH=deadly_git(tmp_path / "bin", command, after=after))
    assert child.wait() == -signal.SIGKILL
    if is_there is not None:
        assert is_written(world) is is_there
    answer = world.json(*BUMP)
    assert answer["status"] in {"done", "unchanged"}
    assert (bumps(world), is_written(world)) == (1, True)
    assert answer["result"]["commit"] == world.env_tip


@pytest.mark.parametrize("whole_group", [False, True])
def test_killed_while_the_server_checks_the_push(world: World, *, whole_group: bool) -> None:
    """Whether the push still arrives is the server's business; the next run finds out."""
    children: list[subprocess.Popen[bytes]] = []

    def kill() -> None:
        (os.killpg if whole_group else os.kill)(children[0].pid, signal.SIGKILL)

    overtaken(world, kill)
    children.append(started(world))
    assert children[0].wait() == -signal.SIGKILL
    assert world.json(*BUMP)["status"] in {"done", "unchanged"}
    assert (bumps(world), is_written(world)) == (1, True)


def test_terminated_leaves_no_folder(world: World, tmp_path: Path) -> None:
    """SIGTERM, as GitLab cancels a job."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    children: list[subprocess.Popen[bytes]] = []

    def terminate() -> None:
        children[0].terminate()

    overtaken(world, terminate)
    children.append(started(world, TMPDIR=str(scratch)))
    assert children[0].wait() in {0, 143}
    assert list(scratch.iterdir()) == []
    world.run(*BUMP)
    assert bumps(world) == 1


# A connection that breaks --------------------------------------------------------------------------------------


def test_a_push_that_was_reset_did_not_happen(world: World) -> None:
    tip = world.env_tip
    world.gitlab.faults.add(Fault(reset(), method="POST", path_regex=PUSH, times=9))
    message, _ = error(world.run(*BUMP, exit_code=5))
    assert world.gitlab.url in message
    assert world.env_tip == tip
    world.gitlab.faults.clear()
    assert world.json(*BUMP)["status"] == "done"
    assert bumps(world) == 1


@pytest.mark.parametrize("fault", [lost_answer(), truncate()])
def test_a_push_whose_answer_broke_did_happen(world: World, fault: object) -> None:
    world.gitlab.faults.add(Fault(fault, method="POST", path_regex=PUSH))  # type: ignore[arg-type]
    answer = world.json(*BUMP)
    assert (answer["status"], answer["result"]["commit"]) == ("done", world.env_tip)
    assert bumps(world) == 1


def test_an_answer_that_was_lost_before_somebody_else_pushed(world: World) -> None:
    """The tip is neither ours nor the one before: planned again, it is found done."""
    world.gitlab.faults.add(Fault(lost_answer(), method="POST", path_regex=PUSH))
    # Until they have pushed, our question where the tip is gets no answer but "try again".
    children: list[threading.Thread] = []

    def follow(push: Push) -> None:
        children.append(threading.Thread(target=_push_on, args=(world, push.changes[0].new)))
        children[0].start()

    world.gitlab.push_hook(world.env_project, "follow", follow)
    world.gitlab.faults.add(Fault(delay(1.0), method="GET", path_regex="service=git-upload-pack", after=1))
    answer = world.json(*BUMP)
    children[0].join()
    assert answer["status"] == "unchanged"
    assert answer["result"]["commit"] == world.env("rev-parse", "main^")
    assert (bumps(world), len(children)) == (1, 1)


def _push_on(world: World, commit: str) -> None:
    """Push on top of a commit as soon as it is the tip."""
    while world.env_tip != commit:
        time.sleep(0.01)
    world.env_commit("README.md", "theirs\n")


# Overtaken -----------------------------------------------------------------------------------------------------


def without(world: World, path: str, *, moved_to: str | None = None) -> str:
    """Somebody's commit that deletes or moves a file."""
    bare = world.env_project.repository
    environment = {**os.environ, **ANNA, "GIT_INDEX_FILE": str(bare / "test-index")}
    blob = git(bare, "rev-parse", f"main:{path}")

    def run(*words: str, stdin: str = "") -> str:
        argv = ("git", "-C", str(bare), *words)
        done = subprocess.run(argv, env=environment, check=True, capture_output=True, text=True, input=stdin)
        return done.stdout.strip()

    run("read-tree", "main")
    rows = [f"0 {'0' * 40}\t{path}", *([f"100644 {blob}\t{moved_to}"] if moved_to else [])]
    run("update-index", "--index-info", stdin="\n".join(rows) + "\n")
    commit = run("commit-tree", run("write-tree"), "-p", "main", "-m", "by hand")
    git(bare, "update-ref", "refs/heads/main", commit)
    return commit


@pytest.mark.parametrize("moved_to", [None, "overlays/development/kustomization.yaml"])
def test_the_file_is_deleted_or_moved_meanwhile(world: World, moved_to: str | None) -> None:
    raced = overtaken(world, lambda: without(world, FILE, moved_to=moved_to))
    message, _ = error(world.run(*BUMP, exit_code=1))
    assert "no folder overlays/dev" in message
    assert world.env_tip == raced[1]


def test_the_branch_is_deleted_meanwhile(world: World) -> None:
    overtaken(world, lambda: world.env("update-ref", "-d", "refs/heads/main"))
    message, _ = error(world.run(*BUMP, "--env-branch", "main", exit_code=1))
    assert "no branch 'main'" in message
    assert world.env("for-each-ref", "refs/heads") == ""


def test_the_branch_is_force_pushed_meanwhile(world: World) -> None:
    """Another history altogether: the bump goes on top of that."""

    def rewrite() -> str:
        bare = world.env_project.repository
        commit = git(bare, "commit-tree", "main^{tree}", "-m", "squashed", stdin="")
        git(bare, "update-ref", "refs/heads/main", commit)
        return commit

    raced = overtaken(world, rewrite)
    assert world.json(*BUMP)["status"] == "done"
    assert world.env("rev-parse", "main^") == raced[1]
    assert (bumps(world), is_written(world)) == (1, True)


# Refused -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("says", ["no bumps on Fridays", "You are not allowed to do that", "fetch first"])
def test_a_hook_of_the_servers_own_is_a_refusal_whatever_it_says(
    world: World, tmp_path: Path, says: str
) -> None:
    script = tmp_path / "hook"
    script.write_text(f"#!/bin/sh\necho 'GL-HOOK-ERR: {says}'\nexit 1\n")
    script.chmod(0o755)
    world.gitlab.push_hook(world.env_project, "rule", script)
    tip = world.env_tip
    message, _ = error(world.run(*BUMP, exit_code=3))
    assert says in message
    assert world.env_tip == tip
    assert _pushes(world) == 1, "a refusal is not tried again"


def test_a_rejection_that_reads_like_a_race_is_none_where_the_tip_stands(world: World) -> None:
    words = "! [rejected] main -> main (non-fast-forward): cannot lock ref, fetch first"
    world.gitlab.push_hook(world.env_project, "rule", words)
    assert error(world.run(*BUMP, exit_code=3))
    assert _pushes(world) == 1


def test_a_rejection_that_reads_like_a_rule_is_a_race_where_the_tip_moved(world: World) -> None:
    raced: list[str] = []

    def refuse(*_: object) -> str | None:
        if raced:
            return None
        raced.append(world.env_commit("README.md", "mine\n"))
        return "You are not allowed to push code to protected branches on this project."

    world.gitlab.push_hook(world.env_project, "rule", refuse)
    assert world.json(*BUMP)["status"] == "done"
    assert world.env("rev-parse", "main^") == raced[0]


def _pushes(world: World) -> int:
    return len(
        [row for row in world.gitlab.requests if row.path.endswith("/platform/env.git/git-receive-pack")]
    )


# A full disk ---------------------------------------------------------------------------------------------------


def _may_mount() -> bool:
    return (
        bool(shutil.which("unshare"))
        and not subprocess.run(
            ("unshare", "--map-root-user", "--mount", "true"), capture_output=True, check=False
        ).returncode
    )


@pytest.mark.skipif(not _may_mount(), reason="no mount namespace for a small disk")
@pytest.mark.parametrize("size", ["4k", "16k", "24k", "40k", "8m"])
def test_a_full_disk_is_said_and_nothing_is_half_done(world: World, tmp_path: Path, size: str) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    tip = world.env_tip
    inner = f'mount -t tmpfs -o size={size} tmpfs {disk} && exec "$@"'
    command = (sys.executable, "-m", "pipeline_tools", *BUMP)
    done = subprocess.run(
        ("unshare", "--map-root-user", "--mount", "sh", "-c", inner, "sh", *command),
        cwd=world.app,
        env={**os.environ, **world.variables, "TMPDIR": str(disk)},
        capture_output=True,
        text=True,
        check=False,
    )
    if size == "8m":
        assert (done.returncode, is_written(world)) == (0, True)
        return
    assert done.returncode == 1, done.stderr
    assert "is that disk full" in done.stderr
    assert world.env_tip == tip


# SSH -----------------------------------------------------------------------------------------------------------


def test_an_ssh_remote(world: World, tmp_path: Path) -> None:
    """OpenSSH itself: what the user's ssh is set up to do is what git does."""
    require(parts.SSHD)
    bare = world.env_project.repository
    with SshServer.start(tmp_path) as server:
        address = f"ssh://{getpass.getuser()}@127.0.0.1:{server.port}{bare}"
        words = (*BUMP, "--env-project", address)
        assert world.json(*words, GIT_SSH_COMMAND=server.command)["status"] == "done"
        assert world.json(*words, GIT_SSH_COMMAND=server.command)["status"] == "unchanged"
        refused = world.run(
            *words, exit_code=4, GIT_SSH_COMMAND="ssh -F none -o BatchMode=yes -o StrictHostKeyChecking=yes"
        )
    assert "Host key verification failed" in refused.stderr
    assert '"1.0.0"' in world.env_file()


def test_a_server_without_partial_clones(world: World, tmp_path: Path) -> None:
    """It sends everything of the one commit, and the bump is the same."""
    bare = tmp_path / "env.git"
    git(tmp_path, "clone", "--quiet", "--bare", str(world.env_project.repository), str(bare))
    git(bare, "config", "uploadpack.allowFilter", "false")
    world.run(*BUMP, "--env-project", str(bare))
    assert '"1.0.0"' in git(bare, "show", f"main:{FILE}")
