"""The bump step: one commit in the env repository that writes the published image into its overlays."""

import posixpath
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

from pipeline_tools.errors import PipelineError
from pipeline_tools.steps import branch, entries, gate, image_check, overlays, proposing, rendering
from pipeline_tools.steps.bump_options import NOBODY, Options
from pipeline_tools.steps.bump_request import Proposal, Request, named, request
from pipeline_tools.steps.entries import UNKNOWN_DIGEST, Change
from pipeline_tools.steps.shape import PRIVATE, Patience, Reading, Status, Step
from pipeline_tools.text import proposals
from pipeline_tools.text.receipt import Bumped, Receipt

if TYPE_CHECKING:
    from pipeline_tools.adapters.git import Remote
    from pipeline_tools.adapters.gitlab import MergeRequest, Project
    from pipeline_tools.adapters.kustomize import Kustomize
    from pipeline_tools.adapters.registry import Registries
    from pipeline_tools.adapters.signing import Signature, Signer
    from pipeline_tools.steps.rendering import Proof
    from pipeline_tools.text.env_rules import EnvRules
    from pipeline_tools.text.rendered import Move

__all__ = ["NOBODY", "STEP", "Options", "Ports", "Request", "named", "record", "request"]


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True)
class Ports:
    """`remote` is the env repository and `project` its GitLab; `sign` makes who a commit is by, `signer` has their key.

    `patience` is for the pipeline of a merge request.
    """

    remote: "Remote"
    kustomize: "Kustomize"
    sign: Callable[[tuple[str, str], tuple[str, str]], "Signature"]
    project: Callable[[], "Project"]
    registries: Callable[[], "Registries"]
    patience: Patience
    signer: "Signer | None" = None
    clock: Callable[[], datetime] = _now


@dataclass(frozen=True)
class Facts:
    """The tip of the branch, path and text of each overlay's kustomization file there, and the rules `now`.

    `named` is the commit that wrote what is there: this very bump, or the newer one; None where the history that was
    read does not say. `proposal` is what there is of a merge request.
    """

    branch: str
    tip: str | None
    files: tuple[tuple[str, str], ...]
    rules: "EnvRules | None"
    now: datetime
    named: str | None
    proposal: "proposing.Facts | None"
    unread: tuple[PipelineError, ...]


@dataclass(frozen=True)
class Outcome:
    """The env repository's `commit` on `branch` that is the bump, or contains it; `workloads` and `diff` as planned.

    While a bump by merge request is pending `commit` is the tip of `merge_request`, at `url`. `overruled` are the rules
    that forbade it.
    """

    status: Status
    project: str
    branch: str
    commit: str | None
    changes: tuple[Change, ...]
    workloads: "tuple[Move, ...]"
    diff: str
    superseded_by: str | None = None
    overruled: tuple[str, ...] = ()
    merge_request: int | None = None
    url: str | None = None

    def summary(self) -> str:
        if self.status is Status.SUPERSEDED:
            return f"{self._newer()}; --allow-downgrade writes the older version all the same"
        where = self.commit[:8] if self.commit else "(commit known after bump)"
        if self.merge_request:
            return f"{where} in !{self.merge_request} of {self.project}: {self.url}"
        return f"{where} on {self.branch} of {self.project}"

    def _newer(self) -> str:
        if self.merge_request:
            return f"superseded by a newer version in !{self.merge_request}: {self.url}"
        found = next(change for change in self.changes if change.status is Status.SUPERSEDED)
        by = f"commit {self.superseded_by[:8]}" if self.superseded_by else f"at {(self.commit or '')[:8]}"
        return f"superseded by {found.before} in {found.path} ({by})"


@dataclass(frozen=True)
class Plan:
    """The commit to make: its parent `tip`, its `changes`, its `message`.

    `workloads` are the containers that get another image by it, `diff` is all of the rendered difference; `overruled` are the rules that forbid it and are overridden, `source_branch` is where a merge request comes from.
    """

    status: Status
    project: str
    branch: str
    tip: str | None
    changes: tuple[Change, ...]
    message: str
    workloads: "tuple[Move, ...]" = ()
    diff: str = ""
    overruled: tuple[str, ...] = ()
    source_branch: str | None = None
    unread: tuple[PipelineError, ...] = ()
    request: Request | None = field(default=None, metadata=PRIVATE)
    files: tuple[tuple[str, str], ...] = field(default=(), metadata=PRIVATE)
    named: str | None = field(default=None, metadata=PRIVATE)
    proposal: "proposing.Facts | None" = field(default=None, metadata=PRIVATE)
    rebuilds: bool = field(default=True, metadata=PRIVATE)
    rules: "EnvRules | None" = field(default=None, metadata=PRIVATE)
    now: datetime = field(default=datetime.min.replace(tzinfo=UTC), metadata=PRIVATE)

    def lines(self) -> Iterator[str]:
        if self.status is Status.UNCHANGED:
            return
        yield f"{self.project} {self.branch}" + (f" at {self.tip[:8]}" if self.tip else "")
        if self.source_branch:
            yield f"  by merge request from {self.source_branch}"
        yield from (f"  overridden: {rule}" for rule in self.overruled)
        for change in self.changes:
            yield f"{change.path}: {change.name}"
            if change.status is Status.PLANNED:
                yield from (f"  - {change.before}", f"  + {change.after}")
            else:
                yield f"  {change.status}: {change.before}"
        yield from (f"{move.folder}: {move}" for move in self.workloads)
        yield from self.diff.splitlines()

    def foreseen(self) -> Outcome:
        found = self.proposal.open if self.proposal and self.source_branch else None
        if self.status is Status.PLANNED:
            return self._outcome(None)
        if found:
            return replace(self._outcome(found.sha), merge_request=found.iid, url=found.url)
        by = self.named if self.status is Status.SUPERSEDED else None
        return replace(self._outcome(self.named or self.tip), superseded_by=by)

    def _outcome(self, commit: str | None) -> Outcome:
        where = (self.status, self.project, self.branch)
        return Outcome(*where, commit, self.changes, self.workloads, self.diff, overruled=self.overruled)


