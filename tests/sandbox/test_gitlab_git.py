"""Real git against the stand-in: transport, rights, protection, hooks, pushes at the same time."""

import os
import subprocess
import threading
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import gitlab as client
import pytest
import requests

from sandbox.gitlab import Access, Gitlab, Project, Push
from tests.sandbox.conftest import Git, clone, with_token

pytestmark = pytest.mark.servers


def tip(project: Project, ref: str = "refs/heads/main") -> str:
    return Git(project.repository).out("rev-parse", ref)


def test_the_source_is_the_first_commit(work: Git, project: Project) -> None:
    assert work.out("ls-files").split() == [".gitlab-ci.yml", "overlays/kustomization.yaml"]
    assert work.out("log", "--format=%s") == "Initial commit"
    assert project.http_url.endswith("/platform/env.git")


def test_a_push_arrives(work: Git, project: Project) -> None:
    sha = work.commit("a", "1")
    work.run("push", "--quiet", "origin", "main")
    assert tip(project) == sha


def test_a_shallow_clone_holds_one_commit(work: Git, project: Project, token: str, tmp_path: Path) -> None:
    work.commit("a", "1")
    work.run("push", "--quiet", "origin", "main")
    shallow = clone(with_token(project.http_url, token), tmp_path / "shallow", "--depth=1")
    assert shallow.out("rev-list", "--count", "HEAD") == "1"


def test_a_partial_clone_fetches_blobs_later(project: Project, token: str, tmp_path: Path) -> None:
    partial = clone(
        with_token(project.http_url, token), tmp_path / "partial", "--filter=blob:none", "--no-checkout"
    )
    blob = partial.out("rev-parse", "HEAD:.gitlab-ci.yml")
    listing = partial.out("rev-list", "--objects", "--missing=print", "HEAD")
    assert f"?{blob}" in listing
    assert "deploy:" in partial.out("show", "HEAD:.gitlab-ci.yml")


def test_a_commit_can_be_fetched_by_its_sha(work: Git, project: Project, token: str, tmp_path: Path) -> None:
    first = work.out("rev-parse", "HEAD")
    work.commit("a", "1")
    work.run("push", "--quiet", "origin", "main")
    empty = tmp_path / "empty"
    empty.mkdir()
    git = Git(empty)
    git.run("init", "--quiet")
    git.run("fetch", "--quiet", "--depth=1", with_token(project.http_url, token), first)
    assert git.out("rev-parse", "FETCH_HEAD") == first


@pytest.mark.parametrize("buffer", ["1000", "50000000"], ids=["chunked", "whole"])
def test_large_bodies_pass(work: Git, project: Project, buffer: str) -> None:
    (work.tree / "large").write_bytes(os.urandom(3_000_000))
    sha = work.commit("a", "1")
    work.run("-c", f"http.postBuffer={buffer}", "push", "--quiet", "origin", "main")
    assert tip(project) == sha


def test_bodies_are_streamed(work: Git, project: Project, token: str, tmp_path: Path) -> None:
    (work.tree / "large").write_bytes(os.urandom(40_000_000))
    work.run("config", "core.compression", "0")
    work.commit("a", "1")
    tracemalloc.start()
    try:
        work.run("push", "--quiet", "origin", "main")
        clone(with_token(project.http_url, token), tmp_path / "other")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 12_000_000  # werkzeug reads what is left of a request into 10 MB


def test_a_gzipped_negotiation_passes(work: Git, project: Project, token: str, tmp_path: Path) -> None:
    other = clone(with_token(project.http_url, token), tmp_path / "other")
    # Later than what both have, so that git offers all of them before it; over 1 KB it compresses.
    later = Git(
        other.tree, {"GIT_AUTHOR_DATE": "2040-01-01T00:00Z", "GIT_COMMITTER_DATE": "2040-01-01T00:00Z"}
    )
    for number in range(40):
        later.commit("b", str(number))
    sha = work.commit("a", "1")
    work.run("push", "--quiet", "origin", "main")
    traced = Git(other.tree, {"GIT_TRACE_CURL": "1", "GIT_TRACE_CURL_NO_DATA": "1"})
    assert "content-encoding: gzip" in traced.run("fetch", "origin").stderr.lower()
    assert other.out("rev-parse", "origin/main") == sha


