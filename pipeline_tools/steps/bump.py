"""The bump step: one commit in the env repository that writes the published image into its overlays."""

import difflib
import hashlib
import json
import posixpath
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from semver import Version

from pipeline_tools.errors import Denied, PipelineError, Refused, Stale
from pipeline_tools.steps.shape import PRIVATE, Reading, Status, Step
from pipeline_tools.text import kustomization, references, versions
from pipeline_tools.text.kustomization import FILE_NAMES, Image
from pipeline_tools.text.receipt import Bumped, Pushed, Receipt

if TYPE_CHECKING:
    from pipeline_tools.adapters.git import Remote
    from pipeline_tools.adapters.kustomize import Kustomize


UNKNOWN_DIGEST = "sha256:" + "0" * 64
"""Stands for the digest in the plan of a release that is not built yet; never written."""

NOBODY = "pipeline-tools@noreply.invalid"


@dataclass(frozen=True)
class Options:
    """What the command line says about the bump."""

    env_project: str
    env_branch: str | None = None
    overlay: tuple[str, ...] = ()
    image: tuple[str, ...] = ()
    allow_downgrade: bool = False
    render: bool = True
    skip_ci: bool = False
    author_name: str = "pipeline-tools"
    author_email: str = NOBODY
    project: str | None = None
    pipeline_url: str | None = None


@dataclass(frozen=True)
class Request:
    """Write `images` into `overlays` of `project`, the env repository.

    `trailers` go under the commit's message; `Bump-Id` among them names this bump for good.
    """

    project: str
    branch: str | None
    overlays: tuple[str, ...]
    images: tuple[Image, ...]
    trailers: tuple[tuple[str, str], ...]
    author: tuple[str, str]
    allow_downgrade: bool
    render: bool
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
class Change:
    """One entry of one file: what it says at the tip, and what it will say. `status` as of a plan."""

    path: str
    name: str
    before: str
    after: str
    status: Status


@dataclass(frozen=True)
class Outcome:
    """The env repository's `commit` on `branch` that is the bump, or contains it."""

    status: Status
    project: str
    branch: str
    commit: str | None
    changes: tuple[Change, ...]
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
    """The commit to make: its parent `tip`, its `changes`, its `message`; `diff` is the rendered difference."""

    status: Status
    project: str
    branch: str
    tip: str | None
    changes: tuple[Change, ...]
    message: str
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
        yield from self.diff.splitlines()

    def foreseen(self) -> Outcome:
        commit = None if self.status is Status.PLANNED else self.earlier or self.tip
        return Outcome(self.status, self.project, self.branch, commit, self.changes, self.diff)


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
        author=(_signed(options.author_name, "pipeline-tools"), _signed(options.author_email, NOBODY)),
        allow_downgrade=options.allow_downgrade,
        render=options.render,
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
    found = [_file(ports.remote, tip, overlay) for overlay in request.overlays] if tip else []
    is_done = any(_is_written(text, path, request.images) for path, text in found)
    earlier = read(None, ports.remote.find, branch, f"Bump-Id: {request.trailers[0][1]}") if is_done else None
    return Facts(branch=branch, tip=tip, files=tuple(found), earlier=earlier, unread=read.unread)


def _file(remote: "Remote", tip: str, overlay: str) -> tuple[str, str]:
    """Path and text of an overlay's kustomization file."""
    entries = remote.entries(tip, overlay)
    if not entries:
        raise PipelineError(
            f"there is no folder {overlay} at {tip[:8]}", hint="see --overlay and --env-branch"
        )
    names = [
        entry.name for entry in entries if entry.name in FILE_NAMES and entry.mode in {"100644", "100755"}
    ]
    if len(names) != 1:
        what = f"{len(names)} kustomization files ({', '.join(names)})" if names else "no kustomization file"
        raise PipelineError(f"{overlay} has {what}", hint=f"keep exactly one of {', '.join(FILE_NAMES)}")
    path = f"{overlay}/{names[0]}"
    try:
        return path, remote.read(tip, path).decode()
    except UnicodeDecodeError:
        raise PipelineError(f"{path} is not UTF-8 text", hint="save it as UTF-8") from None


def _is_written(text: str, path: str, images: tuple[Image, ...]) -> bool:
    return all(kustomization.set_image(text, image, path) == text for image in images)


def plan(request: Request, facts: Facts) -> Plan:
    """Decide entry by entry what is to be written.

    Raises:
        PipelineError: an entry that is missing or cannot be edited safely (see `kustomization.set_image`).
    """
    files, changes = [], []
    for path, text in facts.files:
        edited = text
        for image in request.images:
            change = _change(edited, path, image, request.allow_downgrade)
            changes.append(change)
            if change.status is Status.PLANNED:
                edited = kustomization.set_image(edited, image, path)
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


