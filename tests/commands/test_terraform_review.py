"""What a sceptical review found: ways around the review, and words that were not true. Terraform is real."""

import json
import os
import shutil
import signal
import stat
import time
from io import BytesIO
from pathlib import Path

import pytest

from pipeline_tools.errors import PipelineError
from pipeline_tools.text import terraform_plan
from sandbox.gitlab.faults import Fault, delay, status
from sandbox.gitlab.model import StateLock
from sandbox.object_storage import ObjectStorage
from tests.commands.test_terraform_cancel import Slow, ended, until
from tests.infra_world import KEY, InfraWorld
from tests.world import error, git

ROOT = 'terraform {\n  required_version = ">= 1.11"\n  backend "http" {}\n}\n\nresource "terraform_data" "x" {\n  input = 1\n}\n'


def add_root(infra: InfraWorld, path: str, text: str = ROOT) -> None:
    infra.write(f"{path}/main.tf", text)
    infra.commit(f"the root {path}")


# What counts as reviewed ---------------------------------------------------------------------------------------


@pytest.fixture
def bypassed(infra: InfraWorld) -> InfraWorld:
    """A merge request was planned and never merged; somebody brought its content to main by another way."""
    infra.replace("hello/variables.tf", '"world"', '"moon"')
    iid = infra.propose("moon")
    infra.run("plan", job=infra.job(merge_request=iid))
    infra.main()
    git(infra.checkout, "checkout", "moon", "--", "hello")
    infra.commit("the same content, past the merge request")
    return infra


def test_content_past_its_merge_request_is_not_as_reviewed(bypassed: InfraWorld) -> None:
    assert bypassed.json("plan")["result"]["verdict"] == "not reviewed"


def test_whether_it_was_merged_must_be_known(bypassed: InfraWorld) -> None:
    assert bypassed.json("plan", PT_GITLAB_TOKEN=None)["result"]["verdict"] == "not reviewed"


def test_a_gitlab_that_does_not_say_what_was_merged_is_no_yes(bypassed: InfraWorld) -> None:
    bypassed.gitlab.faults.add(Fault(status(403), "GET", r"/commits/[^/]+/merge_requests", times=None))
    found = bypassed.json("plan")
    assert found["result"]["verdict"] == "not reviewed"
    assert any("cannot be read" in line for line in found["plan"]["differences"])


def test_what_was_merged_elsewhere_was_not_reviewed_for_this_branch(infra: InfraWorld) -> None:
    """A Developer may merge into a branch that nobody protects."""
    git(infra.checkout, "push", "--quiet", "origin", "HEAD:refs/heads/elsewhere")
    infra.replace("hello/variables.tf", '"world"', '"moon"')
    infra.propose("moon")
    infra.project.merge_requests.clear()
    made = infra.api.mergerequests.create(
        {"source_branch": "moon", "target_branch": "elsewhere", "title": "past main"}
    )
    infra.run("plan", job=infra.job(merge_request=made.iid))
    infra.api.mergerequests.get(made.iid).merge()
    git(infra.checkout, "fetch", "--quiet", "origin")
    git(infra.checkout, "checkout", "--quiet", "-B", "main", "origin/elsewhere")
    git(infra.checkout, "push", "--quiet", "origin", "HEAD:main")
    assert infra.json("plan")["result"]["verdict"] == "not reviewed"


def test_a_review_that_is_not_sealed_by_us_is_none(infra: InfraWorld) -> None:
    infra.replace("hello/variables.tf", '"world"', '"moon"')
    iid = infra.propose("moon")
    infra.run("plan", job=infra.job(merge_request=iid), PT_PASSPORT_KEY="another-key-of-the-tests")
    infra.merge(iid)
    found = infra.json("plan")
    assert found["result"]["verdict"] == "not reviewed"
    assert found["plan"]["differences"] == ["the reviewed passport is not sealed with our PT_PASSPORT_KEY"]


