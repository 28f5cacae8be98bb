"""The bump step: one commit in the env repository that writes the published image into its overlays."""

import hashlib
import json
import posixpath
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from pipeline_tools.errors import Denied, PipelineError, Refused, Stale
from pipeline_tools.steps import entries, overlays, rendering
from pipeline_tools.steps.entries import UNKNOWN_DIGEST, Change, Edit
from pipeline_tools.steps.rendering import Proof
from pipeline_tools.steps.shape import PRIVATE, Reading, Status, Step
from pipeline_tools.text import references
from pipeline_tools.text.kustomization import Image, Pin
from pipeline_tools.text.receipt import Bumped, Pushed, Receipt
from pipeline_tools.text.rendered import Move

if TYPE_CHECKING:
    from pipeline_tools.adapters.git import Remote
    from pipeline_tools.adapters.kustomize import Kustomize


NOBODY = "pipeline-tools@noreply.invalid"


@dataclass(frozen=True)
class Options:
    """What the command line says about the bump."""

    env_project: str
    env_branch: str | None = None
    overlay: tuple[str, ...] = ()
    image: tuple[str, ...] = ()
    pin: str = "both"
    allow_downgrade: bool = False
    render: bool = True
    dependents: bool = False
    skip_ci: bool = False
    author_name: str = "pipeline-tools"
    author_email: str = NOBODY
    project: str | None = None
    pipeline_url: str | None = None


@dataclass(frozen=True)
class Request:
    """Make `edit` in `overlays` (folders, or globs of them) of `project`, the env repository.

    `trailers` go under the commit's message; `Bump-Id` among them names this bump for good.
    """

    project: str
    branch: str | None
    overlays: tuple[str, ...]
    edit: Edit
    trailers: tuple[tuple[str, str], ...]
    author: tuple[str, str]
    render: bool
    dependents: bool
    push_options: tuple[str, ...]


@dataclass(frozen=True)
class Ports:
    """`remote` is the env repository."""

    remote: "Remote"
    kustomize: "Kustomize"


@dataclass(frozen=True)
class Facts:
    """The tip of the branch, and text and path of each overlay's kustomization file there.

    `earlier` is the commit of this very bump, where it is found in the history.
    """

    branch: str
    tip: str | None
    files: tuple[tuple[str, str], ...]
    earlier: str | None
    unread: tuple[PipelineError, ...]


@dataclass(frozen=True)
class Outcome:
    """The env repository's `commit` on `branch` that is the bump, or contains it; `workloads` and `diff` as planned."""

    status: Status
    project: str
    branch: str
    commit: str | None
    changes: tuple[Change, ...]
    workloads: tuple[Move, ...]
    diff: str

    def summary(self) -> str:
        if self.status is Status.SUPERSEDED:
            newer = [change for change in self.changes if change.status is Status.SUPERSEDED]
            found = f"superseded by {newer[0].before} in {newer[0].path} (commit {(self.commit or '')[:8]})"
            return f"{found}; --allow-downgrade writes the older version all the same"
        where = self.commit[:8] if self.commit else "(commit known after bump)"
        return f"{where} on {self.branch} of {self.project}"


@dataclass(frozen=True)
class Plan:
    """The commit to make: its parent `tip`, its `changes`, its `message`.

    `workloads` are the containers that get another image by it, `diff` is all of the rendered difference.
    """

    status: Status
    project: str
    branch: str
    tip: str | None
    changes: tuple[Change, ...]
    message: str
    workloads: tuple[Move, ...] = ()
    diff: str = ""
    unread: tuple[PipelineError, ...] = ()
    request: Request | None = field(default=None, metadata=PRIVATE)
    files: tuple[tuple[str, str], ...] = field(default=(), metadata=PRIVATE)
    earlier: str | None = field(default=None, metadata=PRIVATE)

    def lines(self) -> Iterator[str]:
        if self.status is Status.UNCHANGED:
            return
        yield f"{self.project} {self.branch}" + (f" at {self.tip[:8]}" if self.tip else "")
        for change in self.changes:
            yield f"{change.path}: {change.name}"
            if change.status is Status.PLANNED:
                yield from (f"  - {change.before}", f"  + {change.after}")
            else:
                yield f"  {change.status}: {change.before}"
        yield from (f"{move.folder}: {move}" for move in self.workloads)
        yield from self.diff.splitlines()

    def foreseen(self) -> Outcome:
        commit = None if self.status is Status.PLANNED else self.earlier or self.tip
        return Outcome(
            self.status, self.project, self.branch, commit, self.changes, self.workloads, self.diff
        )


