"""A step run by the real driver, with someone who only listens."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from pipeline_tools.steps import shape
from pipeline_tools.steps.shape import Patience
from tests.world import git

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Listener:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.plans: list[Any] = []
        self.outcomes: list[Any] = []

    @contextlib.contextmanager
    def step(self, _name: str) -> Iterator[None]:
        yield

    def plan(self, _name: str, plan: Any) -> None:
        self.plans.append(plan)

    def outcome(self, _name: str, outcome: Any) -> None:
        self.outcomes.append(outcome)


def run(
    step: Any, request: Any, ports: Any, *, dry_run: bool = False, listener: Listener | None = None
) -> Any:
    patience = Patience(seconds=5, base=0.01)
    return shape.run(step, request, ports, listener or Listener(), dry_run=dry_run, patience=patience)


def application(directory: Path, dockerfile: str = "FROM busybox:1.35\nCOPY page /page\n") -> Path:
    """A git repository with one commit, tagged v1.4.0."""
    directory.mkdir()
    git(directory, "init", "--quiet", "--initial-branch=main")
    (directory / "Dockerfile").write_text(dockerfile)
    (directory / "page").write_text("hello\n")
    git(directory, "add", "--all")
    git(directory, "commit", "--quiet", "-m", "feat: a page")
    git(directory, "tag", "v1.4.0")
    return directory
