"""The REST answers as python-gitlab and plain requests meet them."""

import time
from pathlib import Path
from typing import Any

import gitlab as client
import pytest
import requests
from gitlab.exceptions import (
    GitlabAuthenticationError,
    GitlabCreateError,
    GitlabGetError,
    GitlabListError,
    GitlabMRClosedError,
)

from sandbox.gitlab import Access, Gitlab, JobScript, Project
from sandbox.gitlab.faults import Fault, status
from tests.sandbox.conftest import CONFIG, Git

pytestmark = pytest.mark.servers


def connect(server: Gitlab, token: str) -> client.Gitlab:
    return client.Gitlab(server.url, private_token=token, timeout=10, keep_base_url=True)


def get(server: Gitlab, path: str, **headers: str) -> requests.Response:
    return requests.get(
        f"{server.url}/api/v4{path}",
        headers={name.replace("_", "-"): value for name, value in headers.items()},
        timeout=10,
    )


def post(server: Gitlab, path: str, data: dict[str, str], **headers: str) -> requests.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return requests.post(f"{server.url}/api/v4{path}", data=data, headers=named, timeout=10)


def test_version_and_user(api: client.Gitlab) -> None:
    api.auth()
    assert api.user is not None
    assert api.user.username.startswith("project_1_bot_")
    assert api.version()[0].startswith("18.")


def test_a_project_is_found_by_id_and_path(api: client.Gitlab, project: Project) -> None:
    by_path, by_id = api.projects.get("platform/env", license=True), api.projects.get(project.id)
    assert by_path.id == by_id.id == project.id
    assert by_path.http_url_to_repo == project.http_url
    assert by_path.permissions["project_access"]["access_level"] == Access.DEVELOPER


def test_who_may_not_see_a_project_gets_404(server: Gitlab, project: Project) -> None:
    other = server.create_token(server.create_project("shop/app"), "other")
    for answer in (
        get(server, "/projects/1"),
        get(server, "/projects/platform%2Fenv", PRIVATE_TOKEN=other),
        get(server, "/projects/99", PRIVATE_TOKEN=other),
    ):
        assert (answer.status_code, answer.json()) == (404, {"message": "404 Project Not Found"})


def test_bad_expired_and_weak_tokens(server: Gitlab, project: Project) -> None:
    wrong = get(server, "/projects/1", PRIVATE_TOKEN="glpat-wrong")
    assert (wrong.status_code, wrong.json()) == (401, {"message": "401 Unauthorized"})
    old = get(server, "/projects/1", PRIVATE_TOKEN=server.create_token(project, "old", expired=True))
    assert (old.status_code, old.json()["error"]) == (401, "invalid_token")
    weak = server.create_token(project, "weak", scopes={"read_api"})
    refused = post(server, "/projects/1/pipeline", {"ref": "main"}, PRIVATE_TOKEN=weak)
    assert (refused.status_code, refused.json()["error"]) == (403, "insufficient_scope")
    assert get(server, "/projects/1", Authorization=f"Bearer {weak}").status_code == 200
    assert post(server, "/projects/1/pipeline", {"ref": "main"}).status_code == 401
    with pytest.raises(GitlabAuthenticationError):
        connect(server, "glpat-wrong").auth()


def test_a_repository_token_reads_files_only(server: Gitlab, project: Project) -> None:
    token = server.create_token(project, "files", scopes={"read_repository"})
    assert get(
        server, "/projects/1/repository/files/.gitlab-ci.yml/raw", PRIVATE_TOKEN=token
    ).text.startswith("spec:")
    assert get(server, "/projects/1", PRIVATE_TOKEN=token).status_code == 403


def test_pages_and_their_headers(server: Gitlab, project: Project, token: str) -> None:
    git = Git(project.repository)
    for number in range(45):
        git.run("update-ref", f"refs/heads/b/{number:02}", "main")
    first = get(server, "/projects/platform%2Fenv/repository/branches?per_page=20", PRIVATE_TOKEN=token)
    assert {name: first.headers[name] for name in ("X-Total", "X-Total-Pages", "X-Page", "X-Next-Page")} == {
        "X-Total": "46",
        "X-Total-Pages": "3",
        "X-Page": "1",
        "X-Next-Page": "2",
    }
    assert int(first.headers["RateLimit-Remaining"]) > 0
    following = requests.get(first.links["next"]["url"], headers={"PRIVATE-TOKEN": token}, timeout=10)
    assert following.headers["X-Page"] == "2"
    found = connect(server, token).projects.get(1, lazy=True).branches.list(iterator=True)
    assert len(list(found)) == 46


