"""The drift step: what differs from what was applied though nobody changed the configuration; said in one issue a root."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pipeline_tools.errors import PipelineError, Refused
from pipeline_tools.steps import planning
from pipeline_tools.steps.planning import Planned, Root, Workshop
from pipeline_tools.steps.shape import PRIVATE, Reading, Status, Step
from pipeline_tools.text import packages, plan_review, terraform_note
from pipeline_tools.text.passport import Made, Passport

if TYPE_CHECKING:
    from pipeline_tools.adapters.gitlab_records import Records

log = logging.getLogger(__name__)

LABEL = "terraform-drift"


@dataclass(frozen=True)
class Request:
    """Look at `root`."""

    root: Root
    made: Made


@dataclass(frozen=True)
class Ports:
    """`registry` has what was applied last, `issues` is where drift is said (None: nobody may)."""

    shop: Workshop
    registry: "Records | None"
    issues: "Records | None"


@dataclass(frozen=True)
class Facts:
    """A plan of today, and the passport of what was applied last."""

    planned: Planned
    applied: Passport | None
    unread: tuple[PipelineError, ...]


@dataclass(frozen=True)
class Outcome:
    """What drifted, and what is configured and not applied yet, by address; the issue that says so."""

    status: Status
    root: str
    drifted: tuple[str, ...]
    unapplied: tuple[str, ...]
    issue: str | None

    def summary(self) -> str:
        drifted = f"{len(self.drifted)} drifted" if self.drifted else "no drift"
        waiting = f", {len(self.unapplied)} configured and not applied" if self.unapplied else ""
        return f"{self.root}: {drifted}{waiting}" + (f" {self.issue}" if self.issue else "")


@dataclass(frozen=True)
class Plan:
    """The issue to write, or to close."""

    status: Status
    root: str
    drifted: tuple[str, ...]
    unapplied: tuple[str, ...]
    title: str
    body: str = field(metadata=PRIVATE)
    is_leaking: bool = field(default=False, metadata=PRIVATE)
    unread: tuple[PipelineError, ...] = field(default=(), metadata=PRIVATE)

    def lines(self) -> Iterator[str]:
        yield f"{self.root}: {'drift' if self.drifted else 'no drift'}"
        yield from (f"  drifted: {address}" for address in self.drifted)
        yield from (f"  configured, not applied: {address}" for address in self.unapplied)

    def foreseen(self) -> Outcome:
        return Outcome(self.status, self.root, self.drifted, self.unapplied, None)


def facts(request: Request, ports: Ports) -> Facts:
    """Plan without the lock; nothing is written, the state least of all."""
    planned = planning.plan(request.root, request.made, ports.shop)
    read = Reading()
    applied = read(None, _applied, request.root, ports.registry) if ports.registry else None
    return Facts(planned, applied, read.unread)


def _applied(root: Root, registry: "Records") -> Passport | None:
    """What was applied last, as the holder of our key says it: whoever may run a pipeline may write packages."""
    found = planning.kept(packages.last_applied(root.path), root.path, registry)
    return found if found and (not root.key or found.verify(root.key)) else None


def separate(planned: Planned, applied: Passport | None) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The addresses of what drifted, and of what newer configuration asks for.

    What a refresh found changed is drift, whatever the configuration says. A change that a plan would make is drift
    where the configuration is the one that was applied last: then it is the world that has moved. What was destroyed
    on purpose is only configured.
    """
    found = [change.address for change in planned.summary.drift]
    wanted = [change.address for change in planned.summary.changes if change.address not in found]
    is_applied = (
        applied is not None
        and applied.mode == "normal"
        and plan_review.same_content(applied, planned.passport)
    )
    return (tuple(found + wanted), ()) if is_applied else (tuple(found), tuple(wanted))


def plan(request: Request, facts: Facts) -> Plan:
    """Tell drift from configuration, and write the issue."""
    for error in facts.unread:
        log.warning("what was applied last cannot be read: %s", error)
    drifted, unapplied = separate(facts.planned, facts.applied)
    made, summary = facts.planned.passport.made, facts.planned.summary
    issue = terraform_note.drift_issue(
        request.root.path, summary, unapplied, pipeline=made.pipeline or made.job
    )
    return Plan(
        Status.PLANNED,
        request.root.path,
        drifted,
        unapplied,
        issue.title,
        issue.body,
        is_leaking=facts.planned.is_leaking,
    )


def check(plan: Plan, ports: Ports) -> Plan:
    """The leak gate, as for plans.

    Raises:
        Refused: a secret is in what would be written.
    """
    if plan.is_leaking or ports.shop.mask.finds(plan.body):
        raise Refused(
            f"{plan.root}: a secret value is in the plan; no issue is written",
            hint="mark the variable, output or attribute that carries it as sensitive",
        )
    return plan


def apply(plan: Plan, ports: Ports) -> Outcome:
    """One open issue a root: written while there is drift, closed when there is none."""
    return Outcome(Status.DONE, plan.root, plan.drifted, plan.unapplied, _issue(plan, ports.issues))


def _issue(plan: Plan, issues: "Records | None") -> str | None:
    if issues is None:
        if plan.drifted:
            log.warning("%s: no issue is written: PT_GITLAB_TOKEN is empty", plan.root)
        return None
    if plan.drifted:
        return issues.write_issue(LABEL, plan.title, plan.body).url
    closed = issues.close_issue(LABEL, plan.title, "No drift any more.")
    return closed.url if closed else None


STEP = Step("drift", facts, plan, check, apply)
