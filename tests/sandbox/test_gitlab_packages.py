"""Generic packages through python-gitlab and plain requests."""

from typing import Any

import gitlab as client
import pytest
import requests
from gitlab.exceptions import GitlabUploadError

from sandbox.gitlab import Access, Gitlab, Project

pytestmark = pytest.mark.servers
FILE = "/api/v4/projects/1/packages/generic/{}/{}/{}"


def send(server: Gitlab, method: str, path: str, token: str = "", **words: Any) -> requests.Response:
    headers = (
        {"PRIVATE-TOKEN": token} if token.startswith("glpat-") else {"JOB-TOKEN": token} if token else {}
    )
    return requests.request(method, f"{server.url}{path}", headers=headers, timeout=10, **words)


def test_the_newest_file_of_a_name_wins(api: client.Gitlab, project: Project) -> None:
    packages = api.projects.get(1).generic_packages
    for content in (b"first", b"second"):
        packages.upload("plan", "1-a", "passport.json", data=content)
    assert packages.download("plan", "1-a", "passport.json") == b"second"
    package = api.projects.get(1).packages.list(get_all=True)[0]
    assert (package.name, package.version, package.package_type) == ("plan", "1-a", "generic")
    assert [row.file_name for row in package.package_files.list(get_all=True)] == ["passport.json"] * 2


def test_packages_are_searched_sorted_and_paged(api: client.Gitlab, project: Project) -> None:
    remote = api.projects.get(1)
    for number in range(25):
        remote.generic_packages.upload("plan-a", f"{number:02}", "f", data=b"x")
    remote.generic_packages.upload("other", "1", "f", data=b"x")
    found = remote.packages.list(package_name="plan-a", order_by="version", sort="desc", iterator=True)
    assert [row.version for row in found] == [f"{number:02}" for number in reversed(range(25))]
    assert len(remote.packages.list(package_name="plan", get_all=True)) == 25, "a fuzzy search"
    assert remote.packages.list(package_type="maven", get_all=True) == []
    assert [row.name for row in remote.packages.list(package_version="1", get_all=True)] == ["other"]


@pytest.mark.parametrize("path", ["a%20b/1/f", "a/1..2/f", "a/1%2F2/f", "a/1/%2E%2E", "a/1/x%2Fy"])
def test_names_that_no_package_can_have(server: Gitlab, project: Project, token: str, path: str) -> None:
    for method in ("PUT", "GET"):
        answer = send(server, method, FILE.format(*path.split("/")), token, data=b"x")
        assert answer.status_code == 400
        assert "is invalid" in answer.json()["error"]
    assert project.packages == []


def test_who_may_write_and_read(server: Gitlab, project: Project, token: str) -> None:
    path = FILE.format("plan", "1", "f")
    reporter = server.create_token(project, "r", access_level=Access.REPORTER)
    guest = server.create_token(project, "g", access_level=Access.GUEST)
    other = server.create_project("shop/app")
    job = server.job_token(other, user_access={project.path: Access.DEVELOPER})
    assert send(server, "PUT", path, data=b"x").status_code == 401
    assert send(server, "PUT", path, reporter, data=b"x").status_code == 403
    assert send(server, "PUT", path, job, data=b"x").status_code == 403, "not on the allowlist"
    assert send(server, "PUT", path, server.job_token(project), data=b"x").status_code == 201
    assert [send(server, "GET", path, one).status_code for one in (reporter, guest)] == [200, 403]
    server.allow_job_token(project, other)
    assert send(server, "GET", path, job).content == b"x"
    assert send(server, "GET", path, server.create_token(other, "s")).status_code == 404
    assert send(server, "GET", FILE.format("plan", "2", "f"), token).status_code == 404


def test_only_a_maintainer_deletes(server: Gitlab, project: Project, api: client.Gitlab, token: str) -> None:
    api.projects.get(1).generic_packages.upload("plan", "1", "f", data=b"x")
    path = f"/api/v4/projects/1/packages/{project.packages[0].id}"
    assert send(server, "DELETE", path, token).status_code == 403
    boss = server.create_token(project, "m", access_level=Access.MAINTAINER)
    assert send(server, "DELETE", path, boss).status_code == 204
    assert send(server, "GET", path, boss).status_code == 404


def test_an_upload_says_what_is_wrong(api: client.Gitlab, project: Project) -> None:
    with pytest.raises(GitlabUploadError, match="package_version is invalid"):
        api.projects.get(1).generic_packages.upload("plan", "a..b", "f", data=b"x")
