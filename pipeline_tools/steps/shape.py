"""What every step looks like, and the one driver that runs them.

    facts(request, ports)  reads
    plan(request, facts)   decides: pure, frozen
    check(plan, ports)     proves by reading; returns the plan with what the proofs found
    ── shown; a dry run ends here ──
    apply(plan, ports)     writes; raises `Stale` when what the plan was made from has changed

A step module also has `request(options, receipt)` and `record(receipt, outcome)`, so that separate jobs and a
flow share all code.
"""

import logging
import random
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, Protocol, TypeVar, cast

from pipeline_tools.errors import Denied, PipelineError, Stale, Unavailable

if TYPE_CHECKING:  # whoever only shows what steps do does without it
    from pipeline_tools.text.receipt import Receipt

log = logging.getLogger(__name__)


PRIVATE = {"private": True}
"""Metadata of a plan's or outcome's field that is no part of the envelope."""


class Status(StrEnum):
    """How a plan stands or an outcome ended; the words of the JSON envelope."""

    DONE = "done"
    UNCHANGED = "unchanged"
    SUPERSEDED = "superseded"
    PLANNED = "planned"
    PENDING = "pending"
    FAILED = "failed"


class Outcome(Protocol):
    """What a step did. Frozen; its public fields are the envelope's `result`."""

    @property
    def status(self) -> Status: ...

    def summary(self) -> str:
        """One line for a person."""
        ...


OutcomeT = TypeVar("OutcomeT", bound=Outcome)
OutcomeT_co = TypeVar("OutcomeT_co", bound=Outcome, covariant=True)


class Plan(Protocol[OutcomeT_co]):
    """What a step will do. Frozen; its public fields are the envelope's `plan`.

    `status` is PLANNED when there is something to apply. `unread` holds what could not be read: a dry run
    shows it and plans all the same, a real run fails with the first of it.
    """

    @property
    def status(self) -> Status: ...

    @property
    def unread(self) -> tuple[PipelineError, ...]: ...

    def lines(self) -> Iterable[str]:
        """The plan for a person."""
        ...

    def foreseen(self) -> OutcomeT_co:
        """The outcome as far as the plan knows it; None in a field that is known only afterwards."""
        ...


RequestT = TypeVar("RequestT")
FactsT = TypeVar("FactsT")
PortsT = TypeVar("PortsT")
PlanT = TypeVar("PlanT", bound=Plan[Outcome])


@dataclass(frozen=True)
class Step(Generic[RequestT, PortsT, FactsT, PlanT, OutcomeT]):
    """The functions of one step module, as one value for the driver."""

    name: str
    facts: Callable[[RequestT, PortsT], FactsT]
    plan: Callable[[RequestT, FactsT], PlanT]
    check: Callable[[PlanT, PortsT], PlanT]
    apply: Callable[[PlanT, PortsT], OutcomeT]


class Voice(Protocol):
    """Who shows plans and outcomes; the console, or a test."""

    def step(self, name: str) -> AbstractContextManager[None]: ...

    def plan(self, name: str, plan: Plan[Outcome]) -> None: ...

    def outcome(self, name: str, outcome: Outcome) -> None: ...


@dataclass(frozen=True)
class Patience:
    """How long to go on trying, with full jitter between tries. All values in seconds.

    Source: AWS Architecture Blog, "Exponential Backoff And Jitter".
    """

    seconds: float
    base: float = 0.2
    longest: float = 5.0
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep

    def deadline(self) -> float:
        """The clock's reading at which patience ends."""
        return self.clock() + self.seconds

    def pause(self, attempt: int, deadline: float, what: str) -> None:
        """Sleep before attempt number `attempt` + 1.

        Raises:
            Unavailable: the deadline has passed; `what` says what was being tried.
        """
        if self.clock() >= deadline:
            raise Unavailable(
                f"{what}: not finished after {self.seconds:g} s and {attempt} attempts", hint="run it again"
            )
        ceiling = min(self.longest, self.base * 2.0 ** min(attempt, 30))
        self.sleep(random.uniform(0, ceiling))  # noqa: S311 (jitter, no secret)


