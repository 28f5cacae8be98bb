"""The bump step: one commit in the env repository that writes the published image into its overlays."""

import hashlib
import json
import posixpath
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

from pipeline_tools.errors import PipelineError
from pipeline_tools.steps import branch, entries, gate, image_check, proposing, rendering
from pipeline_tools.steps.entries import UNKNOWN_DIGEST, Change
from pipeline_tools.steps.rendering import Rendered
from pipeline_tools.steps.shape import PRIVATE, Patience, Reading, Status, Step
from pipeline_tools.text import env_rules, proposals, references, versions
from pipeline_tools.text.env_rules import EnvRules
from pipeline_tools.text.kustomization import Image
from pipeline_tools.text.receipt import Bumped, Pushed, Receipt

if TYPE_CHECKING:
    from pipeline_tools.adapters.git import Remote, Signature, Signer
    from pipeline_tools.adapters.gitlab import MergeRequest, Project
    from pipeline_tools.adapters.kustomize import Kustomize
    from pipeline_tools.adapters.registry import Registries


NOBODY = "pipeline-tools@noreply.invalid"


@dataclass(frozen=True)
class Options:
    """What the command line says about the bump."""

    env_project: str
    env_branch: str | None = None
    overlay: tuple[str, ...] = ()
    image: tuple[str, ...] = ()
    allow_downgrade: bool = False
    order: str = versions.SEMVER
    override: str | None = None
    render: bool = True
    check_image: bool = False
    platform: str | None = None
    skip_ci: bool = False
    via_merge_request: bool = False
    label: tuple[str, ...] = ()
    reviewer: tuple[str, ...] = ()
    auto_merge: bool = False
    author_name: str = "pipeline-tools"
    author_email: str = NOBODY
    committer_name: str = "pipeline-tools"
    committer_email: str = NOBODY
    project: str | None = None
    pipeline_url: str | None = None


@dataclass(frozen=True)
class Wish:
    """A merge request rather than a push, with these labels, reviewers, and asked to merge by itself or not.

    `source` is the project that it comes from.
    """

    source: str | None
    labels: tuple[str, ...]
    reviewers: tuple[str, ...]
    merges_itself: bool


@dataclass(frozen=True)
class Request:
    """Write `images` into `overlays` of `project`, the env repository.

    `trailers` go under the commit's message; `Bump-Id` among them names this bump for good. `order` is that of versions,
    None to let an older one follow a newer. `override` is a reason to overrule the env repository's rules.
    """

    project: str
    branch: str | None
    overlays: tuple[str, ...]
    images: tuple[Image, ...]
    trailers: tuple[tuple[str, str], ...]
    author: tuple[str, str]
    committer: tuple[str, str]
    order: str | None
    override: str | None
    render: bool
    check_image: bool
    platform: str | None
    push_options: tuple[str, ...]
    wish: Wish | None


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
    rules: EnvRules
    now: datetime
    named: str | None
    proposal: proposing.Facts | None
    unread: tuple[PipelineError, ...]


@dataclass(frozen=True)
class Outcome:
    """The env repository's `commit` on `branch` that is the bump, or contains it."""

    status: Status
    project: str
    branch: str
    commit: str | None
    changes: tuple[Change, ...]
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
        found = [change for change in self.changes if change.status is Status.SUPERSEDED]
        if not found:
            return f"superseded by a newer version in !{self.merge_request}: {self.url}"
        by = f"commit {self.superseded_by[:8]}" if self.superseded_by else f"at {(self.commit or '')[:8]}"
        return f"superseded by {found[0].before} in {found[0].path} ({by})"


