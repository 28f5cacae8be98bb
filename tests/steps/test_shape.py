"""The driver: a dry run stops before apply, staleness plans again, what is unread stops a real run."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import pytest

from pipeline_tools.errors import Denied, PipelineError, Stale, Unavailable
from pipeline_tools.steps.shape import Outcome, Patience, Plan, Reading, Status, Step, run


@dataclass(frozen=True)
class Done:
    status: Status
    value: int

    def summary(self) -> str:
        return str(self.value)


@dataclass(frozen=True)
class Planned:
    status: Status
    value: int
    unread: tuple[PipelineError, ...] = ()

    def lines(self) -> Iterator[str]:
        yield f"+ {self.value}"

    def foreseen(self) -> Done:
        return Done(self.status, self.value)


@dataclass
class Shelf:
    """A value that others change `races` times while we are at it."""

    value: int = 0
    races: int = 0
    writes: int = 0
    error: PipelineError | None = None


class Silent:
    def __init__(self) -> None:
        self.plans: list[Plan[Outcome]] = []

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        yield

    def plan(self, name: str, plan: Plan[Outcome]) -> None:
        self.plans.append(plan)

    def outcome(self, name: str, outcome: Outcome) -> None:
        pass


def apply(plan: Planned, shelf: Shelf) -> Done:
    if shelf.races:
        shelf.races -= 1
        raise Stale("somebody was faster")
    shelf.value, shelf.writes = plan.value, shelf.writes + 1
    return replace(plan.foreseen(), status=Status.DONE)


def facts(request: int, shelf: Shelf) -> tuple[int, tuple[PipelineError, ...]]:
    read = Reading()

    def value() -> int:
        if shelf.error:
            raise shelf.error
        return shelf.value

    return read(-1, value), read.unread


STEP = Step(
    "shelf",
    facts,
    lambda request, found: Planned(
        Status.UNCHANGED if found[0] == request else Status.PLANNED, request, found[1]
    ),
    lambda plan, shelf: plan,
    apply,
)
QUICK = Patience(5, base=0.001)


def test_applies_once() -> None:
    shelf = Shelf()
    assert run(STEP, 1, shelf, Silent(), dry_run=False, patience=QUICK).status is Status.DONE
    assert run(STEP, 1, shelf, Silent(), dry_run=False, patience=QUICK).status is Status.UNCHANGED
    assert shelf.writes == 1


def test_a_dry_run_stops_before_apply() -> None:
    shelf, voice = Shelf(), Silent()
    assert run(STEP, 1, shelf, voice, dry_run=True, patience=QUICK).status is Status.PLANNED
    assert shelf == Shelf()
    assert voice.plans


def test_staleness_plans_again() -> None:
    shelf, voice = Shelf(races=3), Silent()
    assert run(STEP, 1, shelf, voice, dry_run=False, patience=QUICK).status is Status.DONE
    assert len(voice.plans) == 4


def test_staleness_ends_at_the_deadline() -> None:
    shelf = Shelf(races=10**9)
    with pytest.raises(Unavailable, match=r"somebody was faster: not finished after 0\.01 s"):
        run(STEP, 1, shelf, Silent(), dry_run=False, patience=Patience(0.01, base=0.001))
    assert shelf.writes == 0


@pytest.mark.parametrize("error", [Denied("no"), Unavailable("away")])
def test_what_is_unread_stops_a_real_run_and_not_a_dry_one(error: PipelineError) -> None:
    shelf, voice = Shelf(error=error), Silent()
    with pytest.raises(type(error)):
        run(STEP, 1, shelf, voice, dry_run=False, patience=QUICK)
    assert run(STEP, 1, shelf, voice, dry_run=True, patience=QUICK).status is Status.PLANNED
    assert voice.plans[-1].unread == (error,)


def test_any_other_error_is_no_reading() -> None:
    with pytest.raises(PipelineError, match="malformed"):
        run(STEP, 1, Shelf(error=PipelineError("malformed")), Silent(), dry_run=True, patience=QUICK)


def test_pauses_have_full_jitter_below_a_ceiling() -> None:
    slept: list[float] = []
    patience = Patience(1e9, base=1, longest=8, clock=lambda: 0, sleep=slept.append)
    for attempt in range(1, 200):
        patience.pause(attempt, patience.deadline(), "x")
    assert 0 <= min(slept) < max(slept) <= 8
