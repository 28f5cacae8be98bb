"""`release` on real parts: git over HTTP, docker, a registry, kustomize; GitLab is the stand-in."""

import contextlib
import json
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import requests

from sandbox.engine import Engine
from sandbox.gitlab import Fault, delay, lost_answer
from sandbox.registry import Registry
from tests.conftest import CI_PASSWORD, CI_USER
from tests.world import World, error, git

STEPS = ["tag", "build", "push", "bump", "trigger"]
BEFORE_THE_TRIGGER = Fault(delay(20), method="GET", path_regex="/pipelines")
"""Holds a release up after its bump, with a request that changes nothing: time to kill it."""


@pytest.fixture
def ready(world: World, engine: Engine, registry: Registry, repository: str, kustomize: Path) -> World:
    """A world with a tag, and all that a job would have."""
    world.variables |= {
        "PT_REPOSITORY": f"{registry.host}/{repository}",
        "PT_REGISTRY_USER": CI_USER,
        "PT_REGISTRY_PASSWORD": CI_PASSWORD,
        "DOCKER_HOST": engine.url,
    }
    world.tag("v1.0.0")
    return world


class Published:
    """What is in the registry."""

    def __init__(self, registry: Registry, repository: str) -> None:
        self._url = f"{registry.url}/v2/{repository}"

    def get(
        self, path: str, accept: str = "application/vnd.docker.distribution.manifest.v2+json"
    ) -> requests.Response:
        return requests.get(
            f"{self._url}/{path}", auth=(CI_USER, CI_PASSWORD), headers={"Accept": accept}, timeout=10
        )

    @property
    def tags(self) -> set[str]:
        return set(self.get("tags/list").json().get("tags") or [])

    def digest(self, tag: str) -> str:
        return self.get(f"manifests/{tag}").headers["Docker-Content-Digest"]

    def labels(self, tag: str) -> dict[str, str]:
        config = self.get(f"manifests/{tag}").json()["config"]["digest"]
        labels: dict[str, str] = self.get(f"blobs/{config}").json()["config"]["Labels"]
        return labels


@pytest.fixture
def published(registry: Registry, repository: str) -> Published:
    return Published(registry, repository)


def everything(world: World, published: Published) -> dict[str, Any]:
    """All that a release leaves behind."""
    return {
        "tags": {tag: published.digest(tag) for tag in published.tags},
        "commits": world.env("rev-list", "main").split(),
        "pipelines": [
            (p.id, p.sha) for p in world.gitlab.pipelines(world.env_project) if p.status != "skipped"
        ],
        "git tags": git(world.app_project.repository, "tag"),
    }


def test_a_tag_becomes_an_image_a_commit_and_a_pipeline(ready: World, published: Published) -> None:
    answer = ready.json("release", "--wait")
    assert answer["status"] == "done"
    assert list(answer["result"]) == STEPS
    digest = answer["result"]["push"]["digest"]
    assert published.digest("1.0.0") == digest
    assert f'digest: "{digest}"' in ready.env_file()
    assert answer["result"]["bump"]["commit"] == ready.env_tip
    running = [p for p in ready.gitlab.pipelines(ready.env_project) if p.status != "skipped"]
    assert [(p.sha, p.status) for p in running] == [(ready.env_tip, "success")]
    receipt = json.loads((ready.app / "release.json").read_text())
    assert list(receipt) == ["schema", *STEPS]
    assert receipt["trigger"]["url"].endswith(f"/platform/env/-/pipelines/{running[0].id}")


