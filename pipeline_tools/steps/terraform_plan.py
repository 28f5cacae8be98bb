"""The plan step: what Terraform would do in one root, said where people review it, and bound to what it was made from.

Facts are the plan itself: `terraform plan` takes no lock and changes nothing. What is applied here is its publication.
"""

import json
import logging
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline_tools.errors import PipelineError, Refused
from pipeline_tools.steps import planning
from pipeline_tools.steps.planning import Planned, Root, Workshop
from pipeline_tools.steps.shape import PRIVATE, Reading, Status, Step
from pipeline_tools.text import (
    packages,
    passport,
    plan_review,
    terraform_kapsule,
    terraform_lines,
    terraform_note,
)
from pipeline_tools.text.passport import Made, Mode, Passport, Review, Verdict
from pipeline_tools.text.plan_review import Comparison

if TYPE_CHECKING:
    from pipeline_tools.adapters.folder import Folder
    from pipeline_tools.adapters.gitlab_records import Records

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Request:
    """A plan of `root`. `mode` is `normal` or `destroy`; `made` says by whom; `writes_note` asks for the note."""

    root: Root
    made: Made
    recipient: str | None
    mode: Mode = "normal"
    writes_note: bool = True


@dataclass(frozen=True)
class Ports:
    """`registry` keeps passports, `notes` writes on merge requests (None: nobody may); `folder` takes the plans.

    `encrypt` writes a file for a recipient.
    """

    shop: Workshop
    registry: "Records | None"
    notes: "Records | None"
    folder: "Folder"
    encrypt: Callable[[Path, Path, str], None]


@dataclass(frozen=True)
class Facts:
    """The plan, what in the checkout is not in the commit, and the passport that a merge request was reviewed with."""

    planned: Planned
    differing: tuple[str, ...]
    reviewed: Passport | None
    merged: tuple[int, ...] | None
    unread: tuple[PipelineError, ...]


@dataclass(frozen=True)
class Outcome:
    """The plan of one root: what it would do by counts, its passport's id, and how it compares with the review."""

    status: Status
    root: str
    mode: str
    passport: str
    counts: dict[str, int]
    verdict: str
    files: tuple[str, ...]
    widget: dict[str, int] = field(metadata=PRIVATE)
    planned: Planned = field(metadata=PRIVATE)

    def summary(self) -> str:
        verdict = f"; {self.verdict}" if self.verdict else ""
        return f"{self.root}: {terraform_note.in_words(self.planned.summary.counts)}; passport {self.passport}{verdict}"


@dataclass(frozen=True)
class Plan:
    """What will be published of a plan, and what stands in the way."""

    status: Status
    root: str
    mode: str
    passport: Passport
    counts: dict[str, int]
    differences: tuple[str, ...]
    differing: tuple[str, ...]
    note: str = field(metadata=PRIVATE)
    planned: Planned = field(metadata=PRIVATE)
    request: Request = field(metadata=PRIVATE)
    unread: tuple[PipelineError, ...] = ()

    @property
    def verdict(self) -> str:
        return self.passport.review.verdict if self.passport.review else ""

    def lines(self) -> Iterator[str]:
        yield f"{self.root}: {terraform_note.in_words(self.planned.summary.counts)}"
        yield from (f"  {line}" for line in terraform_lines.lines(self.planned.summary))
        if self.passport.review:
            yield f"  {self.verdict}"
            yield from (f"    {line}" for line in self.differences)
        yield from (f"  not as in the commit: {path}" for path in self.differing)
        yield f"  passport {self.passport.id}"

    def foreseen(self) -> Outcome:
        return _outcome(self, Status.PLANNED if self.status is Status.PLANNED else self.status, ())


def facts(request: Request, ports: Ports) -> Facts:
    """Plan, and look for what was reviewed."""
    there = planning.content(request.root, ports.shop)
    planned = planning.plan(request.root, request.made, ports.shop, mode=request.mode)
    read = Reading()
    reviewed, merged = None, None
    if _is_compared(request) and ports.registry:
        reviewed = read(None, _reviewed, planned.passport, ports.registry)
        merged = read(None, _merged, request.made, ports.notes) if reviewed else None
    return Facts(planned, there.differing, reviewed, merged, read.unread)


def _reviewed(fresh: Passport, registry: "Records") -> Passport | None:
    """The passport of the merge request that had exactly this content."""
    place = packages.reviewed(fresh.root, fresh.mode, fresh.trees, fresh.lock_file)
    return planning.kept(place, fresh.root, registry)


def _merged(made: Made, notes: "Records | None") -> tuple[int, ...] | None:
    """The merge requests that brought our commit to our branch; None where nobody may ask."""
    if notes is None:
        return None
    found = [item for item in notes.merge_requests_of(made.commit) if item.state == "merged"]
    # Into a branch that nobody protects its author may merge alone. On a laptop there is no branch to compare with.
    return tuple(item.iid for item in found if made.ref in {"", item.target_branch})


def plan(request: Request, facts: Facts) -> Plan:
    """Compare with the review, and write what is published."""
    review, comparison = _review(request, facts)
    summary = facts.planned.summary
    made = replace(facts.planned.passport, review=review).sealed(request.root.key)
    hints = terraform_kapsule.notes(summary)
    note = terraform_note.render(made, summary, notes=hints, comparison=comparison)
    for error in facts.unread:
        log.warning("the reviewed plan cannot be read: %s", error)
    return Plan(
        Status.PLANNED,
        request.root.path,
        request.mode,
        made,
        asdict(made.counts),
        comparison.lines if comparison else (),
        facts.differing,
        note,
        facts.planned,
        request,
    )


