"""From a merge request to an applied root: what is planned is said, what is reviewed is applied, and nothing else."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.infra_world import InfraWorld
from tests.world import error, git

LOCKS = "/terraform/state/hello/lock"


def package_versions(infra: InfraWorld, root: str = "hello") -> list[str]:
    found = infra.api.packages.list(package_name=f"terraform-{root}", get_all=True)
    return sorted(package.version.partition("-")[0] for package in found)


@pytest.fixture
def proposed(infra: InfraWorld) -> int:
    """A merge request that greets somebody else, planned."""
    infra.replace("hello/variables.tf", '"world"', '"moon"')
    iid = infra.propose("moon")
    infra.run("plan", "--report", "terraform=tf.json", job=infra.job(merge_request=iid))
    return iid


def planned(infra: InfraWorld) -> Any:
    """A plan on main, as JSON."""
    infra.main()
    return infra.json("plan")


def applied(infra: InfraWorld) -> None:
    infra.main()
    infra.run("plan")
    infra.run("apply")


# plan ----------------------------------------------------------------------------------------------------------


def test_a_merge_requests_plan_is_said_where_it_is_reviewed(infra: InfraWorld, proposed: int) -> None:
    (note,) = infra.notes(proposed)
    assert note.startswith("<!-- pipeline-tools terraform plan hello -->")
    assert "**4 to create**" in note
    assert "<code>terraform_data.greeting</code>" in note
    assert '+ input = "Hello moon-dev from the house next door"' in note
    assert json.loads((infra.checkout / "tf.json").read_text()) == {"create": 4, "update": 0, "delete": 0}
    paper = infra.passport()
    assert paper["made"]["merge_request"] == proposed
    assert paper["trees"] == {
        path: git(infra.checkout, "rev-parse", f"HEAD:{path}") for path in ("hello", "modules/label")
    }
    assert package_versions(infra) == ["reviewed"]


def test_a_plan_takes_no_lock_and_writes_no_state(infra: InfraWorld, proposed: int) -> None:
    asked = [(request.method, request.path) for request in infra.gitlab.requests]
    assert not [path for _, path in asked if path.endswith("/lock")]
    assert infra.state() is None
    assert proposed


def test_the_plan_file_is_kept_encrypted_only(infra: InfraWorld, proposed: int) -> None:
    folder = infra.checkout / "plans" / "hello"
    assert sorted(path.name for path in folder.iterdir()) == ["note.md", "passport.json", "plan.age"]
    assert (folder / "plan.age").read_bytes().startswith(b"age-encryption.org/v1")
    assert proposed


def test_without_a_recipient_no_plan_file_is_kept(infra: InfraWorld) -> None:
    said = infra.run("plan", PT_PLAN_RECIPIENT=None)
    assert "no --plan-recipient" in said.stderr
    assert not list(infra.checkout.glob("plans/hello/plan*"))


def test_the_note_is_found_again_and_updated(infra: InfraWorld, proposed: int) -> None:
    infra.replace("hello/variables.tf", "default     = 1", "default     = 3")
    infra.commit("more copies")
    infra.run("plan", job=infra.job(merge_request=proposed))
    (note,) = infra.notes(proposed)
    assert "**6 to create**" in note


def test_no_note_without_a_token_or_when_it_is_not_wanted(infra: InfraWorld) -> None:
    infra.replace("hello/variables.tf", '"world"', '"moon"')
    iid = infra.propose("moon")
    said = infra.run("plan", job=infra.job(merge_request=iid), PT_GITLAB_TOKEN=None)
    assert "PT_GITLAB_TOKEN is empty" in said.stderr
    infra.run("plan", "--no-note", job=infra.job(merge_request=iid))
    assert infra.notes(iid) == []


def test_a_dry_run_publishes_nothing(infra: InfraWorld) -> None:
    infra.replace("hello/variables.tf", '"world"', '"moon"')
    iid = infra.propose("moon")
    said = infra.run("plan", "--dry-run", "--report", "terraform=tf.json", job=infra.job(merge_request=iid))
    assert "hello: 4 to create" in said.stdout
    assert infra.notes(iid) == []
    assert package_versions(infra) == []
    assert git(infra.checkout, "status", "--porcelain") == ""
    assert not (infra.checkout / "plans").exists()


def test_sensitive_values_are_nowhere(infra: InfraWorld, proposed: int) -> None:
    files = [path.read_bytes() for path in infra.checkout.glob("plans/**/*") if path.is_file()]
    said = b"".join([*files, *(note.encode() for note in infra.notes(proposed))])
    assert infra.job()["TF_VAR_password"].encode() not in said
    assert b"triggers_replace = (sensitive value)" in said
    assert any(
        item["after"].startswith("hmac-sha256:")
        for change in infra.passport()["changes"]
        for item in change["attributes"]
        if item["is_sensitive"]
    )


def test_the_same_plan_has_the_same_passport(infra: InfraWorld) -> None:
    numbers, files = set(), set()
    for _ in range(2):
        numbers.add(infra.json("plan")["result"]["passport"])
        files.add(infra.passport()["plan"])
    assert (len(numbers), len(files)) == (1, 2)


# As reviewed ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("squash", [False, True])
def test_what_was_merged_is_as_reviewed(infra: InfraWorld, proposed: int, squash: bool) -> None:
    infra.merge(proposed, squash=squash)
    said = infra.json("plan")
    assert said["result"]["verdict"] == "as reviewed"
    assert infra.passport()["review"]["merge_request"] == proposed


def test_what_nobody_reviewed_is_not_as_reviewed(infra: InfraWorld, proposed: int) -> None:
    assert planned(infra)["result"]["verdict"] == "not reviewed"
    git(infra.checkout, "merge", "--quiet", "--squash", "moon")
    infra.commit("the same, pushed by hand")
    said = infra.json("plan")
    assert said["result"]["verdict"] == "not reviewed"
    assert f"!{proposed}" in said["plan"]["differences"][0]
    assert "not as reviewed" in error(infra.run("apply", "--as-reviewed", exit_code=3))[0]
    assert infra.state() is None


def test_what_differs_is_said_and_is_not_applied_by_itself(infra: InfraWorld, proposed: int) -> None:
    infra.merge(proposed)
    neighbour = infra.checkout.parent / "elsewhere.json"
    text = (infra.checkout / "hello" / "neighbour.json").read_text()
    neighbour.write_text(text.replace("the house next door", "the garden"))
    said = infra.json("plan", TF_VAR_neighbour=str(neighbour))
    assert said["result"]["verdict"] == "differs"
    assert said["plan"]["differences"] == ["terraform_data.greeting: create differs in input"]
    message, hint = error(infra.run("apply", "--as-reviewed", exit_code=3))
    assert "not as reviewed (differs)" in message
    assert "manual apply job" in hint
    assert infra.state() is None


def test_a_changed_secret_differs_though_nobody_sees_it(infra: InfraWorld, proposed: int) -> None:
    infra.merge(proposed)
    said = infra.json("plan", TF_VAR_password="another-password")
    assert said["result"]["verdict"] == "differs"
    assert "terraform_data.door: create differs in triggers_replace" in said["plan"]["differences"]
    assert "another-password" not in json.dumps(said)


def test_without_a_key_sensitive_values_cannot_be_compared(infra: InfraWorld) -> None:
    infra.replace("hello/variables.tf", '"world"', '"moon"')
    iid = infra.propose("moon")
    infra.run("plan", job=infra.job(merge_request=iid), PT_PASSPORT_KEY=None)
    infra.merge(iid)
    assert infra.json("plan", PT_PASSPORT_KEY=None)["result"]["verdict"] == "not comparable"


# apply ---------------------------------------------------------------------------------------------------------


def test_what_was_reviewed_is_applied_and_only_once(infra: InfraWorld, proposed: int) -> None:
    infra.merge(proposed)
    infra.run("plan")
    plan = (infra.checkout / "plans" / "hello" / "plan.age").read_bytes()
    job = infra.job("apply")
    said = infra.json("apply", "--as-reviewed", job=job)
    assert said["status"] == "done"
    assert "terraform_data.greeting: create" in said["result"]["applied"]
    state = infra.state()
    assert state
    assert state["outputs"]["greeting"]["value"] == "Hello moon-dev from the house next door"
    assert package_versions(infra) == ["applied", "applied", "applying", "reviewed"]
    # The artifact still has it, and a retried job finds it there.
    (infra.checkout / "plans" / "hello" / "plan.age").write_bytes(plan)
    again = infra.json("apply", "--as-reviewed")
    assert again["status"] == "unchanged"
    assert job["CI_PIPELINE_URL"] in again["result"]["said"]
    assert infra.state() == state


def test_the_plan_file_is_gone_once_it_is_applied(infra: InfraWorld) -> None:
    applied(infra)
    assert not (infra.checkout / "plans" / "hello" / "plan.age").exists()
    assert infra.json("apply")["status"] == "unchanged"


def test_a_plan_without_changes_applies_nothing(infra: InfraWorld) -> None:
    applied(infra)
    before = len([r for r in infra.gitlab.requests if r.path.endswith(LOCKS)])
    assert infra.json("plan")["result"]["counts"]["create"] == 0
    assert infra.json("apply")["status"] == "unchanged"
    assert len([r for r in infra.gitlab.requests if r.path.endswith(LOCKS)]) == before


def test_a_dry_run_of_apply_shows_the_plan_and_the_rules_in_its_way(infra: InfraWorld, proposed: int) -> None:
    infra.main()
    infra.run("plan")
    said = infra.run("apply", "--dry-run", "--as-reviewed")
    assert "would be refused: hello: the plan is not as reviewed" in said.stdout
    assert infra.state() is None
    assert (infra.checkout / "plans" / "hello" / "plan.age").exists()
    assert proposed


def test_deletions_need_a_word_about_this_very_plan(infra: InfraWorld) -> None:
    applied(infra)
    infra.replace("hello/variables.tf", "default     = 1", "default     = 0")
    infra.commit("no copies")
    infra.run("plan")
    message, hint = error(infra.run("apply", exit_code=3))
    assert "destroys more" in message
    word = infra.json("plan", "--dry-run")["result"]["passport"]
    assert f"--approve-deletes {word}" in hint
    infra.run("apply", "--approve-deletes", "0123456789abcdef", exit_code=3)
    infra.run("apply", "--approve-deletes", word)
    state = infra.state()
    assert state
    assert not [row for row in state["resources"] if row["name"] == "copy"]


def test_a_budget_of_deletions(infra: InfraWorld) -> None:
    applied(infra)
    infra.replace("hello/variables.tf", "default     = 1", "default     = 0")
    infra.commit("no copies")
    infra.run("plan")
    infra.run("apply", "--max-deletes", "1")
    assert infra.passport()["counts"]["delete"] == 1


# destroy -------------------------------------------------------------------------------------------------------


def test_destroy_goes_through_a_plan_and_its_passport(infra: InfraWorld) -> None:
    applied(infra)
    refused = infra.run("destroy", exit_code=3)
    _, hint = error(refused)
    word = hint.split("--approve-deletes ")[1].split()[0]
    assert infra.passport()["mode"] == "destroy"
    said = infra.json("destroy", "--approve-deletes", word)
    assert said["status"] == "done"
    state = infra.state()
    assert state
    assert [row for row in state["resources"] if row["mode"] == "managed"] == []
    assert infra.json("destroy")["status"] in {"done", "unchanged"}


# drift ---------------------------------------------------------------------------------------------------------


def drifting(infra: InfraWorld) -> dict[str, Any]:
    """The world has moved: what the next root says is another thing than when this one was applied."""
    neighbour = infra.checkout.parent / "elsewhere.json"
    text = (infra.checkout / "hello" / "neighbour.json").read_text()
    neighbour.write_text(text.replace("the house next door", "the garden"))
    return {"TF_VAR_neighbour": str(neighbour)}


def test_drift_is_an_issue_found_again_and_closed_when_clean(infra: InfraWorld) -> None:
    applied(infra)
    before = infra.state()
    assert infra.json("drift")["result"]["drifted"] == []
    moved = drifting(infra)
    for _ in range(2):
        said = infra.json("drift", exit_code=6, **moved)
        assert said["result"]["drifted"] == ["terraform_data.greeting"]
    (issue,) = infra.api.issues.list(state="opened", get_all=True)
    assert issue.labels == ["terraform-drift"]
    assert "terraform_data.greeting" in issue.description
    assert infra.state() == before
    infra.run("drift")
    assert infra.api.issues.list(state="opened", get_all=True) == []
    assert infra.api.issues.list(state="closed", get_all=True)[0].iid == issue.iid


def test_drift_takes_no_lock(infra: InfraWorld) -> None:
    applied(infra)
    before = len([r for r in infra.gitlab.requests if r.path.endswith("/lock")])
    infra.run("drift")
    assert len([r for r in infra.gitlab.requests if r.path.endswith("/lock")]) == before


def test_configuration_that_is_not_applied_is_no_drift(infra: InfraWorld) -> None:
    applied(infra)
    infra.replace("hello/variables.tf", "default     = 1", "default     = 2")
    infra.commit("one more")
    said = infra.json("drift")
    assert said["result"]["drifted"] == []
    assert said["result"]["unapplied"] == ["terraform_data.copy[1]"]
    assert infra.api.issues.list(state="opened", get_all=True) == []


def test_drift_without_a_token_is_told_all_the_same(infra: InfraWorld) -> None:
    applied(infra)
    said = infra.run("drift", exit_code=6, PT_GITLAB_TOKEN=None, **drifting(infra))
    assert "no issue is written: PT_GITLAB_TOKEN is empty" in said.stderr
    assert "drifted: terraform_data.greeting" in said.stdout


def test_a_dry_run_of_drift_writes_no_issue(infra: InfraWorld) -> None:
    applied(infra)
    infra.run("drift", "--dry-run", exit_code=6, **drifting(infra))
    assert infra.api.issues.list(get_all=True) == []


# Several roots -------------------------------------------------------------------------------------------------


@pytest.fixture
def two(infra: InfraWorld) -> InfraWorld:
    """A second root beside the first, with a module of its own."""
    infra.write(
        "more/hi/main.tf",
        'terraform {\n  required_version = ">= 1.11"\n  backend "http" {}\n}\n\nmodule "x" {\n  source = "../../modules/x"\n}\n',
    )
    infra.write("modules/x/main.tf", 'resource "terraform_data" "x" {\n  input = 1\n}\n')
    infra.commit("a second root")
    infra.variables["PT_ROOT"] = "hello\nmore/*"
    return infra


def test_each_root_has_its_own_plan_note_passport_and_state(two: InfraWorld) -> None:
    two.replace("modules/x/main.tf", "input = 1", "input = 2")
    iid = two.propose("both")
    said = two.json("plan", "--report", "terraform=tf.json", job=two.job(merge_request=iid))
    assert set(said["result"]) == {"plan hello", "plan more/hi"}
    assert len(two.notes(iid)) == 2
    assert json.loads((two.checkout / "tf.json").read_text())["create"] == 5
    two.merge(iid)
    two.run("plan")
    two.run("apply")
    assert two.state("hello")
    assert two.state("more-hi")
    assert two.passport("more/hi")["root"] == "more/hi"


def test_only_what_changed_is_planned_modules_included(two: InfraWorld) -> None:
    base = two.tip
    two.replace("modules/x/main.tf", "input = 1", "input = 2")
    two.commit("only the module of the second")
    said = two.json("plan", "--changed-since", base)
    assert said["result"]["root"] == "more/hi"
    assert two.json("plan", "--changed-since", "HEAD")["status"] == "unchanged"


def test_a_base_that_is_not_here_takes_all_roots(two: InfraWorld) -> None:
    said = two.json("plan", "--changed-since", "0" * 40)
    assert len(said["result"]) == 2
    assert "all roots are taken" in said["warnings"][0]


def test_one_roots_failure_does_not_hide_the_others_plan(two: InfraWorld) -> None:
    two.write("hello/broken.tf", 'resource "terraform_data" "broken" {\n  input = nothing.at.all\n}\n')
    two.commit("broken")
    said = two.json("plan", exit_code=1)
    assert "plan more/hi" in said["result"]
    assert len(said["errors"]) == 1
    assert "hello" in said["errors"][0]["message"]


def test_roots_are_found_by_their_backend(two: InfraWorld) -> None:
    del two.variables["PT_ROOT"]
    said = two.json("plan", "--dry-run", PT_ROOT=None)
    assert set(said["result"]) == {"plan hello", "plan more/hi"}


# check ---------------------------------------------------------------------------------------------------------


def test_check_passes_and_needs_no_credential(infra: InfraWorld) -> None:
    bare: dict[str, Any] = {"CI_JOB_TOKEN": None, "PT_GITLAB_TOKEN": None, "PT_PASSPORT_KEY": None}
    said = infra.json("check", "--report", "codequality=cq.json", **bare)
    assert said["result"]["findings"] == []
    assert json.loads((infra.checkout / "cq.json").read_text()) == []
    assert not [r for r in infra.gitlab.requests if "terraform" in r.path]


def test_check_names_file_line_and_cure(infra: InfraWorld) -> None:
    infra.write("hello/bad.tf", 'data "external" "x" {\n  program = ["sh"]\n}\n')
    infra.commit("bad")
    said = infra.run("check", "--report", "codequality=cq.json", exit_code=6)
    assert "hello/bad.tf:1: " in said.stdout
    found = json.loads((infra.checkout / "cq.json").read_text())
    assert found[0]["location"] == {"path": "hello/bad.tf", "lines": {"begin": 1}}


def test_the_checkout_is_left_as_it_was(infra: InfraWorld) -> None:
    infra.run("check")
    assert not list(Path(infra.checkout).rglob(".terraform*"))


def test_a_root_that_is_not_as_reviewed_does_not_hold_up_the_others(two: InfraWorld) -> None:
    two.replace("modules/x/main.tf", "input = 1", "input = 2")
    iid = two.propose("the-second")
    two.run("plan", job=two.job(merge_request=iid), PT_ROOT="more/hi")
    two.merge(iid)
    two.run("plan")
    message, _ = error(two.run("apply", "--as-reviewed", exit_code=3))
    assert message == "hello: the plan is not as reviewed (not reviewed)"
    assert two.state("hello") is None
    assert two.state("more-hi")
