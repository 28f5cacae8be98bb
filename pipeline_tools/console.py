"""The one voice: plans, outcomes and logs for people, one JSON document for programs. All of it masked."""

import io
import json
import logging
import re
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any, TextIO

from pipeline_tools.errors import PipelineError, Refused
from pipeline_tools.steps.shape import Outcome, Plan, Status
from pipeline_tools.text.masks import MASKED, Mask, Secret
from pipeline_tools.text.printing import printed

SCHEMA = 1
WIDTH = 8  # the longest step name and one more


class Console:
    """What a command says. `output` is `text` or `json`; in JSON stdout holds one document and all else is stderr.

    `is_flow` keeps plans and results by step in that document. `is_answer` leaves stdout to `answer` in text too,
    so that a shell can take what a command found. `is_streaming`: a child writes beside us, so nothing is shown live.

    In a GitLab job log each step is a collapsible section (docs.gitlab.com/ci/jobs/job_logs, "Custom
    collapsible sections"); on a terminal the step under way is shown live; elsewhere there are plain lines.
    """

    def __init__(
        self, stdout: TextIO | None = None, stderr: TextIO | None = None, *, gitlab: bool = False
    ) -> None:
        self.mask = Mask()
        self.output = "text"
        self.is_flow = False
        self.is_answer = False
        self.is_streaming = False
        self.warnings: list[str] = []
        self._stdout, self._stderr = _tolerant(stdout or sys.stdout), _tolerant(stderr or sys.stderr)
        self._gitlab = gitlab
        self._plans: dict[str, Any] = {}
        self._results: dict[str, Any] = {}
        self._statuses: list[Status] = []
        self._failures: list[PipelineError] = []
        self._live: Any = None
        self._began = time.monotonic()
        self._finished = False
        _hear(self)

    # What the driver says (steps.shape.Voice) ------------------------------------------------------------

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """A step begins and ends."""
        self._began = time.monotonic()
        with self._section(name), self._progress(name):
            yield

    def plan(self, name: str, plan: Plan[Outcome]) -> None:
        self._plans[name] = _plain(plan)
        lines = [line for text in (*plan.lines(), *_missing(plan)) for line in _indented(text)]
        for number, line in enumerate(lines):
            self._say(f"{'' if number else name:{WIDTH}} {line}")

    def outcome(self, name: str, outcome: Outcome) -> None:
        self._results[name] = _plain(outcome)
        self._statuses.append(outcome.status)
        seconds = time.monotonic() - self._began
        self._say(f"{name:{WIDTH}} {outcome.status:10} {seconds:5.1f} s  {outcome.summary()}")

    # What the command and its boundary say ---------------------------------------------------------------

    def answer(self, line: str) -> None:
        """What was asked for, alone on stdout; in JSON the document says it."""
        if self.output != "json":
            self._write(self._stdout, line)

    @property
    def has_colours(self) -> bool:
        """Whether who reads shows colours: a job log or a terminal."""
        return self._gitlab or self._stdout.isatty()

    def failure(self, error: PipelineError) -> None:
        """A failure after which the command goes on; it is in the document, too."""
        self._failures.append(error)
        self._write(self._stderr, _told(error))

    def verbose(self) -> None:
        """Let the debug lines of this package through (`-v`)."""
        logging.getLogger("pipeline_tools").setLevel(logging.DEBUG)

    def log(self, level: int, line: str) -> None:
        if level >= logging.WARNING:
            self.warnings.append(self.mask.text(line))
        if self._live is not None and level == logging.INFO:
            self._live.update(printed(self.mask.text(line)).replace("[", "\\["))
        else:
            prefix = "warning: " if level >= logging.WARNING else ""
            self._write(self._stderr, prefix + line)

    def finish(self, command: str, exit_code: int, error: BaseException | None = None) -> None:
        """The end: in JSON the document, in text the error. Once, whatever happens after."""
        if self._finished:
            return
        self._finished = True
        if isinstance(error, PipelineError):
            if error not in self._failures:
                self._write(self._stderr, _told(error))
        elif error is not None and exit_code == EXIT_BUG:
            trace = "".join(traceback.format_exception(error))
            self._write(
                self._stderr, f"{trace}error: this is a bug in pipeline-tools; please report the lines above"
            )
        if self.output == "json":
            self._write(self._stdout, json.dumps(self._envelope(command, exit_code, error)))

    def _envelope(self, command: str, exit_code: int, error: BaseException | None) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "command": command,
            "status": self._status(exit_code),
            "exit_code": exit_code,
            "plan": self._plans if self.is_flow else next(iter(self._plans.values()), {}),
            "result": self._results if self.is_flow else next(iter(self._results.values()), {}),
            "warnings": self.warnings,
            "errors": [_error(item, exit_code) for item in self._errors(error)],
        }

    def _errors(self, error: BaseException | None) -> list[BaseException]:
        others = [item for item in self._failures if item is not error]
        return [error, *others] if error else [*others]

    def _status(self, exit_code: int) -> str:
        if exit_code:
            return "interrupted" if exit_code in {EXIT_INTERRUPTED, EXIT_TERMINATED} else "failed"
        order = (Status.PENDING, Status.SUPERSEDED, Status.PLANNED, Status.DONE)
        return next((status for status in order if status in self._statuses), Status.UNCHANGED)

    # How it is said --------------------------------------------------------------------------------------

    @contextmanager
    def _section(self, name: str) -> Iterator[None]:
        if not self._gitlab or self.output == "json":
            yield
            return
        key = re.sub(r"[^A-Za-z0-9_.-]", "-", name)
        self._mark(f"section_start:{int(time.time())}:{key}[collapsed=false]\r\x1b[0K{printed(name)}")
        try:
            yield
        finally:
            self._mark(f"section_end:{int(time.time())}:{key}\r\x1b[0K")

    def _mark(self, text: str) -> None:
        """GitLab's own control characters, the only ones that are written as they are."""
        self._stdout.write(f"\x1b[0K{text}\n")
        self._stdout.flush()

    @contextmanager
    def _progress(self, name: str) -> Iterator[None]:
        if self.output == "json" or self._gitlab or self.is_streaming or not self._stderr.isatty():
            yield
            return
        from rich.console import Console as Terminal  # noqa: PLC0415 (only a terminal pays for it)

        with Terminal(file=self._stderr).status(name) as live:
            self._live = live
            try:
                yield
            finally:
                self._live = None

    def _say(self, line: str) -> None:
        self._write(self._stderr if self.output == "json" or self.is_answer else self._stdout, line)

    def _write(self, stream: TextIO, text: str) -> None:
        """Write a line; what is shown live makes way for it and comes back below."""
        if self._live is not None:
            self._live.stop()
        stream.write(printed(self.mask.text(text)) + "\n")
        stream.flush()
        if self._live is not None:
            self._live.start()


