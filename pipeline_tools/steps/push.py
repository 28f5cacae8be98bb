"""The push step: the candidate's digest published under the release tag, byte for byte."""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from semver import Version

from pipeline_tools.errors import PipelineError, Refused, Stale
from pipeline_tools.steps import promoting
from pipeline_tools.steps.shape import PRIVATE, Reading, Status, Step
from pipeline_tools.text import manifests, references, versions
from pipeline_tools.text.receipt import Pushed, Receipt
from pipeline_tools.text.references import Repository
from pipeline_tools.text.usage import Usage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pipeline_tools.adapters.checkout import Checkout
    from pipeline_tools.adapters.registry import Registries, Registry
    from pipeline_tools.text.manifests import Manifest

log = logging.getLogger(__name__)

LISTED = 10_000
"""Tags that Artifact Registry lists at most: where there are so many, others may be missing."""


@dataclass(frozen=True)
class Options:
    """What the command line says about the publication."""

    repository: str | None = None
    source: str | None = None
    moving: tuple[str, ...] = ()
    tag: str | None = None
    tag_pattern: str = versions.DEFAULT_PATTERN


@dataclass(frozen=True)
class Request:
    """Publish `source` at `digest` (None: known after build) as `repository` under the version of git tag `name`.

    `commit` is the release's, None to take the one that the checkout's tag is on; `moving` the kinds of moving
    tags asked for; `is_given`: somebody named the source, so that no build of ours has looked at its labels.
    """

    repository: Repository
    source: Repository
    digest: str | None
    name: str
    version: Version
    commit: str | None
    moving: tuple[str, ...]
    pattern: str
    is_given: bool = False


@dataclass(frozen=True)
class Ports:
    """The registries; the checkout, for the commit of a tag; and all git tags, which a job's checkout lacks.

    `keeps_tags` says whether a repository's tags are immutable, None where that cannot be known.
    """

    checkout: "Checkout"
    registries: "Registries"
    git_tags: "Callable[[], Iterable[str]]"
    keeps_tags: "Callable[[Repository], bool | None]" = lambda _: None


@dataclass(frozen=True)
class Facts:
    """What is known.

    `published` is the digest that the version tag stands for, and `revision` the commit in that image's labels
    (looked up where the digest is another than ours); `commit` is the release's; `known` are all versions by where
    they are known from, `moving` the digests by moving tag, `immutable` whether the repository's tags are.
    """

    published: str | None
    revision: str | None
    commit: str | None
    known: Mapping[str, tuple[Version, ...]]
    moving: Mapping[str, str | None]
    immutable: bool | None
    unread: tuple[PipelineError, ...]


@dataclass(frozen=True)
class Outcome:
    """The published image `repository`:`tag` at `digest` (None in a plan: known after build).

    `moved` are the moving tags that stand for it, `kept` the others that were asked for, with the reason. After a
    failure `moved` are those that were written before it, and `left` are all tags still to be written. `usage` is
    None where nothing was written.
    """

    status: Status
    repository: str
    tag: str
    digest: str | None
    moved: tuple[str, ...]
    kept: Mapping[str, str]
    left: tuple[str, ...] = ()
    usage: Usage | None = None

    def summary(self) -> str:
        if self.status is Status.FAILED:
            done = () if self.tag in self.left else (self.tag, *self.moved)
            return f"{self.repository}: done: {', '.join(done) or 'no tag'}; left: {', '.join(self.left) or 'to verify'}"
        also = f" (also {', '.join(self.moved)})" if self.moved else ""
        return f"{self.repository}:{self.tag} @ {self.digest or 'known after build'}{also}"


@dataclass(frozen=True)
class Plan:
    """Put `digest` of `source` under `write`'s tags in `repository`.

    `adopted`: the version tag stands for `digest` already, which is not the candidate but of the same commit.
    `moved` and `kept` as in the outcome, both with the reason.
    """

    status: Status
    repository: str
    source: str
    tag: str
    digest: str | None
    adopted: bool
    write: tuple[str, ...]
    moved: Mapping[str, str]
    kept: Mapping[str, str]
    unread: tuple[PipelineError, ...] = ()
    target: Repository = field(default=Repository("", ""), metadata=PRIVATE)
    origin: Repository = field(default=Repository("", ""), metadata=PRIVATE)
    manifest: "Manifest | None" = field(default=None, metadata=PRIVATE)
    request: Request | None = field(default=None, metadata=PRIVATE)
    commit: str | None = field(default=None, metadata=PRIVATE)

    def lines(self) -> Iterator[str]:
        if self.adopted:
            yield f"{self.tag} is published from this commit already, as {self.digest}: taken as it is"
        for tag in self.write:
            source = "" if self.origin == self.target else f" of {self.source}"
            reason = f" ({self.moved[tag]})" if tag in self.moved else ""
            yield f"+ {self.repository}:{tag} → {self.digest or 'digest known after build'}{source}{reason}"
        yield from (f"  {tag} stays: {reason}" for tag, reason in self.kept.items())

    def foreseen(self) -> Outcome:
        return Outcome(self.status, self.repository, self.tag, self.digest, tuple(self.moved), self.kept)


