"""Bad input and a world that does not play along: an exit code, one line, a hint, nothing half done. Terraform is real."""

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyrage
import pytest

from sandbox.gitlab.faults import Fault, reset, status
from tests.infra_world import InfraWorld, Kept
from tests.world import Ended, error

PUSH = r"/terraform/state/hello(\?|$)"
LIMIT = 1_000_000
"""Characters of a note (docs.gitlab.com/administration/instance_limits, "Size of comments and descriptions")."""


def failed(infra: InfraWorld, *words: str, exit_code: int = 1, **variables: Any) -> tuple[str, str]:
    """A command that fails: its error and hint; no state is written."""
    before = infra.state(infra.root)
    found = error(infra.run(*words, exit_code=exit_code, **variables))
    assert infra.state(infra.root) == before
    return found


def plans(infra: InfraWorld) -> Path:
    return infra.checkout / "plans" / infra.root


def left(infra: InfraWorld) -> set[str]:
    """The files in the root's folder of plans, hidden ones too."""
    return {file.name for file in plans(infra).iterdir()} if plans(infra).is_dir() else set()


# The root and its state ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("block", "said"),
    [("", "it has no backend"), ('backend "local" {}', "its backend is local"), ('backend "s3" {}', "is s3")],
)
def test_a_root_without_the_backend_of_its_state(infra: InfraWorld, block: str, said: str) -> None:
    infra.replace("hello/main.tf", 'backend "http" {}', block)
    message, hint = failed(infra, "plan")
    assert message.startswith("hello: ")
    assert said in message
    assert 'terraform { backend "http" {} }' in hint


def test_a_state_that_nobody_may_read(infra: InfraWorld) -> None:
    infra.gitlab.faults.add(Fault(status(403), "GET", PUSH, times=None))
    _, hint = failed(infra, "plan", exit_code=4)
    assert "Developer to plan, Maintainer to apply" in hint


def test_the_states_server_is_down(infra: InfraWorld) -> None:
    infra.gitlab.faults.add(Fault(status(503), "GET", PUSH, times=None))
    message, _ = failed(infra, "plan", exit_code=5, TF_HTTP_RETRY_MAX="0")
    assert message.startswith("terraform init in hello failed: ")


def test_a_state_that_is_none(infra: InfraWorld) -> None:
    infra.gitlab.faults.add(Fault(status(200, body="<html>log in</html>"), "GET", PUSH, times=None))
    message, _ = failed(infra, "plan")
    assert "terraform init in hello failed: Error refreshing state" in message


@pytest.fixture
def applied(kept: Kept) -> InfraWorld:
    """A world in which `hello` is applied and something else is planned."""
    return kept.after(apply_and_plan)


def apply_and_plan(infra: InfraWorld) -> None:
    infra.run("plan")
    infra.run("apply")
    infra.variables["TF_VAR_environment"] = "prod"
    infra.run("plan")


# The state's server in mid-apply -------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [status(409), status(423), status(500), status(503), reset()])
def test_a_state_that_cannot_be_stored_is_kept_and_the_way_back(
    applied: InfraWorld, tmp_path: Path, fault: object
) -> None:
    applied.gitlab.faults.add(Fault(fault, "POST", PUSH, times=None))  # type: ignore[arg-type]
    # Never 5: a job that is started again by itself would apply the same once more.
    done = applied.run("apply", exit_code=1, TF_HTTP_RETRY_MAX="0")
    message, hint = error(done)
    assert "4 of 4 changes applied" in message
    assert "| applied: terraform_data.greeting: update" in done.stderr
    assert "the state could not be stored; it is in plans/hello/errored.tfstate.age" in done.stderr
    assert "terraform state push" in hint
    assert "errored.tfstate.age" in left(applied)
    assert not (applied.checkout / "hello" / "errored.tfstate").exists()
    applied.gitlab.faults.clear()
    assert "plan.age" not in left(applied)
    # The way back: decrypt, look, store.
    identity = pyrage.x25519.Identity.from_str(applied.identity)
    state = tmp_path / "errored.tfstate"
    state.write_bytes(pyrage.decrypt((plans(applied) / "errored.tfstate.age").read_bytes(), [identity]))
    push(applied, state)
    applied.run("plan")
    assert applied.passport()["changes"] == []


