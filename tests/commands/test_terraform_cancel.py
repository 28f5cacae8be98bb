"""An apply that is told to end: Terraform ends in peace, and what is said of it is true. Terraform is real."""

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from sandbox.gitlab.faults import Fault, delay, status
from tests.infra_world import COMMAND, InfraWorld

SLOW = """
terraform {
  backend "http" {}
}

resource "terraform_data" "first" {
  input = "one"
}

resource "terraform_data" "slow" {
  input      = "two"
  depends_on = [terraform_data.first]
  provisioner "local-exec" {
    command = "touch \\"$MARK\\"; exec sleep \\"$SECONDS_TO_SLEEP\\""
  }
}

resource "terraform_data" "last" {
  depends_on = [terraform_data.slow]
}
"""
STATE = r"/terraform/state/slow(\?|$)"
ONCE, TWICE = "Interrupt received", "Two interrupts received"


@dataclass
class Slow:
    """A root whose apply takes its time; `mark` is there when it has come to the middle."""

    infra: InfraWorld
    mark: Path

    def start(self, *words: str, **variables: str) -> subprocess.Popen[str]:
        """`terraform WORDS` as a job runs it, in a process group of its own."""
        job = self.infra.job(words[0])
        variables = {"MARK": str(self.mark), "SECONDS_TO_SLEEP": "30", **variables}
        return subprocess.Popen(
            (*COMMAND, *words),
            cwd=self.infra.checkout,
            env=self.infra.environment(job, dict(variables)),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def in_the_middle(self, *words: str, **variables: str) -> subprocess.Popen[str]:
        """An apply that has come to the middle."""
        process = self.start("apply", *words, **variables)
        until(self.mark.exists)
        return process

    @property
    def resources(self) -> set[str]:
        """What the state in GitLab has."""
        state = self.infra.state("slow")
        return {found["name"] for found in state["resources"]} if state else set()

    @property
    def is_locked(self) -> bool:
        state = self.infra.project.terraform_states.get("slow")
        return bool(state and state.lock)

    def goes_on(self) -> None:
        """What a person does next: plan again, and apply that; then nothing is left to do."""
        self.infra.run("plan")
        self.infra.run("apply", "--max-deletes", "1", MARK=str(self.mark), SECONDS_TO_SLEEP="0")
        assert self.resources == {"first", "slow", "last"}
        self.infra.run("plan")
        assert self.infra.passport()["changes"] == []
        assert not self.is_locked


@pytest.fixture
def slow(infra: InfraWorld, tmp_path: Path) -> Slow:
    infra.root = "slow"
    infra.write("slow/main.tf", SLOW)
    infra.commit("a root that takes its time")
    infra.run("plan")
    return Slow(infra, tmp_path / "mark")


def until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


# During an apply -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_reaches_terraform_once_and_the_state_is_saved_and_unlocked(
    slow: Slow, number: signal.Signals
) -> None:
    process = slow.in_the_middle()
    os.killpg(process.pid, number)  # as a runner does: everybody in the group gets it
    code, out, err = ended(process)
    assert code == 128 + number
    assert (out.count(ONCE), out.count(TWICE)) == (1, 0)
    assert "slow: interrupted; 1 of 3 changes applied; the state is saved and unlocked" in err
    assert "applied: terraform_data.first: create" in err
    assert slow.resources == {"first", "slow"}  # slow is tainted
    assert not slow.is_locked
    slow.goes_on()


def test_the_envelope_of_an_interrupted_apply(slow: Slow) -> None:
    process = slow.in_the_middle("--output", "json")
    process.send_signal(signal.SIGTERM)
    code, out, _ = ended(process)
    document = json.loads(out)
    assert (code, document["exit_code"], document["status"]) == (143, 143, "interrupted")
    assert document["errors"][0]["code"] == "terminated"
    assert document["result"]["applied"] == ["terraform_data.first: create"]
    assert document["result"]["said"] == "1 of 3 changes applied"


def test_a_second_signal_waits_for_the_grace_period(slow: Slow) -> None:
    slow.infra.gitlab.faults.add(Fault(delay(1.5), "POST", STATE, times=None))
    process = slow.in_the_middle()
    for _ in range(3):
        os.killpg(process.pid, signal.SIGTERM)
        time.sleep(0.2)
    code, out, err = ended(process)
    assert code == 143
    assert (out.count(ONCE), out.count(TWICE)) == (1, 0)
    assert "the state is saved and unlocked" in err
    assert slow.resources == {"first", "slow"}
    assert not slow.is_locked


def test_after_the_grace_period_it_is_told_once_more_and_the_lock_that_stays_is_said(slow: Slow) -> None:
    slow.infra.gitlab.faults.add(Fault(delay(20), "POST", STATE, times=None))
    process = slow.in_the_middle("--grace", "0.5")
    process.send_signal(signal.SIGTERM)
    code, out, err = ended(process)
    assert code == 143
    assert (out.count(ONCE), out.count(TWICE)) == (1, 1)
    lock = slow.infra.project.terraform_states["slow"].lock
    assert lock
    assert "not ended within 0.5 s; SIGTERM once more" in err
    assert f"the state is still locked by {lock.user.username}" in err
    assert lock.id in err
    assert "saved" not in err


def test_an_interrupted_apply_whose_state_cannot_be_stored(slow: Slow) -> None:
    slow.infra.gitlab.faults.add(Fault(status(409), "POST", STATE, times=None))
    process = slow.in_the_middle()
    process.send_signal(signal.SIGTERM)
    code, _, err = ended(process)
    assert code == 143
    assert "interrupted; 1 of 3 changes applied; the state is NOT stored" in err
    assert "plans/slow/errored.tfstate.age" in err
    assert not (slow.infra.checkout / "slow" / "errored.tfstate").exists()
    assert (slow.infra.checkout / "plans" / "slow" / "errored.tfstate.age").exists()


