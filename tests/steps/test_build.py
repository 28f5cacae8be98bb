from __future__ import annotations

import dataclasses
import json
import os
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from pipeline_tools.adapters.checkout import Checkout
from pipeline_tools.adapters.context import Contexts
from pipeline_tools.adapters.docker import Docker
from pipeline_tools.adapters.registry import Registries
from pipeline_tools.errors import Denied, PipelineError, Refused, Unavailable
from pipeline_tools.steps import build
from pipeline_tools.steps.shape import Status
from pipeline_tools.text.credentials import Credential
from pipeline_tools.text.masks import Secret
from pipeline_tools.text.receipt import Built, Pushed, Receipt, Tagged
from pipeline_tools.text.references import TAG
from sandbox.proxy import Fault, refusal
from tests import registry_images as images
from tests.conftest import CI_PASSWORD, CI_USER
from tests.steps.driving import Listener, application, run
from tests.world import git

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from sandbox.engine import Engine
    from sandbox.registry import Registry as Server

COMMIT = "c0ffee" + "0" * 34
DIGEST = "sha256:" + "d" * 64
TAGGED = Tagged("v1.4.0", "1.4.0", COMMIT)
OPTIONS = build.Options(repository="registry.example.com/shop/app")
FACTS = build.Facts(COMMIT, "2026-01-02T03:04:05Z", (), (), "sha-tag", None, ())


def request(tagged: Tagged = TAGGED, **changes: Any) -> build.Request:
    return build.request(dataclasses.replace(OPTIONS, **changes), Receipt(tag=tagged))


# What to build: pure -----------------------------------------------------------------------------------------


def test_candidates_are_kept_where_it_is_said() -> None:
    assert str(request().repository) == "registry.example.com/shop/app"
    other = request(candidate_repository="registry.example.com/shop/candidates")
    assert str(other.repository) == "registry.example.com/shop/candidates"


