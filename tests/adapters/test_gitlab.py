"""The GitLab adapters on the stand-in: what is found again, what is refused, and what passes."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gitlab
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline_tools.adapters import http
from pipeline_tools.adapters.gitlab import Project
from pipeline_tools.adapters.gitlab_client import Kind
from pipeline_tools.adapters.gitlab_records import Records
from pipeline_tools.errors import Denied, PipelineError, Unavailable
from pipeline_tools.text.masks import Secret
from sandbox import gitlab as stand_in
from sandbox.gitlab import Access, Fault, Gitlab, lost_answer, reset, status, truncate
from tests.listener import Reply, Seen, listening

pytestmark = pytest.mark.servers
MARKER = "<!-- pipeline-tools terraform network -->"
MOST = 1_000_000


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Gitlab]:
    with Gitlab.start(tmp_path / "gitlab", step=None) as running:
        yield running


@pytest.fixture
def project(server: Gitlab, tmp_path: Path) -> stand_in.Project:
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "main.tf").write_text("")
    return server.create_project("platform/infra", source=tmp_path / "source")


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries without their pauses."""
    plain = http.session
    monkeypatch.setattr(http, "session", lambda **words: plain(**{"backoff": 0.0, **words}))


Connect = Callable[..., Records]


@pytest.fixture
def connect(server: Gitlab, project: stand_in.Project) -> Connect:
    """Records of the project with a token of its own; with `token`, with that one."""

    def made(token: str = "", *, access: Access = Access.DEVELOPER, kind: Kind = "private_token") -> Records:
        secret = token or server.create_token(project, "records", access_level=access)
        return Records(server.url, project.path, Secret(secret), variable="PT_GITLAB_TOKEN", kind=kind)

    return made


@pytest.fixture
def records(connect: Connect) -> Records:
    return connect()


@pytest.fixture
def iid(merge_request: Any) -> int:
    return int(merge_request.iid)


@pytest.fixture
def merge_request(server: Gitlab, project: stand_in.Project) -> Any:
    """An open merge request with one commit, as python-gitlab has it."""
    maintainer = _library(server, project, Access.MAINTAINER)
    tip = git(project, "commit-tree", "main^{tree}", "-p", "main", "-m", "Change", identity=True)
    git(project, "update-ref", "refs/heads/feature", tip)
    return maintainer.mergerequests.create(
        {"source_branch": "feature", "target_branch": "main", "title": "T"}
    )


def git(project: stand_in.Project, *words: str, identity: bool = False) -> str:
    names = ("-c", "user.name=Ann", "-c", "user.email=ann@example.com") if identity else ()
    argv = ("git", "-C", str(project.repository), *names, *words)
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout.strip()


def _library(server: Gitlab, project: stand_in.Project, access: Access = Access.DEVELOPER) -> Any:
    """Somebody else, with python-gitlab."""
    token = server.create_token(project, "somebody", access_level=access)
    return gitlab.Gitlab(server.url, private_token=token, timeout=10).projects.get(project.id, lazy=True)


# Notes -----------------------------------------------------------------------------------------------------


def test_a_note_is_written_once_and_then_changed(
    records: Records, project: stand_in.Project, iid: int
) -> None:
    assert records.merge_request_note(iid, MARKER) is None
    first = records.write_merge_request_note(iid, MARKER, "1 to add")
    second = records.write_merge_request_note(iid, MARKER, "2 to add")
    assert second.id == first.id
    assert second.url == f"{project.web_url}/-/merge_requests/{iid}#note_{first.id}"
    assert records.merge_request_note(iid, MARKER) == second
    assert [note["body"] for note in project.merge_requests[0].notes] == [f"{MARKER}\n2 to add"]


def test_an_equal_note_is_left_alone(server: Gitlab, records: Records, iid: int) -> None:
    records.write_merge_request_note(iid, MARKER, "same\r\n\n")
    before = len(server.requests)
    records.write_merge_request_note(iid, MARKER, "same\r\n\n")
    assert {request.method for request in server.requests[before:]} == {"GET"}


def test_a_note_is_found_behind_many_others(records: Records, merge_request: Any, iid: int) -> None:
    for number in range(120):
        merge_request.notes.create({"body": f"n{number}"})
    made = records.write_merge_request_note(iid, MARKER, "plan")
    for number in range(120):
        merge_request.notes.create({"body": f"m{number}"})
    assert records.merge_request_note(iid, MARKER) == made


