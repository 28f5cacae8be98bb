"""`tag check`, `next` and `create` against the GitLab stand-in."""

import os
import threading
from pathlib import Path

import pytest
import requests

from sandbox.gitlab import Access, Fault, delay, lost_answer, status
from tests.world import World, error, git


def test_check_finds_the_version_tag_at_head(world: World) -> None:
    world.tag("v1.0.0")
    answer = world.json("tag", "check")
    assert answer["status"] == "unchanged"
    assert answer["result"] == {
        "status": "unchanged",
        "name": "v1.0.0",
        "version": "1.0.0",
        "commit": git(world.app, "rev-parse", "HEAD"),
        "branch": "main",
    }


@pytest.mark.parametrize(
    "name",
    [
        "1.0.0$(id)",
        "1.0.0`id`",
        "1.0.0;id",
        "1.0.0|id",
        "')…#",
        "v1..0",
        "../v1",
        "v" + "1" * 300,
        "v1.0.0é",
        "",
        "-v1",
    ],
)
def test_a_hostile_name_is_refused(world: World, name: str) -> None:
    before = world.snapshot()
    result = (
        world.run("tag", "check", "--", name, exit_code=3)
        if name
        else world.run("tag", "check", "--tag=", exit_code=3)
    )
    message, hint = error(result)
    assert "tag" in message
    assert "v1.4.0" in hint
    assert world.snapshot() == before
    assert not world.gitlab.requests[-1].path.endswith("$(id)")


def test_build_metadata_is_refused_with_the_reason(world: World) -> None:
    message, hint = error(world.run("tag", "check", "v1.0.0+build.5", exit_code=3))
    assert "+build.5" in message
    assert "OCI" in message
    assert "v1.0.0-build.5" in hint


def test_a_commit_off_the_protected_lines_is_refused(world: World) -> None:
    git(world.app, "checkout", "--quiet", "-b", "feature")
    world.commit("feat: not reviewed")
    world.tag("v1.0.0")
    message, hint = error(world.run("tag", "check", exit_code=3))
    assert "is on none of main" in message
    assert "--branch" in hint


def test_a_protected_branch_is_a_line_too(world: World) -> None:
    git(world.app, "checkout", "--quiet", "-b", "release/1.x")
    world.commit("fix: for the old line")
    world.gitlab.protect_branch(world.app_project, "release/*")
    world.tag("v1.0.0")
    assert world.json("tag", "check")["result"]["branch"] == "release/1.x"
    assert error(world.run("tag", "check", PT_GITLAB_TOKEN=None, exit_code=3))


def test_a_shallow_checkout_is_judged_by_the_whole_history(world: World, tmp_path: Path) -> None:
    world.tag("v1.0.0")
    for number in range(60):
        world.commit(f"docs: page {number}", push=False)
    git(world.app, "push", "--quiet", "origin", "HEAD")
    world.app = world.fresh_app(tmp_path / "shallow", "--depth=1", "--branch=v1.0.0")
    assert git(world.app, "rev-parse", "--is-shallow-repository") == "true"
    before = world.snapshot()
    assert world.json("tag", "check", "--dry-run")["result"]["branch"] == "main"
    assert world.snapshot() == before, "the checkout itself is left as it was"


def test_a_shallow_checkout_off_the_line_is_refused(world: World, tmp_path: Path) -> None:
    git(world.app, "checkout", "--quiet", "-b", "feature")
    world.commit("feat: not reviewed")
    world.tag("v1.0.0")
    world.app = world.fresh_app(tmp_path / "shallow", "--depth=1", "--branch=v1.0.0")
    assert "on none of main" in error(world.run("tag", "check", exit_code=3))[0]


def test_a_tag_that_moved_is_refused(world: World) -> None:
    world.tag("v1.0.0")
    world.commit("fix: later")
    head = git(world.app, "rev-parse", "HEAD")
    assert "is on" in error(world.run("tag", "check", "v1.0.0", "--commit", head, exit_code=3))[0]


def test_an_untagged_commit_fails_the_check_and_plans_the_next_version(world: World) -> None:
    message, hint = error(world.run("tag", "check", exit_code=1))
    assert "has no version tag" in message
    assert "tag create v0.1.0" in hint
    assert "v0.1.0 is the next version" in world.run("tag", "check", "--dry-run").stdout


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        (["fix: one"], "v1.0.1"),
        (["feat: one", "fix: two"], "v1.1.0"),
        (["feat(api)!: gone"], "v2.0.0"),
        (["refactor: x\n\nBREAKING CHANGE: y"], "v2.0.0"),
        (["Update page"], "v1.0.1"),
    ],
)
def test_next_follows_conventional_commits(world: World, messages: list[str], expected: str) -> None:
    world.tag("v1.0.0")
    for message in messages:
        world.commit(message)
    assert world.json("tag", "next")["result"]["name"] == expected


