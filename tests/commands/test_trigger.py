"""`trigger` against the GitLab stand-in."""

from pathlib import Path
from typing import Any

import pytest

from sandbox.gitlab import Access, Fault, JobScript, lost_answer
from tests.world import DIGEST, World, error

pytestmark = pytest.mark.servers


def trigger(world: World, *words: str) -> tuple[str, ...]:
    return (
        "trigger",
        "--env-project",
        "platform/env",
        "--env-branch",
        "main",
        "--env-commit",
        world.env_tip,
        *words,
    )


def pipelines(world: World) -> list[str]:
    return [pipeline.source for pipeline in world.gitlab.pipelines(world.env_project)]


def test_starts_one_pipeline_and_finds_it_again(world: World) -> None:
    first = world.json(*trigger(world))
    assert first["status"] == "done"
    assert first["result"]["commit"] == world.env_tip
    again = world.json(*trigger(world))
    assert again["status"] == "unchanged"
    assert again["result"]["pipeline"] == first["result"]["pipeline"]
    assert pipelines(world) == ["trigger"]


def test_a_token_that_only_writes_starts_and_says_what_it_cannot_see(world: World) -> None:
    """The least rights for bump and trigger: pipelines cannot be listed, so one that is there is not found."""
    token = world.gitlab.create_token(world.env_project, "least", scopes={"write_repository"})
    words = trigger(world)
    result = world.run(*words, PT_ENV_TOKEN=token)
    assert "warning: a pipeline that contains the bump already would not be found" in result.stderr
    assert pipelines(world) == ["trigger"]
    assert error(world.run(*words, "--wait", PT_ENV_TOKEN=token, exit_code=4))
    assert pipelines(world) == ["trigger"]


def test_a_token_that_only_writes_trusts_the_branch_to_contain_the_bump(world: World) -> None:
    token = world.gitlab.create_token(world.env_project, "least", scopes={"write_repository"})
    words = trigger(world)
    world.env_commit("README.md", "later\n")
    result = world.run(*words, PT_ENV_TOKEN=token)
    assert "warning: not checked that the pipeline contains the bump" in result.stderr


@pytest.mark.parametrize("source", ["schedule", "merge_request_event", "external"])
def test_a_pipeline_about_something_else_is_not_taken(world: World, source: str) -> None:
    first = world.json(*trigger(world))["result"]["pipeline"]
    world.gitlab.pipelines(world.env_project)[0].source = source
    again = world.json(*trigger(world))
    assert again["status"] == "done"
    assert again["result"]["pipeline"] != first
    assert len(pipelines(world)) == 2


@pytest.mark.parametrize("status", ["failed", "canceled"])
def test_a_pipeline_that_failed_is_not_taken(world: World, status: str) -> None:
    world.gitlab.pipeline_script(world.env_project, [status])
    first = world.json(*trigger(world))["result"]["pipeline"]
    assert world.json(*trigger(world))["result"]["pipeline"] != first


def test_variables_do_not_reach_a_pipeline_that_is_there(world: World) -> None:
    world.run(*trigger(world), "--variable", "A=1")
    plain = world.json(*trigger(world))
    assert plain["warnings"] == []
    for words in (("--variable", "A=2"), ("--input", "a=2")):
        answer = world.json(*trigger(world), *words)
        assert answer["status"] == "unchanged"
        assert [
            "variables and inputs reach only one that is started" in text for text in answer["warnings"]
        ] == [True]
    assert len(pipelines(world)) == 1


def test_wait_for_a_pipeline_that_is_canceled_fails(world: World) -> None:
    world.gitlab.pipeline_script(world.env_project, ["running", "canceled"])
    message, _ = error(world.run(*trigger(world, "--wait"), exit_code=1))
    assert "canceled" in message


def test_a_pipeline_on_a_later_commit_contains_the_bump(world: World) -> None:
    command = trigger(world)
    world.env_commit("README.md", "later\n")
    later = world.json(*trigger(world))["result"]["pipeline"]
    assert world.json(*command)["result"]["pipeline"] == later
    assert len(pipelines(world)) == 1