def test_what_somebody_else_wrote_is_never_ours(
    connect: Connect, merge_request: Any, project: stand_in.Project, iid: int
) -> None:
    """Not even for a Maintainer's token, which could overwrite it."""
    merge_request.notes.create({"body": f"{MARKER}\nplanted"})
    records = connect(access=Access.MAINTAINER)
    assert records.merge_request_note(iid, MARKER) is None
    records.write_merge_request_note(iid, MARKER, "plan")
    assert [note["body"].splitlines()[1] for note in project.merge_requests[0].notes] == ["planted", "plan"]


def test_the_marker_is_the_whole_first_line(records: Records, iid: int) -> None:
    long = records.write_merge_request_note(iid, "network-2", "x")
    inside = records.write_merge_request_note(iid, "other", "network")
    made = records.write_merge_request_note(iid, "network", "x")
    assert len({long.id, inside.id, made.id}) == 3


def test_a_note_that_is_too_long_says_so(records: Records, iid: int) -> None:
    with pytest.raises(PipelineError, match="too long") as caught:
        records.write_merge_request_note(iid, MARKER, "x" * 1_000_000)
    assert (caught.value.exit_code, caught.value.hint.partition(":")[0]) == (1, "make it shorter")


def test_a_note_whose_answer_is_lost_is_found_by_the_next_run(
    server: Gitlab, records: Records, project: stand_in.Project, iid: int
) -> None:
    server.faults.add(Fault(lost_answer(), "POST"))
    with pytest.raises(Unavailable):
        records.write_merge_request_note(iid, MARKER, "plan")
    records.write_merge_request_note(iid, MARKER, "plan")
    assert len(project.merge_requests[0].notes) == 1


def test_a_job_token_may_not_write_notes(
    server: Gitlab, project: stand_in.Project, connect: Connect, iid: int
) -> None:
    job = connect(server.job_token(project), kind="job_token")
    with pytest.raises(Denied) as caught:
        job.write_merge_request_note(iid, MARKER, "plan")
    assert "PT_GITLAB_TOKEN acts for who started the job" in caught.value.hint


def test_a_merge_request_that_is_not_there(records: Records) -> None:
    with pytest.raises(Denied, match=r"!99 .*\(404\)"):
        records.write_merge_request_note(99, MARKER, "plan")


# Merge requests of a commit --------------------------------------------------------------------------------


def test_a_merged_commit_leads_to_its_merge_request(
    records: Records, project: stand_in.Project, merge_request: Any
) -> None:
    tip = git(project, "rev-parse", "feature")
    (before,) = records.merge_requests_of(tip)
    assert (before.iid, before.state, before.sha, before.merge_commit_sha) == (1, "opened", tip, None)
    merge_request.merge(squash=True, should_remove_source_branch=True)
    (after,) = records.merge_requests_of(git(project, "rev-parse", "main"))
    assert (after.state, after.source_branch, after.target_branch, after.sha) == (
        "merged",
        "feature",
        "main",
        tip,
    )
    assert after.merge_commit_sha == git(project, "rev-parse", "main")
    assert after.squash_commit_sha == git(project, "rev-parse", "main^2")
    assert after.url.endswith("/-/merge_requests/1")


def test_a_commit_without_merge_request_has_none(
    server: Gitlab, project: stand_in.Project, connect: Connect
) -> None:
    job = connect(server.job_token(project), kind="job_token")
    assert job.merge_requests_of(git(project, "rev-parse", "main")) == []


# Issues ----------------------------------------------------------------------------------------------------


def test_one_issue_is_opened_changed_and_closed(records: Records, project: stand_in.Project) -> None:
    assert records.issue("drift", "Drift: network") is None
    made = records.write_issue("drift", "Drift: network", "2 changes")
    changed = records.write_issue("drift", "Drift: network", "3 changes")
    assert (changed.iid, changed.description, changed.state) == (made.iid, "3 changes", "opened")
    assert records.issue("drift", "Drift: network") == changed
    closed = records.close_issue("drift", "Drift: network", "No drift any more.")
    assert closed is not None
    assert (closed.iid, closed.state) == (made.iid, "closed")
    assert [note["body"] for note in project.issues[0].notes] == ["No drift any more."]
    assert records.issue("drift", "Drift: network") is None
    assert records.close_issue("drift", "Drift: network", "again") is None
    assert records.write_issue("drift", "Drift: network", "new").iid != made.iid