# One command's plan is not another's ---------------------------------------------------------------------------


def test_apply_does_not_apply_a_destruction(infra: InfraWorld) -> None:
    infra.run("plan")
    infra.run("apply")
    infra.run("destroy", exit_code=3)
    message, _ = error(infra.run("apply", "--max-deletes", "99", exit_code=3))
    assert "destroy" in message
    state = infra.state()
    assert state
    assert [row for row in state["resources"] if row["mode"] == "managed"]


def test_two_roots_never_share_a_state_though_only_one_is_asked_for(infra: InfraWorld) -> None:
    add_root(infra, "net/work")
    infra.run("plan", PT_ROOT="net/work")
    infra.run("apply", PT_ROOT="net/work")
    add_root(infra, "net-work", ROOT.replace('"x"', '"y"'))
    message, _ = error(infra.run("plan", PT_ROOT="net-work", exit_code=1))
    assert "net/work" in message
    assert "net-work" in message


def test_a_workspace_that_the_folder_remembers_is_not_another_state(
    infra: InfraWorld, object_storage: ObjectStorage
) -> None:
    object_storage.create_bucket("workspaces")
    infra.replace("hello/main.tf", 'backend "http" {}', 'backend "s3" {}')
    infra.commit("another backend")
    infra.variables.update(object_storage.variables)
    other = {
        "version": 4,
        "terraform_version": "1.11.0",
        "serial": 7,
        "lineage": "another",
        "outputs": {},
        "resources": [],
    }
    object_storage.write("workspaces", "env:/other/hello.tfstate", json.dumps(other).encode())
    infra.write("hello/.terraform/environment", "other")
    place = f"s3://workspaces/{{root}}.tfstate?endpoint={object_storage.url}"
    infra.run("plan", "--state", place)
    assert infra.passport()["state"]["lineage"] == ""
    infra.run("apply", "--state", place)
    assert object_storage.read("workspaces", "hello.tfstate")


def test_actions_of_a_later_terraform_are_not_passed_over() -> None:
    """Terraform 1.14 has them, and 1.11 is the one here: so the plan's text is asked itself."""
    plan = {
        "format_version": "1.2",
        "applyable": True,
        "action_invocations": [{"address": "action.x.y"}],
    }
    with pytest.raises(PipelineError, match="action_invocations"):
        terraform_plan.read(BytesIO(json.dumps(plan).encode()))
    terraform_plan.read(BytesIO(json.dumps({**plan, "action_invocations": []}).encode()))


# What was applied ----------------------------------------------------------------------------------------------


def test_nobody_else_says_that_a_plan_was_applied(infra: InfraWorld) -> None:
    """Whoever may run a pipeline may write packages; the seal is ours."""
    infra.run("plan")
    paper = infra.passport()
    paper["made"]["pipeline"] = "https://nowhere.example/pipelines/1"
    file = infra.checkout.parent / "passport.json"
    file.write_text(json.dumps(paper))
    version = f"applied-{paper['plan'].partition(':')[2][:40]}"
    infra.api.generic_packages.upload("terraform-hello", version, "passport.json", path=str(file))
    assert infra.json("apply")["status"] == "done"
    assert infra.state()


def test_a_state_that_was_left_before_is_not_this_applys(infra: InfraWorld) -> None:
    """It was never stored: to apply on top of the old one would lose it, and to fail would spend a plan."""
    infra.write(".gitignore", (infra.checkout / ".gitignore").read_text() + "*.tfstate\n")
    infra.commit("as most ignore them")
    infra.run("plan")
    infra.write("hello/errored.tfstate", "{}")
    message, hint = error(infra.run("apply", exit_code=3))
    assert "errored.tfstate" in message
    assert "terraform state push" in hint
    assert (infra.checkout / "hello" / "errored.tfstate").exists()
    (infra.checkout / "hello" / "errored.tfstate").unlink()
    assert infra.json("apply")["status"] == "done"