@dataclass(frozen=True)
class Plan:
    """The commit to make: its parent `tip`, its `changes`, its `message`; `diff` is the rendered difference.

    `overruled` are the rules that forbid it and are overridden, `source_branch` is where a merge request comes from.
    """

    status: Status
    project: str
    branch: str
    tip: str | None
    changes: tuple[Change, ...]
    message: str
    diff: str = ""
    overruled: tuple[str, ...] = ()
    source_branch: str | None = None
    unread: tuple[PipelineError, ...] = ()
    request: Request | None = field(default=None, metadata=PRIVATE)
    files: tuple[tuple[str, str], ...] = field(default=(), metadata=PRIVATE)
    named: str | None = field(default=None, metadata=PRIVATE)
    proposal: proposing.Facts | None = field(default=None, metadata=PRIVATE)
    rebuilds: bool = field(default=True, metadata=PRIVATE)

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
        yield from self.diff.splitlines()

    def foreseen(self) -> Outcome:
        found = self.proposal.open if self.proposal else None
        is_proposed = self.status is Status.PENDING or (
            self.status is Status.SUPERSEDED and not self._is_newer
        )
        commit = found.sha if found and is_proposed else self.named or self.tip
        outcome = Outcome(self.status, self.project, self.branch, commit, self.changes, self.diff)
        outcome = replace(outcome, superseded_by=self.named, overruled=self.overruled)
        if self.status is Status.PLANNED:
            return replace(outcome, commit=None, superseded_by=None)
        return replace(outcome, merge_request=found.iid, url=found.url) if found and is_proposed else outcome

    @property
    def _is_newer(self) -> bool:
        return any(change.status is Status.SUPERSEDED for change in self.changes)


def request(options: Options, receipt: Receipt) -> Request:
    """What to bump: the images given, or the one the receipt says was published.

    Raises:
        PipelineError: no overlay, no image, nothing to write, or a value against its grammar.
    """
    named(options)
    images = tuple(_wanted(word, receipt.push) for word in options.image)
    if len({image.name for image in images}) < len(images):
        raise PipelineError("one image is named twice", hint="give each --image once")
    overlays = tuple(dict.fromkeys(references.folder(overlay) for overlay in options.overlay))
    return Request(
        project=options.env_project,
        branch=references.branch(options.env_branch) if options.env_branch else None,
        overlays=overlays,
        images=images,
        trailers=_trailers(options, receipt, overlays, images),
        author=_who(options.author_name, options.author_email),
        committer=_who(options.committer_name, options.committer_email),
        order=None if options.allow_downgrade else options.order,
        override=_one_line(options.override or "").strip() or None,
        render=options.render,
        check_image=options.check_image,
        platform=options.platform,
        push_options=("ci.skip",) if options.skip_ci else (),
        wish=Wish(options.project, options.label, options.reviewer, options.auto_merge)
        if options.via_merge_request
        else None,
    )


def named(options: Options) -> None:
    """See that the options name something to bump; a release asks this before it builds anything.

    Raises:
        PipelineError: no overlay or no image.
    """
    if not options.overlay or not options.image:
        missing = "--overlay" if not options.overlay else "--image"
        raise PipelineError(
            f"{missing} is missing", hint="name what to bump, as in --overlay overlays/dev --image app"
        )


def _wanted(word: str, pushed: Pushed | None) -> Image:
    name, equals, text = word.partition("=")
    if not equals:
        if pushed is None:
            raise PipelineError(
                f"nothing is known to write for image {name!r}",
                hint=f"run push first (its receipt says it), or give --image {name}=REPOSITORY:TAG@DIGEST",
            )
        return Image(name, _other(pushed.repository, name), pushed.tag, pushed.digest or UNKNOWN_DIGEST)
    found = references.reference(text)
    if not found.tag:
        raise PipelineError(
            f"--image {word}: a tag is missing", hint="write REPOSITORY:TAG or REPOSITORY:TAG@DIGEST"
        )
    return Image(name, _other(found.name, name), found.tag, found.digest)


def _other(repository: str, name: str) -> str | None:
    """`newName`, where it is another one than the manifests' own."""
    return repository if repository != name else None


def _trailers(
    options: Options, receipt: Receipt, overlays: tuple[str, ...], images: tuple[Image, ...]
) -> tuple[tuple[str, str], ...]:
    """git-interpret-trailers(1): the facts about a bump that outlive the pipeline."""
    tag = receipt.tag
    facts = (
        ("Source-Project", options.project),
        ("Source-Tag", tag and tag.name),
        ("Source-Commit", tag and tag.commit),
        ("Source-Pipeline", options.pipeline_url),
        *(("Image", str(replace(image, digest=None))) for image in images),
        *(("Image-Digest", image.digest) for image in images),
    )
    what = [options.project, tag and tag.commit, overlays, [str(image) for image in images]]
    identity = hashlib.sha256(json.dumps(what).encode()).hexdigest()[:16]
    return (("Bump-Id", identity), *((key, _one_line(value)) for key, value in facts if value))


