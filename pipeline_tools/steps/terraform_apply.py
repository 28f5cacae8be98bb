"""The apply step: exactly the plan that was made, or, where the state has moved, one that does exactly the same."""

import json
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from pipeline_tools.errors import Interrupted, PipelineError, Refused, Unavailable
from pipeline_tools.steps import planning
from pipeline_tools.steps.planning import Content, Planned, Root, Standing, Workshop
from pipeline_tools.steps.shape import PRIVATE, Status, Step
from pipeline_tools.text import packages, passport, plan_review
from pipeline_tools.text.packages import Place
from pipeline_tools.text.passport import Made, Mode, Passport, Verdict
from pipeline_tools.text.plan_review import Budget
from pipeline_tools.text.terraform_ui import Told

if TYPE_CHECKING:
    from pipeline_tools.adapters.gitlab_records import Records
    from pipeline_tools.adapters.terraform import Applied

log = logging.getLogger(__name__)

AGAIN = "run the plan job again, and apply that"


@dataclass(frozen=True)
class Request:
    """Apply the saved plan of `root`.

    `max_deletes`, `approved` (passport ids) and `as_reviewed` are the rules; `lock_timeout` is in seconds; `holder`
    names this job in the record that `unlock` reads; `mode` is what the plan must be for.
    """

    root: Root
    made: Made
    max_deletes: int
    approved: tuple[str, ...]
    as_reviewed: bool
    lock_timeout: float
    holder: Mapping[str, Any]
    mode: Mode = "normal"


@dataclass(frozen=True)
class Ports:
    """What an apply is given.

    `passport` reads the plan's passport, `opened` gives its file (decrypted, as long as this runs), and `discard`
    removes what is kept of it. `registry` keeps records (None: nobody may). `keep` encrypts a state that could not be stored, and says where.
    """

    shop: Workshop
    passport: Callable[[], Passport]
    opened: Callable[[], Path]
    discard: Callable[[], None]
    registry: "Records | None"
    narration: Callable[[], Told]
    keep: Callable[[Path], str]


@dataclass(frozen=True)
class Facts:
    """The plan's passport, its file, who applied it already, and, on a moved state, a plan made afresh."""

    made: Passport
    path: Path | None
    done_by: Made | None
    afresh: Planned | None


@dataclass(frozen=True)
class Outcome:
    """What was applied of one root: addresses with what happened to them, as Terraform told it.

    `unfinished` is what was begun and failed, or was cut off.
    """

    status: Status
    root: str
    mode: str
    passport: str
    applied: tuple[str, ...]
    unfinished: tuple[str, ...]
    said: str

    def summary(self) -> str:
        return f"{self.root}: {self.said}"


@dataclass(frozen=True)
class Plan:
    """The plan file that will be applied; `unread` holds the rule that stands in the way."""

    status: Status
    root: str
    mode: str
    passport: Passport
    said: str
    deletions: tuple[str, ...]
    path: Path | None = field(metadata=PRIVATE)
    request: Request = field(metadata=PRIVATE)
    unread: tuple[PipelineError, ...] = ()

    def lines(self) -> Iterator[str]:
        yield f"{self.root}: {self.said}"
        yield from (f"  {line}" for line in self.deletions)

    def foreseen(self) -> Outcome:
        return Outcome(self.status, self.root, self.mode, self.passport.id, (), (), self.said)


def facts(request: Request, ports: Ports) -> Facts:
    """Open the plan and look at everything it was bound to; plan afresh where only the state has moved."""
    made = ports.passport()
    _verify(request, made, planning.content(request.root, ports.shop))
    done_by = _done_by(request, made, ports)
    if done_by:
        return Facts(made, None, done_by, None)
    _nothing_left(made, ports)
    path = ports.opened()
    standing = planning.prepare(request.root, ports.shop)
    _same_tool(made, standing)
    _is_as_the_passport_says(request, made, path, ports)
    has_moved = standing.state.serial != made.state.serial
    return Facts(made, path, None, _afresh(request, ports, made) if has_moved else None)