def test_branches(server: Gitlab, api: client.Gitlab, project: Project, work: Git) -> None:
    sha = work.commit("a", "1", "Bump shop\n\nRelease-Id: 7")
    work.run("push", "--quiet", "origin", "main", "main:feature/x")
    server.protect_branch(project, "main")
    remote = api.projects.get("platform/env")
    branch = remote.branches.get("main")
    assert (branch.protected, branch.default, branch.can_push) == (True, True, False)
    assert branch.commit["id"] == sha
    assert branch.commit["trailers"] == {"Release-Id": "7"}
    assert [row.name for row in remote.branches.list(search="^feature", get_all=True)] == ["feature/x"]
    assert remote.branches.get("feature/x").can_push
    with pytest.raises(GitlabGetError, match="404 Branch Not Found"):
        remote.branches.get("none")


def test_only_maintainers_read_the_rules(server: Gitlab, api: client.Gitlab, project: Project) -> None:
    server.protect_branch(project, "main", push_access=Access.NO_ACCESS)
    server.protect_tag(project, "v*")
    with pytest.raises(GitlabListError, match="403"):
        api.projects.get(1).protectedbranches.list(get_all=True)
    remote = connect(server, server.create_token(project, "m", access_level=Access.MAINTAINER)).projects.get(
        1
    )
    assert remote.protectedbranches.get("main").push_access_levels[0]["access_level"] == 0
    assert remote.protectedtags.list(get_all=True)[0].create_access_levels[0]["access_level"] == 40


def test_tags(api: client.Gitlab, project: Project) -> None:
    remote = api.projects.get(1)
    light = remote.tags.create({"tag_name": "v1", "ref": "main"})
    noted = remote.tags.create({"tag_name": "v2", "ref": "main", "message": "Release 2"})
    assert (light.message, light.target) == ("", light.commit["id"])
    assert (noted.message, noted.commit["id"]) == ("Release 2", light.target)
    assert noted.target != noted.commit["id"]
    assert {tag.name for tag in remote.tags.list(get_all=True)} == {"v1", "v2"}
    for name, ref, message in (
        ("v1", "main", "Tag v1 already exists"),
        ("v3", "none", "Target none is invalid"),
        ("a..b", "main", "Tag name invalid"),
    ):
        with pytest.raises(GitlabCreateError, match=message) as caught:
            remote.tags.create({"tag_name": name, "ref": ref})
        assert caught.value.response_code == 400
    remote.tags.delete("v1")
    with pytest.raises(GitlabGetError, match="404 Tag Not Found"):
        remote.tags.get("v1")


def test_a_protected_tag_is_refused(server: Gitlab, api: client.Gitlab, project: Project) -> None:
    server.protect_tag(project, "v*")
    remote = api.projects.get(1)
    with pytest.raises(GitlabCreateError, match="not allowed to create this tag as it is protected") as tag:
        remote.tags.create({"tag_name": "v1", "ref": "main"})
    with pytest.raises(
        GitlabCreateError, match="not allowed to create this tag as it is protected"
    ) as release:
        remote.releases.create({"tag_name": "v1", "ref": "main"})
    assert (tag.value.response_code, release.value.response_code) == (400, 403)


def test_releases(api: client.Gitlab, project: Project) -> None:
    remote = api.projects.get(1)
    with pytest.raises(GitlabCreateError, match="Ref is not specified") as missing:
        remote.releases.create({"tag_name": "v1"})
    made = remote.releases.create({"tag_name": "v1", "ref": "main", "description": "First"})
    with pytest.raises(GitlabCreateError, match="Release already exists") as twice:
        remote.releases.create({"tag_name": "v1"})
    assert (missing.value.response_code, twice.value.response_code) == (422, 409)
    assert made.commit["id"] == remote.tags.get("v1").commit["id"]
    made.description = "Changed"
    made.save()
    assert remote.releases.get("v1").description == "Changed"


