"""The render step: the files of a binding below a directory, each written only where it differs."""

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pipeline_tools.errors import PipelineError
from pipeline_tools.steps.shape import Status, Step
from pipeline_tools.text import runner_files

if TYPE_CHECKING:
    from pipeline_tools.adapters.folder import Folder
    from pipeline_tools.text.binding import Binding

PRIVATE = {"private": True}


@dataclass(frozen=True)
class Request:
    """Render `binding`."""

    binding: "Binding"


@dataclass(frozen=True)
class Ports:
    """`folder` is where the files are."""

    folder: "Folder"


@dataclass(frozen=True)
class Facts:
    """The files that are there, in every folder that is ours."""

    files: Mapping[str, str]


@dataclass(frozen=True)
class Outcome:
    """The files written, and those that are no part of the rendering any more; they are left where they are."""

    status: Status
    written: tuple[str, ...]
    stale: tuple[str, ...]

    def summary(self) -> str:
        word = "would be written" if self.status is Status.PLANNED else "written"
        left = f", {len(self.stale)} not rendered any more: {', '.join(self.stale)}" if self.stale else ""
        return f"{len(self.written)} files {word}{left}"


@dataclass(frozen=True)
class Plan:
    """`changes` are the files to write with their difference, `stale` those that are no part of the rendering."""

    status: Status
    files: tuple[str, ...]
    stale: tuple[str, ...]
    unread: tuple[PipelineError, ...] = ()
    texts: Mapping[str, str] = field(default_factory=dict, metadata=PRIVATE)
    before: Mapping[str, str] = field(default_factory=dict, metadata=PRIVATE)

    def lines(self) -> Iterator[str]:
        for name in self.files:
            yield f"{'~' if name in self.before else '+'} {name}"
            if name in self.before:
                yield from _difference(self.before[name], self.texts[name])
        for name in self.stale:
            yield f"? {name} (not rendered any more; delete it)"

    def foreseen(self) -> Outcome:
        return Outcome(self.status, self.files, self.stale)


def _difference(before: str, after: str) -> Iterator[str]:
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), lineterm="", n=1)
    yield from (f"    {line}" for number, line in enumerate(lines) if number > 1)


def facts(request: Request, ports: Ports) -> Facts:
    ours = {name.partition("/")[0] for name in runner_files.render(request.binding)}
    files: dict[str, str] = {}
    for folder in ports.folder.folders():
        found = ports.folder.read(folder)
        if folder in ours or found.get(f"{folder}/kubernetes.yaml", "").startswith(runner_files.HEADER):
            files |= found
    return Facts(files)


def plan(request: Request, facts: Facts) -> Plan:
    """Write what differs; name what is left over."""
    texts = runner_files.render(request.binding)
    changed = tuple(name for name, text in texts.items() if facts.files.get(name) != text)
    return Plan(
        status=Status.PLANNED if changed else Status.UNCHANGED,
        files=changed,
        stale=tuple(name for name in facts.files if name not in texts),
        texts=texts,
        before=facts.files,
    )


def check(plan: Plan, ports: Ports) -> Plan:  # noqa: ARG001 (the driver's signature; there is nothing to prove)
    return plan


def apply(plan: Plan, ports: Ports) -> Outcome:
    for name in plan.files:
        ports.folder.write(name, plan.texts[name])
    return Outcome(Status.DONE, plan.files, plan.stale)


STEP = Step("render", facts, plan, check, apply)