def facts(request: Request, ports: Ports) -> Facts:
    read = Reading()
    branch = request.branch or read("main", ports.remote.head)
    newest = read(None, partial(_newest, request, ports, branch)) if request.proposal else None
    tip = read(None, ports.remote.fetch, branch) if not read.errors else None
    if tip is None:
        return Facts(branch, None, (), None, ports.clock(), None, None, read.unread)
    folders = overlays.resolve(ports.remote, tip, request.overlays)
    files = tuple(overlays.file(ports.remote, tip, folder) for folder in folders)
    rules = gate.read(ports.remote, tip)
    proposed = None
    if request.proposal:
        paths = tuple(path for path, _ in files)
        proposed = read(None, proposing.facts, ports.remote, _own(request, branch), newest, paths)
    named = read(None, _named, request, ports.remote, branch, files)
    return Facts(branch, tip, files, rules, ports.clock(), named, proposed, read.unread)


def _own(request: Request, branch: str) -> str:
    """The branch that a merge request comes from."""
    source = request.proposal.source if request.proposal else None
    return proposing.name(source, branch, request.overlays, request.edit.images)


def _newest(request: Request, ports: Ports, branch: str) -> "MergeRequest | None":
    return proposing.newest(ports.project(), _own(request, branch), branch)


def _named(request: Request, remote: "Remote", branch: str, files: tuple[tuple[str, str], ...]) -> str | None:
    """The commit behind what the tip says already, by its trailers. The tip's content decides, they only name it."""
    changes = [change for path, text in files for change in entries.edited(path, text, request.edit)[1]]
    status = _status(changes)
    if status is Status.UNCHANGED:
        return remote.find(branch, "Bump-Id", request.trailers[0][1])
    newer = next((change for change in changes if change.status is Status.SUPERSEDED), None)
    if newer is None or status is Status.PLANNED:
        return None
    return remote.find(branch, "Image", newer.before.partition("@")[0])


def plan(request: Request, facts: Facts) -> Plan:
    """Decide entry by entry what is to be written.

    Raises:
        PipelineError: an entry that is missing or cannot be edited safely (see `kustomization.set_image`);
        Refused: a rule of the env repository forbids it, or a merge request that was closed.
    """
    changes: list[Change] = []
    files = []
    for path, text in facts.files:
        edited, found = entries.edited(path, text, request.edit)
        changes.extend(found)
        if edited != text:
            files.append((path, edited))
    plan = Plan(
        status=_status(changes) if facts.tip else Status.PLANNED,
        project=request.project,
        branch=facts.branch,
        tip=facts.tip,
        changes=tuple(changes),
        message="",
        unread=facts.unread,
        request=request,
        files=tuple(files),
        named=facts.named,
        proposal=facts.proposal,
        rules=facts.rules,
        now=facts.now,
    )
    passed = _passed(plan, request, gate.places(changes))
    return _proposed(passed, request, facts.proposal) if facts.proposal and files else passed


def _passed(plan: Plan, request: Request, places: tuple[gate.Place, ...]) -> Plan:
    """The plan, with the rules it overrules and its message.

    Raises:
        Refused: a rule forbids it.
    """
    overruled = gate.passed(plan.rules, places, plan.now, request.override)
    return replace(plan, overruled=overruled, message=request.message(overruled))


def _proposed(plan: Plan, request: Request, found: "proposing.Facts") -> Plan:
    """The plan, as a merge request."""
    merges_itself = bool(request.proposal and request.proposal.merges_itself)
    paths = tuple(path for path, _ in plan.files)
    decision = proposing.decide(found, request.edit, paths, merges_itself=merges_itself)
    return replace(plan, status=decision.status, rebuilds=decision.rebuilds, source_branch=found.branch)


