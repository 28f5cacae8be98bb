"""`ci_templates/release.yml` on examples/app: which pipelines have its jobs, and the jobs for real."""

import json
from pathlib import Path

import pytest
import requests

from sandbox.engine import Engine
from sandbox.gitlab import Pipeline
from sandbox.registry import Registry
from tests.conftest import CI_PASSWORD, CI_USER
from tests.templates.runner import EXECUTE, Runner, publish, with_inputs
from tests.world import World, git

JOBS = [f"release-{step}" for step in ("tag", "build", "push", "bump", "trigger")]
# gitlab-ci-local says "false", and names a folder of the image that it does not start.
JOB = {"GITLAB_CI": "true", "CI_PROJECT_DIR": "."}

pytestmark = [pytest.mark.servers, pytest.mark.gitlab_ci_local, pytest.mark.usefixtures("gitlab_ci_local")]


@pytest.fixture
def change() -> tuple[str, str]:
    """What the published template has in place of what: nothing, unless a test says so."""
    return "", ""


@pytest.fixture(autouse=True)
def template(world: World, tmp_path: Path, change: tuple[str, str]) -> None:
    """The template where the example's include says."""
    publish(world.gitlab, tmp_path, *change)


@pytest.fixture
def runner(world: World, tmp_path: Path) -> Runner:
    """A runner in the app's own checkout, for what needs no job to run."""
    return Runner(world.app, tmp_path / "runner")


def released(world: World, tmp_path: Path, tag: str, **inputs: object) -> Runner:
    """The app committed and tagged with these inputs, and the clone that a GitLab runner would make of it."""
    with_inputs(world.app, **inputs)
    git(world.app, "commit", "--quiet", "-m", "feat: other inputs")
    world.tag(tag)
    git(world.app, "push", "--quiet", "origin", "HEAD")
    token = world.gitlab.job_token(world.app_project)
    address = world.app_project.http_url.replace("://", f"://gitlab-ci-token:{token}@")
    clone = tmp_path / "builds"
    git(tmp_path, "clone", "--quiet", "--depth", "1", "--branch", tag, address, str(clone))
    runner = Runner(clone, tmp_path / "runner")
    tokens = {name: world.variables[name] for name in ("PT_ENV_TOKEN", "PT_TRIGGER_TOKEN")}
    login = {"PT_REGISTRY_USER": CI_USER, "PT_REGISTRY_PASSWORD": CI_PASSWORD}
    runner.set({"CI_JOB_TOKEN": token, **tokens, **login})
    return runner


def test_a_tag_pipeline_has_the_five_jobs(runner: Runner) -> None:
    assert runner.jobs(runner.on_tag("v1.2.3", "--list-json")) == JOBS


def test_a_branch_pipeline_has_none(runner: Runner) -> None:
    assert runner.jobs(runner.run("--list-json")) == []


def test_a_merge_request_pipeline_has_none(runner: Runner) -> None:
    done = runner.run(
        "--list-json", "--unset-variable", "CI_COMMIT_BRANCH", CI_PIPELINE_SOURCE="merge_request_event"
    )
    assert runner.jobs(done) == []


def test_the_prefix_is_in_every_name(world: World, runner: Runner) -> None:
    with_inputs(world.app, job_prefix="app-")
    assert runner.jobs(runner.on_tag("v1.2.3", "--list-json")) == [
        name.replace("release-", "app-") for name in JOBS
    ]


@pytest.fixture
def images(registry: Registry, repository: str) -> str:
    """Where the app's images go."""
    return f"{registry.host}/{repository}"


def manifest_digest(image: str) -> str | None:
    """What the registry says that a tag is."""
    host, _, rest = image.partition("/")
    name, _, tag = rest.rpartition(":")
    types = "application/vnd.docker.distribution.manifest.v2+json, application/vnd.oci.image.manifest.v1+json"
    answer = requests.head(
        f"http://{host}/v2/{name}/manifests/{tag}",
        auth=(CI_USER, CI_PASSWORD),
        headers={"Accept": types},
        timeout=10,
    )
    return answer.headers["Docker-Content-Digest"] if answer.status_code == requests.codes.ok else None