@pytest.mark.parametrize(
    ("receipt", "changes", "said"),
    [
        (Receipt(), {}, "no version tag"),
        (Receipt(tag=TAGGED), {"repository": None}, "which repository"),
        (Receipt(tag=TAGGED), {"repository": "shop/app:1"}, "not a repository"),
        (Receipt(tag=TAGGED), {"build_arg": ("no-equals",)}, "--build-arg takes KEY=VALUE"),
        (Receipt(tag=TAGGED), {"platform": ("linux",)}, "--platform .linux. is no platform"),
        (Receipt(tag=TAGGED), {"platform": ("linux/amd64,",)}, "--platform .* is no platform"),
    ],
)
def test_what_cannot_be_built(receipt: Receipt, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(PipelineError, match=said) as caught:
        build.request(dataclasses.replace(OPTIONS, **changes), receipt)
    assert caught.value.hint


def test_the_dockerfile_is_the_contexts_own() -> None:
    assert request().file == "Dockerfile"
    assert request(context="web").file == "web/Dockerfile"
    assert request(context="web", file="Other").file == "Other"


def test_the_candidates_tag_names_commit_and_inputs() -> None:
    tag = build.candidate_tag(request(), b"FROM x\n")
    assert tag.startswith(f"sha-{COMMIT}-")
    longest = build.candidate_tag(request(Tagged("v1.4.0", "1.4.0", "a" * 64)), b"")
    assert TAG.fullmatch(longest)
    same = request(build_arg=("B=2", "A=1")), request(build_arg=("A=1", "B=2"))
    assert build.candidate_tag(same[0], b"") == build.candidate_tag(same[1], b"")


@pytest.mark.parametrize(
    "changes",
    [
        {"build_arg": ("A=2",)},
        {"target": "test"},
        {"platform": ("linux/arm64",)},
        {"context": "web"},
        {"git_context": True},
    ],
)
def test_other_inputs_are_another_candidate(changes: dict[str, Any]) -> None:
    assert build.candidate_tag(request(**changes), b"") != build.candidate_tag(request(), b"")
    assert build.candidate_tag(request(), b"") != build.candidate_tag(request(), b"FROM x")


def test_a_context_has_one_spelling() -> None:
    tags = {build.candidate_tag(request(context=context), b"") for context in ("web", "web/", "./web")}
    assert len(tags) == 1
    assert request(context="").context == "."


def test_platforms_stand_alone_or_with_commas() -> None:
    words = ("linux/amd64,linux/arm64", "linux/arm/v7", "linux/amd64")
    assert request(platform=words).recipe.platforms == ("linux/amd64", "linux/arm64", "linux/arm/v7")


def test_labels_say_what_is_known() -> None:
    wanted = request(project_url="https://gitlab.example.com/shop/app", project_title="App", licenses="")
    labels = build.plan(wanted, FACTS).labels
    assert {key.removeprefix("org.opencontainers.image."): value for key, value in labels.items()} == {
        "created": "2026-01-02T03:04:05Z",
        "revision": COMMIT,
        "source": "https://gitlab.example.com/shop/app",
        "title": "App",
        "url": "https://gitlab.example.com/shop/app",
        "version": "1.4.0",
    }


def test_a_candidate_that_is_there_is_taken() -> None:
    plan = build.plan(request(), dataclasses.replace(FACTS, digest=DIGEST))
    assert plan.status is Status.UNCHANGED
    assert plan.foreseen().digest == DIGEST
    assert not list(plan.lines())


def test_the_plan_shows_what_will_be() -> None:
    plan = build.plan(request(build_arg=("A=1",), target="web", platform=("linux/amd64",)), FACTS)
    text = "\n".join(plan.lines())
    for word in ("sha-tag", "stage web", "linux/amd64", "argument A=1", f"image.revision={COMMIT}"):
        assert word in text
    assert "known after build" in plan.foreseen().summary()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"head": "a" * 40}, "aaaaaaaa is checked out, but v1.4.0 is on c0ffee00"),
        ({"changed": tuple(f"f{n}" for n in range(7))}, "uncommitted changes: f0, f1, f2, f3, f4 and 2 more"),
        ({"unseen": ("page",)}, "files that git is told not to look at: page"),
    ],
)
def test_what_is_not_the_commit_stands_in_the_way(changes: dict[str, Any], said: str) -> None:
    (error,) = build.plan(request(), dataclasses.replace(FACTS, **changes)).unread
    assert isinstance(error, Refused)
    assert error.message == said


def test_files_that_git_does_not_know_are_named() -> None:
    plan = build.plan(request(), dataclasses.replace(FACTS, untracked=("dist/app.js",)))
    assert "    with files that git does not know: dist/app.js" in plan.lines()


def test_submodules_that_are_not_checked_out_are_named() -> None:
    """As GitLab's jobs have them unless they say otherwise; an image may well not need them."""
    found = build.plan(request(), dataclasses.replace(FACTS, without=("module",)))
    assert found.unread == ()
    assert "    without the submodules module, which are not checked out" in list(found.lines())


def test_the_receipt_forgets_what_an_older_candidate_led_to() -> None:
    outcome = build.Outcome(Status.DONE, "r.example.com/a", "t", DIGEST)
    before = Receipt(tag=TAGGED, push=Pushed("r.example.com/a", "1.4.0", DIGEST))
    after = build.record(before, outcome)
    assert after == Receipt(tag=TAGGED, build=Built("r.example.com/a", "t", DIGEST))
    assert build.record(after, outcome) is after


# What is done: real engine, real registry --------------------------------------------------------------------