def test_the_address_without_git_suffix_redirects(project: Project, token: str, tmp_path: Path) -> None:
    clone(with_token(project.http_url.removesuffix(".git"), token), tmp_path / "other")


@pytest.mark.parametrize("path", ["/platform/env.git", "/platform/none.git"])
def test_without_credentials_it_asks_for_them(server: Gitlab, project: Project, path: str) -> None:
    answer = requests.get(f"{server.url}{path}/info/refs?service=git-upload-pack", timeout=5)
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"].startswith("Basic")


def test_a_public_project_is_read_without_credentials(server: Gitlab, source: Path, tmp_path: Path) -> None:
    public = server.create_project("platform/public", source=source, visibility="public")
    clone(public.http_url, tmp_path / "public")


@pytest.mark.parametrize("kind", ["wrong", "expired"])
def test_a_bad_token_is_denied(server: Gitlab, project: Project, tmp_path: Path, kind: str) -> None:
    token = server.create_token(project, "old", expired=True) if kind == "expired" else "glpat-wrong"
    done = Git(tmp_path).run("ls-remote", with_token(project.http_url, token), check=False)
    assert "HTTP Basic: Access denied" in done.stderr
    assert "Authentication failed" in done.stderr


def test_a_token_of_another_project_sees_nothing(server: Gitlab, project: Project, tmp_path: Path) -> None:
    other = server.create_project("platform/other")
    done = Git(tmp_path).run(
        "ls-remote", with_token(project.http_url, server.create_token(other, "t")), check=False
    )
    assert "could not be found or you don't have permission to view it" in done.stderr


@pytest.mark.parametrize(
    ("scopes", "access", "message"),
    [
        ({"read_repository"}, Access.DEVELOPER, "You are not allowed to upload code."),
        ({"read_api"}, Access.DEVELOPER, "You are not allowed to upload code."),
        ({"write_repository"}, Access.REPORTER, "You are not allowed to push code to this project."),
    ],
)
def test_pushing_needs_scope_and_role(
    server: Gitlab, work: Git, scopes: set[str], access: Access, message: str
) -> None:
    project = server.project("platform/env")
    token = server.create_token(project, "weak", scopes=scopes, access_level=access)
    done = work.run("push", with_token(project.http_url, token), "main:x", check=False)
    assert message in done.stderr
    assert "403" in done.stderr


def test_a_guest_does_not_read_code(server: Gitlab, project: Project, tmp_path: Path) -> None:
    token = server.create_token(project, "guest", access_level=Access.GUEST)
    done = Git(tmp_path).run("ls-remote", with_token(project.http_url, token), check=False)
    assert "You are not allowed to download code from this project." in done.stderr


def test_a_job_token_reads_its_own_project_and_those_that_list_it(
    server: Gitlab, project: Project, tmp_path: Path
) -> None:
    app = server.create_project("shop/app")
    job = server.job_token(app, user_access={"platform/env": Access.DEVELOPER})
    git, url = Git(tmp_path), with_token(project.http_url, job, "gitlab-ci-token")
    refused = git.run("ls-remote", url, check=False)
    assert "Authentication by CI/CD job token not allowed from app to env." in refused.stderr
    server.allow_job_token(project, app)
    git.run("ls-remote", url)
    assert "Access denied" in git.run("ls-remote", with_token(project.http_url, job), check=False).stderr


def test_a_job_token_pushes_nowhere_unless_allowed(server: Gitlab, project: Project, work: Git) -> None:
    job = server.job_token(project)
    url = with_token(project.http_url, job, "gitlab-ci-token")
    sha = work.commit("a", "1")
    assert "You are not allowed to upload code." in work.run("push", url, "main", check=False).stderr
    project.job_token_push = True
    work.run("push", "--quiet", url, "main")
    assert tip(project) == sha
    assert server.pipelines(project) == ()