@pytest.mark.docker
@pytest.mark.registry
@pytest.mark.kustomize
@pytest.mark.usefixtures("kustomize")
def test_a_release_from_tag_to_pipeline(world: World, tmp_path: Path, engine: Engine, images: str) -> None:
    before = world.env_tip
    runner = released(world, tmp_path, "v1.0.0", repository=images)
    done = runner.on_tag("v1.0.0", *EXECUTE, **JOB, DOCKER_HOST=engine.url)
    assert done.returncode == 0, done.stdout + done.stderr

    digest = manifest_digest(f"{images}:1.0.0")
    assert digest is not None
    assert world.env("rev-parse", "main^") == before
    assert f'newName: "{images}"\n    digest: "{digest}"\n    newTag: "1.0.0"' in world.env_file()
    trailers = world.env("log", "-1", "--format=%(trailers)", "main").splitlines()
    assert f"Source-Commit: {git(runner.checkout, 'rev-parse', 'HEAD')}" in trailers
    assert {"Source-Project: shop/demo-app", "Source-Tag: v1.0.0", f"Image-Digest: {digest}"} < set(trailers)
    (pipeline,) = running(world)
    assert (pipeline.sha, pipeline.source) == (world.env_tip, "trigger")

    receipts = [json.loads(runner.artifact(job, "release.json").read_text()) for job in JOBS]
    assert [list(receipt)[-1] for receipt in receipts] == ["tag", "build", "push", "bump", "trigger"]
    assert receipts[-1]["push"]["digest"] == digest
    dotenv = runner.artifact("release-trigger", ".gitlab-ci-reports/dotenv/release.env").read_text()
    assert f"RELEASE_IMAGE={images}:1.0.0\nRELEASE_DIGEST={digest}\n" in dotenv
    assert f"RELEASE_ENV_COMMIT={world.env_tip}\nRELEASE_PIPELINE_ID={pipeline.id}\n" in dotenv

    assert runner.on_tag("v1.0.0", *EXECUTE, **JOB, DOCKER_HOST=engine.url).returncode == 0
    assert world.env("rev-list", "--count", "main") == "2"
    assert running(world) == [pipeline]
    assert not any(secret in done.stdout + done.stderr for secret in runner.secrets())


def running(world: World) -> list[Pipeline]:
    """The env project's pipelines but the skipped ones, which a push with ci.skip leaves behind."""
    return [found for found in world.gitlab.pipelines(world.env_project) if found.status != "skipped"]


def hostile(marker: Path) -> str:
    """Text that a shell would run, in every way it could be quoted; if it ran, the marker would be there."""
    touch = f"touch {marker}"
    return f"$({touch})`{touch}`;{touch}&{touch}|{touch}\"$({touch})\"';{touch};'#{{{touch}}}"


@pytest.mark.parametrize("job", JOBS)
def test_no_input_is_ever_executed(world: World, tmp_path: Path, job: str) -> None:
    marker = tmp_path / "executed"
    evil = hostile(marker)
    texts = ("context", "file", "target", "env_project", "env_branch")
    lists = ("build_arg", "moving", "overlay", "image")
    inputs = {**dict.fromkeys(texts, evil), **{name: [evil, f"a={evil}"] for name in lists}}
    if job == "release-tag":
        inputs["tag_pattern"] = evil
    runner = released(world, tmp_path, "v1.0.0", repository="registry.invalid/app", **inputs)
    done = runner.on_tag("v1.0.0", job, *EXECUTE, **JOB)
    said = done.stdout + done.stderr
    assert f"{job} " in said
    assert "pipeline-tools" in said
    assert done.returncode != 0
    assert "Traceback" not in said
    assert not marker.exists()


@pytest.mark.parametrize("change", [("pipeline-tools build", "echo $[[ inputs.context ]]")])
def test_a_value_in_a_script_line_would_be(world: World, tmp_path: Path) -> None:
    """The tests above can fail: the same input in a script line is run."""
    marker = tmp_path / "executed"
    runner = released(world, tmp_path, "v1.0.0", repository="registry.invalid/app", context=hostile(marker))
    runner.on_tag("v1.0.0", "release-build", *EXECUTE, **JOB)
    assert marker.exists()


def test_the_way_to_log_in_is_an_input(world: World, tmp_path: Path) -> None:
    runner = released(world, tmp_path, "v1.0.0", repository="registry.invalid/app", registry_auth="oidc")
    done = runner.on_tag("v1.0.0", "release-build", *EXECUTE, **JOB)
    assert done.returncode != 0
    assert "no Google token goes to registry.invalid" in done.stdout + done.stderr


@pytest.mark.parametrize(
    "name",
    [
        "google_workload_identity_provider",
        "google_service_account",
        "google_audience",
        "repository",
        "candidate_repository",
        "licenses",
        "cache",
        "job_prefix",
    ],
)
def test_a_hostile_word_makes_no_pipeline(world: World, runner: Runner, tmp_path: Path, name: str) -> None:
    marker = tmp_path / "executed"
    with_inputs(world.app, **{name: hostile(marker)})
    done = runner.on_tag("v1.2.3", "--list-json")
    assert f"`{name}` input" in done.stderr
    assert not marker.exists()


@pytest.mark.parametrize("form", ["1.0.0$({})", "1.0.0`{}`", "1.0.0;{}", "1.0.0|{}", "');{};#"])
def test_no_tag_is_ever_executed(world: World, tmp_path: Path, form: str) -> None:
    marker = tmp_path / "executed"
    tag = form.format(f"{{touch,{marker}}}")  # no blank: git refuses one
    runner = released(world, tmp_path, tag, repository="registry.invalid/app")
    done = runner.on_tag(tag, "release-tag", *EXECUTE, **JOB)
    assert done.returncode != 0
    assert "is not a SemVer 2.0 version" in done.stdout + done.stderr
    assert not marker.exists()
