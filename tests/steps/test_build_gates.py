"""The build step with what stands between a build and its candidate: who builds, gates, other pipelines."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from pipeline_tools.adapters.buildah import Buildah
from pipeline_tools.adapters.checkout import Checkout
from pipeline_tools.adapters.context import Contexts
from pipeline_tools.adapters.docker import Docker
from pipeline_tools.adapters.registry import Registries
from pipeline_tools.errors import Denied, PipelineError, Refused, Unavailable
from pipeline_tools.steps import build, builders
from pipeline_tools.steps.shape import Status
from pipeline_tools.text.credentials import Credential
from pipeline_tools.text.masks import Secret
from pipeline_tools.text.receipt import Receipt, Tagged
from pipeline_tools.text.recipes import Recipe
from sandbox import parts
from sandbox.pytest_parts import require
from tests import registry_images as images
from tests.conftest import CI_PASSWORD, CI_USER
from tests.steps.driving import Listener, application, run
from tests.world import git

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pipeline_tools.adapters.layout import Layout
    from pipeline_tools.steps.builders import Builder
    from sandbox.engine import Engine
    from sandbox.registry import Registry

LOGIN = Credential(CI_USER, Secret(CI_PASSWORD))


class Other:
    """A builder that says what it is told to."""

    def __init__(self, name: str, error: PipelineError | None = None, lacking: tuple[str, ...] = ()) -> None:
        self.name, self.error, self.lacking = name, error, lacking

    def lacks(self, _recipe: Recipe) -> tuple[str, ...]:
        return self.lacking

    def ready(self) -> None:
        if self.error:
            raise self.error

    def building(self, *_: object) -> Any:
        raise NotImplementedError


def test_the_first_that_can_builds() -> None:
    first = Other("docker", PipelineError("no socket", hint="start it"))
    second = Other("buildah", lacking=("--attest",))
    chosen, why = builders.choose(Recipe(), (first, second, Other("buildkit")))
    assert chosen.name == "buildkit"
    assert why == "docker: no socket; buildah: buildah cannot do --attest"


@pytest.mark.parametrize("kind", [PipelineError, Unavailable, Denied])
def test_what_each_would_need(kind: type[PipelineError]) -> None:
    first, second = (
        Other("docker", kind("no socket", hint="start it")),
        Other("buildah", PipelineError("no unshare")),
    )
    with pytest.raises(kind) as caught:
        builders.choose(Recipe(), (first, second))
    assert type(caught.value) is kind
    assert "  docker: no socket; start it\n  buildah: no unshare" in caught.value.message


def test_one_that_is_named_speaks_for_itself() -> None:
    with pytest.raises(PipelineError, match=r"^no socket$"):
        builders.choose(Recipe(), (Other("docker", PipelineError("no socket")),))


def test_an_engine_builds_one_platform() -> None:
    both = Recipe(platforms=("linux/amd64", "linux/arm64"))
    with pytest.raises(PipelineError, match="docker cannot do several platforms at once") as caught:
        builders.choose(both, (Docker("unix:///nowhere"),))
    assert "--builder" in caught.value.hint


def _buildah() -> Buildah:
    """With no logins at all: the tests' DOCKER_CONFIG is a folder that is not there."""
    return Buildah({name: value for name, value in os.environ.items() if name != "DOCKER_CONFIG"})


class World:
    """A checkout, a registry, and buildah."""

    def __init__(self, app: Path, server: Registry, repository: str) -> None:
        self.app, self.server, self.repository = app, server, repository
        self.builders: tuple[Builder, ...] = (_buildah(),)

    def run(
        self, *, listener: Listener | None = None, dry_run: bool = False, **changes: Any
    ) -> build.Outcome:
        options = build.Options(repository=f"{self.server.host}/{self.repository}")
        tagged = Tagged("v1.4.0", "1.4.0", git(self.app, "rev-parse", "v1.4.0"))
        request = build.request(dataclasses.replace(options, **changes), Receipt(tag=tagged))
        with Contexts(self.app, os.environ) as contexts:
            ports = build.Ports(Checkout(self.app), contexts, Registries(lambda _: LOGIN), self.builders)
            outcome = run(build.STEP, request, ports, listener=listener, dry_run=dry_run)
        assert isinstance(outcome, build.Outcome)
        return outcome

    @property
    def contents(self) -> dict[str, str]:
        return images.contents(self.server, self.repository)


@pytest.fixture
def world(tmp_path: Path, registry: Registry, repository: str) -> World:
    require(parts.BUILDAH, parts.BUSYBOX)
    dockerfile = "FROM scratch\nCOPY page /page\nLABEL team=x\nUSER 65534\n"
    return World(application(tmp_path / "app", dockerfile), registry, repository)


def test_buildah_makes_the_same_candidate_again(world: World) -> None:
    listener = Listener()
    first = world.run(listener=listener, git_context=True)
    assert world.contents == {first.tag: first.digest}
    assert world.run(git_context=True).status is Status.UNCHANGED
    assert "    by buildah" in list(listener.plans[0].lines())
    size = sum((world.app / name).stat().st_size for name in ("Dockerfile", "page"))
    assert f"    with 2 files of the commit, {size} bytes" in list(listener.plans[0].lines())
    for path in world.app.iterdir():
        os.utime(path, (1, 1))
    again = world.run(reuse=False, git_context=True)
    assert (again.status, again.digest) == (Status.DONE, first.digest)


