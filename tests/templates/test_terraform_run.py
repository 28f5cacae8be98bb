"""`ci_templates/terraform.yml` on examples/infra: which pipelines have its jobs, and the jobs for real."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from pipeline_tools.text import passport
from tests.templates.runner import EXECUTE, Runner, publish, with_inputs
from tests.vault_world import PASSWORD as LENT
from tests.world import git

if TYPE_CHECKING:
    from pathlib import Path

    from tests.infra_world import InfraWorld
    from tests.vault_world import VaultWorld

pytestmark = [pytest.mark.servers, pytest.mark.gitlab_ci_local, pytest.mark.usefixtures("gitlab_ci_local")]

MERGE_REQUEST = {"CI_PIPELINE_SOURCE": "merge_request_event", "CI_MERGE_REQUEST_PROJECT_ID": "7"}
OURS = {**MERGE_REQUEST, "CI_MERGE_REQUEST_SOURCE_PROJECT_ID": "7"}
FORK = {**MERGE_REQUEST, "CI_MERGE_REQUEST_SOURCE_PROJECT_ID": "8"}
MAIN = {"CI_COMMIT_BRANCH": "main", "CI_COMMIT_REF_NAME": "main", "CI_DEFAULT_BRANCH": "main"}
PROTECTED = {**MAIN, "CI_COMMIT_REF_PROTECTED": "true"}
SCHEDULE = {**PROTECTED, "CI_PIPELINE_SOURCE": "schedule"}


@pytest.fixture
def change() -> tuple[str, str]:
    """What the published template has in place of what: nothing, unless a test says so."""
    return "", ""


@pytest.fixture(autouse=True)
def template(infra: InfraWorld, tmp_path: Path, change: tuple[str, str]) -> None:
    """The template where the example's include says."""
    publish(infra.gitlab, tmp_path, *change, name="terraform.yml")


@pytest.fixture
def runner(infra: InfraWorld, tmp_path: Path) -> Runner:
    return Runner(infra.checkout, tmp_path / "runner")


@pytest.mark.parametrize(
    ("pipeline", "inputs", "jobs"),
    [
        (OURS, {}, "check plan"),
        (FORK, {}, "check"),
        (MAIN, {}, "check plan"),
        (PROTECTED, {"auto_apply": False}, "check plan apply:manual destroy:manual"),
        (PROTECTED, {}, "check plan apply-as-reviewed apply:manual destroy:manual"),
        ({**PROTECTED, "CI_PIPELINE_SOURCE": "web"}, {}, "check plan apply-as-reviewed apply:manual destroy:manual"),
        ({**PROTECTED, "CI_COMMIT_BRANCH": "release"}, {}, ""),
        ({"CI_COMMIT_TAG": "v1.0.0", "CI_COMMIT_REF_PROTECTED": "true"}, {}, ""),
        (SCHEDULE, {}, ""),
        ({**SCHEDULE, "PT_DRIFT": "true"}, {}, "drift"),
        ({**SCHEDULE, "PT_DRIFT": "true", "CI_COMMIT_BRANCH": "release"}, {}, ""),
        ({**PROTECTED, "PT_DRIFT": "true"}, {"auto_apply": False}, "check plan apply:manual destroy:manual"),
    ],
    ids=["ours", "fork", "unprotected", "main", "auto", "web", "other branch", "tag", "schedule", "drift", "drift elsewhere",
         "drift unscheduled"],
)  # fmt: skip
def test_each_kind_of_pipeline_has_its_jobs(
    infra: InfraWorld, runner: Runner, pipeline: dict[str, str], inputs: dict[str, Any], jobs: str
) -> None:
    with_inputs(infra.checkout, **inputs)
    words = () if "CI_COMMIT_BRANCH" in pipeline else ("--unset-variable", "CI_COMMIT_BRANCH")
    assert found(runner, *words, **pipeline) == [f"terraform-{job}" for job in jobs.split()]


def found(runner: Runner, *words: str, **pipeline: str) -> list[str]:
    """The jobs of a pipeline, and of those that wait for a person that they do."""
    done = runner.run("--list-json", *words, **pipeline)
    assert done.returncode == 0, done.stderr
    listed = [(job["name"], job["when"]) for job in json.loads(done.stdout) if job["when"] != "never"]
    return [name if when == "on_success" else f"{name}:{when}" for name, when in listed]


# For real ------------------------------------------------------------------------------------------------------

VARIABLES = (
    *("CI_JOB_TOKEN", "PT_GITLAB_TOKEN", "PT_PASSPORT_KEY", "PT_PLAN_IDENTITY", "PT_PLAN_RECIPIENT"),
    "TF_VAR_password",
)
"""What the project has as variables; the rest of a job's is what GitLab predefines."""