HALF = (
    ROOT
    + """
resource "terraform_data" "fails" {
  depends_on = [terraform_data.x]
  provisioner "local-exec" {
    command = "echo 'SAID'; exit 1"
  }
}
"""
)


def test_an_apply_that_did_something_is_not_worth_retrying_as_it_is(infra: InfraWorld) -> None:
    """A retry would find another state and end with 3, which the template allows to fail."""
    add_root(infra, "half", HALF.replace("SAID", "dial tcp: connection refused"))
    infra.root = "half"
    infra.run("plan")
    done = infra.run("apply", exit_code=1)
    assert "| applied: terraform_data.x: create" in done.stderr


def test_a_program_that_says_that_the_plan_is_stale(infra: InfraWorld) -> None:
    add_root(infra, "half", HALF.replace("SAID", "Saved plan is stale"))
    infra.root = "half"
    infra.run("plan")
    done = infra.run("apply", exit_code=1)
    assert "| applied: terraform_data.x: create" in done.stderr


# What a root is made of ----------------------------------------------------------------------------------------


def test_what_a_link_leads_to_is_part_of_the_root(infra: InfraWorld) -> None:
    """Git's tree has the link alone; Terraform reads what it leads to."""
    infra.write("shared/more.tf", 'variable "more" {\n  default = 1\n}\n')
    (infra.checkout / "hello" / "more.tf").symlink_to("../shared/more.tf")
    base = infra.commit("a link")
    infra.run("plan")
    infra.write("shared/more.tf", 'variable "more" {\n  default = 2\n}\n')
    assert "the checkout is not as its commit: shared/more.tf" in infra.run("apply", exit_code=3).stderr
    infra.commit("another content behind the link")
    assert "another content of shared/more.tf" in infra.run("apply", exit_code=3).stderr
    said = infra.run("plan", "--changed-since", base)
    assert "hello: 4 to create" in said.stdout
    assert "is gone from the checkout" not in said.stderr


def test_a_variable_file_beside_the_roots_changes_them(infra: InfraWorld) -> None:
    infra.write("dev.tfvars", 'name = "moon"\n')
    base = infra.commit("variables")
    infra.write("dev.tfvars", 'name = "sun"\n')
    infra.commit("other variables")
    said = infra.run("plan", "--var-file", "dev.tfvars", "--changed-since", base)
    assert "hello: 4 to create" in said.stdout


def test_a_link_out_of_the_checkout_is_bound_to_nothing(infra: InfraWorld, tmp_path: Path) -> None:
    (tmp_path / "outside.tf").write_text("")
    (infra.checkout / "hello" / "more.tf").symlink_to(tmp_path / "outside.tf")
    infra.commit("a link to elsewhere")
    message, _ = error(infra.run("plan", exit_code=1))
    assert message == "the link hello/more.tf leads out of the checkout"


@pytest.mark.parametrize("name", ["a b", "état", "new\nline", ":!x"])
def test_a_name_that_no_package_may_have_is_said_at_once(infra: InfraWorld, name: str) -> None:
    add_root(infra, name)
    before = len(infra.gitlab.requests)
    done = infra.run("plan", "--state", "gitlab:x", exit_code=1, PT_ROOT=json.dumps([name]))
    assert f"the root {name!r} has characters" in error(done)[0]
    assert [r for r in infra.gitlab.requests[before:] if "/terraform/" in r.path] == []


# Signals -------------------------------------------------------------------------------------------------------


def test_a_signal_ends_all_roots(infra: InfraWorld, tmp_path: Path) -> None:
    add_root(infra, "second")
    infra.root = "hello\nsecond"
    seen = len(infra.gitlab.requests)
    infra.gitlab.faults.add(Fault(delay(2), "GET", "/terraform/state/hello", after=2, times=1))
    process = Slow(infra, tmp_path / "mark").start("plan")
    until(lambda: len([r for r in infra.gitlab.requests[seen:] if "/state/hello" in r.path]) >= 2)
    time.sleep(0.5)
    os.killpg(process.pid, signal.SIGTERM)
    code, _, err = ended(process)
    assert code == 143, err
    assert not [r for r in infra.gitlab.requests[seen:] if "/state/second" in r.path]
    assert not (infra.checkout / "plans" / "second").exists()