def _nothing_left(made: Passport, ports: Ports) -> None:
    """On the state from before, the work whose state lies here would be done again; and `_left` would take it for ours."""
    state = ports.shop.terraform.errored_state()
    if state:
        raise Refused(
            f"{made.root}: {state.name} lies there: a state that an apply before could not store",
            hint="look at it, and store it (terraform state push), or remove it if it is stored already",
        )


def _is_as_the_passport_says(request: Request, made: Passport, path: Path, ports: Ports) -> None:
    """The passport is what people approve: plan file and changes must be the ones it names."""
    if planning.digest(path) != made.plan:
        raise Refused(f"{made.root}: the plan file is not the one of its passport", hint=AGAIN)
    found = planning.summarise(path, request.root, ports.shop)
    if (found.changes, found.outputs) != (made.changes, made.outputs):
        raise Refused(f"{made.root}: the plan does not do what its passport says", hint=AGAIN)


def _verify(request: Request, made: Passport, content: Content) -> None:
    """What can be known without asking anybody.

    Raises:
        Refused: the plan is for something else, or was changed.
    """
    root = request.root
    reasons = (
        (
            bool(root.key) and not made.verify(root.key),
            "the passport's seal is not ours: PT_PASSPORT_KEY differs, or it was changed",
        ),
        (
            (made.root, made.state.name) != (root.path, root.state.name),
            f"the plan is for {made.root} and {made.state.name}",
        ),
        (made.mode != request.mode, f"the plan is one of mode {made.mode}, not {request.mode}"),
        (made.is_dirty, "it was planned in a checkout that was not as its commit"),
        (bool(content.differing), f"the checkout is not as its commit: {', '.join(content.differing[:3])}"),
        (dict(made.trees) != dict(content.trees), _moved(made.trees, content.trees)),
        (made.lock_file != content.lock_file, "the provider lock file is another one"),
        # Last, because what differs says more than that another pipeline made the plan.
        (_is_foreign(made.made, request.made), f"the plan is of another pipeline, {made.made.pipeline}"),
    )
    for is_so, reason in reasons:
        if is_so:
            raise Refused(f"{root.path}: {reason}", hint=AGAIN)


def _is_foreign(planned: Made, applying: Made) -> bool:
    """Whether two pipelines are known, and they are two: a plan goes with its own pipeline's approvals."""
    return bool(planned.pipeline and applying.pipeline) and planned.pipeline != applying.pipeline


def _moved(before: Mapping[str, str], now: Mapping[str, str]) -> str:
    paths = sorted(path for path in {*before, *now} if before.get(path) != now.get(path))
    return f"the plan was made from another content of {', '.join(paths)}"


def _same_tool(made: Passport, standing: Standing) -> None:
    if made.tool != standing.tool:
        was, now = (f"{tool.name} {tool.version}" for tool in (made.tool, standing.tool))
        raise Refused(f"{made.root}: planned by {was}, and this is {now}", hint=AGAIN)
    if dict(made.providers) != dict(standing.providers):
        raise Refused(f"{made.root}: the providers have other versions than in the plan", hint=AGAIN)
    if made.state.lineage not in {"", standing.state.lineage}:
        raise Refused(
            f"{made.root}: the state is another one (lineage {standing.state.lineage or 'none'})", hint=AGAIN
        )


def _done_by(request: Request, made: Passport, ports: Ports) -> Made | None:
    """Who applied this plan already: whoever may run a pipeline may write packages, but not with our seal."""
    if ports.registry is None:
        return None
    key, found = (
        request.root.key,
        planning.kept(packages.applied(made.root, made.plan), made.root, ports.registry),
    )
    is_ours = found is not None and (not key or found.verify(key))
    return found.made if found and is_ours and found.plan == made.plan else None


def _afresh(request: Request, ports: Ports, made: Passport) -> Planned:
    log.info("%s: the state has moved since the plan; planning again", made.root)
    return planning.plan(request.root, made.made, ports.shop, mode=made.mode)