def test_the_image_says_what_it_is(ready: World, published: Published) -> None:
    variables: dict[str, Any] = {
        "CI_PROJECT_TITLE": "Demo app",
        "CI_PROJECT_DESCRIPTION": "A page",
        "CI_PROJECT_URL": "https://x/y",
    }
    ready.run("release", **variables)
    labels = {key.rpartition(".")[2]: value for key, value in published.labels("1.0.0").items()}
    commit = git(ready.app, "rev-parse", "HEAD")
    assert labels == {
        "title": "Demo app",
        "description": "A page",
        "url": "https://x/y",
        "source": "https://x/y",
        "version": "1.0.0",
        "revision": commit,
        "created": git(ready.app, "log", "-1", "--date=format-local:%Y-%m-%dT%H:%M:%SZ", "--format=%cd"),
        "licenses": "Apache-2.0",
    }


def test_again_finds_everything_done(ready: World, published: Published) -> None:
    ready.run("release")
    before = everything(ready, published)
    answer = ready.json("release")
    assert answer["status"] == "unchanged"
    assert {step["status"] for step in answer["result"].values()} == {"unchanged"}
    assert everything(ready, published) == before


def test_dry_run_needs_no_option_and_writes_nothing(ready: World, published: Published) -> None:
    """As a person in a fresh checkout: the include says what and where."""
    before = (ready.snapshot(), published.tags)
    ready.variables = {"PT_REPOSITORY": ready.variables["PT_REPOSITORY"]}
    answer = ready.json("release", "--dry-run")
    assert list(answer["plan"]) == STEPS
    assert (ready.snapshot(), published.tags) == before


def test_dry_run_shows_what_is_not_known_yet(ready: World) -> None:
    text = ready.run("release", "--dry-run").stdout
    assert "known after build" in text
    assert "digest known after build" in text
    assert f"image: {ready.variables['PT_REPOSITORY']}:1.0.0@(known after build)" in text


def test_dry_run_without_any_variable_or_server(ready: World) -> None:
    """The registry of the include cannot be reached: it is marked, and all five steps are planned."""
    include = ready.app / ".gitlab-ci.yml"
    include.write_text(include.read_text().replace("europe-west1-docker.pkg.dev", "registry.invalid"))
    ready.commit("ci: a registry that is nowhere")
    ready.tag("v1.0.1")
    ready.variables = {}
    result = ready.run("release", "--dry-run")
    assert "registry.invalid/demo-project/apps/demo-app" in result.stdout
    assert "not read: " in result.stdout
    for step in STEPS:
        assert f"\n{step:8} " in f"\n{result.stdout}"


def test_dry_run_of_an_untagged_commit_plans_the_next_version(ready: World) -> None:
    ready.commit("feat: more")
    result = ready.run("release", "--dry-run")
    assert "v1.1.0 is the next version" in result.stdout
    assert ":1.1.0@(known after build)" in result.stdout


def test_an_untagged_commit_is_not_released(ready: World, published: Published) -> None:
    ready.commit("feat: more")
    before = everything(ready, published)
    assert "has no version tag" in error(ready.run("release", exit_code=1))[0]
    assert everything(ready, published) == before


def test_an_older_release_is_superseded_and_starts_nothing(
    ready: World, published: Published, tmp_path: Path
) -> None:
    ready.commit("feat: more")
    ready.tag("v1.1.0")
    ready.run("release")
    before = everything(ready, published)
    git(ready.app, "checkout", "--quiet", "v1.0.0")
    answer = ready.json("release")
    assert (answer["status"], answer["exit_code"]) == ("superseded", 0)
    after = everything(ready, published)
    assert after["commits"] == before["commits"]
    assert after["pipelines"] == before["pipelines"]
    assert "1.0.0" in after["tags"]