def _who(name: str, email: str) -> tuple[str, str]:
    return _signed(name, "pipeline-tools"), _signed(email, NOBODY)


def _signed(value: str, default: str) -> str:
    """`value` as git takes it in a signature (git-commit-tree(1)): without angle brackets and control characters."""
    return _one_line(value.translate({ord("<"): None, ord(">"): None})).strip(" .,:;\"'") or default


def _one_line(value: str) -> str:
    """A trailer's value must not begin another line, so that nobody forges a trailer."""
    return "".join(character for character in value if character.isprintable())


def facts(request: Request, ports: Ports) -> Facts:
    read = Reading()
    branch = request.branch or read("main", ports.remote.head)
    own = _own(request, branch)
    newest = read(None, partial(_newest, ports, own, branch)) if own else None
    tip = read(None, ports.remote.fetch, branch) if not read.errors else None
    if tip is None:
        return Facts(branch, None, (), env_rules.NONE, ports.clock(), None, None, read.unread)
    files = tuple(rendering.file(ports.remote, tip, overlay) for overlay in request.overlays)
    rules = gate.read(ports.remote, tip)
    paths = tuple(path for path, _ in files)
    proposed = read(None, proposing.facts, ports.remote, own, newest, paths) if own else None
    named = read(None, _named, request, ports.remote, branch, files)
    return Facts(branch, tip, files, rules, ports.clock(), named, proposed, read.unread)


def _own(request: Request, branch: str) -> str | None:
    """The branch that a merge request comes from, where one is wished for."""
    return (
        proposing.name(request.wish.source, branch, request.overlays, request.images)
        if request.wish
        else None
    )


def _newest(ports: Ports, own: str, branch: str) -> "MergeRequest | None":
    return proposing.newest(ports.project(), own, branch)


def _named(request: Request, remote: "Remote", branch: str, files: tuple[tuple[str, str], ...]) -> str | None:
    """The commit behind what the tip says already, by its trailers. The tip's content decides, they only name it."""
    changes = [change for path, text in files for change in _edited(request, path, text)[1]]
    newer = next((change for change in changes if change.status is Status.SUPERSEDED), None)
    if newer:
        return remote.find(branch, "Image", newer.before.partition("@")[0])
    if any(change.status is Status.UNCHANGED for change in changes):
        return remote.find(branch, "Bump-Id", request.trailers[0][1])
    return None


def _edited(request: Request, path: str, text: str) -> tuple[str, tuple[Change, ...]]:
    order = request.order or versions.SEMVER
    return entries.edited(path, text, request.images, allow_downgrade=request.order is None, order=order)


def plan(request: Request, facts: Facts) -> Plan:
    """Decide entry by entry what is to be written.

    Raises:
        PipelineError: an entry that is missing or cannot be edited safely (see `kustomization.set_image`);
        Refused: a rule of the env repository forbids it, or a merge request that was closed.
    """
    changes: list[Change] = []
    files = []
    for path, text in facts.files:
        edited, found = _edited(request, path, text)
        changes.extend(found)
        if edited != text:
            files.append((path, edited))
    overruled = gate.passed(facts.rules, changes, facts.now, request.override)
    plan = Plan(
        status=_status(changes) if facts.tip else Status.PLANNED,
        project=request.project,
        branch=facts.branch,
        tip=facts.tip,
        changes=tuple(changes),
        message=_message(request, overruled),
        overruled=overruled,
        unread=facts.unread,
        request=request,
        files=tuple(files),
        named=facts.named,
        proposal=facts.proposal,
    )
    return _proposed(plan, request, facts.proposal) if facts.proposal and files else plan


