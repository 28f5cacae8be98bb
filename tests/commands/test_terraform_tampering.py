"""Apply takes what the plan job made of this very content, and nothing else. Terraform is real."""

import json
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyrage
import pytest

from pipeline_tools.text import plan_review
from tests.infra_world import InfraWorld, Kept
from tests.world import error

AGAIN = "run the plan job again, and apply that"


@pytest.fixture
def planned(kept: Kept) -> InfraWorld:
    """A world with a plan for `hello`."""
    return kept.after(plan)


def plan(infra: InfraWorld) -> None:
    infra.run("plan")


def refused(infra: InfraWorld, *words: str, **variables: Any) -> str:
    """An apply that is refused: no state is written, no lock is taken, nothing is recorded. Its errors."""
    before = infra.state("hello"), len(infra.gitlab.requests)
    found = infra.run("apply", *words, exit_code=3, **variables)
    assert infra.state("hello") == before[0]
    assert {seen.method for seen in infra.gitlab.requests[before[1] :]} <= {"GET"}
    return found.stderr


def plans(infra: InfraWorld) -> Path:
    return infra.checkout / "plans" / "hello"


def rewrite(infra: InfraWorld, change: Callable[[dict[str, Any]], Any]) -> None:
    """Edit the passport as who can write artifacts can."""
    content = infra.passport()
    change(content)
    (plans(infra) / "passport.json").write_text(json.dumps(content))


# Another content -----------------------------------------------------------------------------------------------


def test_the_root_was_changed(planned: InfraWorld) -> None:
    planned.replace("hello/variables.tf", '"world"', '"moon"')
    planned.commit("another name")
    errors = refused(planned)
    assert "hello: the plan was made from another content of hello" in errors
    assert AGAIN in errors


def test_a_module_of_the_root_was_changed(planned: InfraWorld) -> None:
    planned.replace("modules/label/main.tf", "NAME-ENVIRONMENT.", "NAME and ENVIRONMENT.")
    planned.commit("another module")
    assert "the plan was made from another content of modules/label" in refused(planned)


def test_a_variable_file_was_changed(infra: InfraWorld) -> None:
    infra.write("dev.tfvars", 'name = "moon"\n')
    infra.commit("variables")
    infra.run("plan", "--var-file", "dev.tfvars")
    infra.write("dev.tfvars", 'name = "sun"\n')
    infra.commit("other variables")
    assert "another content of dev.tfvars" in refused(infra, "--var-file", "dev.tfvars")
    # And one that the plan did not have, or has no more.
    assert "another content of dev.tfvars" in refused(infra)


def test_a_lock_file_came(planned: InfraWorld) -> None:
    planned.write("hello/.terraform.lock.hcl", "# nothing is locked\n")
    planned.commit("a lock file")
    errors = refused(planned)
    assert "another content of hello" in errors


def test_what_lies_beside_the_root_is_no_part_of_it(planned: InfraWorld) -> None:
    planned.write("README.md", "Another text.\n")
    planned.commit("docs")
    same = planned.passport()["made"]["pipeline"]
    assert planned.json("apply", CI_PIPELINE_URL=same)["status"] == "done"


@pytest.mark.parametrize("name", ["main.tf", "more.tf", "more.auto.tfvars"])
def test_the_checkout_is_not_as_its_commit(planned: InfraWorld, name: str) -> None:
    file = planned.checkout / "hello" / name
    file.write_text((file.read_text() if file.exists() else "") + "\n")
    assert f"the checkout is not as its commit: hello/{name}" in refused(planned)


def test_a_file_that_git_ignores_but_terraform_loads(planned: InfraWorld) -> None:
    planned.write(".gitignore", (planned.checkout / ".gitignore").read_text() + "*.auto.tfvars\n")
    planned.commit("ignore them")
    planned.write("hello/mine.auto.tfvars", 'name = "mine"\n')
    assert "the checkout is not as its commit: hello/mine.auto.tfvars" in refused(planned)


def test_a_plan_of_a_dirty_checkout_is_not_applied(infra: InfraWorld) -> None:
    infra.write("hello/more.tf", "\n")
    infra.run("plan")
    (infra.checkout / "hello" / "more.tf").unlink()
    assert "it was planned in a checkout that was not as its commit" in refused(infra)


# Another place, another tool -----------------------------------------------------------------------------------


def test_another_state(planned: InfraWorld) -> None:
    assert "the plan is for hello and gitlab:hello" in refused(planned, "--state", "gitlab:other")


def test_a_plan_that_was_moved_to_another_root(planned: InfraWorld) -> None:
    shutil.copytree(planned.checkout / "hello", planned.checkout / "twin", ignore=lambda *_: [".terraform"])
    planned.commit("a twin")
    shutil.copytree(plans(planned), planned.checkout / "plans" / "twin")
    assert "twin: the plan is for hello and gitlab:hello" in refused(planned, PT_ROOT="twin")