def push(infra: InfraWorld, state: Path) -> None:
    """`terraform state push`, as a person does it."""
    environment = infra.environment(infra.job("push"))
    login = {"TF_HTTP_USERNAME": "gitlab-ci-token", "TF_HTTP_PASSWORD": environment["CI_JOB_TOKEN"]}
    subprocess.run(
        ("terraform", "-chdir=hello", "state", "push", str(state)),
        cwd=infra.checkout,
        env={**environment, **login},
        check=True,
        capture_output=True,
    )


def test_the_plan_of_a_state_that_could_not_be_stored_is_spent(applied: InfraWorld, tmp_path: Path) -> None:
    """GitLab's retry button brings the plan job's artifacts back, and the state is the one that it was made on."""
    kept = (plans(applied) / "plan.age").read_bytes()
    applied.gitlab.faults.add(Fault(status(409), "POST", PUSH, times=None))
    applied.run("apply", exit_code=1)
    applied.gitlab.faults.clear()
    (plans(applied) / "plan.age").write_bytes(kept)
    before = applied.state()
    done = applied.json("apply")
    assert done["status"] == "unchanged"
    assert done["result"]["said"].startswith("already applied by ")
    assert applied.state() == before


def test_without_a_recipient_the_identity_says_whom_to_encrypt_to(applied: InfraWorld) -> None:
    applied.gitlab.faults.add(Fault(status(409), "POST", PUSH, times=None))
    applied.run("apply", exit_code=1, PT_PLAN_RECIPIENT=None)
    assert "errored.tfstate.age" in left(applied)


# Plan, passport, keys ------------------------------------------------------------------------------------------


def test_nothing_was_planned(infra: InfraWorld) -> None:
    message, hint = failed(infra, "apply")
    assert message == "hello: there is no plans/hello/passport.json"
    assert "--plan-recipient" in hint


@pytest.mark.parametrize("content", [b"", b"age", b"half", b"flipped"])
def test_a_plan_file_that_is_broken(applied: InfraWorld, content: bytes) -> None:
    file = plans(applied) / "plan.age"
    whole = file.read_bytes()
    broken = {b"half": whole[: len(whole) // 2], b"flipped": whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:]}
    file.write_bytes(broken.get(content, content))
    message, hint = failed(applied, "apply", exit_code=3)
    assert message.startswith("plans/hello/plan.age cannot be decrypted")
    assert "left as it was" in hint


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"[]", b'{"schema": 1}', b'{"schema": 1', b"{}"])
def test_a_passport_that_is_broken(applied: InfraWorld, content: bytes) -> None:
    (plans(applied) / "passport.json").write_bytes(content)
    message, hint = failed(applied, "apply")
    assert message.startswith("plans/hello/passport.json ")
    assert "plan again" in hint


def test_the_identity_of_somebody_else(applied: InfraWorld) -> None:
    other = str(pyrage.x25519.Identity.generate())
    message, _ = failed(applied, "apply", exit_code=3, PT_PLAN_IDENTITY=other)
    assert message.startswith("plans/hello/plan.age cannot be decrypted")


@pytest.mark.parametrize("identity", [None, "AGE-SECRET-KEY-1NONSENSE", "age1public"])
def test_no_identity(applied: InfraWorld, identity: str | None) -> None:
    message, hint = failed(applied, "apply", PT_PLAN_IDENTITY=identity)
    assert "PT_PLAN_IDENTITY" in message
    assert "age-keygen" in hint


def test_a_recipient_that_is_none(infra: InfraWorld) -> None:
    message, hint = failed(infra, "plan", "--plan-recipient", "age1nonsense")
    assert message == "the plan's recipient is no age recipient"
    assert "age-keygen" in hint
    assert left(infra) == set()


# Terraform -----------------------------------------------------------------------------------------------------


def test_a_registry_that_cannot_be_reached(infra: InfraWorld) -> None:
    infra.root = "away"
    provider = 'required_providers {\n    away = {\n      source = "127.0.0.1:1/acme/away"\n    }\n  }'
    infra.write("away/main.tf", f'terraform {{\n  backend "http" {{}}\n  {provider}\n}}\n')
    infra.commit("a provider from a registry that is not there")
    message, hint = failed(infra, "plan", exit_code=5)
    assert message.startswith("terraform init in away failed: Failed to query available provider packages")
    assert "registry" in hint