class World:
    """A checkout, an engine and a registry."""

    def __init__(
        self, app: Path, server: Server, engine: str, repository: str, password: str = CI_PASSWORD
    ) -> None:
        self.app, self.server, self.repository = app, server, repository
        credential = Credential(CI_USER, Secret(password))
        self.docker = Docker(engine)
        registries = Registries(lambda _: credential)
        self.ports = build.Ports(Checkout(app), Contexts(app, os.environ), registries, (self.docker,))
        self.commit = git(app, "rev-parse", "HEAD")

    def request(self, **changes: Any) -> build.Request:
        options = build.Options(repository=f"{self.server.host}/{self.repository}")
        tagged = Tagged("v1.4.0", "1.4.0", self.commit)
        return build.request(dataclasses.replace(options, **changes), Receipt(tag=tagged))

    def run(
        self, *, dry_run: bool = False, listener: Listener | None = None, **changes: Any
    ) -> build.Outcome:
        ports = dataclasses.replace(self.ports, checkout=Checkout(self.app))
        outcome = run(build.STEP, self.request(**changes), ports, dry_run=dry_run, listener=listener)
        assert isinstance(outcome, build.Outcome)
        return outcome

    @property
    def contents(self) -> dict[str, str]:
        return images.contents(self.server, self.repository)


@pytest.fixture
def make(tmp_path: Path, registry: Server, engine: Engine, repository: str) -> Iterator[Callable[..., World]]:
    app = application(tmp_path / "app")
    made: list[World] = []

    def world(engine: str, **changes: Any) -> World:
        made.append(World(app, registry, engine, repository, **changes))
        return made[-1]

    yield partial(world, engine.url)
    for each in made:
        each.docker.close()


@pytest.fixture
def world(make: Callable[..., World]) -> World:
    return make()


def test_a_candidate_is_built_pushed_and_found_again(world: World) -> None:
    outcome = world.run(project_title="App")
    assert outcome.status is Status.DONE
    assert world.contents == {outcome.tag: outcome.digest}
    registry = world.ports.registries.at(world.request().repository)
    labels = registry.labels(world.repository, registry.get(world.repository, outcome.tag))
    created = git(world.app, "log", "-1", "--date=format-local:%Y-%m-%dT%H:%M:%SZ", "--format=%cd")
    assert {key.removeprefix("org.opencontainers.image."): value for key, value in labels.items()} == {
        "created": created,
        "revision": world.commit,
        "title": "App",
        "version": "1.4.0",
    }
    with world.server.recording() as exchanges:
        again = world.run(project_title="App")
    assert again == dataclasses.replace(outcome, status=Status.UNCHANGED)
    assert [exchange.method for exchange in exchanges] == ["HEAD", "GET", "GET"]


def test_an_image_for_another_platform_is_not_published(world: World) -> None:
    """The engine takes the base image that it has, and says nothing."""
    with pytest.raises(
        PipelineError, match=r"for linux/s390x was asked for, the builder made one for linux/"
    ):
        world.run(platform=("linux/s390x",))
    assert world.contents == {}


def test_a_candidate_without_an_image_is_refused(world: World) -> None:
    tag = build.candidate_tag(world.request(), (world.app / "Dockerfile").read_bytes())
    raw = json.dumps({"schemaVersion": 2, "mediaType": images.INDEX, "manifests": []}).encode()
    images.put_manifest(world.server, world.repository, tag, raw, images.INDEX)
    with pytest.raises(Refused, match="holds no image"):
        world.run()


def test_no_reuse_builds_again(world: World) -> None:
    first = world.run()
    assert world.run(reuse=False).status is Status.DONE
    assert world.contents.keys() == {first.tag}


def test_a_dry_run_writes_nothing(world: World) -> None:
    listener = Listener()
    outcome = world.run(dry_run=True, listener=listener)
    assert (outcome.status, outcome.digest) == (Status.PLANNED, None)
    assert listener.plans[0].unread == ()
    assert world.contents == {}


def test_a_dry_run_without_engine_and_registry(world: World, tmp_path: Path) -> None:
    listener = Listener()
    world.ports = dataclasses.replace(world.ports, builders=(Docker(f"unix://{tmp_path}/none.sock"),))
    with world.server.failing(Fault(answer=refusal(403), times=None)):
        assert world.run(dry_run=True, listener=listener).status is Status.PLANNED
        with pytest.raises(Denied):
            world.run()
    denied, engine = listener.plans[0].unread
    assert isinstance(denied, Denied)
    assert "docker does not answer" in engine.message