def test_commits_and_files(api: client.Gitlab, work: Git) -> None:
    first = work.out("rev-parse", "HEAD")
    second = work.commit("a b.txt", "1\n")
    work.run("push", "--quiet", "origin", "main", "main:side")
    remote = api.projects.get(1)
    assert [row.id for row in remote.commits.list(ref_name="main", get_all=True)] == [second, first]
    assert [row.id for row in remote.commits.list(query_parameters={"path": "a b.txt"}, get_all=True)] == [
        second
    ]
    assert remote.commits.get("main").id == second
    assert {(row["type"], row["name"]) for row in remote.commits.get(second).refs()} == {
        ("branch", "main"),
        ("branch", "side"),
    }
    base: Any = remote.repository_merge_base([first, "main"])
    assert base["id"] == first
    comparison: Any = remote.repository_compare(first, "main")
    assert [row["id"] for row in comparison["commits"]] == [second]
    assert comparison["diffs"][0]["new_path"] == "a b.txt"
    assert comparison["diffs"][0]["diff"].endswith("+1\n")
    assert remote.files.get("overlays/kustomization.yaml", ref="main").decode() == b"images: []\n"
    assert remote.files.raw("a b.txt", ref=second) == b"1\n"
    with pytest.raises(GitlabGetError, match="404 File Not Found"):
        remote.files.get("none", ref="main")
    with pytest.raises(GitlabGetError, match="404 Commit Not Found"):
        remote.files.get("a b.txt", ref="none")


def test_a_pipeline_passes_its_states_by_hand(server: Gitlab, api: client.Gitlab, project: Project) -> None:
    jobs = [
        JobScript("check", "test", "success"),
        JobScript("deploy", failure_reason="runner_system_failure"),
    ]
    server.pipeline_script(project, ["created", "pending", "running", "failed"], jobs=jobs)
    remote = api.projects.get(1)
    pipeline = remote.pipelines.create({"ref": "main"})
    seen = [pipeline.status, *(server.advance(pipeline.id) for _ in range(4))]
    assert seen == ["created", "pending", "running", "failed", "failed"]
    pipeline.refresh()
    assert pipeline.source == "api"
    assert pipeline.sha == remote.branches.get("main").commit["id"]
    assert pipeline.started_at <= pipeline.finished_at == pipeline.updated_at
    rows = {job.name: (job.status, job.failure_reason) for job in pipeline.jobs.list(get_all=True)}
    assert rows == {"check": ("success", None), "deploy": ("failed", "runner_system_failure")}
    pipeline.retry()
    server.advance(pipeline.id)
    server.advance(pipeline.id)
    pipeline.refresh()
    assert pipeline.status == "success"


def test_a_pipeline_passes_its_states_by_the_clock(tmp_path: Path, source: Path) -> None:
    with Gitlab.start(tmp_path / "timed", step=0.02) as server:
        project = server.create_project("platform/env", source=source)
        remote = connect(server, server.create_token(project, "t")).projects.get(1)
        pipeline, seen = remote.pipelines.create({"ref": "main"}), set()
        deadline = time.monotonic() + 10
        while pipeline.status != "success" and time.monotonic() < deadline:
            seen.add(pipeline.status)
            pipeline.refresh()
        assert pipeline.status == "success"
        assert "running" in seen


def test_cancel(api: client.Gitlab, project: Project) -> None:
    pipeline = api.projects.get(1).pipelines.create({"ref": "main"})
    pipeline.cancel()
    pipeline.refresh()
    assert pipeline.status == "canceled"
    assert [job.status for job in pipeline.jobs.list(get_all=True)] == ["canceled"]


def test_pipelines_are_found_by_what_they_are(server: Gitlab, api: client.Gitlab, project: Project) -> None:
    remote = api.projects.get(1)
    first = remote.pipelines.create({"ref": "main"})
    second = remote.trigger_pipeline("main", server.trigger_token(project))
    assert [row.id for row in remote.pipelines.list(get_all=True)] == [second.id, first.id]
    assert [row.id for row in remote.pipelines.list(get_all=True, sort="asc")] == [first.id, second.id]
    assert [row.id for row in remote.pipelines.list(get_all=True, source="trigger")] == [second.id]
    assert [row.id for row in remote.pipelines.list(get_all=True, username=first.user["username"])] == [
        first.id
    ]
    assert len(remote.pipelines.list(get_all=True, ref="main", sha=first.sha, status="created")) == 2
    assert remote.pipelines.list(get_all=True, updated_after="2099-01-01T00:00:00Z") == []
    assert remote.pipelines.list(get_all=True, ref="other") == []


@pytest.mark.parametrize("ref", ["none", "HEAD"])
def test_a_pipeline_needs_a_branch_or_tag(
    server: Gitlab, api: client.Gitlab, project: Project, ref: str
) -> None:
    sha = Git(project.repository).out("rev-parse", "main")
    for wanted in (ref, sha):
        with pytest.raises(GitlabCreateError, match="Reference not found") as caught:
            api.projects.get(1).pipelines.create({"ref": wanted})
        assert caught.value.response_code == 400
    answer = post(
        server, "/projects/1/trigger/pipeline", {"token": server.trigger_token(project), "ref": ref}
    )
    assert (answer.status_code, answer.json()) == (400, {"message": {"base": ["Reference not found"]}})