def _review(request: Request, facts: Facts) -> tuple[Review | None, Comparison | None]:
    """How the plan stands to the one reviewed on the merge request."""
    if not _is_compared(request):
        return None, None
    reviewed = facts.reviewed
    found = _compared(request, facts, reviewed) if reviewed else _not("no merge request planned this content")
    return Review(
        found.verdict, reviewed.id if reviewed else "", reviewed.made.merge_request if reviewed else None
    ), found


def _is_compared(request: Request) -> bool:
    """On the merge request itself there is no verdict yet, and nobody reviews a destruction there."""
    return request.made.merge_request is None and request.mode == "normal"


def _compared(request: Request, facts: Facts, reviewed: Passport) -> Comparison:
    iid = reviewed.made.merge_request
    if request.root.key and not reviewed.verify(request.root.key):
        return _not("the reviewed passport is not sealed with our PT_PASSPORT_KEY")
    if facts.merged is None:
        # A plan that was never merged leaves the same passport: what cannot be known is no yes.
        return _not(
            f"!{iid} planned this content, and whether it was merged cannot be read (PT_GITLAB_TOKEN)"
        )
    if iid not in facts.merged:
        return _not(f"!{iid} planned this content, and this commit is not what was merged of it")
    return plan_review.compare(reviewed, facts.planned.passport)


def _not(reason: str) -> Comparison:
    return Comparison(Verdict.NOT_REVIEWED, (reason,))


def check(plan: Plan, ports: Ports) -> Plan:
    """The leak gate: nothing that Vault lent as a secret is published.

    Raises:
        Refused: a secret is in the plan; nothing of it is written anywhere.
    """
    places = [*_leaks(plan, ports.shop.mask.finds)]
    if places:
        raise Refused(
            f"{plan.root}: a secret value is in {', '.join(places)}; the plan is withheld",
            hint="mark the variable, output or attribute that carries it as sensitive",
        )
    return plan


def _leaks(plan: Plan, finds: Callable[[str], bool]) -> Iterator[str]:
    if plan.planned.is_leaking:
        yield "Terraform's output"
    for change in (*plan.passport.changes, *plan.planned.summary.drift):
        values = (text for item in change.attributes for text in (item.before, item.after) if text)
        if finds(change.address) or any(map(finds, values)):
            yield change.address
    if finds(plan.note):
        yield "the note"
    if finds(passport.dumps(plan.passport)):
        yield "the passport"


def apply(plan: Plan, ports: Ports) -> Outcome:
    """Publish: the files first, then the passport for other pipelines, then the note."""
    files = tuple(_files(plan, ports))
    made = plan.passport
    if made.made.merge_request is not None and not made.is_dirty and ports.registry:
        place = packages.reviewed(made.root, made.mode, made.trees, made.lock_file)
        ports.registry.write_package_file(
            place.name, place.version, place.file, passport.dumps(made).encode()
        )
    _note(plan, ports)
    return _outcome(plan, Status.DONE, files)


def _files(plan: Plan, ports: Ports) -> Iterator[str]:
    folder, request = plan.request.root.slug, plan.request
    if any(path.is_symlink() for path in (ports.folder.path, ports.folder.path / folder)):
        raise PipelineError(
            f"{ports.folder.path / folder} is a link: a checkout must not choose where plans go",
            hint="see --plans",
        )
    stale = ports.folder.path / folder / PLAN_FILE
    stale.unlink(missing_ok=True)
    if request.recipient:
        ports.encrypt(plan.planned.path, stale, request.recipient)
        yield f"{folder}/{PLAN_FILE}"
    else:
        log.warning("%s: the plan file is not kept: no --plan-recipient to encrypt it to", plan.root)
    for name, text in ((PASSPORT_FILE, passport.dumps(plan.passport)), (NOTE_FILE, plan.note)):
        ports.folder.write(f"{folder}/{name}", text)
        yield f"{folder}/{name}"


PLAN_FILE, PASSPORT_FILE, NOTE_FILE = "plan.age", "passport.json", "note.md"


def _note(plan: Plan, ports: Ports) -> None:
    iid = plan.passport.made.merge_request
    if iid is None or not plan.request.writes_note:
        return
    if ports.notes is None:
        log.warning("no note on !%d: PT_GITLAB_TOKEN is empty", iid)
        return
    marker, _, body = plan.note.partition("\n")
    ports.notes.write_merge_request_note(iid, marker, body)


def _outcome(plan: Plan, status: Status, files: tuple[str, ...]) -> Outcome:
    widget = plan.planned.summary.widget()
    return Outcome(
        status, plan.root, plan.mode, plan.passport.id, plan.counts, plan.verdict, files, widget, plan.planned
    )


def widget(outcomes: list[Outcome]) -> str:
    """GitLab's Terraform report of several roots: one job has one entry, so they are added up."""
    kinds = ("create", "update", "delete")
    return json.dumps({kind: sum(outcome.widget[kind] for outcome in outcomes) for kind in kinds}) + "\n"


STEP = Step("plan", facts, plan, check, apply)
