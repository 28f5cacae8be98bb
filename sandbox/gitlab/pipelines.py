"""Pipelines that move through GitLab's states, by the clock or by hand.

States: GitLab docs, Pipelines API, "List project pipelines", attribute `status`. No thread advances anything: a
pipeline's state is computed from its script and the time, when somebody asks.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sandbox.gitlab.model import User

FINISHED = frozenset({"success", "failed", "canceled", "skipped"})
NOT_STARTED = frozenset({"created", "waiting_for_resource", "preparing", "pending", "scheduled"})


@dataclass(frozen=True)
class JobScript:
    """How one job ends. `status` None: as the pipeline ends."""

    name: str
    stage: str = "deploy"
    status: str | None = None
    failure_reason: str | None = None
    allow_failure: bool = False


@dataclass(frozen=True)
class Script:
    """The states a pipeline passes, the last one final; `retried` is how a retry of it ends."""

    statuses: tuple[str, ...] = ("created", "pending", "running", "success")
    jobs: tuple[JobScript, ...] = (JobScript("deploy"),)
    retried: str = "success"


@dataclass
class Pipeline:
    """One pipeline. `step` is the seconds each state lasts; None: only `advance` moves it.

    `appears` is when the API first shows it: GitLab creates the pipelines of a push asynchronously.
    """

    id: int
    iid: int
    project_id: int
    ref: str
    sha: str
    before_sha: str
    tag: bool
    source: str
    user: "User"
    script: Script
    step: float | None
    created: float
    appears: float
    variables: list[dict[str, str]] = field(default_factory=list)
    inputs: dict[str, Any] = field(default_factory=dict)
    job_ids: tuple[int, ...] = ()
    clock: Callable[[], float] = time.time
    begun: float = 0.0
    moves: list[float] = field(default_factory=list)
    canceled_at: float | None = None

    def __post_init__(self) -> None:
        self.begun = self.begun or self.created

    @property
    def position(self) -> int:
        passed = len(self.moves)
        if self.step is not None:
            passed += int(max(0.0, self.clock() - self.begun) / self.step)
        return min(passed, len(self.script.statuses) - 1)

    @property
    def status(self) -> str:
        return "canceled" if self.canceled_at is not None else self.script.statuses[self.position]

    @property
    def finished(self) -> bool:
        return self.status in FINISHED

    def advance(self) -> str:
        """Move one state on and return it."""
        self.moves.append(self.clock())
        return self.status

    def cancel(self) -> None:
        """Cancel what has not finished; a finished pipeline stays as it is."""
        if not self.finished:
            self.canceled_at = self.clock()

    def retry(self) -> None:
        """Run a failed or canceled pipeline again, to the end its script gives for retries."""
        if self.status in {"failed", "canceled"}:
            self.script = replace(
                self.script, statuses=("pending", "running", self.script.retried), jobs=_again(self.script)
            )
            self.begun, self.moves, self.canceled_at = self.clock(), [], None

    def reached(self, position: int) -> float:
        """When the state at `position` began, in epoch seconds."""
        if self.step is None:
            return self.begun if position == 0 else self.moves[position - 1]
        return max(self.begun, min(self.begun + (position - len(self.moves)) * self.step, self.clock()))

    @property
    def updated(self) -> float:
        return self.canceled_at if self.canceled_at is not None else self.reached(self.position)

    @property
    def started_at(self) -> float | None:
        running = [*self.script.statuses, "running"].index("running")
        return self.reached(running) if running <= self.position else None

    @property
    def finished_at(self) -> float | None:
        return self.updated if self.finished else None

    def job_status(self, job: JobScript) -> str:
        """Give the state of one job while its pipeline is where it is."""
        status = self.status
        if status in FINISHED | {"manual"}:
            return status if status == "canceled" else job.status or status
        return "created" if status in NOT_STARTED - {"pending"} else status


def _again(script: Script) -> tuple[JobScript, ...]:
    return tuple(replace(job, status=None, failure_reason=None) for job in script.jobs)