def test_next_has_nothing_to_release(world: World) -> None:
    world.tag("v1.0.0")
    world.commit("docs: only words")
    answer = world.json("tag", "next")
    assert (answer["status"], answer["exit_code"]) == ("unchanged", 0)
    assert answer["plan"]["notes"] == "Nothing to release since v1.0.0."


def test_next_pre_releases_count_on(world: World) -> None:
    world.tag("v1.0.0")
    world.commit("feat: new")
    assert world.json("tag", "next", "--pre", "rc")["result"]["name"] == "v1.1.0-rc.1"
    world.tag("v1.1.0-rc.1")
    world.commit("fix: new")
    assert world.json("tag", "next", "--pre", "rc")["result"]["name"] == "v1.1.0-rc.2"
    assert world.json("tag", "next")["result"]["name"] == "v1.1.0"
    assert error(world.run("tag", "next", "--pre", "beta", exit_code=3))


def test_next_on_a_maintenance_branch_counts_its_own_releases(world: World) -> None:
    world.tag("v1.4.2")
    git(world.app, "branch", "release/1.x")
    world.commit("feat!: two")
    world.tag("v2.0.0")
    git(world.app, "checkout", "--quiet", "release/1.x")
    world.commit("fix: for one")
    assert world.json("tag", "next", "--branch", "release/1.x")["result"]["name"] == "v1.4.3"


def test_next_in_a_shallow_checkout(world: World, tmp_path: Path) -> None:
    world.tag("v1.0.0")
    world.commit("feat: one")
    world.commit("fix: two")
    world.app = world.fresh_app(tmp_path / "shallow", "--depth=1")
    assert world.json("tag", "next")["result"]["name"] == "v1.1.0"


def test_create_makes_tag_and_release_once(world: World) -> None:
    world.commit("feat: one @all <img src=x>")
    head = git(world.app, "rev-parse", "HEAD")
    assert world.json("tag", "create", "v1.0.0")["status"] == "done"
    again = world.json("tag", "create", "v1.0.0")
    assert again["status"] == "unchanged"
    repository = world.app_project.repository
    assert git(repository, "rev-parse", "v1.0.0^{commit}") == head
    assert "**Features**" in git(repository, "tag", "-l", "--format=%(contents)", "v1.0.0")
    assert "\\@all" in git(repository, "tag", "-l", "--format=%(contents)", "v1.0.0")


def test_create_chooses_the_next_version(world: World) -> None:
    world.tag("v1.0.0")
    world.commit("feat: one")
    assert world.json("tag", "create")["result"]["name"] == "v1.1.0"


def test_create_completes_what_was_killed_between_tag_and_release(world: World) -> None:
    world.tag("v1.0.0")
    assert world.json("tag", "create", "v1.0.0")["status"] == "done"
    assert world.json("tag", "create", "v1.0.0")["status"] == "unchanged"


def release_notes(world: World, name: str) -> str:
    """The description of a GitLab Release."""
    url = f"{world.gitlab.url}/api/v4/projects/shop%2Fdemo-app/releases/{name}"
    token = world.variables["PT_GITLAB_TOKEN"]
    answer = requests.get(url, headers={"PRIVATE-TOKEN": token}, timeout=10)
    assert answer.status_code == 200
    return str(answer.json()["description"])


def posts(world: World, end: str) -> int:
    return sum(1 for seen in world.gitlab.requests if seen.method == "POST" and seen.path.endswith(end))


@pytest.mark.parametrize("words", [(), ("v1.1.0",)])
def test_create_between_tag_and_release_keeps_the_list_of_changes(
    world: World, words: tuple[str, ...]
) -> None:
    world.tag("v1.0.0")
    world.commit("feat: a big thing")
    world.gitlab.faults.add(Fault(status(503), method="POST", path_regex="/releases"))
    world.run("tag", "create", *words, exit_code=5)
    assert git(world.app_project.repository, "tag", "-l", "v1.1.0") == "v1.1.0"
    assert world.json("tag", "create", *words)["result"]["name"] == "v1.1.0"
    assert "A big thing" in release_notes(world, "v1.1.0") or "a big thing" in release_notes(world, "v1.1.0")