@dataclass(frozen=True)
class Ran:
    """What a pipeline, or one job of it, said in `runner`'s checkout."""

    runner: Runner
    exit_code: int
    said: str

    @property
    def ended(self) -> dict[str, str]:
        """How each job ended, as gitlab-ci-local sums it up."""
        return {name: mark for mark, name in re.findall(r"(PASS|WARN|FAIL)\s+terraform-(\S+)", self.said)}


@dataclass(frozen=True)
class Pipelines:
    """Pipelines of the infra project, each in a clone of its own, as a runner makes one."""

    infra: InfraWorld
    directory: Path

    @property
    def neighbour(self) -> Path:
        """The state of the root next door, which is no part of the repository."""
        return self.directory / "neighbour.json"

    def start(self, number: int, *words: str, branch: str = "main", **predefined: str) -> Ran:
        clone = self.directory / f"pipeline-{number}"
        address = self.infra.project.http_url.replace("://", f"://oauth2:{self.infra.token}@")
        git(self.directory, "clone", "--quiet", "--branch", branch, address, str(clone))
        return self.run(number, *words, **predefined)

    def run(self, number: int, *words: str, **predefined: str) -> Ran:
        """Run the pipeline, or in `words` one of its jobs; with GitLab's variables, some of them others."""
        runner = Runner(self.directory / f"pipeline-{number}", self.directory / "runner")
        job = self.infra.job("apply")
        runner.set({variable: job[variable] for variable in VARIABLES})
        said = {variable: value for variable, value in job.items() if variable not in VARIABLES}
        here = {"CI_PROJECT_DIR": ".", "CI_PIPELINE_URL": self.url(number)}
        given = {**said, **here, "TF_VAR_neighbour": str(self.neighbour), **predefined}
        done = runner.run(*EXECUTE, *words, **given)
        ran = Ran(runner, done.returncode, done.stdout + done.stderr)
        secrets = [job[variable] for variable in VARIABLES if variable != "PT_PLAN_RECIPIENT"]
        assert not [secret for secret in secrets if secret in ran.said]
        return ran

    def url(self, number: int) -> str:
        return f"{self.infra.project.web_url}/-/pipelines/{number}"

    def proposed(self, number: int, branch: str, old: str, new: str) -> tuple[int, Ran]:
        """A merge request that changes the root's defaults, and its pipeline."""
        base = self.infra.main()
        self.infra.replace("hello/variables.tf", old, new)
        iid = self.infra.propose(branch)
        where = {"CI_COMMIT_REF_NAME": branch, "CI_MERGE_REQUEST_DIFF_BASE_SHA": base}
        no_branch = ("--unset-variable", "CI_COMMIT_BRANCH")
        ran = self.start(
            number, *no_branch, branch=branch, CI_MERGE_REQUEST_IID=str(iid), **{**OURS, **where}
        )
        return iid, ran


@pytest.fixture
def pipelines(infra: InfraWorld, tmp_path: Path) -> Pipelines:
    made = Pipelines(infra, tmp_path)
    made.neighbour.write_text((infra.checkout / "hello" / "neighbour.json").read_text())
    return made


COPIES = "  default     = 1\n", "  default     = 2\n"


def test_from_merge_request_to_destroy(infra: InfraWorld, pipelines: Pipelines) -> None:
    iid, proposed = pipelines.proposed(1, "two-copies", *COPIES)
    assert proposed.ended == {"check": "PASS", "plan": "PASS"}
    (note,) = infra.notes(iid)
    assert "terraform_data.copy[1]" in note

    infra.merge(iid, squash=True)
    merged = pipelines.start(2, **PROTECTED)
    assert merged.ended == {"check": "PASS", "plan": "PASS", "apply-as-reviewed": "PASS"}
    assert merged.exit_code == 0
    state = infra.state()
    assert state
    assert len(next(each for each in state["resources"] if each["name"] == "copy")["instances"]) == 2

    clicked = pipelines.run(2, "terraform-apply", **PROTECTED)
    assert clicked.ended == {"apply": "PASS"}
    assert f"already applied by {pipelines.url(2)}" in clicked.said
    assert infra.state() == state

    before = pipelines.neighbour.read_text()
    pipelines.neighbour.write_text(before.replace("the house next door", "somebody else"))
    drifted = pipelines.start(3, **SCHEDULE, PT_DRIFT="true")
    assert drifted.ended == {"drift": "FAIL"}
    assert drifted.exit_code != 0
    assert [issue.state for issue in infra.api.issues.list()] == ["opened"]
    pipelines.neighbour.write_text(before)
    assert pipelines.run(3, **SCHEDULE, PT_DRIFT="true").ended == {"drift": "PASS"}
    assert [issue.state for issue in infra.api.issues.list()] == ["closed"]
    assert infra.state() == state

    refused = pipelines.run(2, "terraform-destroy", **PROTECTED)
    approval = re.search(r"--approve-deletes ([0-9a-f]{16})", refused.said)
    assert approval
    assert infra.state() == state
    destroyed = pipelines.run(2, "terraform-destroy", **PROTECTED, PT_APPROVE_DELETES=approval[1])
    assert destroyed.ended == {"destroy": "PASS"}
    assert infra.state()["resources"] == []  # type: ignore[index]  # there is one