def wrapper(directory: Path, version: str) -> str:
    """A Terraform that says that it is of another version."""
    real = shutil.which("terraform")
    file = directory / "terraform-of-another-version"
    file.write_text(
        '#!/bin/sh\ncase " $* " in\n'
        f'*" version "*) {real} "$@" | sed \'s/"terraform_version": "[^"]*"/"terraform_version": "{version}"/\' ;;\n'
        f'*) exec {real} "$@" ;;\nesac\n'
    )
    file.chmod(file.stat().st_mode | stat.S_IXUSR)
    return str(file)


def test_another_version_of_terraform(planned: InfraWorld, tmp_path: Path) -> None:
    errors = refused(planned, "--terraform-binary", wrapper(tmp_path, "1.99.0"))
    assert "planned by terraform 1.11" in errors
    assert "and this is terraform 1.99.0" in errors


def test_a_terraform_that_is_too_old(infra: InfraWorld, tmp_path: Path) -> None:
    errors = infra.run("plan", "--terraform-binary", wrapper(tmp_path, "1.10.5"), exit_code=1).stderr
    assert "is 1.10.5, too old: terraform 1.11 is the oldest that will do" in errors
    assert not plans(infra).exists()


def test_a_state_that_began_anew(planned: InfraWorld) -> None:
    planned.run("apply")
    planned.run("plan", TF_VAR_name="moon")
    state = planned.state("hello")
    assert state
    newest = planned.project.terraform_states["hello"].latest
    assert newest
    lineage = json.dumps({**state, "lineage": "11111111-2222-3333-4444-555555555555"}).encode()
    object.__setattr__(newest, "content", lineage)
    errors = refused(planned)
    assert "the state is another one (lineage 11111111-2222-3333-4444-555555555555)" in errors


# What was tampered with ----------------------------------------------------------------------------------------


def swap(infra: InfraWorld, *files: str) -> None:
    """Put files of another plan, made with another variable, into the place of this one's."""
    kept = plans(infra).with_name("kept")
    shutil.copytree(plans(infra), kept)
    infra.run("plan", TF_VAR_name="mallory")
    for name in {"plan.age", "passport.json"} - {*files}:
        shutil.copy(kept / name, plans(infra) / name)
    shutil.rmtree(kept)


@pytest.mark.parametrize("file", ["plan.age", "passport.json"])
def test_a_plan_file_with_another_plans_passport(planned: InfraWorld, file: str) -> None:
    swap(planned, file)
    assert "the plan file is not the one of its passport" in refused(planned)


def test_a_plan_file_that_somebody_encrypted_to_the_same_recipient(planned: InfraWorld) -> None:
    """The recipient is public. The digest in the passport, which is sealed, says whose plan it is."""
    identity = pyrage.x25519.Identity.from_str(planned.identity)
    sealed = pyrage.encrypt(b"another plan", [identity.to_public()])
    (plans(planned) / "plan.age").write_bytes(sealed)
    assert "the plan file is not the one of its passport" in refused(planned)


def test_a_passport_that_was_edited(planned: InfraWorld) -> None:
    rewrite(planned, lambda content: content["changes"].pop())
    assert "the passport's seal is not ours" in refused(planned)


def test_a_passport_that_was_edited_where_nothing_seals_it(infra: InfraWorld) -> None:
    """Without a key the plan file itself still says what it does."""
    infra.run("plan", PT_PASSPORT_KEY=None)
    rewrite(infra, lambda content: content["changes"].pop())
    assert "the plan does not do what its passport says" in refused(infra, PT_PASSPORT_KEY=None)


def test_a_verdict_that_was_edited_in(planned: InfraWorld) -> None:
    rewrite(planned, lambda content: content["review"].update(verdict="as reviewed"))
    assert "the passport's seal is not ours" in refused(planned, "--as-reviewed")


def test_the_seal_of_another_key(planned: InfraWorld) -> None:
    errors = refused(planned, PT_PASSPORT_KEY="another-key-of-the-tests")
    assert "PT_PASSPORT_KEY differs, or it was changed" in errors


def test_a_passport_without_a_seal(infra: InfraWorld) -> None:
    infra.run("plan", PT_PASSPORT_KEY=None)
    assert "the passport's seal is not ours" in refused(infra)


# A state that has moved ----------------------------------------------------------------------------------------


@pytest.fixture
def moved(kept: Kept) -> InfraWorld:
    """A plan for another name, after which somebody applied something else: one more copy."""
    return kept.after(apply_and_plan)


def apply_and_plan(infra: InfraWorld) -> None:
    infra.run("plan")
    infra.run("apply")
    infra.run("plan", TF_VAR_environment="prod")


def touch(infra: InfraWorld, **variables: str) -> None:
    """Somebody else's apply in between; the plans are as they were before it."""
    kept = plans(infra).with_name("kept")
    shutil.copytree(plans(infra), kept)
    infra.variables |= variables
    infra.run("plan")
    infra.run("apply", "--max-deletes", "9")
    infra.variables.clear()
    shutil.rmtree(plans(infra))
    kept.rename(plans(infra))