def _proposed(plan: Plan, request: Request, found: proposing.Facts) -> Plan:
    """The plan, as a merge request."""
    merges_itself = bool(request.wish and request.wish.merges_itself)
    paths = tuple(path for path, _ in plan.files)
    decision = proposing.decide(found, request.images, paths, request.order, merges_itself=merges_itself)
    return replace(plan, status=decision.status, rebuilds=decision.rebuilds, source_branch=found.branch)


def _status(changes: list[Change]) -> Status:
    found = {change.status for change in changes}
    # Where one overlay has our image and another a newer one, our commit still wants its pipeline.
    order = (Status.PLANNED, Status.UNCHANGED, Status.SUPERSEDED)
    return next(status for status in order if status in found)


def _message(request: Request, overruled: tuple[str, ...]) -> str:
    override = [("Override", request.override)] if overruled and request.override else []
    trailers = "\n".join(f"{key}: {value}" for key, value in (*request.trailers, *override))
    return f"{_title(request)}\n\n{trailers}\n"


def _title(request: Request) -> str:
    return "Bump " + ", ".join(f"{image.name} {image.tag}" for image in request.images)


def check(plan: Plan, ports: Ports) -> Plan:
    """Ask the registry for the images, render the overlays before and after; the plan with the difference.

    Raises:
        PipelineError: an image is not in the registry as it is to be written, an overlay does not render, or an image
            matches no workload.
    """
    if not (plan.files and plan.tip and plan.request):
        return plan
    for image in plan.request.images if plan.request.check_image else ():
        if image.digest != UNKNOWN_DIGEST:
            image_check.check(image, plan.request.platform, ports.registries())
    if not plan.request.render:
        return plan
    found = rendering.both(ports.remote, ports.kustomize, plan.tip, plan.files)
    _must_match(plan, found)
    return replace(plan, diff=entries.shown("".join(map(rendering.difference, found))))


def _must_match(plan: Plan, found: tuple[Rendered, ...]) -> None:
    after = {rendered.folder: rendered.after for rendered in found}
    for change in plan.changes:
        rendered = after.get(posixpath.dirname(change.path), change.after)
        if change.status is Status.PLANNED and change.after not in entries.shown(rendered):
            images = sorted(
                {line.split("image:")[1].strip() for line in rendered.splitlines() if "image:" in line}
            )
            raise PipelineError(
                f"{change.path}: image {change.name!r} matches no workload (there are: {', '.join(images) or 'none'})",
                hint="the name in images: must be the one the manifests use",
            )


def apply(plan: Plan, ports: Ports) -> Outcome:
    """Commit and push, to the branch itself or for a merge request.

    Raises:
        Stale: the branch has moved; Denied or Refused: it has not, and the server says no;
        Unavailable: the server could not be reached.
    """
    if plan.tip is None or plan.request is None or UNKNOWN_DIGEST in str(plan.files):
        raise PipelineError("the digest to write is not known", hint="run build and push first")
    if plan.proposal:
        return _propose(plan, plan.request, plan.proposal, ports)
    commit = _committed(plan, plan.tip, plan.request, ports)
    branch.move(ports.remote, plan.branch, plan.tip, commit, plan.request.push_options)
    return _written(plan, Status.DONE, commit)


def _committed(plan: Plan, tip: str, request: Request, ports: Ports) -> str:
    files = {path: text.encode() for path, text in plan.files}
    by = ports.sign(request.author, request.committer)
    return ports.remote.commit(tip, files, plan.message, by, ports.signer)


def _propose(plan: Plan, request: Request, found: proposing.Facts, ports: Ports) -> Outcome:
    """The commit on a branch of our own, and its merge request; no `ci.skip`: it is its pipeline that is wanted."""
    wish = request.wish or Wish(None, (), (), merges_itself=False)
    commit = _committed(plan, str(plan.tip), request, ports) if plan.rebuilds else None
    text = proposals.description(plan.message, request.overlays, plan.diff)
    draft = proposals.Draft(found.branch, plan.branch, _title(request), text, wish.labels, wish.reviewers)
    others = proposing.Ports(ports.remote, ports.project(), ports.patience)
    opened = proposing.write(found, commit, draft, others, merges_itself=wish.merges_itself)
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