@dataclass(frozen=True)
class Stage:
    """One step with what it needs to run in a release: the glue between the command line and the driver.

    `request` makes the step's request from the receipt so far, `ports` opens what it talks to, `record` writes
    its outcome into the receipt.
    """

    step: Step[Any, Any, Any, Any, Any]
    request: "Callable[[Receipt], Any]"
    ports: Callable[[], Any]
    record: "Callable[[Receipt, Any], Receipt]"


P = ParamSpec("P")
T = TypeVar("T")


@dataclass
class Reading:
    """Collects what could not be read, for `Plan.unread`."""

    errors: list[PipelineError] = field(default_factory=list)

    def __call__(self, default: T, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """`function`'s answer, or `default` where it is denied or unavailable."""
        try:
            return function(*args, **kwargs)
        except (Denied, Unavailable) as error:
            self.errors.append(error)
            return default

    @property
    def unread(self) -> tuple[PipelineError, ...]:
        return tuple(self.errors)


def run(
    step: Step[RequestT, PortsT, FactsT, PlanT, OutcomeT],
    request: RequestT,
    ports: PortsT,
    voice: Voice,
    *,
    dry_run: bool,
    patience: Patience,
) -> OutcomeT:
    """Run one step, or show what it would do; plan again for as long as it finds itself stale.

    Raises:
        PipelineError: what the step raises; Unavailable when it is still stale at the deadline.
    """
    deadline = patience.deadline()
    with voice.step(step.name):
        attempt = 0
        while True:
            attempt += 1
            try:
                return _once(step, request, ports, voice, dry_run=dry_run)
            except Stale as stale:
                log.info("%s: %s; planning again (attempt %d)", step.name, stale, attempt + 1)
                patience.pause(attempt, deadline, f"{step.name}: {stale}")


def _once(
    step: Step[RequestT, PortsT, FactsT, PlanT, OutcomeT],
    request: RequestT,
    ports: PortsT,
    voice: Voice,
    *,
    dry_run: bool,
) -> OutcomeT:
    plan = step.check(step.plan(request, step.facts(request, ports)), ports)
    if plan.unread and not dry_run:
        raise plan.unread[0]
    voice.plan(step.name, plan)
    if dry_run or plan.status is not Status.PLANNED:
        outcome = cast("OutcomeT", plan.foreseen())  # a step's plan foresees the step's own outcome
    else:
        outcome = _applied(step, plan, ports, voice)
    voice.outcome(step.name, outcome)
    return outcome


def _applied(
    step: Step[RequestT, PortsT, FactsT, PlanT, OutcomeT], plan: PlanT, ports: PortsT, voice: Voice
) -> OutcomeT:
    """Apply; of a failure show what was done before it."""
    try:
        return step.apply(plan, ports)
    except PipelineError as error:
        if error.done is not None:
            voice.outcome(step.name, cast("Outcome", error.done))
        raise


def advance(
    stage: Stage,
    receipt: "Receipt",
    voice: Voice,
    save: "Callable[[Receipt], None]",
    *,
    dry_run: bool,
    patience: Patience,
) -> "Receipt":
    """Run one stage on what the receipt says so far, and `save` what it did, even where it failed after that.

    Returns:
        The receipt with what the stage did (or, in a dry run, would do).
    """
    request, ports = stage.request(receipt), stage.ports()
    try:
        outcome = run(stage.step, request, ports, voice, dry_run=dry_run, patience=patience)
    except PipelineError as error:
        if error.done is not None:
            save(stage.record(receipt, error.done))
        raise
    after = stage.record(receipt, outcome)
    save(after)
    return after


def look(stage: Stage, receipt: "Receipt") -> None:
    """Read, plan and prove, and no more: what stands in the way of a later stage shows before an earlier one writes.

    Raises:
        PipelineError: what the step's facts, plan or check raise, and what could not be read.
    """
    request, ports = stage.request(receipt), stage.ports()
    plan = stage.step.check(stage.step.plan(request, stage.step.facts(request, ports)), ports)
    if plan.unread:
        raise plan.unread[0]