def _change(text: str, path: str, image: Image, allow_downgrade: bool) -> Change:
    edited = kustomization.set_image(text, image, path)
    before, after = _entry(text, path, image.name), _entry(edited, path, image.name)
    if edited != text and after.digest and image.digest is None:
        raise PipelineError(
            f"{path}: image {image.name!r} is pinned to a digest, which {image} does not give",
            hint="write REPOSITORY:TAG@DIGEST: kustomize would go on deploying the old digest",
        )
    is_older = _precedes(after.tag, before.tag) and not allow_downgrade
    status = Status.UNCHANGED if edited == text else Status.SUPERSEDED if is_older else Status.PLANNED
    return Change(path, image.name, str(before), _shown(str(after)), status)


def _entry(text: str, path: str, name: str) -> Image:
    return next(entry for entry in kustomization.images(text, path) if entry.name == name)


def _shown(text: str) -> str:
    return text.replace(UNKNOWN_DIGEST, "(known after build)")


def _precedes(tag: str | None, current: str | None) -> bool:
    """SemVer precedence; tags that are no versions have none."""
    new, old = _version(tag), _version(current)
    return new is not None and old is not None and new < old


def _version(tag: str | None) -> Version | None:
    try:
        return versions.parse(tag or "")
    except Refused:
        return None


def _status(changes: list[Change]) -> Status:
    found = {change.status for change in changes}
    # Where one overlay has our image and another a newer one, our commit still wants its pipeline.
    order = (Status.PLANNED, Status.UNCHANGED, Status.SUPERSEDED)
    return next(status for status in order if status in found)


def _message(request: Request) -> str:
    images = ", ".join(f"{image.name} {image.tag}" for image in request.images)
    trailers = "\n".join(f"{key}: {value}" for key, value in request.trailers)
    return f"Bump {images}\n\n{trailers}\n"


def check(plan: Plan, ports: Ports) -> Plan:
    """Render the overlays before and after; the plan with the difference.

    Raises:
        PipelineError: an overlay does not render, or an image matches no workload.
    """
    if not (plan.files and plan.tip and plan.request and plan.request.render):
        return plan
    with tempfile.TemporaryDirectory(prefix="pipeline-tools-render-") as scratch:
        directory = Path(scratch)
        folders = {posixpath.dirname(path) for path, _ in plan.files}
        ports.remote.materialise(plan.tip, _closure(ports.remote, plan.tip, folders), directory)
        before = _render(ports, directory, folders)
        for path, text in plan.files:
            (directory / path).write_bytes(text.encode())
        after = _render(ports, directory, folders)
    _must_match(plan, after)
    return replace(
        plan, diff="".join(_difference(folder, before[folder], after[folder]) for folder in sorted(folders))
    )


def _closure(remote: "Remote", tip: str, folders: set[str]) -> tuple[str, ...]:
    """The folders and every folder that their kustomizations build on."""
    seen: set[str] = set()
    waiting = set(folders)
    while waiting:
        folder = waiting.pop()
        seen.add(folder)
        path, text = _file(remote, tip, folder)
        below = {
            posixpath.normpath(posixpath.join(folder, name)) for name in kustomization.folders(text, path)
        }
        waiting |= {name for name in below - seen if not name.startswith("..") and remote.entries(tip, name)}
    return tuple(sorted(seen))


def _render(ports: Ports, directory: Path, folders: set[str]) -> dict[str, str]:
    return {folder: ports.kustomize.build(directory / folder, folder) for folder in folders}


def _must_match(plan: Plan, after: dict[str, str]) -> None:
    for change in plan.changes:
        rendered = after.get(posixpath.dirname(change.path), change.after)
        if change.status is Status.PLANNED and change.after not in _shown(rendered):
            found = sorted(
                {line.split("image:")[1].strip() for line in rendered.splitlines() if "image:" in line}
            )
            raise PipelineError(
                f"{change.path}: image {change.name!r} matches no workload (there are: {', '.join(found) or 'none'})",
                hint="the name in images: must be the one the manifests use",
            )


def _difference(folder: str, before: str, after: str) -> str:
    lines = difflib.unified_diff(
        before.splitlines(keepends=True),
        _shown(after).splitlines(keepends=True),
        f"{folder} (now)",
        f"{folder} (bumped)",
    )
    return "".join(lines)


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