def test_an_interrupted_apply_that_cannot_ask_for_the_lock_still_says_how_far_it_came(slow: Slow) -> None:
    process = slow.in_the_middle()
    # Terraform's own unlocking gets through; who asks for the lock afterwards does not.
    slow.infra.gitlab.faults.add(Fault(status(403), "POST", r"/state/slow/lock$", times=None))
    process.send_signal(signal.SIGTERM)
    code, _, err = ended(process)
    assert code == 143
    assert "1 of 3 changes applied; whether the state is unlocked cannot be read" in err
    assert "applied: terraform_data.first: create" in err


def test_a_signal_while_another_job_holds_the_lock(slow: Slow) -> None:
    process = slow.in_the_middle()
    other = slow.start("apply", "--lock-timeout", "60")
    seen = other.stdout
    assert seen
    while "Terraform " not in seen.readline():
        pass
    time.sleep(0.5)
    other.send_signal(signal.SIGTERM)
    code, _, err = ended(other)
    assert code == 143
    assert "0 of 3 changes applied; the state is still locked by user-of-apply" in err
    process.send_signal(signal.SIGTERM)
    assert ended(process)[0] == 143


# A process that is gone ----------------------------------------------------------------------------------------


def test_a_killed_apply_leaves_its_lock_which_is_removed_and_the_work_goes_on(slow: Slow) -> None:
    process = slow.in_the_middle()
    # The container is gone with all that is in it.
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    process.kill()
    for child in children:
        os.killpg(int(child), signal.SIGKILL)
    assert ended(process)[0] == -signal.SIGKILL
    lock = slow.infra.project.terraform_states["slow"].lock
    assert lock
    held = slow.infra.run("apply", "--lock-timeout", "0", exit_code=5).stderr
    assert lock.id in held
    assert lock.user.username in held
    slow.infra.run("unlock", "--force")
    assert not slow.is_locked
    slow.goes_on()


def test_kill_between_the_end_of_terraform_and_the_record(slow: Slow) -> None:
    # Our process waits for GitLab to take the record when it is killed.
    slow.infra.gitlab.faults.add(Fault(delay(60), "PUT", r"/packages/generic/[^/]+/applied-", times=1))
    process = slow.start("apply", SECONDS_TO_SLEEP="0")
    until(lambda: slow.resources == {"first", "slow", "last"} and not slow.is_locked)
    process.kill()
    ended(process)
    assert unchanged(slow) == "nothing to apply"


def test_kill_between_the_record_and_the_end(slow: Slow) -> None:
    slow.infra.gitlab.faults.add(Fault(delay(60), "PUT", r"/packages/generic/[^/]+/applied/", times=1))
    process = slow.start("apply", SECONDS_TO_SLEEP="0")
    until(
        lambda: any(
            re.search("applied-", seen.path) for seen in slow.infra.gitlab.requests if seen.method == "PUT"
        )
    )
    process.kill()
    ended(process)
    assert re.fullmatch(r"already applied by http.*/pipelines/\d+", unchanged(slow))


def unchanged(slow: Slow) -> str:
    """An apply of the same plan has nothing to do; what it says of it."""
    serial = (slow.infra.state("slow") or {})["serial"]
    done = slow.infra.json("apply")
    assert done["status"] == "unchanged"
    assert (slow.infra.state("slow") or {})["serial"] == serial
    return str(done["result"]["said"])


def test_the_record_is_refused_and_the_next_run_finds_all_applied(slow: Slow) -> None:
    slow.infra.gitlab.faults.add(Fault(status(403), "PUT", r"/packages/generic/[^/]+/applied-", times=1))
    done = slow.infra.json("apply", exit_code=4, MARK=str(slow.mark), SECONDS_TO_SLEEP="0")
    assert "3 of 3 changes applied, and that cannot be recorded" in done["errors"][0]["message"]
    assert len(done["result"]["applied"]) == 3
    assert unchanged(slow) == "nothing to apply"


# During a plan -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reads", [0, 1, 2])
def test_a_signal_while_planning_publishes_nothing(infra: InfraWorld, tmp_path: Path, reads: int) -> None:
    """While `init`, `state pull` or `plan` reads the state.

    An interrupted plan that was reading stores what it read once more, if it may (`opWait` in Terraform's
    internal/backend/local): the serial moves, the content does not.
    """
    infra.run("plan")
    infra.run("apply")
    before = [found["instances"] for found in (infra.state() or {})["resources"]]
    scratch, passport = tmp_path / "scratch", infra.passport()
    scratch.mkdir()
    infra.replace("hello/variables.tf", '"world"', '"moon"')
    seen = len(infra.gitlab.requests)
    infra.gitlab.faults.add(Fault(delay(2), "GET", "/terraform/state/", after=reads, times=1))
    process = Slow(infra, tmp_path / "mark").start("plan", TMPDIR=str(scratch))
    until(lambda: len(infra.gitlab.requests[seen:]) >= reads and any(scratch.iterdir()))
    time.sleep(0.5)
    os.killpg(process.pid, signal.SIGTERM)
    code, _, err = ended(process)
    assert code == 143, err
    assert infra.passport() == passport
    assert [*scratch.iterdir()] == []
    state = infra.state()
    assert state
    assert [found["instances"] for found in state["resources"]] == before
    assert "PUT" not in {found.method for found in infra.gitlab.requests[seen:]}
