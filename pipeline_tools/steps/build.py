"""The build step: an image of the release's commit, pushed once, as a candidate."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from pipeline_tools.errors import PipelineError, Refused
from pipeline_tools.steps.shape import PRIVATE, Reading, Status, Step
from pipeline_tools.text import pairs, references
from pipeline_tools.text.receipt import Built, Receipt, Tagged
from pipeline_tools.text.references import Repository

if TYPE_CHECKING:
    from pipeline_tools.adapters.checkout import Checkout
    from pipeline_tools.adapters.docker import Docker
    from pipeline_tools.adapters.registry import Registries

SHOWN = 5
"""How many changed files a refusal names."""

_LABEL = "org.opencontainers.image."


@dataclass(frozen=True)
class Options:
    """What the command line says about the build."""

    repository: str | None = None
    candidate_repository: str | None = None
    context: str = "."
    file: str | None = None
    builder: str = "auto"
    target: str | None = None
    platform: str | None = None
    build_arg: tuple[str, ...] = ()
    reuse: bool = True
    project_url: str | None = None
    project_title: str | None = None
    project_description: str | None = None
    licenses: str | None = None


@dataclass(frozen=True)
class Request:
    """A candidate in `repository` of the commit that `tagged` names; `labels` are those known from the options."""

    repository: Repository
    tagged: Tagged
    context: str
    file: str
    target: str | None
    platform: str | None
    build_args: tuple[tuple[str, str], ...]
    reuse: bool
    labels: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Ports:
    """The checkout to build, the registries, and what builds."""

    checkout: "Checkout"
    registries: "Registries"
    builder: "Docker"


@dataclass(frozen=True)
class Facts:
    """What is known.

    `head` is the commit checked out, `created` its time, `changed` the tracked files that differ from it,
    `untracked` those in the context that git does not know; `tag`
    the candidate's tag, and `digest` what it stands for in the registry.
    """

    head: str
    created: str
    changed: tuple[str, ...]
    untracked: tuple[str, ...]
    tag: str
    digest: str | None
    unread: tuple[PipelineError, ...]


@dataclass(frozen=True)
class Outcome:
    """The candidate `repository`:`tag` at `digest` (None in a plan: known after build)."""

    status: Status
    repository: str
    tag: str
    digest: str | None

    def summary(self) -> str:
        return f"{self.repository}:{self.tag} @ {self.digest or 'known after build'}"


@dataclass(frozen=True)
class Plan:
    """Build `context` with `file`, label it, push it as `repository`:`tag`; or take what is there, at `digest`."""

    status: Status
    repository: str
    tag: str
    digest: str | None
    labels: Mapping[str, str]
    context: str
    file: str
    target: str | None
    platform: str | None
    build_args: Mapping[str, str]
    untracked: tuple[str, ...] = ()
    unread: tuple[PipelineError, ...] = ()
    place: Repository = field(default=Repository("", ""), metadata=PRIVATE)

    def lines(self) -> Iterator[str]:
        if self.status is Status.UNCHANGED:
            return
        yield f"+ {self.repository}:{self.tag}"
        yield f"    from {self.file} in {self.context}" + (f", stage {self.target}" if self.target else "")
        if self.platform:
            yield f"    for {self.platform}"
        if self.untracked:
            yield f"    with files that git does not know: {_named(self.untracked)}"
        yield from (f"    argument {key}={value}" for key, value in self.build_args.items())
        yield from (f"    label {key}={value}" for key, value in self.labels.items())

    def foreseen(self) -> Outcome:
        return Outcome(self.status, self.repository, self.tag, self.digest)


def request(options: Options, receipt: Receipt) -> Request:
    """What to build: the commit that the receipt's tag is on.

    Raises:
        PipelineError: no tag yet, no repository, or an option against its grammar.
    """
    if receipt.tag is None:
        raise PipelineError(
            "which release? there is no version tag", hint="give --tag, or tag the commit first"
        )
    place = options.candidate_repository or options.repository
    if not place:
        raise PipelineError("which repository?", hint="give --repository, or set PT_REPOSITORY")
    file = options.file or str(PurePosixPath(options.context) / "Dockerfile")
    return Request(
        repository=references.repository(place),
        tagged=receipt.tag,
        context=options.context,
        file=file,
        target=options.target,
        platform=options.platform,
        build_args=tuple(sorted(pairs.parse("--build-arg", options.build_arg).items())),
        reuse=options.reuse,
        labels=_labels(options, receipt.tag),
    )


def _labels(options: Options, tagged: Tagged) -> tuple[tuple[str, str], ...]:
    """The labels that need no checkout (OCI image spec 1.1, annotations.md); an empty one says nothing and is left out."""
    known = {
        "title": options.project_title,
        "description": options.project_description,
        "url": options.project_url,
        "source": options.project_url,
        "version": tagged.version,
        "revision": tagged.commit,
        "licenses": options.licenses,
    }
    return tuple((_LABEL + key, value) for key, value in known.items() if value)


def facts(request: Request, ports: Ports) -> Facts:
    read = Reading()
    if ports.checkout.inside(request.context).is_file():
        raise PipelineError(f"{request.context} is not a folder", hint="see --context")
    tag = candidate_tag(request, _dockerfile(request, ports))
    digest = None
    if request.reuse:
        digest = read(None, ports.registries.at(request.repository).head, request.repository.name, tag)
    return Facts(
        head=ports.checkout.head,
        untracked=tuple(ports.checkout.untracked_files(request.context)),
        created=ports.checkout.commit_time(ports.checkout.head),
        changed=tuple(ports.checkout.changed_files()),
        tag=tag,
        digest=digest,
        unread=read.unread,
    )


def _dockerfile(request: Request, ports: Ports) -> bytes:
    path = ports.checkout.inside(request.file)
    if not path.is_file():
        raise PipelineError(f"there is no {request.file}", hint="see --file and --context")
    return path.read_bytes()


def candidate_tag(request: Request, dockerfile: bytes) -> str:
    """`sha-<commit>-<inputs>`: the same commit and build inputs have the same candidate.

    The commit in full: with a SHA-256 commit it has 77 of an OCI tag's 128 characters.
    """
    inputs = {
        "dockerfile": hashlib.sha256(dockerfile).hexdigest(),
        "context": request.context,
        "build_args": dict(request.build_args),
        "target": request.target,
        "platform": request.platform,
    }
    canonical = json.dumps(inputs, sort_keys=True, separators=(",", ":"))
    return f"sha-{request.tagged.commit}-{hashlib.sha256(canonical.encode()).hexdigest()[:8]}"


def plan(request: Request, facts: Facts) -> Plan:
    """Decide. What is checked out must be the commit that the image will name; else the plan says why it cannot be."""
    return Plan(
        status=Status.UNCHANGED if facts.digest else Status.PLANNED,
        repository=str(request.repository),
        tag=facts.tag,
        digest=facts.digest,
        labels=dict(sorted([*request.labels, (f"{_LABEL}created", facts.created)])),
        context=request.context,
        file=request.file,
        target=request.target,
        platform=request.platform,
        build_args=dict(request.build_args),
        unread=(*facts.unread, *_other(request, facts)),
        untracked=facts.untracked,
        place=request.repository,
    )


def _other(request: Request, facts: Facts) -> Iterator[PipelineError]:
    """Why what is checked out is not the commit."""
    if facts.head != request.tagged.commit:
        yield Refused(
            f"{facts.head[:8]} is checked out, but {request.tagged.name} is on {request.tagged.commit[:8]}",
            hint=f"git checkout {request.tagged.name}",
        )
    if facts.changed:
        yield Refused(
            f"uncommitted changes: {_named(facts.changed)}",
            hint="commit or restore them: an image is labelled with the commit it is made of",
        )


def _named(files: tuple[str, ...]) -> str:
    more = f" and {len(files) - SHOWN} more" if len(files) > SHOWN else ""
    return ", ".join(files[:SHOWN]) + more


def check(plan: Plan, ports: Ports) -> Plan:
    """Prove that there is a builder, where one is needed."""
    if plan.status is not Status.PLANNED:
        return plan
    try:
        ports.builder.ready()
    except PipelineError as error:
        return replace(plan, unread=(*plan.unread, error))
    return plan


def apply(plan: Plan, ports: Ports) -> Outcome:
    """Build, push, and see that the registry has it.

    Raises:
        PipelineError: it does not build, or is not there after the push.
    """
    image = f"{plan.repository}:{plan.tag}"
    ports.builder.build(
        image,
        context=ports.checkout.inside(plan.context),
        file=ports.checkout.inside(plan.file),
        labels=plan.labels,
        build_args=plan.build_args,
        target=plan.target,
        platform=plan.platform,
    )
    digest = ports.builder.push(plan.repository, plan.tag, ports.registries.credential(plan.place))
    # By digest: the tag may be another run's by now, which built the same.
    if ports.registries.at(plan.place).head(plan.place.name, digest) is None:
        raise PipelineError(
            f"{image} was pushed as {digest}, but the registry does not have it",
            hint="do the engine and this job reach the same registry?",
        )
    return replace(plan.foreseen(), status=Status.DONE, digest=digest)


def record(receipt: Receipt, outcome: Outcome) -> Receipt:
    """The candidate; what an older one led to is dropped."""
    built = Built(outcome.repository, outcome.tag, outcome.digest)
    return receipt if receipt.build == built else Receipt(tag=receipt.tag, build=built)


STEP = Step("build", facts, plan, check, apply)
