"""Terraform's own `http` backend on the stand-in, and the answers that GitLab's code gives."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests

from sandbox.gitlab import Access, Fault, Gitlab, Project, lost_answer, reset, status
from sandbox.parts import TERRAFORM
from sandbox.pytest_parts import require
from tests.terraform_root import BACKEND, RESOURCES, SLOW, Terraform, gitlab_backend

pytestmark = pytest.mark.servers
ROOT = BACKEND.replace("{", "{{").replace("}", "}}") + RESOURCES
STATE = "/api/v4/projects/1/terraform/state/network"
LOCK = {
    "ID": "lock-1",
    "Operation": "OperationTypeApply",
    "Info": "",
    "Who": "anna@laptop",
    "Version": "1.11.4",
    "Created": "2026-01-01T00:00:00Z",
    "Path": "",
}


@pytest.fixture
def maintainer(server: Gitlab, project: Project) -> str:
    return server.create_token(project, "infra", access_level=Access.MAINTAINER)


Ask = Callable[..., requests.Response]


@pytest.fixture
def ask(server: Gitlab, maintainer: str) -> Ask:
    """A request as the Maintainer, in HTTP Basic unless a header says otherwise."""

    def send(
        method: str, path: str = "", *, auth: tuple[str, str] | None = ("any", maintainer), **words: Any
    ) -> requests.Response:
        return requests.request(method, f"{server.url}{STATE}{path}", auth=auth, timeout=10, **words)

    return send


@pytest.fixture
def terraform(server: Gitlab, project: Project, tmp_path: Path) -> Terraform:
    """A root whose state is the project's, with the job token of a Maintainer's job."""
    require(TERRAFORM)
    token = server.job_token(project, user_access={project.path: Access.MAINTAINER})
    made = Terraform(
        tmp_path / "root", gitlab_backend(server.url, project.id, "network", "gitlab-ci-token", token)
    )
    made.write(ROOT.format(value="a"))
    made.run("init")
    return made


def test_apply_keeps_versions_and_leaves_no_lock(project: Project, terraform: Terraform) -> None:
    terraform.apply()
    terraform.write(ROOT.format(value="b"))
    terraform.apply()
    state = project.terraform_states["network"]
    assert state.lock is None
    assert [version.serial for version in state.versions] == sorted({v.serial for v in state.versions})
    assert len(state.versions) > 1
    assert terraform.state()["outputs"]["one"]["value"] == "b"
    assert terraform.run("plan", "-detailed-exitcode").count("No changes") == 1


def test_a_lock_of_another_stops_plan_and_apply(project: Project, terraform: Terraform, ask: Ask) -> None:
    assert ask("POST", "/lock", json=LOCK).status_code == 200
    for words in (("plan",), ("apply", "-auto-approve")):
        said = terraform.run(*words, exit_code=1)
        assert "Error acquiring the state lock" in said
        assert "lock-1" in said
    assert "No changes" not in terraform.run("plan", "-lock=false")
    assert project.terraform_states["network"].versions == []


def test_force_unlock_takes_anybodys_lock(project: Project, terraform: Terraform, ask: Ask) -> None:
    ask("POST", "/lock", json=LOCK)
    terraform.run("force-unlock", "-force", "lock-1")
    assert project.terraform_states["network"].lock is None
    terraform.apply()


def test_a_developers_job_plans_without_lock_and_does_no_more(
    server: Gitlab, project: Project, terraform: Terraform
) -> None:
    terraform.apply()
    token = server.job_token(project)
    weak = Terraform(terraform.directory, {**terraform.variables, "TF_HTTP_PASSWORD": token})
    assert "No changes" in weak.run("plan", "-lock=false")
    assert "invalid auth" in weak.run("plan", exit_code=1)
    assert "HTTP error: 403" in weak.apply("-lock=false", "-replace=terraform_data.one", exit_code=1)


def test_a_state_that_cannot_be_written_ends_in_errored_tfstate(
    server: Gitlab, project: Project, terraform: Terraform
) -> None:
    server.faults.add(Fault(status(500), "POST", r"state/network\?ID=", times=None))
    said = terraform.apply(exit_code=1)
    assert "Failed to persist state to backend" in said
    kept = json.loads((terraform.directory / "errored.tfstate").read_text())
    assert [row["name"] for row in kept["resources"]] == ["one"]
    assert project.terraform_states["network"].versions == []
    assert project.terraform_states["network"].lock is None
    server.faults.clear()
    terraform.run("state", "push", "errored.tfstate")
    assert terraform.state()["resources"] == kept["resources"]


@pytest.mark.parametrize("kind", [status(409), status(423)], ids=["409", "423"])
def test_a_refused_state_is_not_tried_again(
    server: Gitlab, project: Project, terraform: Terraform, kind: Any
) -> None:
    server.faults.add(Fault(kind, "POST", r"state/network\?ID=", times=None))
    assert f"HTTP error: {kind.code}" in terraform.apply(exit_code=1)
    assert (terraform.directory / "errored.tfstate").exists()


@pytest.mark.parametrize("kind", [status(503), reset()], ids=["503", "reset"])
def test_a_passing_fault_in_the_middle_is_survived(
    server: Gitlab, project: Project, terraform: Terraform, kind: Any
) -> None:
    server.faults.add(Fault(kind, "POST", r"state/network\?ID="))
    terraform.apply()
    assert not (terraform.directory / "errored.tfstate").exists()
    assert project.terraform_states["network"].latest


def test_a_lost_answer_to_a_state_that_was_kept(
    server: Gitlab, project: Project, terraform: Terraform
) -> None:
    """GitLab has the serial already when Terraform sends it again, and says 422: a state kept, and an errored one."""
    server.faults.add(Fault(lost_answer(), "POST", r"state/network\?ID="))
    assert "HTTP error: 422" in terraform.apply(exit_code=1)
    latest = project.terraform_states["network"].latest
    assert latest is not None
    assert json.loads(latest.content) == json.loads((terraform.directory / "errored.tfstate").read_text())


def test_a_stolen_lock_loses_the_state(server: Gitlab, project: Project, terraform: Terraform) -> None:
    """Whoever forces a lock open in the middle of an apply makes its writes fail."""
    terraform.write(ROOT.format(value="a") + SLOW)
    process = terraform.start("apply", "-auto-approve", "-no-color")
    deadline = time.monotonic() + 60
    while not (terraform.directory / "begun").exists():
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.02)
    project.terraform_states["network"].lock = None
    (terraform.directory / "go").touch()
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "Failed to save state" in output
    assert (terraform.directory / "errored.tfstate").exists()


def test_a_state_has_the_statuses_of_gitlab(ask: Ask) -> None:
    assert ask("GET").status_code == 404
    assert ask("POST", "/lock", json=LOCK).status_code == 200
    assert (ask("GET").status_code, ask("GET").text) == (204, "")
    assert ask("POST", params={"ID": "lock-1"}).status_code == 204
    assert ask("POST", params={"ID": "lock-1"}, data="{").status_code == 422
    assert ask("POST", params={"ID": "lock-1"}, json={"version": 4}).status_code == 422
    assert ask("POST", params={"ID": "lock-1"}, json={"serial": 3}).status_code == 200
    assert ask("POST", params={"ID": "lock-1"}, json={"serial": 3}).status_code == 422
    assert ask("POST", params={"ID": "lock-1"}, json={"serial": 2}).status_code == 200
    assert ask("GET").json() == {"serial": 3}


def test_a_lock_answers_with_its_holder(ask: Ask, project: Project) -> None:
    ask("POST", "/lock", json=LOCK)
    answer = ask("POST", "/lock", json={**LOCK, "ID": "lock-2", "Operation": "OperationTypePlan"})
    assert answer.status_code == 409
    held = answer.json()
    assert held["ID"] == "lock-1"
    assert held["Who"].startswith("project_1_bot_")
    assert held["Operation"] == "OperationTypePlan", "GitLab does not keep the holder's own"
    assert ask("POST", "/lock", json={"ID": "lock-2"}).status_code == 400
    assert ask("POST", "/lock", json={**LOCK, "ID": "l" * 256}).status_code == 400


def test_only_the_right_id_writes_and_unlocks(ask: Ask, project: Project) -> None:
    ask("POST", "/lock", json=LOCK)
    assert ask("POST", json={"serial": 1}).status_code == 500
    assert ask("POST", params={"ID": "lock-2"}, json={"serial": 1}).status_code == 500
    assert ask("DELETE", "/lock", json={**LOCK, "ID": "lock-2"}).status_code == 409
    assert ask("DELETE").status_code == 200
    assert "network" in project.terraform_states, "a locked state is not deleted"
    assert ask("DELETE", "/lock", json=LOCK).status_code == 200
    assert ask("DELETE").status_code == 200
    assert ask("GET").status_code == 404


def test_who_may_do_what(server: Gitlab, project: Project, ask: Ask, maintainer: str) -> None:
    ask("POST", json={"serial": 1})
    developer = ("any", server.create_token(project, "dev"))
    reporter = ("any", server.create_token(project, "reporter", access_level=Access.REPORTER))
    stranger = ("any", server.create_token(server.create_project("a/b"), "other"))
    assert [ask("GET", auth=auth).status_code for auth in (developer, reporter, stranger)] == [200, 403, 404]
    for method, path in (("POST", ""), ("DELETE", ""), ("POST", "/lock"), ("DELETE", "/lock")):
        assert ask(method, path, auth=developer, json={**LOCK, "serial": 2}).status_code == 403
    assert ask("GET", auth=("any", "wrong")).status_code == 401
    assert ask("GET", auth=None).status_code == 401
    assert ask("GET", auth=None, headers={"PRIVATE-TOKEN": maintainer}).status_code == 200


def test_a_job_token_comes_in_basic_and_ends_with_its_job(server: Gitlab, project: Project, ask: Ask) -> None:
    user = server.create_user("anna")
    server.add_member(project, user, Access.MAINTAINER)
    job = server.create_job(project, "apply", user)
    token = server.job_token(project, job=job)
    auth = ("gitlab-ci-token", token)
    assert ask("POST", auth=auth, json={"serial": 1}).status_code == 200
    assert project.terraform_states["network"].versions[0].job is job
    assert ask("GET", auth=("anna", token)).status_code == 401
    assert ask("GET", auth=None, headers={"JOB-TOKEN": token}).status_code == 401
    job.finish("canceled")
    assert ask("GET", auth=auth).status_code == 401