def test_variables_need_the_role_and_inputs_do_not(
    server: Gitlab, api: client.Gitlab, project: Project
) -> None:
    remote = api.projects.get(1)
    variables = [{"key": "TARGET", "value": "blue"}]
    with pytest.raises(
        GitlabCreateError, match="Insufficient permissions to set pipeline variables"
    ) as caught:
        remote.pipelines.create({"ref": "main", "variables": variables})
    assert caught.value.response_code == 400
    remote.pipelines.create({"ref": "main", "inputs": {"target": "blue"}})
    assert server.pipelines(project)[-1].inputs == {"target": "blue"}
    server.restrict_variables(project, "developer")
    own = remote.pipelines.create({"ref": "main", "variables": variables})
    assert [(row.key, row.value, row.variable_type) for row in own.variables.list(get_all=True)] == [
        ("TARGET", "blue", "env_var")
    ]
    foreign = remote.trigger_pipeline("main", server.trigger_token(project))
    with pytest.raises(GitlabListError, match="403"):
        foreign.variables.list(get_all=True)


@pytest.mark.parametrize(
    ("configuration", "inputs", "message"),
    [
        ("deploy: {script: make}\n", {"target": "blue"}, "Given inputs not defined in the `spec` section"),
        (
            "spec: {inputs: {target: }}\n---\ndeploy: {script: make}\n",
            {},
            "`target` input: required value has not been provided",
        ),
        (CONFIG, {"colour": "blue"}, "unknown input arguments: colour"),
        (CONFIG, {"target": "red"}, "`target` input: `red` cannot be used"),
    ],
)
def test_inputs_must_fit_the_header(
    api: client.Gitlab, work: Git, configuration: str, inputs: dict[str, str], message: str
) -> None:
    (work.tree / ".gitlab-ci.yml").write_text(configuration)
    work.commit("a", "1")
    work.run("push", "--quiet", "origin", "HEAD:inputs")
    with pytest.raises(GitlabCreateError, match=message) as caught:
        api.projects.get(1, lazy=True).pipelines.create({"ref": "inputs", "inputs": inputs})
    assert caught.value.response_code == 400


def test_a_pipeline_needs_a_configuration_file(server: Gitlab, tmp_path: Path) -> None:
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare" / "a").touch()
    project = server.create_project("platform/bare", source=tmp_path / "bare")
    remote = connect(server, server.create_token(project, "t")).projects.get(project.id, lazy=True)
    with pytest.raises(GitlabCreateError, match="Missing CI config file"):
        remote.pipelines.create({"ref": "main"})


def test_a_pipeline_on_a_protected_branch_needs_its_rights(
    server: Gitlab, api: client.Gitlab, project: Project
) -> None:
    server.protect_branch(project, "main")
    with pytest.raises(
        GitlabCreateError, match="You do not have sufficient permission to run a pipeline on 'main'"
    ):
        api.projects.get(1).pipelines.create({"ref": "main"})
    server.protect_branch(project, "main", merge_access=Access.DEVELOPER)
    api.projects.get(1).pipelines.create({"ref": "main"})


def test_a_reporter_creates_no_pipeline(server: Gitlab, project: Project) -> None:
    token = server.create_token(project, "r", access_level=Access.REPORTER)
    with pytest.raises(GitlabCreateError, match="403"):
        connect(server, token).projects.get(1).pipelines.create({"ref": "main"})


def test_a_trigger_token_starts_by_form(server: Gitlab, project: Project) -> None:
    form = {
        "token": server.trigger_token(project),
        "ref": "main",
        "variables[TARGET]": "blue",
        "inputs[size]": "2",
    }
    answer = post(server, "/projects/platform%2Fenv/trigger/pipeline", form)
    assert (answer.status_code, answer.json()["source"]) == (201, "trigger")
    made = server.pipelines(project)[-1]
    assert {row["key"]: row["value"] for row in made.variables}["TARGET"] == "blue"
    assert made.inputs == {"size": "2"}
    assert form["token"] not in repr(made)
    bad = post(server, "/projects/1/trigger/pipeline", {"token": "glptt-wrong", "ref": "main"})
    assert (bad.status_code, bad.json()) == (404, {"message": "404 Not Found"})