def test_no_terraform(infra: InfraWorld) -> None:
    message, _ = failed(infra, "plan", "--terraform-binary", "no-such-terraform")
    assert message == "no-such-terraform is not installed"


def test_configuration_that_is_wrong(infra: InfraWorld) -> None:
    infra.write("hello/more.tf", 'output "more" {\n  value = var.nobody\n}\n')
    infra.commit("wrong")
    message, _ = failed(infra, "plan")
    assert message == "terraform plan in hello failed: Reference to undeclared input variable"


def test_output_that_is_no_utf_8(infra: InfraWorld) -> None:
    command = r"printf 'caf\\351 \\377\\376 \\033[31mred\\n'; exit 3"
    infra.write(
        "hello/more.tf",
        f'resource "terraform_data" "bytes" {{\n  provisioner "local-exec" {{\n    command = "{command}"\n  }}\n}}\n',
    )
    infra.commit("bytes")
    infra.run("plan")
    done = infra.run("apply", exit_code=1)
    assert "caf\N{REPLACEMENT CHARACTER}" in done.stdout
    assert "\x1b[31mred" not in done.stdout
    assert "local-exec provisioner error; 4 of 5 changes applied" in error(done)[0]


def test_a_note_over_gitlabs_limit_is_cut_and_says_so(infra: InfraWorld) -> None:
    infra.replace("hello/main.tf", "-${count.index}", '-${count.index}-${join("-", range(100))}')
    infra.replace("hello/variables.tf", "default     = 1", "default     = 4000")
    iid = infra.propose("many")
    infra.run("plan", job=infra.job("plan", merge_request=iid))
    (note,) = infra.notes(iid)
    assert len(note.encode()) <= LIMIT
    assert note.count("```") % 2 == 0
    assert re.search(r"the details of \d+", note)
    assert infra.passport()["counts"]["create"] == 4003


# A full disk ---------------------------------------------------------------------------------------------------


def limited(infra: InfraWorld, blocks: int, *words: str, exit_code: int) -> Ended:
    """A command none of whose files may be longer than so many KiB."""
    command = shlex.join((sys.executable, "-m", "pipeline_tools", "terraform", *words))
    done = subprocess.run(
        ("bash", "-c", f"ulimit -f {blocks}; exec {command}"),
        cwd=infra.checkout,
        env=infra.environment(infra.job(words[0])),
        capture_output=True,
        check=False,
    )
    found = Ended(done.stdout.decode(), done.stderr.decode())
    assert done.returncode == exit_code, found
    return found


def test_no_room_for_the_plan_in_the_scratch_folder(infra: InfraWorld) -> None:
    message, _ = error(limited(infra, 1, "plan", exit_code=1))
    assert message.startswith("terraform ")
    assert left(infra) == set()


def test_no_room_for_the_decrypted_plan(applied: InfraWorld) -> None:
    before = applied.state()
    message, _ = error(limited(applied, 1, "apply", exit_code=1))
    assert "plan.age cannot be decrypted: File too large" in message
    assert applied.state() == before
    assert applied.json("apply")["status"] == "done"


def test_a_state_that_cannot_even_be_encrypted_stays_and_is_said(applied: InfraWorld) -> None:
    applied.gitlab.faults.add(Fault(status(409), "POST", PUSH, times=None))
    (plans(applied) / ".errored.tfstate.age.part").symlink_to("/dev/full")
    done = applied.run("apply", exit_code=1)
    assert "4 of 4 changes applied" in error(done)[0]
    assert "hello/errored.tfstate" in done.stderr
    assert "it could not be encrypted and is there in clear" in done.stderr
    assert "No space left on device" in done.stderr
    assert (applied.checkout / "hello" / "errored.tfstate").exists()


def test_no_room_for_the_encrypted_plan(infra: InfraWorld) -> None:
    plans(infra).mkdir(parents=True)
    (plans(infra) / ".plan.age.part").symlink_to("/dev/full")
    message, hint = failed(infra, "plan")
    assert message == "plans/hello/plan.age cannot be written: No space left on device"
    assert "--plans" in hint
    assert left(infra) == set()


def test_no_room_for_the_passport(infra: InfraWorld) -> None:
    infra.replace("hello/variables.tf", "default     = 1", "default     = 600")
    infra.commit("many")
    message, _ = error(limited(infra, 128, "plan", exit_code=1))
    assert "passport.json cannot be written: File too large" in message
    assert left(infra) <= {"plan.age"}