@pytest.mark.parametrize("step", STEPS)
def test_killed_after_any_step_and_run_again_there_is_one_of_everything(
    ready: World, published: Published, step: str
) -> None:
    """SIGKILL as soon as the receipt says that `step` is done."""
    receipt = ready.app / "release.json"
    if step == "bump":
        ready.gitlab.faults.add(BEFORE_THE_TRIGGER)
    argv = (sys.executable, "-m", "pipeline_tools", "release")
    process = subprocess.Popen(
        argv, cwd=ready.app, env={**os.environ, **ready.variables}, stdout=subprocess.DEVNULL
    )
    while process.poll() is None:
        if receipt.exists() and f'"{step}"' in receipt.read_text():
            process.send_signal(signal.SIGKILL)
            process.wait()
    if step != STEPS[-1]:  # after the last step there is hardly anything left to be killed
        assert process.returncode == -signal.SIGKILL
        assert f'"{STEPS[-1]}"' not in receipt.read_text()
    ready.gitlab.faults.clear()
    ready.run("release")
    left = everything(ready, published)
    assert len(left["commits"]) == 2
    assert len(left["pipelines"]) == 1
    assert len({*left["tags"].values()}) == 1
    assert sorted(tag.partition("-")[0] for tag in left["tags"]) == ["1.0.0", "sha"]


def test_killed_after_a_bump_that_is_superseded_in_one_overlay_there_is_still_a_pipeline(
    ready: World, published: Published
) -> None:
    """One overlay has a newer version already, the other gets ours: our commit wants its pipeline."""
    prod = "overlays/prod/kustomization.yaml"
    ready.env_commit(prod, ready.env_file(prod).replace('"0.0.0"', '"2.0.0"'))
    words = ("release", "--overlay", "overlays/dev", "--overlay", "overlays/prod")
    ready.gitlab.faults.add(BEFORE_THE_TRIGGER)
    process = subprocess.Popen(
        (sys.executable, "-m", "pipeline_tools", *words),
        cwd=ready.app,
        env={**os.environ, **ready.variables},
        stdout=subprocess.DEVNULL,
    )
    receipt = ready.app / "release.json"
    while not (receipt.exists() and '"bump"' in receipt.read_text()):
        assert process.poll() is None
        time.sleep(0.02)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert everything(ready, published)["pipelines"] == []
    ready.gitlab.faults.clear()
    answer = ready.json(*words)
    assert answer["result"]["trigger"]["status"] == "done"
    assert len(everything(ready, published)["pipelines"]) == 1
    assert '"2.0.0"' in ready.env_file(prod)


@pytest.mark.parametrize(
    "words",
    [
        ("--variable", "NOEQ"),
        ("--input", "NOEQ"),
        ("--overlay", "../x"),
        ("--env-branch", "a..b"),
        ("--image", "demo-app=x/y"),
        ("--report", "junit=x.xml"),
        ("--repository", "127.0.0.1:99999/x"),
        ("--env-project", "http://[::1/x.git"),
    ],
)
def test_what_is_wrong_with_an_option_is_said_before_anything_is_done(
    ready: World, published: Published, words: tuple[str, str]
) -> None:
    before = everything(ready, published)
    error(ready.run("release", *words, exit_code=1))
    assert published.tags == set()
    assert everything(ready, published) == before
    assert not (ready.app / "release.json").exists()


def test_killed_at_any_instant_and_run_again_there_is_one_of_everything(
    ready: World, published: Published
) -> None:
    """SIGKILL after ever longer spans, from before the first request to the last answer."""
    argv = (sys.executable, "-m", "pipeline_tools", "release")
    for tenth in range(3, 24, 2):
        try:
            subprocess.run(
                argv,
                cwd=ready.app,
                env={**os.environ, **ready.variables},
                timeout=tenth / 10,
                capture_output=True,
                check=False,
            )
        except subprocess.TimeoutExpired:
            continue
    ready.run("release")
    left = everything(ready, published)
    assert (len(left["commits"]), len(left["pipelines"]), len({*left["tags"].values()})) == (2, 1, 1)


@pytest.mark.parametrize("path", ["git-receive-pack", "trigger/pipeline"])
def test_a_lost_answer_leaves_one_of_everything(ready: World, published: Published, path: str) -> None:
    ready.gitlab.faults.add(Fault(lost_answer(), method="POST", path_regex=path))
    for _ in range(2):
        subprocess.run(
            (sys.executable, "-m", "pipeline_tools", "release"),
            cwd=ready.app,
            env={**os.environ, **ready.variables},
            check=False,
            capture_output=True,
        )
    left = everything(ready, published)
    assert (len(left["commits"]), len(left["pipelines"])) == (2, 1)