def test_a_skipped_pipeline_is_none(world: World) -> None:
    world.gitlab.pipeline_script(world.env_project, ["skipped"])
    first = world.json(*trigger(world, "--no-wait"))["result"]["pipeline"]
    world.gitlab.pipeline_script(world.env_project, ["created", "pending", "running", "success"])
    for pipeline in world.gitlab.pipelines(world.env_project):
        world.gitlab.advance(pipeline)
    assert world.json(*trigger(world))["result"]["pipeline"] != first


def test_an_answer_that_was_lost_leaves_one_pipeline(world: World) -> None:
    world.gitlab.faults.add(Fault(lost_answer(), method="POST", path_regex="trigger/pipeline"))
    assert error(world.run(*trigger(world), exit_code=5))
    assert world.json(*trigger(world))["status"] == "unchanged"
    assert len(pipelines(world)) == 1


def test_wait_mirrors_success(world: World) -> None:
    answer = world.json(*trigger(world, "--wait"))
    assert (answer["status"], answer["result"]["pipeline_status"]) == ("done", "success")


def test_wait_names_the_failed_jobs(world: World) -> None:
    jobs = [
        JobScript("render", status="success"),
        JobScript("check", status="failed"),
        JobScript("lint", status="failed", allow_failure=True),
    ]
    world.gitlab.pipeline_script(world.env_project, ["running", "failed"], jobs=jobs)
    message, hint = error(world.run(*trigger(world, "--wait"), exit_code=1))
    assert "check (" in message
    assert "render" not in message
    assert "lint" not in message
    assert "retry it there" in hint


def test_a_failed_pipeline_is_in_the_receipt_and_the_reports(world: World) -> None:
    world.gitlab.pipeline_script(world.env_project, ["running", "failed"])
    answer = world.json(*trigger(world, "--wait", "--report", "annotations=links.json"), exit_code=1)
    assert answer["result"]["pipeline_status"] == "failed"
    assert '"pipeline": 1' in (world.app / "release.json").read_text()
    assert "/platform/env/-/pipelines/1" in (world.app / "links.json").read_text()


def test_no_checkout_is_needed_where_the_variables_say_it_all(world: World, tmp_path: Path) -> None:
    """As in a job with GIT_STRATEGY none."""
    command = trigger(world)
    variables: dict[str, Any] = {
        "CI_COMMIT_TAG": "v1.0.0",
        "CI_COMMIT_SHA": "a" * 40,
        "CI_PROJECT_PATH": "shop/demo-app",
        "CI_SERVER_URL": world.gitlab.url,
    }
    world.app = tmp_path / "empty"
    world.app.mkdir()
    for words in (
        command,
        ("bump", "--env-project", "platform/env", "--overlay", "overlays/dev", "--no-render"),
    ):
        image = ("--image", f"demo-app=r.example.com/x:1.0.0@{DIGEST}") if words[0] == "bump" else ()
        assert world.json(*words, *image, **variables)["status"] == "done"


def test_wait_that_is_too_short_is_worth_a_retry(world: World) -> None:
    world.gitlab.pipeline_script(world.env_project, ["running"] * 500 + ["success"])
    assert "is running" in error(world.run(*trigger(world, "--wait", "--timeout", "0.1"), exit_code=5))[0]


def test_wait_ends_at_a_manual_job_as_pending(world: World) -> None:
    world.gitlab.pipeline_script(world.env_project, ["running", "manual"])
    answer = world.json(*trigger(world, "--wait"))
    assert (answer["status"], answer["exit_code"]) == ("pending", 0)


def test_wait_needs_a_token_that_reads(world: World) -> None:
    message, hint = error(world.run(*trigger(world, "--wait"), PT_ENV_TOKEN=None, exit_code=1))
    assert "cannot be followed" in message
    assert "read_api" in hint


def test_variables_and_inputs_arrive(world: World) -> None:
    world.run(*trigger(world), PT_VARIABLE='["A=1", "B=x=y"]')
    pipeline = world.gitlab.pipelines(world.env_project)[0]
    variables = {variable["key"]: variable["value"] for variable in pipeline.variables}
    assert variables.items() >= {"A": "1", "B": "x=y"}.items()