def request(options: Options, receipt: Receipt) -> Request:
    """What to bump: the images given, or the one the receipt says was published.

    Raises:
        PipelineError: no overlay, no image, nothing to write, or a value against its grammar.
    """
    named(options)
    pin = Pin(options.pin)
    images = tuple(_wanted(word, receipt.push, pin) for word in options.image)
    if len({image.name for image in images}) < len(images):
        raise PipelineError("one image is named twice", hint="give each --image once")
    folders = tuple(dict.fromkeys(references.folder(overlay) for overlay in options.overlay))
    return Request(
        project=options.env_project,
        branch=references.branch(options.env_branch) if options.env_branch else None,
        overlays=folders,
        edit=Edit(images, pin, adds=options.render, allow_downgrade=options.allow_downgrade),
        trailers=_trailers(options, receipt, folders, images),
        author=(_signed(options.author_name, "pipeline-tools"), _signed(options.author_email, NOBODY)),
        render=options.render,
        dependents=options.dependents,
        push_options=("ci.skip",) if options.skip_ci else (),
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


def _wanted(word: str, pushed: Pushed | None, pin: Pin) -> Image:
    name, equals, text = word.partition("=")
    if not equals:
        if pushed is None:
            raise PipelineError(
                f"nothing is known to write for image {name!r}",
                hint=f"run push first (its receipt says it), or give --image {name}=REPOSITORY:TAG@DIGEST",
            )
        return Image(name, pushed.repository, pushed.tag, pushed.digest or UNKNOWN_DIGEST)
    # kustomize's own word for "the name stays": `kustomize edit set image --help`.
    found = references.reference(name + text[1:] if text.startswith(("*:", "*@")) else text)
    if not found.tag and pin is not Pin.DIGEST:
        raise PipelineError(
            f"--image {word}: a tag is missing", hint="write REPOSITORY:TAG or REPOSITORY:TAG@DIGEST"
        )
    image = Image(name, None if text.startswith("*") else found.name, found.tag, found.digest)
    image.pinned(pin)  # what it lacks shows now
    return image


def _trailers(
    options: Options, receipt: Receipt, folders: tuple[str, ...], images: tuple[Image, ...]
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
    what = [options.project, tag and tag.commit, folders, [str(image) for image in images]]
    identity = hashlib.sha256(json.dumps(what).encode()).hexdigest()[:16]
    return (("Bump-Id", identity), *((key, _one_line(value)) for key, value in facts if value))


def _signed(value: str, default: str) -> str:
    """`value` as git takes it in a signature (git-commit-tree(1)): without angle brackets and control characters."""
    return _one_line(value.translate({ord("<"): None, ord(">"): None})).strip(" .,:;\"'") or default


def _one_line(value: str) -> str:
    """A trailer's value must not begin another line, so that nobody forges a trailer."""
    return "".join(character for character in value if character.isprintable())


def facts(request: Request, ports: Ports) -> Facts:
    read = Reading()
    branch = request.branch or read("main", ports.remote.head)
    tip = read(None, ports.remote.fetch, branch) if not read.errors else None
    folders = overlays.resolve(ports.remote, tip, request.overlays) if tip else ()
    found = [overlays.file(ports.remote, tip, folder) for folder in folders] if tip else []
    is_done = any(entries.is_written(path, text, request.edit) for path, text in found)
    earlier = read(None, ports.remote.find, branch, f"Bump-Id: {request.trailers[0][1]}") if is_done else None
    return Facts(branch=branch, tip=tip, files=tuple(found), earlier=earlier, unread=read.unread)


def plan(request: Request, facts: Facts) -> Plan:
    """Decide entry by entry what is to be written.

    Raises:
        PipelineError: an entry that is missing or cannot be edited safely (see `kustomization.set_image`).
    """
    changes: list[Change] = []
    files = []
    for path, text in facts.files:
        edited, found = entries.edited(path, text, request.edit)
        changes.extend(found)
        if edited != text:
            files.append((path, edited))
    return Plan(
        status=_status(changes) if facts.tip else Status.PLANNED,
        project=request.project,
        branch=facts.branch,
        tip=facts.tip,
        changes=tuple(changes),
        message=_message(request),
        unread=facts.unread,
        request=request,
        files=tuple(files),
        earlier=facts.earlier,
    )


def _status(changes: list[Change]) -> Status:
    found = {change.status for change in changes}
    # Where one overlay has our image and another a newer one, our commit still wants its pipeline.
    order = (Status.PLANNED, Status.UNCHANGED, Status.SUPERSEDED)
    return next(status for status in order if status in found)


def _message(request: Request) -> str:
    images = ", ".join(f"{image.name} {image.tag or image.digest}" for image in request.edit.images)
    trailers = "\n".join(f"{key}: {value}" for key, value in request.trailers)
    return f"Bump {images}\n\n{trailers}\n"


def check(plan: Plan, ports: Ports) -> Plan:
    """Render the overlays before and after; the plan with the difference.

    Raises:
        PipelineError: an overlay does not render, or an image matches no workload.
    """
    if not (plan.files and plan.tip and plan.request and plan.request.render):
        return plan
    proof = rendering.proof(
        ports.remote, ports.kustomize, plan.tip, plan.files, dependents=plan.request.dependents
    )
    for change in plan.changes:
        _must_match(change, proof)
    return replace(
        plan,
        workloads=tuple(_known(move) for rendering in proof.renderings for move in rendering.moves),
        diff=entries.shown("".join(rendering.difference for rendering in proof.renderings)),
    )


def _known(move: Move) -> Move:
    return replace(move, after=entries.shown(move.after))


def _must_match(change: Change, proof: Proof) -> None:
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
    """Commit and push.

    Raises:
        Stale: the branch has moved; Denied or Refused: it has not, and the server says no;
        Unavailable: the server could not be reached.
    """
    if plan.tip is None or plan.request is None or UNKNOWN_DIGEST in str(plan.files):
        raise PipelineError("the digest to write is not known", hint="run build and push first")
    files = {path: text.encode() for path, text in plan.files}
    commit = ports.remote.commit(plan.tip, files, plan.message, plan.request.author)
    said = ports.remote.push(commit, plan.branch, plan.request.push_options)
    if said:
        _rejected(plan, commit, said, ports.remote)
    changes = tuple(
        replace(change, status=Status.DONE) if change.status is Status.PLANNED else change
        for change in plan.changes
    )
    return replace(plan.foreseen(), status=Status.DONE, commit=commit, changes=changes)


def _rejected(plan: Plan, commit: str, said: str, remote: "Remote") -> None:
    """Tell a race from a refusal by the tip alone."""
    tip = remote.tip(plan.branch)
    if tip == commit:  # it was accepted, and only the answer was lost
        return
    if tip != plan.tip:
        raise Stale(f"{plan.branch} moved to {(tip or 'nothing')[:8]}")
    raise _refusal(plan, said, remote)


def _refusal(plan: Plan, said: str, remote: "Remote") -> PipelineError:
    """The cause in the server's words, which choose the exit code and no more."""
    lines = [line.removeprefix("remote:").strip() for line in said.splitlines()]
    reason = next((line for line in lines if "GitLab:" in line or "GL-HOOK-ERR" in line), " ".join(lines))
    message = f"push to {plan.branch} of {plan.project} refused: {reason}"
    if "not allowed to" in said or "protected branch" in said:
        return Denied(
            message,
            hint=f"allow the token of PT_ENV_TOKEN to push to {plan.branch} (Settings > Repository > Protected "
            "branches), with scope write_repository",
        )
    if "GL-HOOK-ERR" in said or "hook declined" in said:
        return Refused(message, hint="a push rule or hook of the env project says no")
    return remote.failure(said) or PipelineError(
        message, hint="nothing was written; is the env project in order?"
    )


def record(receipt: Receipt, outcome: Outcome) -> Receipt:
    superseded = outcome.status is Status.SUPERSEDED
    return replace(receipt, bump=Bumped(outcome.project, outcome.branch, outcome.commit, superseded))


STEP = Step("bump", facts, plan, check, apply)