def plan(request: Request, facts: Facts) -> Plan:
    """Decide which plan file is applied, if any.

    Raises:
        Refused: a fresh plan on the moved state would do something else.
    """
    made, afresh = facts.made, facts.afresh
    if facts.done_by:
        by = facts.done_by.pipeline or facts.done_by.job or facts.done_by.commit
        return _planned(request, facts, Status.UNCHANGED, f"already applied by {by}")
    if not _has_changes(afresh.passport if afresh else made):
        return _planned(request, facts, Status.UNCHANGED, "nothing to apply")
    if afresh is None:
        return _planned(request, facts, Status.PLANNED, f"apply passport {made.id}")
    found = plan_review.compare(made, afresh.passport)
    if found.verdict is not Verdict.AS_REVIEWED:
        head = f"{made.root}: the state has moved, and a fresh plan is not known to do the same"
        raise Refused("\n".join((head, *found.lines)), hint=AGAIN)
    said = f"apply passport {made.id}, planned again on the moved state: the same"
    return _planned(request, facts, Status.PLANNED, said)


def _has_changes(made: Passport) -> bool:
    return bool(made.changes or made.outputs)


def _planned(request: Request, facts: Facts, status: Status, said: str) -> Plan:
    made = facts.made
    budget = plan_review.budget(made.changes, request.max_deletes)
    refused = tuple(_rules(request, made, budget)) if status is Status.PLANNED else ()
    path = facts.afresh.path if facts.afresh else facts.path
    return Plan(status, made.root, made.mode, made, said, budget.lines, path, request, refused)


def _rules(request: Request, made: Passport, budget: Budget) -> Iterator[PipelineError]:
    if request.as_reviewed and (made.review is None or made.review.verdict is not Verdict.AS_REVIEWED):
        verdict = made.review.verdict if made.review else "not reviewed"
        yield Refused(
            f"{made.root}: the plan is not as reviewed ({verdict})",
            hint="look at the plan job, and start the manual apply job",
        )
    if not budget.is_kept and made.id not in request.approved:
        yield Refused(
            "\n".join((f"{made.root}: the plan destroys more than may be destroyed unasked", *budget.lines)),
            hint=f"if that is meant: --approve-deletes {made.id} (PT_APPROVE_DELETES)",
        )


def check(plan: Plan, _ports: Ports) -> Plan:
    """All was proved by the facts: Terraform itself checks lineage and serial once more under the lock."""
    return plan


def apply(plan: Plan, ports: Ports) -> Outcome:
    """Apply under the lock; record it; remove the plan.

    Raises:
        Stale: the state moved in this moment; the driver plans again.
        Interrupted, PipelineError: with what was applied all the same.
    """
    _announce(plan, ports)
    narration = ports.narration()
    ended = ports.shop.terraform.apply(cast("Path", plan.path), plan.request.lock_timeout, narration)
    outcome = _outcome(plan, narration, Status.FAILED if ended.failure or ended.signals else Status.DONE)
    if ended.failure:
        raise _failed(plan, ended, outcome, _left(plan, ports), ports)
    _applied(plan, outcome, ports)
    if ended.signals:
        raise Interrupted(
            ended.signals[0], f"{plan.root}: interrupted, when all was applied already", done=outcome
        )
    return outcome


def _applied(plan: Plan, outcome: Outcome, ports: Ports) -> None:
    """Record what was applied, and remove the plan.

    Raises:
        PipelineError: it cannot be recorded; it is applied all the same, which a next run finds in the state.
    """
    done = replace(plan.passport, made=plan.request.made).sealed(plan.request.root.key)
    try:
        for place in (packages.applied(plan.root, done.plan), packages.last_applied(plan.root)):
            _record(place, passport.dumps(done), ports)
    except PipelineError as error:
        error.message = f"{plan.root}: {outcome.said}, and that cannot be recorded: {error.message}"
        error.done = outcome
        raise
    ports.discard()


