"""`bump --via-merge-request`, and what `trigger` makes of it, against the GitLab stand-in over real git HTTP."""

import json
from typing import Any

import pytest

from sandbox.gitlab import Access, Fault, lost_answer
from sandbox.gitlab.model import MergeRequest
from tests.world import DIGEST, World, error, git

pytestmark = pytest.mark.servers


@pytest.fixture
def proposing(world: World) -> World:
    """A world whose branch only Maintainers push to, and a token that may propose and, once it is green, merge."""
    world.gitlab.protect_branch(
        world.env_project, "main", push_access=Access.MAINTAINER, merge_access=Access.DEVELOPER
    )
    world.variables["PT_ENV_TOKEN"] = world.gitlab.create_token(
        world.env_project, "proposer", scopes={"api", "write_repository"}
    )
    return world


def words(version: str, *more: str, overlay: str = "overlays/dev") -> tuple[str, ...]:
    return (
        *(
            "bump",
            "--env-project",
            "platform/env",
            "--overlay",
            overlay,
            "--no-render",
            "--via-merge-request",
        ),
        *("--image", f"demo-app=registry.example.com/apps/demo-app:{version}@{DIGEST}"),
        *more,
    )


def requests_of(world: World) -> list[MergeRequest]:
    return world.env_project.merge_requests


def branch_file(world: World, path: str = "overlays/dev/kustomization.yaml") -> str:
    return world.env("show", f"{requests_of(world)[-1].source_branch}:{path}")


def pushed(world: World) -> int:
    """How many branches there are beside main."""
    return len(world.env("for-each-ref", "refs/heads/bump/").splitlines())


def test_one_commit_on_a_branch_of_our_own_and_one_merge_request(proposing: World) -> None:
    tip = proposing.env_tip
    answer = proposing.json(*words("1.0.0"))
    (row,) = requests_of(proposing)
    assert answer["status"] == "pending"
    assert answer["result"]["merge_request"] == row.iid
    assert answer["result"]["commit"] == proposing.env("rev-parse", row.source_branch)
    assert (proposing.env_tip, proposing.env("rev-parse", f"{row.source_branch}^")) == (tip, tip)
    assert (row.target_branch, row.title, row.remove_source_branch) == ("main", "Bump demo-app 1.0.0", True)
    assert "Bump-Id: " in row.description
    assert '"1.0.0"' in branch_file(proposing)


def test_again_finds_it(proposing: World) -> None:
    first = proposing.json(*words("1.0.0"))
    again = proposing.json(*words("1.0.0"))
    assert again["status"] == "pending"
    for key in ("commit", "merge_request", "url"):
        assert again["result"][key] == first["result"][key]
    assert len(requests_of(proposing)) == 1


def test_another_commit_on_the_target_leaves_it_alone(proposing: World) -> None:
    first = proposing.json(*words("1.0.0"))
    proposing.env_commit("README.md", "later\n")
    assert proposing.json(*words("1.0.0"))["result"]["commit"] == first["result"]["commit"]


def test_a_conflict_with_the_target_builds_it_anew(proposing: World) -> None:
    proposing.run(*words("1.0.0"))
    tip = proposing.env_commit(
        "overlays/dev/kustomization.yaml", proposing.env_file().replace('"0.0.0"', '"0.5.0"')
    )
    assert proposing.json(*words("1.0.0"))["status"] == "pending"
    (row,) = requests_of(proposing)
    assert proposing.env("rev-parse", f"{row.source_branch}^") == tip


def test_a_newer_version_updates_the_one_there_is(proposing: World) -> None:
    proposing.run(*words("1.0.0"))
    answer = proposing.json(*words("1.1.0"))
    (row,) = requests_of(proposing)
    assert (answer["result"]["merge_request"], row.title) == (row.iid, "Bump demo-app 1.1.0")
    assert '"1.1.0"' in branch_file(proposing)
    assert proposing.env("rev-list", "--count", f"main..{row.source_branch}") == "1"


def test_an_older_version_is_superseded_by_the_one_there_is(proposing: World) -> None:
    proposing.run(*words("1.1.0"))
    answer = proposing.json(*words("1.0.0"))
    assert (answer["status"], answer["exit_code"]) == ("superseded", 0)
    assert '"1.1.0"' in branch_file(proposing)
    assert proposing.json(*words("1.0.0"), "--allow-downgrade")["status"] == "pending"
    assert '"1.0.0"' in branch_file(proposing)


def test_other_overlays_have_a_merge_request_of_their_own(proposing: World) -> None:
    proposing.run(*words("1.0.0"))
    proposing.run(*words("1.0.0", overlay="overlays/prod"))
    assert len({row.source_branch for row in requests_of(proposing)}) == 2


