"""`push` killed by SIGKILL at each request that writes, and run again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from sandbox.proxy import Answer, Proxy
from tests import registry_images as images
from tests.conftest import CI_PASSWORD, CI_USER
from tests.steps.driving import application
from tests.steps.publishing import World

if TYPE_CHECKING:
    from pathlib import Path

    from sandbox.proxy import Request
    from sandbox.registry import Registry as Server

TAGS = ("1.4.0", "1.4", "1", "latest")


@dataclass
class Killer:
    """A proxy's rule that kills `process` when request number `at` of those that write comes by.

    `arrives` says whether the server gets that request all the same, so that only the answer is lost.
    """

    at: int
    arrives: bool
    process: subprocess.Popen[bytes] | None = None
    started: threading.Event = field(default_factory=threading.Event)
    writes: int = 0

    def __call__(self, request: Request) -> Answer | None:
        if request.method in {"GET", "HEAD"}:
            return None
        self.writes += 1
        if self.writes != self.at + 1:
            return None
        request.body()
        assert self.started.wait(20)
        assert self.process
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait()
        return None if self.arrives else Answer(503)


def killed(world: World, killer: Killer) -> int:
    """How the command ended, run as a job runs it."""
    with Proxy(world.server.host, (killer,)).running() as proxy:
        words = (
            "push",
            "--tag=v1.4.0",
            "--moving=minor",
            "--moving=major",
            "--moving=latest",
            f"--repository={proxy.host}/{world.target}",
        )
        source = f"--source={proxy.host}/{world.candidates}@{world.digest}"
        login = {"PT_REGISTRY_USER": CI_USER, "PT_REGISTRY_PASSWORD": CI_PASSWORD}
        killer.process = subprocess.Popen(
            (sys.executable, "-m", "pipeline_tools", *words, source),
            cwd=world.app,
            env={**os.environ, **login},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        killer.started.set()
        return killer.process.wait()


@pytest.mark.parametrize("arrives", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("at", range(7))
def test_it_ends_in_the_same_state(
    tmp_path: Path, registry: Server, repository: str, at: int, *, arrives: bool
) -> None:
    """Three mounts, then four tags: nothing points nowhere in between, and the order of the tags is kept."""
    world = World(application(tmp_path / "app"), registry, f"{repository}/candidates", repository)
    assert killed(world, Killer(at, arrives)) == -signal.SIGKILL
    between = world.contents
    assert between == dict.fromkeys(TAGS[: max(0, at - 3 + arrives)], world.digest)
    world.run(moving=("minor", "major", "latest"))
    assert world.contents == dict.fromkeys(TAGS, world.digest)


def test_all_seven_are_all_that_it_writes(tmp_path: Path, registry: Server, repository: str) -> None:
    world = World(application(tmp_path / "app"), registry, f"{repository}/candidates", repository)
    killer = Killer(7, arrives=False)
    assert killed(world, killer) == 0
    assert killer.writes == 7
    assert images.contents(registry, repository) == dict.fromkeys(TAGS, world.digest)