def test_only_our_own_issue_with_this_very_title_counts(
    server: Gitlab, project: stand_in.Project, records: Records
) -> None:
    somebody = _library(server, project)
    somebody.issues.create({"title": "Drift: network", "labels": ["drift"]})
    for number in range(105):
        records.write_issue("drift", f"Drift: network-{number}", "")
    made = records.write_issue("drift", "Drift: network", "ours")
    assert records.issue("drift", "Drift: network") == made
    assert records.issue("other", "Drift: network") is None
    records.close_issue("drift", "Drift: network", "clean")
    assert project.issues[0].state == "opened"


def test_a_closing_that_broke_off_writes_its_note_once(
    server: Gitlab, project: stand_in.Project, records: Records
) -> None:
    records.write_issue("drift", "T", "")
    server.faults.add(Fault(status(403), "PUT", "/issues/1$"))
    with pytest.raises(Denied):
        records.close_issue("drift", "T", "clean")
    records.close_issue("drift", "T", "clean")
    assert (project.issues[0].state, len(project.issues[0].notes)) == ("closed", 1)


def test_a_guest_cannot_label_and_leaves_no_open_issue(project: stand_in.Project, connect: Connect) -> None:
    with pytest.raises(Denied, match="without its label drift") as caught:
        connect(access=Access.GUEST).write_issue("drift", "T", "")
    assert caught.value.hint == "give PT_GITLAB_TOKEN the role Reporter"
    assert [row.state for row in project.issues] == ["closed"]


# Packages --------------------------------------------------------------------------------------------------


def test_a_package_file_goes_and_comes_with_a_job_token(
    server: Gitlab, project: stand_in.Project, connect: Connect
) -> None:
    job = connect(server.job_token(project), kind="job_token")
    assert job.package_file("plan", "1", "passport.json", MOST) is None
    for content in (b"old", b"new"):
        job.write_package_file("plan", "1", "passport.json", content)
    assert job.package_file("plan", "1", "passport.json", MOST) == b"new"
    assert job.package_file("plan", "1", "other.json", MOST) is None


def test_content_comes_back_byte_by_byte(records: Records) -> None:
    @given(st.binary(min_size=1, max_size=300))
    def goes_round(content: bytes) -> None:
        records.write_package_file("plan", "1", "f", content)
        assert records.package_file("plan", "1", "f", 300) == content

    goes_round()


def test_a_planted_huge_file_is_not_read(records: Records) -> None:
    records.write_package_file("plan", "1", "f", bytes(1_000_001))
    with pytest.raises(
        PipelineError, match="f of package plan 1 in platform/infra has more than 1000000 bytes"
    ):
        records.package_file("plan", "1", "f", 1_000_000)
    assert records.package_file("plan", "1", "f", 1_000_001) == bytes(1_000_001)


def test_a_name_stays_in_its_place(records: Records, project: stand_in.Project) -> None:
    for name in ("../../issues", "a/b", "a?b=c", "a#b", ".."):
        with pytest.raises(PipelineError):
            records.write_package_file("plan", "1", name, b"x")
    assert project.packages == []


def test_the_token_does_not_follow_to_the_object_storage(project: stand_in.Project) -> None:
    """As on an instance whose object storage is not proxied: a redirect to a signed address."""

    def answer(seen: Seen) -> Reply:
        if seen.path.startswith("/api/"):
            return 302, {"Location": f"{listener.other_url}/bucket/f?signature=1"}, b""
        return 200, {}, b"content"

    with listening(answer) as listener:
        token = Secret("glpat-travels-nowhere")
        records = Records(listener.url, "1", token, variable="PT_GITLAB_TOKEN")
        assert records.package_file("plan", "1", "f", MOST) == b"content"
        asked, followed = listener.seen
    assert token.reveal() in asked.text
    assert token.reveal() not in followed.text
    assert followed.path == "/bucket/f?signature=1"