def test_what_nobody_reviewed_waits_for_a_click(infra: InfraWorld, pipelines: Pipelines) -> None:
    infra.main()
    infra.replace("hello/variables.tf", *COPIES)
    infra.commit("past every review")
    pushed = pipelines.start(1, **PROTECTED)
    assert pushed.ended == {"check": "PASS", "plan": "PASS", "apply-as-reviewed": "WARN"}
    assert pushed.exit_code == 0
    assert infra.state() is None
    assert pipelines.run(1, "terraform-apply", **PROTECTED).ended == {"apply": "PASS"}
    assert infra.state() is not None


def test_findings_stop_the_pipeline_before_anything_is_lent(infra: InfraWorld, pipelines: Pipelines) -> None:
    infra.write("hello/evil.tf", 'data "external" "evil" {\n  program = ["sh", "-c", "id"]\n}\n')
    iid, checked = pipelines.proposed(1, "evil", *COPIES)
    assert checked.ended == {"check": "FAIL"}
    assert infra.notes(iid) == []
    assert "hello/evil.tf" in checked.said


def test_vault_lends_what_the_include_says_to_who_it_says(
    infra: InfraWorld, pipelines: Pipelines, vault: VaultWorld
) -> None:
    infra.main()
    key = f"PT_PASSPORT_KEY={vault.kv}/dev/app#password"
    server = {"vault_identity": "inputs", "vault_address": vault.bao.url, "vault_auth": "jwt"}
    with_inputs(infra.checkout, **server, plan_vault_role="dev", apply_vault_role="none", plan_secret=[key])
    infra.commit("Vault, by its inputs")
    given = {
        "VAULT_ID_TOKEN": vault.id_token(),
        "PT_VAULT_JWT_MOUNT": f"{vault.id}-jwt",
        "PT_PASSPORT_KEY": "",
    }
    ran = pipelines.start(1, **PROTECTED, **given)
    assert ran.ended == {"check": "PASS", "plan": "PASS", "apply-as-reviewed": "WARN"}
    file = ran.runner.artifact("terraform-plan", "plans/hello/passport.json")
    assert passport.loads(file.read_bytes(), "").verify(LENT.encode())
    assert LENT not in ran.said
    denied = pipelines.run(1, "terraform-destroy", **PROTECTED, **given, PT_SECRET=json.dumps([key]))
    assert "role none" in denied.said
    assert denied.ended == {"destroy": "WARN"}


def hostile(marker: Path) -> str:
    """Text that a shell would run, in every way it could be quoted; if it ran, the marker would be there."""
    touch = f"touch {marker}"
    return f"$({touch})`{touch}`;{touch}&{touch}|{touch}\"$({touch})\"';{touch};'#{{{touch}}}"


def with_hostile(pipelines: Pipelines, marker: Path) -> None:
    """The include with hostile words in every list."""
    evil = hostile(marker)
    lists = ("root", "var_file", "allow_provider", "value", "plan_secret", "apply_secret")
    pipelines.infra.main()
    with_inputs(pipelines.infra.checkout, **{name: [evil, f"A={evil}"] for name in lists})
    pipelines.infra.commit("other inputs")


@pytest.mark.parametrize("job", ["check", "plan", "apply", "drift"])
def test_no_input_is_ever_executed(pipelines: Pipelines, tmp_path: Path, job: str) -> None:
    marker = tmp_path / "executed"
    with_hostile(pipelines, marker)
    ran = pipelines.start(1, f"terraform-{job}", **PROTECTED)
    assert ran.ended in ({job: "FAIL"}, {job: "WARN"})
    assert "Traceback" not in ran.said
    assert not marker.exists()


@pytest.mark.parametrize("change", [("pipeline-tools terraform check", "echo $[[ inputs.root ]]")])
def test_a_value_in_a_script_line_would_be(pipelines: Pipelines, tmp_path: Path) -> None:
    """The tests above can fail: the same input in a script line is run."""
    marker = tmp_path / "executed"
    with_hostile(pipelines, marker)
    pipelines.start(1, "terraform-check", **PROTECTED)
    assert marker.exists()


@pytest.mark.parametrize(
    "name", ["state", "terraform_binary", "plan_recipient", "scaleway", "environment_name", "job_prefix"]
)
def test_a_hostile_word_makes_no_pipeline(
    infra: InfraWorld, runner: Runner, tmp_path: Path, name: str
) -> None:
    marker = tmp_path / "executed"
    with_inputs(infra.checkout, **{name: hostile(marker)})
    done = runner.run("--list-json", **PROTECTED)
    assert f"`{name}` input" in done.stderr
    assert not marker.exists()