def test_a_protected_branch_refuses_developers_and_takes_maintainers(
    server: Gitlab, project: Project, work: Git
) -> None:
    server.protect_branch(project, "main", push_access=Access.MAINTAINER)
    sha = work.commit("a", "1")
    done = work.run("push", "origin", "main", check=False)
    assert "GitLab: You are not allowed to push code to protected branches on this project." in done.stderr
    assert "(pre-receive hook declined)" in done.stderr
    maintainer = server.create_token(
        project, "m", access_level=Access.MAINTAINER, scopes={"write_repository"}
    )
    work.run("push", "--quiet", with_token(project.http_url, maintainer), "main")
    assert tip(project) == sha


def test_the_most_permissive_rule_counts(server: Gitlab, project: Project, work: Git) -> None:
    server.protect_branch(project, "ma*", push_access=Access.NO_ACCESS)
    server.protect_branch(project, "main", push_access=Access.DEVELOPER)
    work.commit("a", "1")
    work.run("push", "--quiet", "origin", "main")


def test_a_protected_branch_is_not_forced_or_deleted(server: Gitlab, project: Project, work: Git) -> None:
    work.run("push", "--quiet", "origin", "main:stable")
    server.protect_branch(project, "stable", push_access=Access.DEVELOPER)
    work.run("commit", "--quiet", "--amend", "-m", "Other")
    forced = work.run("push", "--force", "origin", "HEAD:stable", check=False)
    assert "You are not allowed to force push code to a protected branch on this project." in forced.stderr
    deleted = work.run("push", "origin", ":stable", check=False)
    assert "You can only delete protected branches using the web interface." in deleted.stderr
    server.unprotect_branch(project, "stable")
    work.run("push", "--quiet", "--force", "origin", "HEAD:stable")


def test_protected_tags(server: Gitlab, project: Project, work: Git) -> None:
    server.protect_tag(project, "v*")
    work.run("tag", "v1.0.0")
    done = work.run("push", "origin", "v1.0.0", check=False)
    assert "GitLab: You are not allowed to create this tag as it is protected." in done.stderr
    server.protect_tag(project, "v*", create_access=Access.DEVELOPER)
    work.run("push", "--quiet", "origin", "v1.0.0")
    work.commit("a", "1")
    work.run("tag", "--force", "v1.0.0")
    assert (
        "allowed to change existing tags"
        in work.run("push", "--force", "origin", "v1.0.0", check=False).stderr
    )


def test_a_server_hook_refuses_with_its_words(server: Gitlab, project: Project, work: Git) -> None:
    server.push_hook(project, "policy", refuse="Commit message needs a ticket")
    before = tip(project)
    work.commit("a", "1")
    done = work.run("push", "origin", "main", check=False)
    assert "GL-HOOK-ERR: Commit message needs a ticket" in done.stderr
    assert "(pre-receive hook declined)" in done.stderr
    assert tip(project) == before
    server.push_hook(project, "policy", refuse=None)
    work.run("push", "--quiet", "origin", "main")


def test_a_hook_may_be_a_function_or_an_executable(
    server: Gitlab, project: Project, work: Git, tmp_path: Path
) -> None:
    seen: list[Push] = []
    server.push_hook(project, "watch", refuse=seen.append)
    script = tmp_path / "hook"
    script.write_text(
        '#!/bin/sh\nread old new ref\ngit cat-file commit "$new" | grep -q WIP && { echo "$GL_USERNAME: no WIP"; exit 1; }; exit 0\n'
    )
    script.chmod(0o755)
    server.push_hook(project, "wip", refuse=script)
    sha = work.commit("a", "1")
    work.run("push", "--quiet", "origin", "main")
    assert [change.new for push in seen for change in push.changes] == [sha]
    work.commit("a", "2", "WIP")
    assert "no WIP" in work.run("push", "origin", "main", check=False).stderr


def test_of_two_pushers_at_once_one_wins(
    server: Gitlab, project: Project, work: Git, token: str, tmp_path: Path
) -> None:
    other = clone(with_token(project.http_url, token), tmp_path / "other")
    shas = [work.commit("a", "1"), other.commit("b", "1")]
    gate = threading.Barrier(2)
    server.push_hook(project, "gate", refuse=lambda _push: None if gate.wait(10) >= 0 else "never")
    with ThreadPoolExecutor(2) as pool:
        done = list(pool.map(lambda git: git.run("push", "origin", "main", check=False), (work, other)))
    assert sorted(run.returncode for run in done) == [0, 1]
    assert tip(project) == shas[[run.returncode for run in done].index(0)]
    loser = next(run for run in done if run.returncode)
    assert "rejected" in loser.stderr