def _status(changes: list[Change]) -> Status:
    found = {change.status for change in changes}
    # Where one overlay has our image and another a newer one, our commit still wants its pipeline.
    order = (Status.PLANNED, Status.UNCHANGED, Status.SUPERSEDED)
    return next(status for status in order if status in found)


def check(plan: Plan, ports: Ports) -> Plan:
    """Ask the registry for the images, render the overlays before and after; the plan with the difference.

    Raises:
        PipelineError: an image is not in the registry as it is to be written, an overlay does not render, or an image
            matches no workload; Refused: a rule forbids it in an overlay that the rendering shows to change too.
    """
    if not (plan.files and plan.tip and plan.request):
        return plan
    for image in plan.request.edit.images if plan.request.check_image else ():
        if image.digest != UNKNOWN_DIGEST:
            image_check.check(image, plan.request.platforms, ports.registries())
    return _proved(plan, plan.tip, plan.request, ports) if plan.request.render else plan


def _proved(plan: Plan, tip: str, request: Request, ports: Ports) -> Plan:
    proof = rendering.proof(ports.remote, ports.kustomize, tip, plan.files, dependents=request.dependents)
    for change in plan.changes:
        _must_match(change, proof)
    moves = tuple(_known(move) for rendering in proof.renderings for move in rendering.moves)
    # Whoever builds on what is bumped is bumped with it: their freeze holds too.
    moved = dict.fromkeys(move.folder for move in moves)
    others = ((folder, image.name) for folder in moved for image in request.edit.images)
    plan = _passed(plan, request, (*gate.places(plan.changes), *others))
    diff = entries.shown("".join(rendering.difference for rendering in proof.renderings))
    return replace(plan, workloads=moves, diff=diff)


def _known(move: "Move") -> "Move":
    return replace(move, after=entries.shown(move.after))


def _must_match(change: Change, proof: "Proof") -> None:
    """What is written is what a workload runs: not so where the name is misspelt, or something later overrides it."""
    if change.status is not Status.PLANNED:
        return
    uses = proof.uses(posixpath.dirname(change.path))
    if change.after not in {entries.shown(use.image) for use in uses}:
        raise PipelineError(
            f"{change.path}: image {change.name!r} matches no workload (there are: {rendering.listed(uses)})",
            hint="the name in images: must be the one the manifests use, and nothing later may replace it",
        )


def apply(plan: Plan, ports: Ports) -> Outcome:
    """Commit and push, to the branch itself or for a merge request.

    Raises:
        Stale: the branch has moved; Denied or Refused: it has not, and the server says no;
        Unavailable: the server could not be reached.
    """
    if plan.tip is None or plan.request is None or UNKNOWN_DIGEST in str(plan.files):
        raise PipelineError("the digest to write is not known", hint="run build and push first")
    if plan.request.proposal and plan.proposal:
        return _propose(plan, plan.request, plan.request.proposal, plan.proposal, ports)
    commit = _committed(plan, plan.tip, plan.request, ports)
    branch.move(ports.remote, plan.branch, plan.tip, commit, plan.request.push_options)
    return _written(plan, Status.DONE, commit)


def _committed(plan: Plan, tip: str, request: Request, ports: Ports) -> str:
    files = {path: text.encode() for path, text in plan.files}
    by = ports.sign(request.author, request.committer)
    return ports.remote.commit(tip, files, plan.message, by, ports.signer)


def _propose(
    plan: Plan, request: Request, wanted: Proposal, found: "proposing.Facts", ports: Ports
) -> Outcome:
    """The commit on a branch of our own, and its merge request; no `ci.skip`: it is its pipeline that is wanted."""
    commit = _committed(plan, str(plan.tip), request, ports) if plan.rebuilds else None
    text = proposals.description(plan.message, request.overlays, plan.diff)
    draft = proposals.Draft(found.branch, plan.branch, request.title, text, wanted.labels, wanted.reviewers)
    others = proposing.Ports(ports.remote, ports.project(), ports.patience)
    opened = proposing.write(found, commit, draft, others, merges_itself=wanted.merges_itself)
    outcome = _written(plan, Status.DONE if opened.is_merged else Status.PENDING, opened.commit)
    return replace(outcome, merge_request=opened.merge_request.iid, url=opened.merge_request.url)


def _written(plan: Plan, status: Status, commit: str) -> Outcome:
    changes = tuple(
        replace(change, status=Status.DONE) if change.status is Status.PLANNED else change
        for change in plan.changes
    )
    return replace(plan.foreseen(), status=status, commit=commit, changes=changes)


def record(receipt: Receipt, outcome: Outcome) -> Receipt:
    bumped = Bumped(
        outcome.project,
        outcome.branch,
        outcome.commit,
        superseded=outcome.status is Status.SUPERSEDED,
        pending=outcome.status is Status.PENDING,
        merge_request=outcome.merge_request,
        url=outcome.url,
    )
    return replace(receipt, bump=bumped)


STEP = Step("bump", facts, plan, check, apply)