def test_a_candidate_of_the_checkout_is_none_of_the_commit(world: World) -> None:
    """It may have files that git does not know."""
    (world.app / "junk").write_text("junk\n")
    of_checkout = world.run()
    of_commit = world.run(git_context=True)
    assert of_commit.status is Status.DONE
    assert world.contents == {of_checkout.tag: of_checkout.digest, of_commit.tag: of_commit.digest}


def test_the_commit_is_built_whatever_is_checked_out(world: World) -> None:
    clean = world.run(git_context=True)
    (world.app / "page").write_text("dirty\n")
    (world.app / "Dockerfile").write_text("FROM nothing\n")
    git(world.app, "commit", "--quiet", "--all", "-m", "later")
    again = world.run(git_context=True, reuse=False)
    assert (again.tag, again.digest) == (clean.tag, clean.digest)
    with pytest.raises(Refused, match="is checked out"):
        world.run(reuse=False)


def test_a_dockerfile_beside_its_context_keeps_its_own_dockerignore(world: World) -> None:
    (world.app / "web").mkdir()
    for name in ("kept", "left"):
        (world.app / "web" / name).write_text(name)
    (world.app / "Dockerfile.dockerignore").write_text("left\n")
    git(world.app, "add", "--all")
    git(world.app, "commit", "--quiet", "-m", "web")
    git(world.app, "tag", "--force", "v1.4.0")
    for git_context in (True, False):
        listener = Listener()
        world.run(listener=listener, dry_run=True, context="web", file="Dockerfile", git_context=git_context)
        assert listener.plans[0].sent.files == len(("kept",))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"max_size": "100B"}, "more than 100"),
        ({"require_label": ("team=y",)}, "Dockerfile:3: label team is 'x', not 'y'"),
        ({"require_label": ("owner",)}, "label owner is missing"),
    ],
)
def test_a_gate_publishes_nothing(world: World, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(Refused, match=said):
        world.run(**changes)
    assert world.contents == {}


def test_gates_that_are_kept(world: World) -> None:
    keep: dict[str, Any] = {
        "max_size": "1MB",
        "require_label": ("team=x",),
        "require_non_root": True,
        "base_pinned": True,
    }
    assert world.run(**keep).status is Status.DONE
    assert world.run(**keep).status is Status.UNCHANGED
    with pytest.raises(Refused, match="owner"):
        world.run(require_label=("owner",))


def test_a_base_that_floats_is_refused_before_anything_is_built(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    (world.app / "Dockerfile").write_text("FROM busybox:1.35\n")
    git(world.app, "commit", "--quiet", "--all", "-m", "a base")
    git(world.app, "tag", "--force", "v1.4.0")
    monkeypatch.setattr(Buildah, "building", Other.building)
    with pytest.raises(Refused, match=r"Dockerfile:1: busybox:1\.35 is not pinned"):
        world.run(base_pinned=True)


def test_the_engines_images_pass_the_same_gates(world: World, engine: Engine) -> None:
    with Docker(engine.url) as docker:
        world.builders = (docker,)
        with pytest.raises(Refused, match="more than 2"):
            world.run(max_size="2B")
        with pytest.raises(Refused, match="label owner is missing"):
            world.run(require_label=("owner",))
        assert world.contents == {}
        assert (
            world.run(max_size="1MB", require_label=("team=x",), require_non_root=True).status is Status.DONE
        )


def test_two_platforms(world: World) -> None:
    outcome = world.run(platform=("linux/amd64", "linux/arm64"))
    assert world.contents == {outcome.tag: outcome.digest}
    assert world.run(platform=("linux/arm64", "linux/amd64")).status is Status.UNCHANGED
    with pytest.raises(Refused, match="owner"):
        world.run(platform=("linux/amd64", "linux/arm64"), require_label=("owner",))


def test_a_planted_candidate_is_not_taken(world: World) -> None:
    tag = world.run(dry_run=True).tag
    images.put_image(world.server, world.repository, tag, {images.REVISION: "f" * 40})
    with pytest.raises(Refused, match="is labelled with the commit ffff") as caught:
        world.run()
    assert "--no-reuse" in caught.value.hint
    assert world.run(reuse=False).status is Status.DONE
    assert world.run().status is Status.UNCHANGED


class Slower(Buildah):
    """Buildah, while another pipeline is quicker."""

    world: World
    quicker: build.Outcome

    @contextmanager
    def building(self, *words: Any) -> Iterator[Layout]:
        with super().building(*words) as image:
            Slower.world.builders = (_buildah(),)
            Slower.quicker = Slower.world.run(project_title="from another job")
            yield image


def test_another_pipeline_was_quicker(world: World) -> None:
    Slower.world = world
    world.builders = (Slower(_buildah().environment),)
    slower = world.run()
    assert slower.digest == Slower.quicker.digest
    assert world.contents == {slower.tag: slower.digest}


SCRIPT = """
import os, sys
from pathlib import Path
from sandbox.registry import Registry
from tests.steps.test_build_gates import World
class Server:
    host = sys.argv[2]
print(World(Path(sys.argv[1]), Server(), sys.argv[3]).run(project_title=sys.argv[4]).digest)
"""


def test_two_pipelines_at_once_end_with_one_candidate(world: World) -> None:
    """Their images are the same, so it does not matter whose tag came last."""
    argv = [sys.executable, "-c", SCRIPT, str(world.app), world.server.host, world.repository, "same"]
    children = [subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    digests = {child.communicate()[0].strip() for child in children}
    assert [child.returncode for child in children] == [0, 0]
    assert digests == set(world.contents.values())