def bump_serial(infra: InfraWorld) -> None:
    """Somebody stored the same resources once more."""
    state = infra.state("hello")
    assert state
    newest = infra.project.terraform_states["hello"].latest
    assert newest
    content = json.dumps({**state, "serial": state["serial"] + 1}).encode()
    object.__setattr__(newest, "content", content)
    object.__setattr__(newest, "serial", state["serial"] + 1)


def test_a_moved_state_where_a_fresh_plan_does_the_same_is_applied(moved: InfraWorld) -> None:
    bump_serial(moved)
    done = moved.json("apply", TF_VAR_environment="prod")
    assert done["status"] == "done"
    assert done["plan"]["said"].endswith("planned again on the moved state: the same")
    assert "Hello world-prod" in json.dumps(moved.state("hello"))


def test_a_moved_state_where_a_fresh_plan_does_something_else_is_refused(moved: InfraWorld) -> None:
    touch(moved, TF_VAR_copies="3")
    errors = refused(moved, TF_VAR_environment="prod")
    assert "the state has moved, and a fresh plan is not known to do the same" in errors
    assert "terraform_data.copy[1]: delete was not reviewed" in errors


def test_a_moved_state_and_secrets_that_cannot_be_compared(infra: InfraWorld) -> None:
    """Without a key a sensitive value that changes is not hashed: it might be another one by now."""
    infra.run("plan", PT_PASSPORT_KEY=None)
    infra.run("apply", PT_PASSPORT_KEY=None)
    password = "another-password-of-the-tests"
    infra.run("plan", TF_VAR_password=password, PT_PASSPORT_KEY=None)
    bump_serial(infra)
    errors = refused(infra, "--max-deletes", "1", TF_VAR_password=password, PT_PASSPORT_KEY=None)
    assert "without a key they cannot be compared" in errors


# Rules ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def destroying(kept: Kept) -> InfraWorld:
    """A plan that deletes one object and replaces another."""
    return kept.after(apply_and_plan_deletions)


def apply_and_plan_deletions(infra: InfraWorld) -> None:
    infra.run("plan")
    infra.run("apply")
    infra.run("plan", TF_VAR_copies="0", TF_VAR_password="another-password")


def test_more_is_destroyed_than_is_allowed(destroying: InfraWorld) -> None:
    errors = refused(destroying, "--max-deletes", "1")
    assert "2 deletions and replacements, 1 are allowed" in errors
    assert "terraform_data.copy[0] is deleted" in errors
    assert "terraform_data.door is replaced" in errors


def test_an_approval_is_for_one_passport(destroying: InfraWorld) -> None:
    errors = refused(destroying, "--approve-deletes", "0123456789abcdef")
    approved = errors.rpartition("--approve-deletes ")[2].split()[0]
    assert destroying.json("apply", "--approve-deletes", approved)["status"] == "done"


def test_an_approval_is_not_for_the_next_plan(destroying: InfraWorld) -> None:
    approved = refused(destroying).rpartition("--approve-deletes ")[2].split()[0]
    destroying.run("plan", TF_VAR_copies="0", TF_VAR_password="yet-another-password")
    assert "destroys more than may be destroyed unasked" in refused(destroying, "--approve-deletes", approved)


def test_a_plan_that_nobody_reviewed_is_not_applied_by_itself(planned: InfraWorld) -> None:
    errors = refused(planned, "--as-reviewed")
    assert "hello: the plan is not as reviewed (not reviewed)" in errors
    assert "start the manual apply job" in errors
    assert planned.json("apply")["status"] == "done"


def test_a_merge_requests_own_plan_is_not_as_reviewed(infra: InfraWorld) -> None:
    infra.replace("hello/variables.tf", '"world"', '"moon"')
    iid = infra.propose("moon")
    infra.run("plan", job=infra.job("plan", merge_request=iid))
    assert "the plan is not as reviewed (not reviewed)" in refused(infra, "--as-reviewed")


def test_types_that_hold_data_are_protected_whatever_the_budget() -> None:
    """No provider of these is here, so the rule is asked itself."""
    for type_ in ("scaleway_k8s_cluster", "scaleway_k8s_pool", "scaleway_vpc_private_network"):
        assert type_ in plan_review.PROTECTED
    assert {"scaleway_s2s_vpn_gateway", "scaleway_rdb_instance", "google_compute_ha_vpn_gateway"} <= (
        plan_review.PROTECTED
    )


def test_a_plan_of_another_pipeline(infra: InfraWorld) -> None:
    infra.main()
    infra.run("plan")
    message, _ = error(
        infra.run("apply", exit_code=3, CI_PIPELINE_URL=f"{infra.project.web_url}/-/pipelines/7")
    )
    assert "the plan is of another pipeline" in message
    assert infra.state() is None


def test_a_linked_folder_of_plans(infra: InfraWorld, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (infra.checkout / "plans").mkdir()
    (infra.checkout / "plans" / "hello").symlink_to(tmp_path / "elsewhere")
    message, _ = error(infra.run("plan", exit_code=1))
    assert "is a link" in message
    assert list((tmp_path / "elsewhere").iterdir()) == []