def test_create_twice_at_once_makes_one_tag(world: World) -> None:
    """Both look before either creates."""
    world.commit("feat: one")
    world.gitlab.faults.add(Fault(delay(2), method="POST", path_regex="/repository/tags$", times=2))
    outcomes: list[str] = []

    def create(number: int) -> None:
        outcomes.append(world.process("tag", "create", "v1.0.0", "--receipt", f"../r{number}.json").stdout)

    threads = [threading.Thread(target=create, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(outcomes) == 2, "one of them failed"
    assert posts(world, "/repository/tags") == 2, "they were not at it at once"
    assert "One" in release_notes(world, "v1.0.0") or "one" in release_notes(world, "v1.0.0")


@pytest.mark.parametrize("path", ["/repository/tags", "/releases"])
def test_create_with_a_lost_answer_finds_what_was_made(world: World, path: str) -> None:
    world.commit("feat: one")
    world.gitlab.faults.add(Fault(lost_answer(), method="POST", path_regex=path))
    assert world.json("tag", "create", "v1.0.0")["status"] == "done"
    assert (posts(world, "/repository/tags"), posts(world, "/releases")) == (1, 1)


def test_check_of_a_name_is_not_about_the_commit_of_the_job(world: World, tmp_path: Path) -> None:
    world.tag("v1.0.0")
    tagged = git(world.app, "rev-parse", "HEAD")
    later = world.commit("fix: later")
    assert world.json("tag", "check", "v1.0.0", CI_COMMIT_SHA=later)["result"]["commit"] == tagged
    assert error(world.run("tag", "check", "v1.0.0", "--commit", later, exit_code=3))
    world.app = world.fresh_app(tmp_path / "bare", "--no-tags")
    assert git(world.app, "tag") == ""
    assert world.json("tag", "check", "v1.0.0")["result"]["commit"] == tagged
    assert world.json("tag", "check", "v1.0.0", CI_COMMIT_SHA=later)["result"]["commit"] == tagged


def test_check_of_a_commit_that_nobody_knows(world: World) -> None:
    for words in (("tag", "check", "--commit", "f" * 40), ("tag", "next", "--commit", "f" * 40)):
        result = world.run(*words, exit_code=1)
        assert "ffffffff" in error(result)[0]


def test_next_passes_over_a_version_that_another_branch_has(world: World) -> None:
    world.tag("v1.0.0")
    git(world.app, "checkout", "--quiet", "-b", "hotfix")
    world.commit("fix: hot")
    world.tag("v1.0.1")
    git(world.app, "checkout", "--quiet", "main")
    world.commit("fix: on main")
    assert world.json("tag", "next")["result"]["name"] == "v1.0.2"
    assert world.json("tag", "create")["result"]["name"] == "v1.0.2"


def test_create_on_another_commit_is_refused(world: World) -> None:
    world.tag("v1.0.0")
    world.commit("fix: later")
    assert "is on" in error(world.run("tag", "create", "v1.0.0", exit_code=3))[0]


def test_create_dry_run_writes_nothing(world: World) -> None:
    world.commit("feat: one")
    before = world.snapshot()
    assert "+ GitLab Release" in world.run("tag", "create", "--dry-run").stdout
    assert world.snapshot() == before


def test_create_of_a_protected_tag_names_the_setting(world: World) -> None:
    world.gitlab.protect_tag(world.app_project, "v*")
    token = world.gitlab.create_token(world.app_project, "dev", scopes={"api"}, access_level=Access.DEVELOPER)
    _, hint = error(world.run("tag", "create", "v1.0.0", PT_GITLAB_TOKEN=token, exit_code=4))
    assert "Protected tags" in hint


def test_create_without_a_token_says_which_variable(world: World) -> None:
    message, hint = error(world.run("tag", "create", "v1.0.0", PT_GITLAB_TOKEN="", exit_code=4))
    assert message == "PT_GITLAB_TOKEN is empty"
    assert "protected" in hint


def test_not_a_checkout(tmp_path: Path, world: World) -> None:
    world.app = tmp_path / "plain"
    world.app.mkdir()
    assert "is not in a git checkout" in error(world.run("tag", "check", exit_code=1))[0]
    assert os.listdir(world.app) == []  # noqa: PTH208 (names suffice)


def test_next_is_alone_on_stdout_for_a_shell(world: World) -> None:
    world.tag("v1.0.0")
    world.commit("feat: new")
    result = world.run("tag", "next")
    assert result.stdout == "v1.1.0\n"
    assert "next version" in result.stderr
