"""Faults on REST and git: what the client sees, and whether the effect is there."""

import time
import warnings
from pathlib import Path

import gitlab as client
import pytest
import requests
from gitlab.exceptions import GitlabCreateError, GitlabHttpError

from sandbox.gitlab import Fault, Gitlab, Project, delay, lost_answer, reset, status, truncate
from sandbox.gitlab.faults import Kind
from tests.sandbox.conftest import Git

pytestmark = pytest.mark.servers
URL = "/api/v4/projects/1"


def get(server: Gitlab, token: str) -> requests.Response:
    return requests.get(server.url + URL, headers={"PRIVATE-TOKEN": token}, timeout=10)


def test_a_delay(server: Gitlab, project: Project, token: str) -> None:
    server.faults.add(Fault(delay(0.2)))
    before = time.monotonic()
    assert get(server, token).status_code == 200
    assert time.monotonic() - before >= 0.2


def test_after_and_times_count_matching_requests(server: Gitlab, project: Project, token: str) -> None:
    server.faults.add(Fault(status(502), method="GET", path_regex=r"/projects/1$", after=1, times=2))
    assert [get(server, token).status_code for _ in range(4)] == [200, 502, 502, 200]
    server.faults.add(Fault(status(503), times=None))
    assert get(server, token).status_code == 503
    server.faults.clear()
    assert get(server, token).status_code == 200


def test_a_rate_limit_names_its_wait_and_python_gitlab_obeys(
    server: Gitlab, project: Project, token: str
) -> None:
    server.faults.add(Fault(status(429, retry_after=1)))
    answer = get(server, token)
    assert (answer.status_code, answer.headers["Retry-After"], answer.text) == (429, "1", "Retry later\n")
    server.faults.add(Fault(status(429, retry_after=1)))
    with client.Gitlab(server.url, private_token=token) as api:
        assert api.projects.get(1).id == 1


def test_a_reset_does_nothing(server: Gitlab, api: client.Gitlab, project: Project) -> None:
    server.faults.add(Fault(reset(), method="POST"))
    with pytest.raises(requests.ConnectionError, match="Connection aborted"):
        api.projects.get(1).tags.create({"tag_name": "v1", "ref": "main"})
    assert Git(project.repository).out("tag") == ""
    assert server.requests[-1].status is None


def test_a_lost_answer_leaves_its_effect(server: Gitlab, api: client.Gitlab, project: Project) -> None:
    remote = api.projects.get(1)
    server.faults.add(Fault(lost_answer(), method="POST"))
    with pytest.raises(requests.ConnectionError, match="reset by peer"):
        remote.tags.create({"tag_name": "v1", "ref": "main"})
    with pytest.raises(GitlabCreateError, match="Tag v1 already exists"):
        remote.tags.create({"tag_name": "v1", "ref": "main"})


def test_a_truncated_answer(server: Gitlab, project: Project, token: str) -> None:
    server.faults.add(Fault(truncate()))
    with pytest.raises(requests.exceptions.ChunkedEncodingError, match="IncompleteRead"):
        get(server, token)


@pytest.mark.parametrize("kind", [reset(), status(503), truncate()], ids=["reset", "503", "truncate"])
def test_git_meets_faults(server: Gitlab, project: Project, work: Git, kind: Kind) -> None:
    server.faults.add(Fault(kind, method="POST", path_regex=r"\.git/"))
    assert work.run("fetch", "origin", check=False).returncode != 0
    work.run("fetch", "--quiet", "origin")


@pytest.mark.parametrize("kept", [True, False], ids=["lost-answer", "reset"])
def test_a_push_whose_answer_is_lost_may_have_happened(
    server: Gitlab, project: Project, work: Git, kept: bool
) -> None:
    before = work.out("rev-parse", "HEAD")
    sha = work.commit("a", "1")
    server.faults.add(Fault(lost_answer() if kept else reset(), method="POST", path_regex="git-receive-pack"))
    assert work.run("push", "origin", "main", check=False).returncode != 0
    assert Git(project.repository).out("rev-parse", "main") == (sha if kept else before)
    assert len(server.pipelines(project)) == int(kept)


def test_stopping_does_not_wait_for_delays(tmp_path: Path) -> None:
    started = time.monotonic()
    with Gitlab.start(tmp_path / "a") as server:
        server.faults.add(Fault(delay(30)))
        with pytest.raises(requests.Timeout):
            requests.get(server.url, timeout=0.1)
    assert time.monotonic() - started < 3


def test_it_starts_fast_and_leaves_nothing_open(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        started = time.monotonic()
        with Gitlab.start(tmp_path / "a") as server:
            taken = time.monotonic() - started
            assert requests.get(f"{server.url}/api/v4/version", timeout=5).status_code == 401
    assert taken < 0.3
    with pytest.raises(requests.ConnectionError):
        requests.get(server.url, timeout=1)


def test_a_refused_call_is_no_surprise_to_python_gitlab(
    server: Gitlab, api: client.Gitlab, project: Project
) -> None:
    server.faults.add(Fault(status(500), times=None))
    with pytest.raises(GitlabHttpError, match="500"):
        api.http_get("/projects/1")
