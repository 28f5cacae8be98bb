"""Who holds a state's lock: said, waited for, and removed only where that is safe. Terraform is real."""

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from sandbox.gitlab.faults import Fault, delay
from sandbox.gitlab.model import StateLock
from tests.infra_world import InfraWorld, Kept
from tests.world import error

PUSH = r"/terraform/state/hello(\?|$)"


def failed(infra: InfraWorld, *words: str, exit_code: int = 1, **variables: Any) -> tuple[str, str]:
    """A command that fails: its error and hint; no state is written."""
    before = infra.state(infra.root)
    found = error(infra.run(*words, exit_code=exit_code, **variables))
    assert infra.state(infra.root) == before
    return found


def lock(infra: InfraWorld) -> StateLock:
    """Somebody locks the state."""
    state = infra.project.terraform_states["hello"]
    state.lock = StateLock("lock-of-somebody", infra.gitlab.create_user("somebody"), time.time())
    return state.lock


@pytest.fixture
def applied(kept: Kept) -> InfraWorld:
    """A world in which `hello` is applied and something else is planned."""
    return kept.after(apply_and_plan)


def apply_and_plan(infra: InfraWorld) -> None:
    infra.run("plan")
    infra.run("apply")
    infra.variables["TF_VAR_environment"] = "prod"
    infra.run("plan")


def test_a_lock_of_somebody_else(applied: InfraWorld) -> None:
    held = lock(applied)
    message, hint = failed(applied, "apply", "--lock-timeout", "0", exit_code=5)
    assert (
        message == "terraform apply in hello failed: Error acquiring the state lock; 0 of 4 changes applied"
    )
    assert "terraform unlock" in hint
    said = applied.run("apply", "--lock-timeout", "0", exit_code=5).stderr
    since = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(held.created))
    assert f"the state is locked by somebody since {since}" in said
    assert "lock-of-somebody" in said
    assert (applied.checkout / "plans" / "hello" / "plan.age").exists()


def test_a_plan_needs_no_lock(applied: InfraWorld) -> None:
    lock(applied)
    assert applied.json("plan")["status"] == "done"


def test_a_lock_that_is_given_back_in_time(applied: InfraWorld) -> None:
    lock(applied)
    process = applied.start("apply", "--lock-timeout", "30", job=applied.job("apply"))
    while not any(found.status == 409 for found in applied.gitlab.requests):
        assert process.poll() is None
        time.sleep(0.02)
    applied.project.terraform_states["hello"].lock = None
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0, out
    assert "4 of 4 changes applied" in out


def test_who_holds_a_lock_is_shown_and_it_stays(applied: InfraWorld) -> None:
    held = lock(applied)
    message, hint = failed(applied, "unlock", exit_code=3)
    assert "locked by somebody since" in message
    assert "which is none of our jobs" in message
    assert "--force" in hint
    assert applied.project.terraform_states["hello"].lock is held


def test_a_dry_run_of_unlock_changes_nothing(applied: InfraWorld) -> None:
    held = lock(applied)
    for words in ((), ("--force",)):
        done = applied.json("unlock", "--dry-run", *words)
        assert done["status"] == "planned"
        assert done["plan"]["lock"]["who"] == "somebody"
        assert done["result"]["lock"] == "lock-of-somebody"
    assert applied.project.terraform_states["hello"].lock is held


def test_a_lock_is_removed_by_force_and_then_there_is_none(applied: InfraWorld) -> None:
    lock(applied)
    done = applied.json("unlock", "--force")
    assert (done["status"], done["result"]["lock"]) == ("done", "lock-of-somebody")
    assert applied.project.terraform_states["hello"].lock is None
    assert applied.json("unlock")["status"] == "unchanged"
    applied.run("apply")


def killed(infra: InfraWorld, status: str) -> None:
    """A job took the lock, and its container is gone; GitLab has its job as `status`."""
    holder = infra.job("apply")
    infra.gitlab.faults.add(Fault(delay(60), "POST", PUSH, times=1))
    process = infra.start("apply", job=holder)
    while not infra.project.terraform_states["hello"].lock:
        time.sleep(0.02)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    process.kill()
    for child in children:
        os.killpg(int(child), signal.SIGKILL)
    process.communicate()
    infra.gitlab.faults.clear()
    next(job for job in infra.project.jobs if str(job.id) == holder["CI_JOB_ID"]).status = status


@pytest.mark.parametrize("status", ["failed", "canceled"])
def test_a_lock_of_ours_whose_job_has_ended_is_removed(applied: InfraWorld, status: str) -> None:
    killed(applied, status)
    done = applied.json("unlock")
    assert done["status"] == "done"
    assert applied.project.terraform_states["hello"].lock is None
    assert applied.json("apply")["status"] == "done"


def test_a_lock_of_ours_whose_job_still_runs_stays(applied: InfraWorld) -> None:
    killed(applied, "running")
    message, _ = failed(applied, "unlock", exit_code=3)
    assert "is running and holds the lock" in message
    assert applied.project.terraform_states["hello"].lock


def test_a_retry_that_only_waited_does_not_hide_who_holds_the_lock(applied: InfraWorld) -> None:
    killed(applied, "failed")
    error(applied.run("apply", "--lock-timeout", "0", exit_code=5))
    said = applied.json("unlock")
    assert said["status"] == "done"
    applied.run("apply")