def request(options: Options, receipt: Receipt) -> Request:
    """What to publish: the source given, or the receipt's candidate.

    Raises:
        Refused: the tag is no release tag.
        PipelineError: no tag, no source, no repository, or an option against its grammar.
    """
    name = receipt.tag.name if receipt.tag else options.tag
    if name is None:
        raise PipelineError(
            "which release? there is no version tag", hint="give --tag, or tag the commit first"
        )
    if not options.repository:
        raise PipelineError("which repository?", hint="give --repository, or set PT_REPOSITORY")
    source, digest = _source(options, receipt)
    return Request(
        repository=references.repository(options.repository),
        source=source,
        digest=digest,
        name=name,
        version=versions.parse(name, options.tag_pattern),
        commit=receipt.tag.commit if receipt.tag else None,
        moving=options.moving,
        pattern=options.tag_pattern,
        is_given=bool(options.source),
    )


def _source(options: Options, receipt: Receipt) -> tuple[Repository, str | None]:
    if options.source:
        given = references.reference(options.source)
        if not given.digest:
            raise PipelineError(
                f"--source {options.source} has no digest", hint="write it like IMAGE@sha256:…"
            )
        return references.repository(given.name), given.digest
    if receipt.build is None:
        raise PipelineError("which candidate? the receipt has none", hint="run build first, or give --source")
    return references.repository(receipt.build.repository), receipt.build.digest


def facts(request: Request, ports: Ports) -> Facts:
    read = Reading()
    registry, name = ports.registries.at(request.repository), request.repository.name
    published = read(None, registry.head, name, str(request.version))
    is_other = published is not None and published != request.digest
    moving = [tag for tag, move in _moves(request, {}).items() if move.goes]
    stands = {tag: read(None, registry.head, name, tag) for tag in moving}
    return Facts(
        published=published,
        revision=read(None, _revision, registry, name, published) if is_other and published else None,
        commit=request.commit or ports.checkout.tags.get(request.name),
        known=_known(request, ports, stands, read) if moving else {},
        moving=stands,
        immutable=ports.keeps_tags(request.repository) if request.moving else None,
        unread=read.unread,
    )


def _moves(request: Request, known: Mapping[str, tuple[Version, ...]]) -> dict[str, versions.Move]:
    return versions.moving_tags(request.moving, request.version, known)


def _revision(registry: "Registry", name: str, digest: str) -> str | None:
    """The commit in an image's labels."""
    return registry.labels(name, registry.get(name, digest)).get(manifests.REVISION)


def _known(
    request: Request, ports: Ports, stands: Mapping[str, str | None], read: Reading
) -> dict[str, tuple[Version, ...]]:
    """All versions: a tag that git has and the registry not yet is about to be published.

    A listing that may not be whole is made up for by the versions that the moving tags stand for now. Elsewhere they
    are not asked: an image without such a label may have inherited its base image's.
    """
    registry, name = ports.registries.at(request.repository), request.repository.name
    listed = read([], registry.tags, name)
    known = {"git": versions.releases(read((), ports.git_tags), request.pattern)}
    if len(listed) >= LISTED:
        for tag, digest in stands.items():
            label = read(None, _version, registry, name, digest) if digest else None
            known[f"the label of {tag}"] = versions.releases([label] if label else [])
    known["the registry"] = versions.releases(listed)
    return {where: tuple(found) for where, found in known.items()}


def _version(registry: "Registry", name: str, digest: str) -> str | None:
    """The version in an image's labels."""
    return registry.labels(name, registry.get(name, digest)).get(manifests.VERSION)


def plan(request: Request, facts: Facts) -> Plan:
    """Decide.

    Raises:
        Refused: the version is published already, from another commit; moving tags where tags are immutable.
    """
    if facts.immutable:
        raise Refused(
            f"{request.repository} has immutable tags: {', '.join(_moves(request, {}))} cannot move there",
            hint="leave out --moving, or publish to a repository without immutable tags",
        )
    adopted = facts.published is not None and facts.published != request.digest
    if adopted and not facts.unread:
        _same(request, facts)
    digest = facts.published if adopted else request.digest
    # What is published already need not be brought from the candidates.
    origin = request.source if facts.published is None else request.repository
    moves = _moves(request, facts.known)
    moved = {tag: move.reason for tag, move in moves.items() if move.goes}
    tag = str(request.version)
    stands = {tag: facts.published, **facts.moving}
    write = tuple(tag for tag in (tag, *moved) if stands[tag] is None or stands[tag] != digest)
    return Plan(
        status=Status.PLANNED if write else Status.UNCHANGED,
        repository=str(request.repository),
        source=str(origin),
        tag=tag,
        digest=digest,
        adopted=adopted,
        write=write,
        moved=moved,
        kept={tag: move.reason for tag, move in moves.items() if not move.goes},
        unread=facts.unread,
        target=request.repository,
        origin=origin,
        request=request,
        commit=facts.commit,
    )


