"""The unlock step: who holds a state's lock, and its removal where that is safe."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from pipeline_tools.errors import PipelineError, Refused
from pipeline_tools.steps.planning import Root
from pipeline_tools.steps.shape import PRIVATE, Reading, Status, Step
from pipeline_tools.text import packages

if TYPE_CHECKING:
    from pipeline_tools.adapters.gitlab import Job, Project
    from pipeline_tools.adapters.gitlab_records import Records
    from pipeline_tools.adapters.terraform import Terraform
    from pipeline_tools.text.terraform_said import Lock


@dataclass(frozen=True)
class Request:
    """Remove the lock of `root`; `force`: whoever holds it."""

    root: Root
    force: bool


@dataclass(frozen=True)
class Ports:
    """`registry` has the record of who began to apply, `jobs` reads jobs (None: nobody may)."""

    terraform: "Terraform"
    registry: "Records | None"
    jobs: "Project | None"


@dataclass(frozen=True)
class Facts:
    """The lock, the job that took it if it is one of ours, and that job as it is now."""

    lock: "Lock | None"
    holder: dict[str, Any] | None
    job: "Job | None"
    unread: tuple[PipelineError, ...]


@dataclass(frozen=True)
class Outcome:
    """The lock that was removed, or that is still there."""

    status: Status
    root: str
    lock: str | None
    said: str

    def summary(self) -> str:
        return f"{self.root}: {self.said}"


@dataclass(frozen=True)
class Plan:
    """Which lock is removed, and what stands in the way."""

    status: Status
    root: str
    lock: "Lock | None"
    job: "Job | None"
    said: str
    unread: tuple[PipelineError, ...] = ()
    request: Request | None = field(default=None, metadata=PRIVATE)

    def lines(self) -> Iterator[str]:
        yield f"{self.root}: {self.said}"
        if self.job:
            yield f"  taken by job {self.job.name} ({self.job.status}) {self.job.url}"

    def foreseen(self) -> Outcome:
        return Outcome(self.status, self.root, self.lock.id if self.lock else None, self.said)


def facts(request: Request, ports: Ports) -> Facts:
    """Ask for the lock, and whose it is."""
    ports.terraform.init(request.root.state.words)
    lock = ports.terraform.lock()
    if lock is None:
        return Facts(None, None, None, ())
    read = Reading()
    holders = read([], _holders, request.root.path, ports.registry) if ports.registry else []
    found: list[tuple[dict[str, Any], Job | None]] = []
    for holder in holders:
        number = holder.get("job")
        job = read(None, ports.jobs.job, number) if ports.jobs and isinstance(number, int) else None
        if _took(lock, holder, job):
            found.append((holder, job))
    # Several may have it, on one host or as one user: while one of them may still run, it is that one's.
    running = (item for item in found if item[1] is None or not item[1].has_ended)
    for holder, job in (*running, *found):
        return Facts(lock, holder, job, read.unread)
    return Facts(lock, None, None, read.unread)


def _holders(root: str, registry: "Records") -> list[dict[str, Any]]:
    """The jobs that said last that they begin to apply."""
    place = packages.holder(root)
    return packages.holders(registry.package_file(place.name, place.version, place.file, most=1 << 16))


def _took(lock: "Lock", holder: dict[str, Any], job: "Job | None") -> bool:
    """Whether the lock can be that job's.

    Elsewhere Terraform wrote `user@host` into it. GitLab knows a user and a time of its own clock: a job that began
    after that only waited for the lock.
    """
    if "@" in lock.who:
        return holder.get("host") == lock.who.rpartition("@")[2]
    if job is None or job.user != lock.who or not job.started_at:
        return False
    return datetime.fromisoformat(job.started_at) <= datetime.fromisoformat(lock.created)


def plan(request: Request, facts: Facts) -> Plan:
    """Remove it only if it is ours and its job has ended, or by force."""
    root, lock = request.root.path, facts.lock
    if lock is None:
        return Plan(Status.UNCHANGED, root, None, None, "not locked", request=request)
    refusal = None if request.force else _refusal(root, facts)
    said = f"locked by {lock}"
    return Plan(Status.PLANNED, root, lock, facts.job, said, (refusal,) if refusal else (), request)


def _refusal(root: str, facts: Facts) -> PipelineError | None:
    hint = "wait for it, or remove the lock all the same with --force"
    if facts.holder is None:
        return Refused(f"{root}: locked by {facts.lock}, which is none of our jobs", hint=hint)
    if facts.job is None:
        name = facts.holder.get("url") or facts.holder.get("job")
        return Refused(f"{root}: whether job {name} has ended cannot be read", hint=hint)
    if not facts.job.has_ended:
        return Refused(f"{root}: job {facts.job.url} is {facts.job.status} and holds the lock", hint=hint)
    return None


def check(plan: Plan, _ports: Ports) -> Plan:
    """Nothing is left to prove."""
    return plan


def apply(plan: Plan, ports: Ports) -> Outcome:
    """Remove the lock by its ID."""
    lock = plan.lock
    if lock is None:
        return plan.foreseen()
    ports.terraform.unlock(lock.id)
    return Outcome(Status.DONE, plan.root, lock.id, f"the lock of {lock.who} is removed")


STEP = Step("unlock", facts, plan, check, apply)
