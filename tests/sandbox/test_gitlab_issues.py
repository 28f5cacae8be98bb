"""Issues, notes, the merge requests of a commit, and jobs, as python-gitlab and plain requests meet them."""

from typing import Any

import gitlab as client
import pytest
import requests
from gitlab.exceptions import GitlabAuthenticationError, GitlabCreateError, GitlabGetError, GitlabUpdateError

from sandbox.gitlab import Access, Gitlab, JobScript, Project
from tests.sandbox.conftest import Git

pytestmark = pytest.mark.servers


def connect(server: Gitlab, token: str) -> Any:
    return client.Gitlab(server.url, private_token=token, timeout=10).projects.get(1, lazy=True)


def as_job(server: Gitlab, token: str) -> Any:
    return client.Gitlab(server.url, job_token=token, timeout=10).projects.get(1, lazy=True)


@pytest.fixture
def remote(server: Gitlab, project: Project, token: str) -> Any:
    return connect(server, token)


@pytest.fixture
def merge_request(remote: Any, work: Git) -> Any:
    """An open merge request with two commits."""
    for name in ("a", "b"):
        work.commit(name, "1", f"Add {name}")
    work.run("push", "--quiet", "origin", "main:feature")
    return remote.mergerequests.create({"source_branch": "feature", "target_branch": "main", "title": "T"})


def test_an_issue_is_opened_found_closed_and_reopened(remote: Any) -> None:
    made = remote.issues.create({"title": "Drift: network", "labels": ["drift", "infra"], "description": "x"})
    remote.issues.create({"title": "Other", "labels": ["infra"]})
    by_label = remote.issues.list(labels=["drift", "infra"], state="opened", get_all=True)
    assert [row.iid for row in by_label] == [made.iid]
    assert [row.iid for row in remote.issues.list(search="network", **{"in": "title"}, get_all=True)] == [1]
    assert remote.issues.list(search="network", **{"in": "description"}, get_all=True) == []
    made.state_event = "close"
    made.save()
    assert remote.issues.get(1).state == "closed"
    assert remote.issues.get(1).closed_at
    assert remote.issues.list(labels="drift", state="opened", get_all=True) == []
    made.state_event = "reopen"
    made.save()
    assert remote.issues.get(1).closed_at is None


def test_notes_of_issues_and_merge_requests_are_paged(remote: Any, merge_request: Any) -> None:
    issue = remote.issues.create({"title": "T"})
    for place in (issue, merge_request):
        for number in range(25):
            place.notes.create({"body": f"n{number}"})
        assert [note.body for note in place.notes.list(iterator=True)] == [
            f"n{n}" for n in reversed(range(25))
        ]
        assert next(iter(place.notes.list(sort="asc", iterator=True))).body == "n0"


def test_a_note_is_its_authors_and_a_maintainers(
    server: Gitlab, project: Project, remote: Any, merge_request: Any
) -> None:
    note = merge_request.notes.create({"body": "mine"})
    other = (
        connect(server, server.create_token(project, "other"))
        .mergerequests.get(1, lazy=True)
        .notes.get(note.id)
    )
    other.body = "theirs"
    with pytest.raises(GitlabUpdateError, match="403"):
        other.save()
    boss = connect(server, server.create_token(project, "m", access_level=Access.MAINTAINER))
    edited = boss.mergerequests.get(1, lazy=True).notes.get(note.id)
    edited.body = "edited"
    edited.save()
    assert merge_request.notes.get(note.id).body == "edited"


def test_bodies_have_a_limit(remote: Any, merge_request: Any) -> None:
    merge_request.notes.create({"body": "x" * 1_000_000})
    with pytest.raises(GitlabCreateError, match=r"is too long \(maximum is 1000000 characters\)"):
        merge_request.notes.create({"body": "x" * 1_000_001})
    with pytest.raises(GitlabCreateError, match="is too long"):
        remote.issues.create({"title": "t" * 256})


@pytest.mark.parametrize(
    "block", ["```\n{}\n```", "<details>\n{}\n</details>", ">>>\n{}\n>>>", "````\n{}\n````", "text {}"]
)
def test_a_quick_action_in_a_block_is_text(merge_request: Any, remote: Any, block: str) -> None:
    note = merge_request.notes.create({"body": block.format("/close")})
    assert note.body == block.format("/close")
    assert remote.mergerequests.get(1).state == "opened"