EXIT_BUG, EXIT_INTERRUPTED, EXIT_TERMINATED = 70, 130, 143


def _told(error: PipelineError) -> str:
    """An error for people: its details first, so that the line that says it all stands last, with its hint."""
    first, *others = error.message.splitlines() or [""]
    lines = [*(f"  | {line}" for line in others), f"error: {first}"]
    return "\n".join([*lines, f"hint: {error.hint}"] if error.hint else lines)


def _indented(text: str) -> list[str]:
    """The lines of a text; those after the first stand two deeper than it."""
    first, *others = text.splitlines() or [""]
    depth = len(first) - len(first.lstrip()) + 2
    return [first, *(" " * depth + line for line in others)]


def _missing(plan: Plan[Outcome]) -> Iterator[str]:
    """What stands in the way of the plan, each reason once."""
    for error in dict.fromkeys((type(error), error.message, error.hint) for error in plan.unread):
        kind, message, hint = error
        yield f"{'would be refused' if kind is Refused else 'not read'}: {message.splitlines()[0]}"
        if hint:
            yield f"  hint: {hint}"


def _tolerant(stream: TextIO) -> TextIO:
    """A stream that escapes what its encoding lacks (→ in a job with LANG=C) instead of failing."""
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="backslashreplace")
    return stream


class _Handler(logging.Handler):
    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        self._console.log(record.levelno, record.getMessage())


def _hear(console: Console) -> None:
    """Make `console` the only handler of the process."""
    logging.getLogger().handlers = [_Handler(console)]
    logging.getLogger().setLevel(logging.WARNING)
    logging.getLogger("urllib3").setLevel(
        logging.ERROR
    )  # it says each retry; what fails in the end is said by us
    logging.getLogger("pipeline_tools").setLevel(logging.INFO)


def _plain(value: Any) -> Any:  # noqa: PLR0911 (one line a type)
    """`value` as JSON has it: dataclasses as objects without their private fields, errors as their message."""
    if is_dataclass(value) and not isinstance(value, type):
        return {
            f.name: _plain(getattr(value, f.name)) for f in fields(value) if not f.metadata.get("private")
        }
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (tuple, list, set, frozenset)):
        return [_plain(item) for item in value]
    if isinstance(value, PipelineError):
        return value.message
    if isinstance(value, Secret):
        return MASKED
    if isinstance(value, Enum):
        return value.value
    return value if value is None or isinstance(value, (bool, int, float)) else str(value)


def _error(error: BaseException, exit_code: int) -> dict[str, str]:
    if isinstance(error, PipelineError):
        return {"code": error.code, "message": error.message, "hint": error.hint}
    codes = {2: "usage", EXIT_BUG: "bug", EXIT_INTERRUPTED: "interrupted", EXIT_TERMINATED: "terminated"}
    message = getattr(error, "format_message", lambda: f"{type(error).__name__}: {error}")()
    return {"code": codes.get(exit_code, "failed"), "message": message, "hint": ""}