def test_a_rate_limit_of_hours_holds_up_nobody(
    server: Gitlab, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """GitLab's client would wait as long as it is told before it sends a POST again."""
    waited: list[float] = []
    monkeypatch.setattr("gitlab.utils.time.sleep", waited.append)
    server.faults.add(Fault(status(429, retry_after=21_600), "POST"))
    connect().write_issue("drift", "a title", "a description")
    assert waited == [http.LONGEST_WAIT]


@pytest.mark.parametrize("kind", [status(500), status(503), status(429, retry_after=0), reset()])
def test_what_passes_is_tried_again(server: Gitlab, records: Records, kind: Any) -> None:
    server.faults.add(Fault(kind, "PUT", "/packages/generic/", times=2))
    records.write_package_file("plan", "1", "f", b"x")
    server.faults.add(Fault(kind, "GET", "/packages/generic/", times=2))
    assert records.package_file("plan", "1", "f", MOST) == b"x"


@pytest.mark.parametrize("kind", [status(502), reset(), truncate()])
def test_what_does_not_pass_is_worth_another_run(server: Gitlab, records: Records, kind: Any) -> None:
    records.write_package_file("plan", "1", "f", b"content")
    server.faults.add(Fault(kind, "GET", "/packages/generic/", times=None))
    with pytest.raises(Unavailable) as caught:
        records.package_file("plan", "1", "f", MOST)
    assert caught.value.exit_code == 5


# Refusals --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [401, 403])
def test_a_refusal_names_variable_and_role(server: Gitlab, records: Records, code: int) -> None:
    server.faults.add(Fault(status(code), times=None))
    for refused, role in (
        (lambda: records.write_package_file("p", "1", "f", b"x"), "Developer"),
        (lambda: records.package_file("p", "1", "f", MOST), "Reporter"),
        (lambda: records.merge_requests_of("a" * 40), "Reporter"),
    ):
        with pytest.raises(Denied, match=str(code)) as caught:
            refused()
        assert caught.value.exit_code == 4
        assert f"role {role}; is PT_GITLAB_TOKEN valid" in caught.value.hint


def test_a_job_of_another_project_names_the_allowlist(
    server: Gitlab, project: stand_in.Project, connect: Connect
) -> None:
    other = server.create_project("shop/app")
    token = server.job_token(other, user_access={project.path: Access.DEVELOPER})
    with pytest.raises(Denied, match="not allowed from app to infra") as caught:
        connect(token, kind="job_token").write_package_file("plan", "1", "f", b"x")
    assert "Settings > CI/CD > Job token permissions" in caught.value.hint


def test_a_project_that_may_not_be_seen(server: Gitlab, project: stand_in.Project, connect: Connect) -> None:
    stranger = connect(server.create_token(server.create_project("shop/app"), "stranger"))
    with pytest.raises(Denied, match=r"\(404\)") as caught:
        stranger.write_package_file("plan", "1", "f", b"x")
    assert "PT_GITLAB_TOKEN may not see it" in caught.value.hint


def test_a_refused_duplicate_names_the_setting(server: Gitlab, records: Records) -> None:
    body = '{"message": "400 Bad request - Duplicate package is not allowed"}'
    server.faults.add(Fault(status(400, body=body), "PUT"))
    with pytest.raises(Denied) as caught:
        records.write_package_file("plan", "1", "f", b"x")
    assert "Packages and registries" in caught.value.hint


# Jobs ------------------------------------------------------------------------------------------------------


def test_a_job_is_seen_while_it_runs_and_after(server: Gitlab, project: stand_in.Project) -> None:
    token = Secret(server.create_token(project, "reader", scopes={"read_api"}))
    reader = Project(server.url, project.path, token, variable="PT_GITLAB_TOKEN")
    user = server.create_user("anna")
    job = server.create_job(project, "apply", user)
    running = reader.job(job.id)
    assert running is not None
    assert (running.id, running.name, running.has_ended, running.finished_at) == (
        job.id,
        "apply",
        False,
        None,
    )
    job.finish("canceled")
    ended = reader.job(job.id)
    assert ended is not None
    assert (ended.status, ended.has_ended, bool(ended.finished_at)) == ("canceled", True, True)
    assert ended.url.endswith(f"/-/jobs/{job.id}")
    assert reader.job(999) is None


def test_a_job_token_may_not_look_at_jobs(server: Gitlab, project: stand_in.Project) -> None:
    token = Secret(server.job_token(project))
    reader = Project(server.url, project.path, token, variable="CI_JOB_TOKEN", kind="job_token")
    with pytest.raises(Denied, match="401"):
        reader.job(1)