def test_a_push_starts_a_pipeline_and_ci_skip_a_skipped_one(
    server: Gitlab, project: Project, work: Git
) -> None:
    first = work.commit("a", "1")
    work.run("push", "--quiet", "origin", "main")
    second = work.commit("a", "2")
    work.run("push", "--quiet", "-o", "ci.skip", "origin", "main")
    rows = [(row.sha, row.status, row.source, row.ref) for row in server.pipelines(project)]
    assert rows == [(first, "created", "push", "main"), (second, "skipped", "push", "main")]


def test_the_pipeline_of_a_push_appears_later(tmp_path: Path, source: Path) -> None:
    with Gitlab.start(tmp_path / "slow", step=None, push_delay=0.5) as server:
        project = server.create_project("platform/env", source=source)
        token = server.create_token(project, "t")
        work = clone(with_token(project.http_url, token), tmp_path / "slow-work")
        work.commit("a", "1")
        work.run("push", "--quiet", "origin", "main")
        with client.Gitlab(server.url, private_token=token, timeout=10) as api:
            remote = api.projects.get(1, lazy=True)
            assert remote.pipelines.list(get_all=True) == []
            time.sleep(0.6)
            assert [row.source for row in remote.pipelines.list(get_all=True)] == ["push"]


def test_push_options_set_variables_by_role(server: Gitlab, project: Project, work: Git) -> None:
    option = ("-o", 'ci.variable="TARGET=blue"')
    work.commit("a", "1")
    work.run("push", "--quiet", *option, "origin", "main")
    assert server.pipelines(project) == ()
    server.restrict_variables(project, "developer")
    work.commit("a", "2")
    work.run("push", "--quiet", *option, "origin", "main")
    assert [row.variables for row in server.pipelines(project)] == [
        [{"variable_type": "env_var", "key": "TARGET", "value": "blue"}]
    ]


def test_a_tag_starts_a_tag_pipeline_and_a_tree_without_configuration_none(
    server: Gitlab, project: Project, work: Git
) -> None:
    work.run("tag", "v1.0.0")
    work.run("push", "--quiet", "origin", "v1.0.0")
    work.run("rm", "--quiet", ".gitlab-ci.yml")
    work.commit("a", "1")
    work.run("push", "--quiet", "origin", "HEAD:bare")
    assert [(row.ref, row.tag) for row in server.pipelines(project)] == [("v1.0.0", True)]


@pytest.mark.parametrize(
    "path",
    [
        "/../../etc/passwd.git/info/refs",
        "/platform/%2e%2e/platform/env.git/info/refs",
        "/platform/env.git/../../x.git/info/refs",
        "/platform/env.git/objects/info/packs",
        "/platform/env.git/HEAD",
        "/1.git/info/refs",
    ],
)
def test_only_the_three_addresses_of_a_project_exist(
    server: Gitlab, project: Project, token: str, path: str
) -> None:
    request = requests.Request("GET", server.url + path, auth=("x", token)).prepare()
    request.url = f"{server.url}{path}?service=git-upload-pack"
    with requests.Session() as session:
        answer = session.send(request, timeout=5, allow_redirects=False)
    assert answer.status_code == 404


def test_tokens_appear_nowhere(
    server: Gitlab, project: Project, work: Git, token: str, capfd: pytest.CaptureFixture[str]
) -> None:
    work.run("fetch", "--quiet")
    requests.get(f"{server.url}/api/v4/projects/1?private_token={token}", timeout=5)
    shown = (
        repr(server.requests) + repr(vars(server)) + repr(vars(server._state)) + "".join(capfd.readouterr())
    )
    assert token not in shown
    assert {row.actor for row in server.requests} >= {"bumper"}
    files = subprocess.run(
        ["grep", "-rlF", token, str(server.directory)], capture_output=True, text=True, check=False
    )
    assert files.stdout == ""