def test_docker_is_not_running(world: World, tmp_path: Path) -> None:
    world.ports = dataclasses.replace(world.ports, builders=(Docker(f"unix://{tmp_path}/none.sock"),))
    with pytest.raises(PipelineError, match="docker does not answer") as caught:
        world.run()
    assert caught.value.exit_code == 1
    assert world.contents == {}


def test_a_build_that_fails_writes_nothing(world: World) -> None:
    (world.app / "Dockerfile").write_text("FROM busybox:1.35\nRUN echo the reason; false\n")
    git(world.app, "commit", "--quiet", "--all", "-m", "fix: break it")
    world.commit = git(world.app, "rev-parse", "HEAD")
    with pytest.raises(PipelineError, match="the reason"):
        world.run()
    assert world.contents == {}


def test_tracked_files_that_differ_are_refused(world: World) -> None:
    (world.app / "page").write_text("changed\n")
    (world.app / "untracked").write_text("an artifact of the job before\n")
    with pytest.raises(Refused, match=r"^uncommitted changes: page$"):
        world.run()
    assert world.contents == {}


def test_what_is_sent_and_not_in_the_commit_is_named(world: World) -> None:
    for name, text in {".gitignore": ".env\ndist/\n", ".dockerignore": ".git\n*.log\n"}.items():
        (world.app / name).write_text(text)
    git(world.app, "add", "--all")
    git(world.app, "commit", "--quiet", "-m", "chore: ignore")
    world.commit = git(world.app, "rev-parse", "HEAD")
    (world.app / "dist").mkdir()
    for name in (".env", "dist/app.js", "dist/app.css", "artifact", "left.log"):
        (world.app / name).write_text(name)
    listener = Listener()
    world.run(dry_run=True, listener=listener)
    world.run(dry_run=True, listener=listener, git_context=True)
    assert [plan.untracked for plan in listener.plans] == [(".env", "artifact", "dist/"), ()]


def test_tracked_files_that_are_not_there_are_refused(world: World) -> None:
    git(world.app, "sparse-checkout", "set", "--no-cone", "/Dockerfile")
    with pytest.raises(Refused, match=r"not to look at: page$") as caught:
        world.run()
    assert "git sparse-checkout disable" in caught.value.hint
    assert world.contents == {}
    assert world.run(git_context=True).status is Status.DONE


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"context": "../"}, "outside the checkout"),
        ({"context": "/"}, "outside the checkout"),
        ({"file": "/etc/passwd"}, "outside the checkout"),
        ({"file": "link"}, "outside the checkout"),
        ({"file": "Containerfile"}, "there is no Containerfile"),
        ({"context": "nowhere"}, "there is no nowhere/Dockerfile"),
        ({"context": "page", "file": "Dockerfile"}, "page is not a folder"),
    ],
)
def test_paths_stay_in_the_checkout(world: World, changes: dict[str, Any], said: str) -> None:
    (world.app / "link").symlink_to("/etc/passwd")
    with pytest.raises(PipelineError, match=said):
        world.run(**changes)


def test_a_wrong_password_is_denied(make: Callable[..., World]) -> None:
    with pytest.raises(Denied) as caught:
        make(password="not-the-password").run()
    assert "PT_REGISTRY_PASSWORD" in caught.value.hint


def test_a_push_that_fails_is_found_in_the_stream(world: World) -> None:
    with (
        world.server.failing(Fault("PUT", "manifests", answer=refusal(403), times=None)),
        pytest.raises(Denied),
    ):
        world.run()
    with (
        world.server.failing(Fault("PUT", "manifests", answer=refusal(503), times=None)),
        pytest.raises(Unavailable),
    ):
        world.run()
    assert world.contents == {}
    assert world.run().status is Status.DONE


def test_a_registry_that_forgets_is_noticed(world: World) -> None:
    gone = Fault("HEAD", "manifests/sha256", answer=refusal(404), times=None)
    # The engine asks by tag; only the proof asks by digest.
    with world.server.failing(gone), pytest.raises(PipelineError, match="the registry does not have it"):
        world.run()