def _same(request: Request, facts: Facts) -> None:
    """An image of the same commit is the same release, built once more."""
    if facts.revision is None or facts.revision != facts.commit:
        raise Refused(
            f"{request.repository}:{request.version} is published as {facts.published}, of revision "
            f"{facts.revision or 'unknown'}; this release is of {facts.commit or 'unknown'}",
            hint="a published version stays what it is; release the next version",
        )


def check(plan: Plan, ports: Ports) -> Plan:
    """Prove that the source is there, and read its manifest.

    Raises:
        Refused: it was named, and says that it is made of another commit than the release's.
    """
    if plan.status is not Status.PLANNED or plan.digest is None:
        return plan
    read = Reading(list(plan.unread))
    registry = ports.registries.at(plan.origin)
    manifest = read(None, registry.get, plan.origin.name, plan.digest)
    if manifest and plan.request and plan.request.is_given:
        read(None, _made_of, plan, manifest, registry)
    return replace(plan, manifest=manifest, unread=read.unread)


def _made_of(plan: Plan, manifest: "Manifest", registry: "Registry") -> None:
    """See that each image is of the release's commit, as far as it says of which it is."""
    name = plan.origin.name
    images = registry.images(name, manifest)
    for revision in {registry.labels(name, image).get(manifests.REVISION) for image in images}:
        if revision is None or plan.commit is None:
            log.warning("%s@%s does not say of which commit it is, or the tag not", plan.source, plan.digest)
        elif revision != plan.commit:
            raise Refused(
                f"{plan.source}@{plan.digest} is labelled with the commit {revision}, not {plan.commit}",
                hint=f"name the candidate that was built of {plan.request.name if plan.request else 'the tag'}, "
                "or run build and leave --source out; an image without a label of its own has its base's",
            )


def apply(plan: Plan, ports: Ports) -> Outcome:
    """What the image consists of first, then the version tag, moving tags last: killed anywhere, nothing points nowhere.

    Raises:
        PipelineError: there is nothing to publish yet.
        Stale: somebody else wrote one of the tags at the same time.
    """
    if plan.manifest is None:
        raise PipelineError("the candidate has no digest yet", hint="run build first")
    done: list[str] = []
    try:
        _publish(plan, plan.manifest, ports, done)
    except PipelineError as error:
        error.done = _partial(plan, done)
        raise
    return replace(plan.foreseen(), status=Status.DONE, usage=ports.registries.meter.usage())


def _publish(plan: Plan, manifest: "Manifest", ports: Ports, done: list[str]) -> None:
    """Write, and note in `done` the tags that are written; then see that each stands for what it should."""
    if plan.origin != plan.target:
        promoting.bring(manifest, plan.origin, plan.target, ports.registries)
    registry, name = ports.registries.at(plan.target), plan.target.name
    for tag in plan.write:
        if tag in plan.moved:
            _look_again(plan, ports, done)
        registry.put(name, tag, manifest)
        done.append(tag)
    for tag in plan.write:
        if registry.head(name, tag) != plan.digest:
            raise Stale(f"{plan.repository}:{tag} was written by somebody else")


def _look_again(plan: Plan, ports: Ports, done: list[str]) -> None:
    """Before the first moving tag: has a newer version come since?

    Every release writes its version before it looks, so of two at once one at least sees the other. The registry
    has no compare-and-swap on tags that would do better.
    """
    if plan.request is None or any(tag in plan.moved for tag in done):
        return
    listed = ports.registries.at(plan.target).tags(plan.target.name)
    moves = _moves(plan.request, {"the registry": tuple(versions.releases(listed))})
    for tag in plan.moved:
        if not moves[tag].goes:
            raise Stale(f"{plan.repository}:{tag} stays: {moves[tag].reason}")


def _partial(plan: Plan, done: list[str]) -> Outcome:
    left = tuple(tag for tag in plan.write if tag not in done)
    moved = tuple(tag for tag in plan.moved if tag not in left)
    return replace(plan.foreseen(), status=Status.FAILED, moved=moved, left=left)


def record(receipt: Receipt, outcome: Outcome) -> Receipt:
    """The published image; what an older one led to is dropped. A part of one is none."""
    if outcome.status is Status.FAILED:
        return receipt
    pushed = Pushed(outcome.repository, outcome.tag, outcome.digest, outcome.moved)
    if receipt.push == pushed:
        return receipt
    return replace(receipt, push=pushed, bump=None, trigger=None)


STEP = Step("push", facts, plan, check, apply)