def test_a_job_token_needs_allowlist_and_role(server: Gitlab, project: Project) -> None:
    app = server.create_project("shop/app")
    job, stranger = (
        server.job_token(app, user_access={"platform/env": Access.DEVELOPER}),
        server.job_token(app),
    )
    form = {"token": job, "ref": "main"}
    assert post(server, "/projects/1/trigger/pipeline", form).status_code == 404
    server.allow_job_token(project, app)
    answer = post(server, "/projects/1/trigger/pipeline", form)
    assert (answer.status_code, answer.json()["source"]) == (201, "pipeline")
    assert post(server, "/projects/1/trigger/pipeline", form | {"token": stranger}).status_code == 404
    guest = server.job_token(app, user_access={"platform/env": Access.GUEST})
    refused = post(server, "/projects/1/trigger/pipeline", form | {"token": guest})
    assert (refused.status_code, refused.json()) == (
        400,
        {"message": {"base": ["Insufficient permissions to create a new pipeline"]}},
    )


def test_a_job_token_neither_lists_nor_reads_pipelines(server: Gitlab, project: Project) -> None:
    job = server.job_token(project)
    made = post(server, "/projects/1/trigger/pipeline", {"token": job, "ref": "main"}).json()
    for path in ("pipelines", f"pipelines/{made['id']}", f"pipelines/{made['id']}/jobs"):
        assert get(server, f"/projects/1/{path}", JOB_TOKEN=job).status_code == 404
    assert get(server, "/projects/1/repository/branches", JOB_TOKEN=job).status_code == 200
    assert get(server, "/projects/1/releases", JOB_TOKEN=job).status_code == 200
    assert get(server, "/projects/1/releases", PRIVATE_TOKEN=job).status_code == 401


def test_a_job_token_records_deployments(server: Gitlab, project: Project) -> None:
    sha = Git(project.repository).out("rev-parse", "main")
    with client.Gitlab(server.url, job_token=server.job_token(project), timeout=10) as session:
        remote = session.projects.get(project.id, lazy=True)
        made = remote.deployments.create(
            {"environment": "prod", "sha": sha, "ref": "main", "tag": False, "status": "running"}
        )
        made.status = "success"
        made.save()
        assert [row.status for row in remote.deployments.list(environment="prod", get_all=True)] == [
            "success"
        ]


def test_merge_requests(server: Gitlab, api: client.Gitlab, project: Project, work: Git) -> None:
    work.run("switch", "--quiet", "-c", "bump")
    work.commit("a", "1")
    work.run("push", "--quiet", "origin", "bump")
    remote = api.projects.get(1)
    wish = {"source_branch": "bump", "target_branch": "main", "title": "Bump"}
    made = remote.mergerequests.create(wish | {"remove_source_branch": True})
    with pytest.raises(GitlabCreateError, match="Another open merge request already exists") as caught:
        remote.mergerequests.create(wish)
    assert caught.value.response_code == 409
    made.description = "More"
    made.save()
    note = made.notes.create({"body": "plan"})
    note.body = "plan 2"
    note.save()
    assert [
        row.iid for row in remote.mergerequests.list(state="opened", source_branch="bump", get_all=True)
    ] == [made.iid]
    made.merge()
    assert remote.mergerequests.get(made.iid).state == "merged"
    assert remote.files.raw("a", ref="main") == b"1"
    assert [(row.ref, row.source) for row in server.pipelines(project)][-1] == ("main", "push")
    with pytest.raises(GitlabMRClosedError, match="405"):
        made.merge()


def test_unknown_addresses(server: Gitlab, token: str) -> None:
    answer = get(server, "/projects/1/nothing", PRIVATE_TOKEN=token)
    assert (answer.status_code, answer.json()) == (404, {"error": "404 Not Found"})


def test_a_snapshot_brings_everything_back(tmp_path: Path, source: Path) -> None:
    """Projects, tokens and what is in the repositories; as often as one likes."""
    with Gitlab.start(tmp_path / "gitlab") as server:
        project = server.create_project("platform/env", source=source)
        token = server.create_token(project, "bot", access_level=Access.MAINTAINER)
        restore = server.snapshot(tmp_path / "kept")
        for _ in range(2):
            here = connect(server, token).projects.get("platform/env")
            assert here.tags.list(get_all=True) == []
            assert here.issues.list(get_all=True) == []
            here.tags.create({"tag_name": "v1.0.0", "ref": "main"})
            here.issues.create({"title": "one"})
            later = server.create_token(server.create_project("shop/app"), "later")
            server.faults.add(Fault(status(503), times=None))
            restore()
            assert get(server, "/version", PRIVATE_TOKEN=later).status_code == 401
            with pytest.raises(KeyError):
                server.project("shop/app")