@pytest.mark.parametrize("block", ["a\n{}", "~~~\n{}\n~~~"])
def test_a_line_that_begins_with_a_slash_acts(merge_request: Any, remote: Any, block: str) -> None:
    """Also when a note is changed, and in fences that the extractor does not know."""
    note = merge_request.notes.create({"body": "plan"})
    note.body = block.format("/close")
    note.save()
    assert "/close" not in merge_request.notes.get(note.id).body
    assert remote.mergerequests.get(1).state == "closed"


def test_a_note_of_nothing_but_quick_actions_is_none(server: Gitlab, token: str, merge_request: Any) -> None:
    answer = requests.post(
        f"{server.url}/api/v4/projects/1/merge_requests/1/notes",
        json={"body": "/close"},
        headers={"PRIVATE-TOKEN": token},
        timeout=10,
    )
    assert answer.status_code == 202
    assert merge_request.notes.list(get_all=True) == []


def test_a_job_token_reads_notes_and_writes_none(
    server: Gitlab, project: Project, merge_request: Any
) -> None:
    merge_request.notes.create({"body": "plan"})
    job = as_job(server, server.job_token(project))
    notes = job.mergerequests.get(1, lazy=True).notes
    assert [note.body for note in notes.list(get_all=True)] == ["plan"]
    with pytest.raises(GitlabAuthenticationError):
        notes.create({"body": "x"})
    with pytest.raises(GitlabAuthenticationError):
        job.issues.create({"title": "x"})
    with pytest.raises(GitlabAuthenticationError):
        job.jobs.get(1)
    with pytest.raises(client.GitlabListError, match="404"):
        job.issues.list(get_all=True)


@pytest.mark.parametrize("squash", [False, True], ids=["merge", "squash"])
def test_the_merge_requests_of_a_commit(
    server: Gitlab, project: Project, work: Git, merge_request: Any, squash: bool
) -> None:
    server.protect_branch(project, "main")
    remote = connect(server, server.create_token(project, "m", access_level=Access.MAINTAINER))

    def brought(commit: str) -> list[int]:
        return [row["iid"] for row in remote.commits.get(commit, lazy=True).merge_requests()]

    own = [work.out("rev-parse", revision) for revision in ("HEAD", "HEAD~1")]
    first = work.out("rev-parse", "HEAD~2")
    assert [brought(commit) for commit in own] == [[1], [1]]
    merged = remote.mergerequests.get(1).merge(squash=squash, should_remove_source_branch=True)
    assert [brought(commit) for commit in own] == [[1], [1]]
    assert brought(merged["merge_commit_sha"]) == [1]
    assert (merged["squash_commit_sha"] is not None) is squash
    if squash:
        assert brought(merged["squash_commit_sha"]) == [1]
        assert own[0] not in Git(project.repository).out("log", "--format=%H", "main")
    assert remote.mergerequests.get(1).sha == own[0]
    assert brought(first) == []
    with pytest.raises(GitlabGetError, match="404"):
        brought("0" * 40)


def test_a_job_is_seen_until_it_ends_and_after(server: Gitlab, project: Project, remote: Any) -> None:
    user = server.create_user("anna")
    server.add_member(project, user, Access.DEVELOPER)
    job = server.create_job(project, "apply", user)
    headers = {"JOB-TOKEN": server.job_token(project, job=job)}
    current = requests.get(f"{server.url}/api/v4/job", headers=headers, timeout=10)
    assert (current.json()["id"], current.json()["status"]) == (job.id, "running")
    job.finish("canceled")
    assert requests.get(f"{server.url}/api/v4/job", headers=headers, timeout=10).status_code == 401
    seen = remote.jobs.get(job.id)
    assert (seen.status, seen.user["username"], bool(seen.finished_at)) == ("canceled", "anna", True)


def test_a_pipelines_job_is_found_too(server: Gitlab, project: Project, remote: Any) -> None:
    server.pipeline_script(project, ["running", "success"], jobs=[JobScript("plan")])
    pipeline = remote.pipelines.create({"ref": "main"})
    (listed,) = pipeline.jobs.list(get_all=True)
    assert remote.jobs.get(listed.id).name == "plan"
    with pytest.raises(GitlabGetError, match="404"):
        remote.jobs.get(999)


def test_the_job_of_an_access_token_is_nowhere(server: Gitlab, project: Project, token: str) -> None:
    answer = requests.get(f"{server.url}/api/v4/job", headers={"PRIVATE-TOKEN": token}, timeout=10)
    assert (answer.status_code, answer.json()) == (404, {"message": "404 Job Not Found"})
