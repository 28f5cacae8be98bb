"""Merge requests that merge themselves, reviewers and pipelines, as python-gitlab meets them."""

from typing import Any

import gitlab as client
import pytest
from gitlab.exceptions import GitlabMRClosedError

from sandbox.gitlab import Gitlab, Project
from tests.sandbox.conftest import Git

pytestmark = pytest.mark.servers


@pytest.fixture
def opened(api: client.Gitlab, project: Project, work: Git) -> Any:
    """A merge request from the branch `bump`."""
    work.run("switch", "--quiet", "-c", "bump")
    work.commit("a", "1")
    work.run("push", "--quiet", "origin", "bump")
    body = {"source_branch": "bump", "target_branch": "main", "title": "Bump", "labels": "a"}
    return api.projects.get(project.id).mergerequests.create(body)


def auto_merge(opened: Any, sha: str, *, key: str = "auto_merge") -> None:
    opened.manager.gitlab.http_put(
        f"{opened.manager.path}/{opened.iid}/merge", post_data={"sha": sha, key: True}
    )


def again(opened: Any) -> Any:
    return opened.manager.get(opened.iid)


@pytest.mark.parametrize("key", ["auto_merge", "merge_when_pipeline_succeeds"])
def test_it_merges_when_its_pipeline_succeeds(
    server: Gitlab, project: Project, opened: Any, key: str
) -> None:
    auto_merge(opened, opened.sha, key=key)
    assert again(opened).merge_when_pipeline_succeeds
    assert again(opened).head_pipeline["sha"] == opened.sha
    while server.advance(server.pipelines(project)[-1]) != "success":
        assert again(opened).state == "opened"
    assert again(opened).state == "merged"


def test_a_push_takes_it_back(server: Gitlab, project: Project, opened: Any, work: Git) -> None:
    auto_merge(opened, opened.sha)
    work.commit("a", "2")
    work.run("push", "--quiet", "origin", "bump")
    assert not again(opened).merge_when_pipeline_succeeds
    while server.advance(server.pipelines(project)[-1]) != "success":
        pass
    assert again(opened).state == "opened"


def test_after_a_pipeline_that_failed_it_is_not_allowed(
    server: Gitlab, project: Project, opened: Any
) -> None:
    server.pipelines(project)[-1].cancel()
    with pytest.raises(client.exceptions.GitlabHttpError) as caught:
        auto_merge(opened, opened.sha)
    assert caught.value.response_code == 405


def test_another_tip_is_a_conflict(opened: Any) -> None:
    with pytest.raises(client.exceptions.GitlabHttpError) as caught:
        auto_merge(opened, "0" * 40)
    assert caught.value.response_code == 409


def test_closed_is_not_merged(opened: Any) -> None:
    opened.state_event = "close"
    opened.save()
    with pytest.raises(GitlabMRClosedError):
        opened.merge()


def test_reviewers_and_labels_are_changed(server: Gitlab, api: client.Gitlab, opened: Any) -> None:
    server.create_user("anna")
    (anna,) = api.http_list("/users", query_data={"username": "Anna"}, get_all=True)
    opened.manager.update(opened.iid, {"reviewer_ids": [anna["id"]], "add_labels": "b"})
    assert [row["username"] for row in again(opened).reviewers] == ["anna"]
    assert again(opened).labels == ["a", "b"]


def test_conflicts_and_pipelines_show(project: Project, opened: Any) -> None:
    assert again(opened).has_conflicts is False
    assert [row.sha for row in opened.pipelines.list(get_all=True)] == [opened.sha]