def test_sigterm_ends_in_one_document(ready: World) -> None:
    ready.gitlab.pipeline_script(ready.env_project, ["running"] * 2000 + ["success"])
    argv = (sys.executable, "-m", "pipeline_tools", "release", "--wait", "--output", "json")
    process = subprocess.Popen(
        argv, cwd=ready.app, env={**os.environ, **ready.variables}, stdout=subprocess.PIPE
    )
    receipt = ready.app / "release.json"
    while not any(p.status == "running" for p in ready.gitlab.pipelines(ready.env_project)):
        assert process.poll() is None
    process.terminate()
    document = json.loads(process.communicate(timeout=20)[0])
    assert process.returncode == 143
    assert (document["status"], document["exit_code"]) == ("interrupted", 143)
    assert "bump" in json.loads(receipt.read_text())


@pytest.mark.parametrize("missing", ["PT_REPOSITORY", "PT_ENV_PROJECT"])
def test_what_is_missing_is_said_before_anything_is_done(
    ready: World, missing: str, published: Published
) -> None:
    (ready.app / ".gitlab-ci.yml").unlink()
    git(ready.app, "commit", "--quiet", "--all", "-m", "fix: no include")
    variables = {
        "PT_ENV_PROJECT": "platform/env",
        "PT_OVERLAY": "overlays/dev",
        "PT_IMAGE": "demo-app",
        missing: None,
    }
    result = ready.run("release", exit_code=2, **variables)
    assert "Missing option" in result.stderr
    assert published.tags == set()


HOLD = "schema: 1\nholds:\n- images: [demo-app]\n  reason: incident 12\n  by: Anna\n"


def test_a_hold_is_met_before_anything_is_built(ready: World, published: Published) -> None:
    ready.env_commit(".pipeline-tools.yml", HOLD)
    message, _ = error(ready.run("release", exit_code=3))
    assert "incident 12" in message
    assert ".pipeline-tools.yml:3" in message
    assert published.tags == set()
    ready.run("release", "--override", "the fix for incident 12")
    assert "Override: the fix for incident 12" in ready.env("log", "-1", "--format=%B", "main")


def test_a_terminal_shows_what_is_under_way(ready: World) -> None:
    """On a terminal the step is shown live, and the same lines are left at the end."""
    argv = (sys.executable, "-m", "pipeline_tools", "release")
    leader, follower = pty.openpty()
    environment = {**os.environ, **ready.variables, "TERM": "xterm", "COLUMNS": "200"}
    process = subprocess.Popen(argv, cwd=ready.app, env=environment, stdout=follower, stderr=follower)
    os.close(follower)
    shown = b""
    with contextlib.suppress(OSError):  # Linux ends a terminal that nobody writes to any more with EIO
        while part := os.read(leader, 65536):
            shown += part
    os.close(leader)
    assert process.wait() == 0
    text = shown.decode()
    assert "\x1b[?25l" in text, "the cursor is hidden while something is shown live"
    assert "trigger  done" in text
    assert "\u280b" in text, "the spinner's first frame"
    for step in STEPS:
        assert f"{step:8} " in text


def test_secrets_appear_nowhere(ready: World, published: Published) -> None:
    result = ready.run("release", "-v")
    files = "".join(path.read_text(errors="replace") for path in ready.app.glob("release*"))
    everything_said = result.output + files + ready.env("log", "--format=%B", "main")
    for name in ("PT_GITLAB_TOKEN", "PT_ENV_TOKEN", "PT_TRIGGER_TOKEN", "PT_REGISTRY_PASSWORD"):
        assert ready.variables[name] not in everything_said