STALE = """#!/bin/sh
case " $* " in
*" apply "*)
    trap 'echo "{\\"@level\\":\\"error\\",\\"@message\\":\\"Error: Saved plan is stale\\",\\"type\\":\\"diagnostic\\",\\"diagnostic\\":{\\"severity\\":\\"error\\",\\"summary\\":\\"Saved plan is stale\\"}}"; exit 1' TERM
    echo . >> "$MARK"
    while :; do sleep 0.1; done ;;
*) exec TERRAFORM "$@" ;;
esac
"""


def test_after_a_signal_a_stale_plan_is_not_made_again(infra: InfraWorld, tmp_path: Path) -> None:
    infra.run("plan")
    binary, mark = tmp_path / "terraform", tmp_path / "mark"
    binary.write_text(STALE.replace("TERRAFORM", shutil.which("terraform") or ""))
    binary.chmod(binary.stat().st_mode | stat.S_IXUSR)
    process = Slow(infra, mark).start("apply", "--terraform-binary", str(binary), "--grace", "20")
    until(mark.exists)
    os.killpg(process.pid, signal.SIGTERM)
    until(lambda: process.poll() is not None or mark.read_text().count(".") > 1)
    tries = mark.read_text().count(".")
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGTERM)
    code, _, err = ended(process)
    assert (tries, code) == (1, 143), err


# Unlock and drift ----------------------------------------------------------------------------------------------


def test_a_job_that_only_waited_does_not_stand_for_the_one_that_holds_the_lock(infra: InfraWorld) -> None:
    """Two jobs of one user began before the lock was taken; the last to say so has ended, the other applies."""
    infra.run("plan")
    infra.run("apply")
    holding, waited = infra.job("apply"), infra.job("apply")
    user = infra.gitlab.create_user("both")
    jobs = {str(job.id): job for job in infra.project.jobs}
    for number, stands in ((holding["CI_JOB_ID"], "running"), (waited["CI_JOB_ID"], "failed")):
        job = jobs[number]
        job.user, job.status = user, stands
    records = [{"job": int(found["CI_JOB_ID"]), "host": "runner"} for found in (waited, holding)]
    file = infra.checkout.parent / "holders.json"
    file.write_text(json.dumps(records))
    infra.api.generic_packages.upload("terraform-hello", "applying", "holders.json", path=str(file))
    state = infra.project.terraform_states["hello"]
    state.lock = StateLock("the-lock", user, time.time())
    message, _ = error(infra.run("unlock", exit_code=3))
    assert "is running and holds the lock" in message
    assert infra.project.terraform_states["hello"].lock is not None


def test_what_was_destroyed_on_purpose_has_not_drifted(infra: InfraWorld) -> None:
    infra.run("plan")
    infra.run("apply")
    hint = error(infra.run("destroy", exit_code=3))[1]
    infra.run("destroy", "--approve-deletes", hint.split("--approve-deletes ")[1].split()[0])
    found = infra.json("drift")["result"]
    assert found["drifted"] == []
    assert "terraform_data.greeting" in found["unapplied"]


def test_a_secret_in_what_drifted_is_in_no_issue(infra: InfraWorld) -> None:
    infra.run("plan")
    infra.run("apply")
    infra.replace("hello/variables.tf", '"world"', f'"{KEY}"')
    infra.replace("hello/neighbour.json", "the house next door", "the garden")
    infra.commit("a key in clear, and something else")
    done = infra.run("drift", exit_code=3)
    assert "a secret value is in the plan; no issue is written" in done.stderr
    assert KEY not in done.stdout + done.stderr
    assert infra.api.issues.list(get_all=True) == []