def test_labels_and_reviewers(proposing: World) -> None:
    proposing.gitlab.create_user("anna")
    proposing.gitlab.create_user("ben")
    proposing.run(*words("1.0.0", "--label", "bump", "--reviewer", "@anna"))
    (row,) = requests_of(proposing)
    row.labels.append("by hand")
    proposing.run(*words("1.1.0", "--label", "bump", "--reviewer", "ben"))
    assert row.labels == ["bump", "by hand"]
    assert {user.username for user in row.reviewers} == {"anna", "ben"}


def test_a_reviewer_who_is_nobody(proposing: World) -> None:
    assert "no user 'nobody'" in error(proposing.run(*words("1.0.0", "--reviewer", "nobody"), exit_code=1))[0]
    assert requests_of(proposing) == []


def test_somebody_elses_commit_on_the_branch_is_not_thrown_away(proposing: World) -> None:
    proposing.run(*words("1.0.0"))
    branch = requests_of(proposing)[0].source_branch
    tree = proposing.env("rev-parse", f"{branch}^{{tree}}")
    theirs = git(proposing.env_project.repository, "commit-tree", tree, "-p", branch, "-m", "mine")
    proposing.env("update-ref", f"refs/heads/{branch}", theirs)
    message, _ = error(proposing.run(*words("1.1.0"), exit_code=3))
    assert "somebody works there" in message
    assert proposing.env("rev-parse", branch) == theirs


def test_a_branch_that_moves_while_we_push_is_read_again(proposing: World) -> None:
    """Another run of the same application: the newer of the two stays."""
    proposing.run(*words("1.0.0"))
    branch = requests_of(proposing)[0].source_branch
    raced: list[str] = []

    def race(*_: object) -> None:
        if not raced:
            raced.append("now")
            text = proposing.env("show", f"{branch}:overlays/dev/kustomization.yaml").replace(
                "1.0.0", "1.2.0"
            )
            _commit(proposing, branch, text)

    proposing.gitlab.push_hook(proposing.env_project, "race", race)
    assert proposing.json(*words("1.1.0"))["status"] == "superseded"
    assert '"1.2.0"' in branch_file(proposing)


def _commit(world: World, branch: str, text: str) -> None:
    """What another bump would leave on its branch."""
    main = world.env_tip
    commit = world.env_commit("overlays/dev/kustomization.yaml", text, "Bump\n\nBump-Id: 0123456789abcdef\n")
    world.env("update-ref", "refs/heads/main", main)
    world.env("update-ref", f"refs/heads/{branch}", commit)


@pytest.mark.parametrize("version", ["1.0.0", "0.9.0"])
def test_a_closed_one_is_respected(proposing: World, version: str) -> None:
    proposing.run(*words("1.0.0"))
    requests_of(proposing)[0].state = "closed"
    message, hint = error(proposing.run(*words(version), exit_code=3))
    assert "!1" in message
    assert "newer version" in hint
    assert len(requests_of(proposing)) == 1


def test_a_newer_version_than_the_closed_one_is_proposed(proposing: World) -> None:
    proposing.run(*words("1.0.0"))
    requests_of(proposing)[0].state = "closed"
    assert proposing.json(*words("1.0.1"))["result"]["merge_request"] == 2


@pytest.mark.parametrize("path", ["git-receive-pack", "merge_requests$"])
def test_an_answer_that_was_lost_leaves_one_merge_request(proposing: World, path: str) -> None:
    proposing.gitlab.faults.add(Fault(lost_answer(), method="POST", path_regex=path))
    proposing.run(*words("1.0.0"), exit_code=0 if "git" in path else 5)
    assert proposing.json(*words("1.0.0"))["status"] == "pending"
    assert (len(requests_of(proposing)), pushed(proposing)) == (1, 1)


def test_dry_run_proposes_nothing(proposing: World) -> None:
    before = proposing.snapshot()
    answer = proposing.json(*words("1.0.0"), "--dry-run")
    assert answer["status"] == "planned"
    assert answer["plan"]["source_branch"].startswith("bump/demo-app-")
    assert proposing.snapshot() == before
    assert requests_of(proposing) == []


def test_a_token_without_api_names_the_variable(proposing: World) -> None:
    token = proposing.gitlab.create_token(proposing.env_project, "writer", scopes={"write_repository"})
    message, hint = error(proposing.run(*words("1.0.0"), PT_ENV_TOKEN=token, exit_code=4))
    assert "merge requests" in message
    assert "PT_ENV_TOKEN" in hint


# Auto-merge ----------------------------------------------------------------------------------------------------