def test_the_job_token_starts_where_it_is_allowed(world: World) -> None:
    token = world.gitlab.job_token(world.app_project, user_access={"platform/env": Access.DEVELOPER})
    job: dict[str, Any] = {"PT_TRIGGER_TOKEN": None, "PT_ENV_TOKEN": None, "CI_JOB_TOKEN": token}
    message, hint = error(world.run(*trigger(world), exit_code=4, **job))
    assert "404" in message
    assert "allowlist" in hint
    world.gitlab.allow_job_token(world.env_project, world.app_project)
    assert world.json(*trigger(world), **job)["status"] == "done"
    assert pipelines(world) == ["pipeline"]


def test_an_access_token_starts_too(world: World) -> None:
    token = world.gitlab.create_token(world.env_project, "api", scopes={"api"})
    assert world.json(*trigger(world), PT_TRIGGER_TOKEN=None, PT_ENV_TOKEN=token)["status"] == "done"
    assert pipelines(world) == ["api"]


def test_without_any_token(world: World) -> None:
    message, hint = error(world.run(*trigger(world), PT_TRIGGER_TOKEN=None, PT_ENV_TOKEN=None, exit_code=4))
    assert "PT_TRIGGER_TOKEN" in message
    assert "protected" in hint


def test_dry_run_starts_nothing(world: World) -> None:
    before = world.snapshot()
    assert world.json(*trigger(world), "--dry-run")["status"] == "planned"
    assert world.snapshot() == before


def test_a_wrong_trigger_token(world: World) -> None:
    assert error(world.run(*trigger(world), PT_TRIGGER_TOKEN="glptt-wrong-wrong", exit_code=4))


def test_gitlab_unreachable(world: World) -> None:
    words = ("trigger", "--env-project", "platform/env", "--env-commit", world.env_tip)
    message, hint = error(world.run(*words, "--gitlab-url", "http://127.0.0.1:9", exit_code=5))
    assert "127.0.0.1:9" in message
    assert "reachable" in hint


def test_no_commit_to_start_for(world: World) -> None:
    message, _ = error(world.run("trigger", "--env-project", "platform/env", exit_code=1))
    assert "no commit" in message


def test_variables_that_are_refused_point_to_inputs(world: World) -> None:
    world.gitlab.restrict_variables(world.env_project, "no_one_allowed")
    message, hint = error(world.run(*trigger(world), "--variable", "A=1", exit_code=4))
    assert "pipeline variables" in message
    assert "--input" in hint


def test_the_default_branch_is_read_with_the_env_token(world: World) -> None:
    words = ("trigger", "--env-project", "platform/env", "--env-commit", world.env_tip)
    assert world.json(*words)["plan"]["branch"] == "main"
    message, hint = error(world.run(*words, PT_ENV_TOKEN=None, exit_code=4))
    assert "default branch" in message
    assert "--env-branch" in hint


def test_a_branch_without_the_bump_is_said(world: World) -> None:
    lost = "1" * 40
    words = ("trigger", "--env-project", "platform/env", "--env-branch", "main", "--env-commit", lost)
    assert "does not contain the bump" in error(world.run(*words, exit_code=1))[0]


def test_bump_then_trigger_by_the_receipt_alone(world: World) -> None:
    """From a commit without a version tag too: what the receipt says is of this checkout."""
    image = f"demo-app=r.example.com/x:1.0.0@{DIGEST}"
    names = ("--env-project", "platform/env")
    world.run("bump", *names, "--overlay", "overlays/dev", "--image", image, "--no-render")
    assert world.json("trigger", *names)["result"]["commit"] == world.env_tip


def test_a_receipt_of_another_release_is_not_used(world: World) -> None:
    world.tag("v1.0.0")
    image = f"demo-app=r.example.com/x:1.0.0@{DIGEST}"
    names = ("--env-project", "platform/env")
    world.run("bump", *names, "--overlay", "overlays/dev", "--image", image, "--no-render")
    world.commit("feat: more")
    assert "no commit to start" in error(world.run("trigger", *names, exit_code=1))[0]