def _announce(plan: Plan, ports: Ports) -> None:
    """Say that this job begins, beside those before it: the retry of a killed job must not hide who holds the lock."""
    if ports.registry:
        place = packages.holder(plan.root)
        content = ports.registry.package_file(place.name, place.version, place.file, most=1 << 16)
        every = [dict(plan.request.holder), *packages.holders(content)]
        _record(place, json.dumps(every[: packages.MOST_HOLDERS]), ports)


def _record(place: Place, text: str, ports: Ports) -> None:
    if ports.registry:
        ports.registry.write_package_file(place.name, place.version, place.file, text.encode())


@dataclass(frozen=True)
class Left:
    """The state that Terraform could not store: where it is now, and what there is to say of it."""

    path: str
    lines: tuple[str, ...]


def _left(plan: Plan, ports: Ports) -> Left | None:
    """What Terraform left, kept for a person; None where the state was stored.

    The state in GitLab is the one from before, and so the plan would be found fresh, and applied a second time: from
    now on it counts as applied.
    """
    state = ports.shop.terraform.errored_state()
    if state is None:
        return None
    path, troubles = str(state), []
    try:
        path = ports.keep(state)
    except PipelineError as error:
        troubles.append(f"it could not be encrypted and is there in clear: {error.message}")
    made = replace(plan.passport, made=plan.request.made).sealed(plan.request.root.key)
    try:
        _record(packages.applied(plan.root, made.plan), passport.dumps(made), ports)
    except PipelineError as error:
        troubles.append(
            f"do not run this job again: that the plan is spent cannot be recorded: {error.message}"
        )
    ports.discard()
    return Left(path, (f"the state could not be stored; it is in {path}", *troubles))


def _outcome(plan: Plan, narration: Told, status: Status) -> Outcome:
    applied, unfinished = tuple(narration.applied), (*narration.errored, *narration.unfinished)
    said = f"{len(applied)} of {len(plan.passport.changes)} changes applied"
    return Outcome(status, plan.root, plan.mode, plan.passport.id, applied, unfinished, said)


def _failed(plan: Plan, ended: "Applied", outcome: Outcome, left: Left | None, ports: Ports) -> PipelineError:
    """The failure, with how far it came."""
    failure = cast("PipelineError", ended.failure)
    head, *more = failure.message.splitlines()
    lines = [
        *more,
        *(f"applied: {item}" for item in outcome.applied),
        *(f"not finished: {item}" for item in outcome.unfinished),
        *(left.lines if left else ()),
    ]
    hint = (
        failure.hint if not (outcome.applied or outcome.unfinished) else "plan again: what is left is planned"
    )
    if left:
        hint = f"decrypt it with the plan's identity, look at it, and store it: terraform state push ({left.path})"
    if ended.signals:
        state = "the state is NOT stored" if left else _standing(ports)
        text = "\n".join((f"{plan.root}: interrupted; {outcome.said}; {state}", *lines[len(more) :]))
        return Interrupted(ended.signals[0], text, hint=hint, done=outcome)
    text = "\n".join((f"{head}; {outcome.said}", *lines))
    has_begun = bool(outcome.applied or outcome.unfinished)
    if left or (has_begun and isinstance(failure, Unavailable)):
        # Not worth retrying as it is, whatever was wrong: a person brings the state back first, or plans again. A retry
        # would find another state and be refused, which `apply-as-reviewed` is allowed to be.
        return PipelineError(text, hint=hint, done=outcome)
    failure.message, failure.hint, failure.done = text, hint, outcome
    return failure


def _standing(ports: Ports) -> str:
    """Whether the state is unlocked, after Terraform was interrupted."""
    try:
        lock = ports.shop.terraform.lock()
    except PipelineError as error:
        return f"whether the state is unlocked cannot be read: {error.message.splitlines()[0]}"
    return f"the state is still locked by {lock}" if lock else "the state is saved and unlocked"


STEP = Step("apply", facts, plan, check, apply)