def test_it_merges_itself_when_its_pipeline_succeeds(proposing: World) -> None:
    proposing.gitlab.pipeline_script(proposing.env_project, ["running"] * 100 + ["success"])
    assert proposing.json(*words("1.0.0", "--auto-merge"))["status"] == "pending"
    (row,) = requests_of(proposing)
    assert row.auto_merge is not None
    assert row.auto_merge.sha == proposing.env("rev-parse", row.source_branch)
    for _ in range(101):
        proposing.gitlab.advance(proposing.gitlab.pipelines(proposing.env_project)[-1])
    assert proposing.json(*words("1.0.0", "--auto-merge"))["status"] == "unchanged"
    assert row.state == "merged"
    assert '"1.0.0"' in proposing.env_file()


def test_without_a_pipeline_nothing_is_merged(proposing: World) -> None:
    """GitLab would merge it at once (gitlab-org/gitlab#37292)."""
    tree = proposing.env("ls-tree", "main").replace("\t.gitlab-ci.yml", "\tother.yml")
    commit = git(
        proposing.env_project.repository,
        "commit-tree",
        git(proposing.env_project.repository, "mktree", stdin=tree + "\n"),
        *("-p", "main", "-m", "no pipelines"),
    )
    proposing.env("update-ref", "refs/heads/main", commit)
    answer = proposing.json(*words("1.0.0", "--auto-merge", "--timeout", "1"))
    assert answer["status"] == "pending"
    assert "no pipeline that could succeed" in answer["warnings"][0]
    assert requests_of(proposing)[0].state == "opened"


def test_a_pipeline_that_failed_is_said(proposing: World) -> None:
    proposing.gitlab.pipeline_script(proposing.env_project, ["failed"])
    answer = proposing.json(*words("1.0.0", "--auto-merge"))
    assert "its pipeline failed" in answer["warnings"][0]
    assert requests_of(proposing)[0].auto_merge is None


def test_the_pipeline_of_the_commit_before_is_not_taken_for_the_new_ones(proposing: World) -> None:
    """It has succeeded already: asked now, GitLab would merge the new commit unchecked."""
    proposing.gitlab.pipeline_script(proposing.env_project, ["success"])
    proposing.run(*words("1.0.0"))
    proposing.gitlab.pipeline_script(proposing.env_project, ["running"] * 1000)
    assert proposing.json(*words("1.1.0", "--auto-merge"))["status"] == "pending"
    assert requests_of(proposing)[0].state == "opened"
    assert requests_of(proposing)[0].auto_merge is not None


# The steps after -----------------------------------------------------------------------------------------------

TRIGGER = ("trigger", "--env-project", "platform/env")


def receipt(world: World) -> Any:
    return json.loads((world.app / "release.json").read_text())


def test_the_receipt_says_pending_and_trigger_reports_the_merge_request(proposing: World) -> None:
    proposing.gitlab.pipeline_script(proposing.env_project, ["running"] * 1000)
    proposing.run(*words("1.0.0"))
    (row,) = requests_of(proposing)
    assert receipt(proposing)["bump"]["pending"] is True
    assert receipt(proposing)["bump"]["merge_request"] == row.iid
    before = len(proposing.gitlab.pipelines(proposing.env_project))
    answer = proposing.json(*TRIGGER)
    assert (answer["status"], answer["exit_code"]) == ("pending", 0)
    assert answer["result"]["merge_request"].endswith(f"/merge_requests/{row.iid}")
    assert len(proposing.gitlab.pipelines(proposing.env_project)) == before


def test_trigger_waits_for_the_merge_requests_pipeline(proposing: World) -> None:
    proposing.gitlab.pipeline_script(proposing.env_project, ["running", "failed"])
    proposing.run(*words("1.0.0"))
    while not _has_pipeline(proposing):
        pass
    message, _ = error(proposing.run(*TRIGGER, "--wait", exit_code=1))
    assert "failed" in message


def _has_pipeline(world: World) -> bool:
    pipelines = world.gitlab.pipelines(world.env_project)
    return bool(pipelines) and pipelines[-1].appears <= pipelines[-1].clock()


def test_trigger_goes_on_once_it_is_merged(proposing: World) -> None:
    proposing.gitlab.pipeline_script(proposing.env_project, ["success"])
    proposing.run(*words("1.0.0"))
    proposing.run(*words("1.0.0", "--auto-merge"))
    (row,) = requests_of(proposing)
    assert row.state == "merged"
    assert proposing.json(*TRIGGER)["result"]["commit"] == row.merge_sha


def test_trigger_respects_a_closed_one(proposing: World) -> None:
    proposing.run(*words("1.0.0"))
    requests_of(proposing)[0].state = "closed"
    assert "was closed" in error(proposing.run(*TRIGGER, exit_code=3))[0]


def test_trigger_without_a_token_that_reads_says_what_the_bump_said(proposing: World) -> None:
    proposing.run(*words("1.0.0"))
    answer = proposing.json(*TRIGGER, PT_ENV_TOKEN=None, PT_ENV_BRANCH="main")
    assert answer["status"] == "pending"
    assert answer["result"]["merge_request"].endswith("/merge_requests/1")
