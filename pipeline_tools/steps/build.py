"""The build step: an image of the release's commit, pushed once, as a candidate."""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, cast

from pipeline_tools.errors import PipelineError, Refused
from pipeline_tools.steps.build_request import LABEL, Options, Request, candidate_tag, request
from pipeline_tools.steps.builders import Builder, Image, choose
from pipeline_tools.steps.shape import PRIVATE, Reading, Status, Step
from pipeline_tools.text import image_gates, manifests
from pipeline_tools.text.image_gates import Dockerfile, Gates
from pipeline_tools.text.receipt import Built, Receipt
from pipeline_tools.text.recipes import Described, Recipe

if TYPE_CHECKING:
    from pipeline_tools.adapters.checkout import Checkout, Unwatched
    from pipeline_tools.adapters.context import Contexts, Tree
    from pipeline_tools.adapters.registry import Registries, Registry

__all__ = ["STEP", "Options", "Request", "candidate_tag", "record", "request"]

log = logging.getLogger(__name__)

SHOWN = 5
"""How many changed files a refusal names."""


@dataclass(frozen=True)
class Ports:
    """The checkout to build, what is sent of it, the registries, and what may build: the first that can does."""

    checkout: "Checkout"
    contexts: "Contexts"
    registries: "Registries"
    builders: tuple[Builder, ...]


@dataclass(frozen=True)
class Sent:
    """What the builder is sent: how many files and bytes, and which links lead out of the context."""

    files: int = 0
    size: int = 0
    leading_out: tuple[str, ...] = ()


@dataclass(frozen=True)
class Facts:
    """What is known.

    `head` is the commit checked out, `created` the time of the commit that is built, `changed` the tracked files that
    differ from it, `untracked` those that would be sent and that git does not know, a whole folder as one; `tag` the
    candidate's tag, and `digest` what it stands for in the registry; `refused` is what the gates say before anything is
    built. `unseen` are tracked files of the context that git was told not to look at, `without` its submodules that are
    not checked out.
    """

    head: str
    created: str
    changed: tuple[str, ...]
    untracked: tuple[str, ...]
    tag: str
    digest: str | None
    unread: tuple[PipelineError, ...]
    sent: Sent = Sent()
    refused: tuple[Refused, ...] = ()
    unseen: tuple[str, ...] = ()
    without: tuple[str, ...] = ()


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
    """Build `context` with `file`, label it, push it as `repository`:`tag`; or take what is there, at `digest`.

    `builder` is who builds and `chosen` why, once that is known.
    """

    status: Status
    repository: str
    tag: str
    digest: str | None
    labels: Mapping[str, str]
    context: str
    file: str
    git_context: bool
    target: str | None
    platforms: tuple[str, ...]
    build_args: Mapping[str, str]
    secrets: tuple[str, ...]
    cache: str | None
    sent: Sent
    untracked: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    builder: str | None = None
    chosen: str = ""
    unread: tuple[PipelineError, ...] = ()
    request: Request | None = field(default=None, metadata=PRIVATE)
    recipe: Recipe = field(default=Recipe(), metadata=PRIVATE)

    def lines(self) -> Iterator[str]:
        if self.status is Status.UNCHANGED:
            return
        yield f"+ {self.repository}:{self.tag}"
        yield f"    from {self.file} in {self.context}" + (f", stage {self.target}" if self.target else "")
        if self.builder:
            yield f"    by {self.builder}" + (f" ({self.chosen})" if self.chosen else "")
        if self.platforms:
            yield f"    for {', '.join(self.platforms)}"
        yield from self._sent()
        yield from (f"    secret {name}" for name in self.secrets)
        yield from ([f"    cache {self.cache}"] if self.cache else [])
        yield from (f"    argument {key}={value}" for key, value in self.build_args.items())
        yield from (f"    label {key}={value}" for key, value in self.labels.items())

    def _sent(self) -> Iterator[str]:
        kind = "of the commit" if self.git_context else "of the checkout"
        yield f"    with {self.sent.files} files {kind}, {self.sent.size} bytes"
        if self.untracked:
            yield f"    with files that git does not know: {_named(self.untracked)}"
        if self.without:
            yield f"    without the submodules {_named(self.without)}, which are not checked out"
        if self.sent.leading_out:
            yield f"    with links out of the context, which are not followed: {_named(self.sent.leading_out)}"

    def foreseen(self) -> Outcome:
        return Outcome(self.status, self.repository, self.tag, self.digest)


def facts(request: Request, ports: Ports) -> Facts:
    read = Reading()
    tree = _tree(request, ports)
    dockerfile = _dockerfile(request, tree)
    tag = candidate_tag(request, dockerfile.text.encode("utf-8", "surrogateescape"))
    digest, unwatched = None, _unwatched(request, ports)
    if request.reuse:
        digest = read(None, _candidate, request, ports, tag)
    sent, untracked = (Sent(), ()) if digest else _sent(request, ports, tree)
    return Facts(
        head=ports.checkout.head,
        created=ports.checkout.commit_time(_built(request, ports)),
        changed=() if request.git_context else tuple(ports.checkout.changed_files()),
        untracked=untracked,
        tag=tag,
        digest=digest,
        unread=read.unread,
        sent=sent,
        refused=tuple(image_gates.of_dockerfile(request.gates, dockerfile)),
        unseen=unwatched.files,
        without=unwatched.submodules,
    )


def _unwatched(request: Request, ports: Ports) -> "Unwatched":
    """Of a commit's own tree there is nothing that git does not look at."""
    paths = () if request.git_context else (request.context, request.file)
    return ports.checkout.unwatched(*paths)


def _built(request: Request, ports: Ports) -> str:
    """The commit whose files are built."""
    return request.tagged.commit if request.git_context else ports.checkout.head


def _tree(request: Request, ports: Ports) -> "Tree":
    if not request.git_context:
        return ports.contexts.checkout()
    seconds = ports.checkout.commit_seconds(request.tagged.commit)
    # A Dockerfile outside of the context may have a .dockerignore of its own beside it.
    wanted = (request.context, request.file, f"{request.file}.dockerignore")
    return ports.contexts.commit(request.tagged.commit, seconds, *wanted)


def _dockerfile(request: Request, tree: "Tree") -> Dockerfile:
    if tree.inside(request.context).is_file():
        raise PipelineError(f"{request.context} is not a folder", hint="see --context")
    path = tree.inside(request.file)
    if not path.is_file():
        raise PipelineError(f"there is no {request.file}", hint="see --file and --context")
    text = path.read_bytes().decode("utf-8", "surrogateescape")
    return Dockerfile(request.file, text, request.recipe.build_args, request.recipe.target)


def _sent(request: Request, ports: Ports, tree: "Tree") -> tuple[Sent, tuple[str, ...]]:
    """What the builder would be sent, and which files of it git does not know: the commit's own it does."""
    found = ports.contexts.measured(tree.inside(request.context), tree.inside(request.file))
    sent = Sent(found.files, found.size, found.leading_out)
    if request.git_context:
        return sent, ()
    return sent, tuple(ports.checkout.unknown_files(request.context, found.names))


def _candidate(request: Request, ports: Ports, tag: str) -> str | None:
    """The digest that the candidate's tag stands for, if it keeps the gates; None where there is none.

    Raises:
        Refused: it does not, or says that it is of another commit: then we did not make it.
    """
    registry, name = ports.registries.at(request.repository), request.repository.name
    digest = registry.head(name, tag)
    if digest is None:
        return None
    for image in _described(registry, name, digest):
        revision = image.labels.get(manifests.REVISION)
        if revision != request.tagged.commit:
            raise Refused(
                f"{request.repository}:{tag} is labelled with the commit {revision or 'none'}, not {request.tagged.commit}",
                hint="it was not made here: who may push there? --no-reuse builds it anew and overwrites it",
            )
        _pass(request.gates, image, Dockerfile(f"{request.repository}:{tag}", "", {}, None))
    return digest


def _described(registry: "Registry", name: str, digest: str) -> Iterator[Described]:
    """What the images of a manifest say of themselves; sizes are as they are stored, so less than unpacked."""
    for image in registry.images(name, registry.get(name, digest)):
        config = image.config()
        sizes = [layer.size for layer in image.layers()]
        yield manifests.described(registry.config(name, config) if config else b"{}", sizes)


def _pass(gates: Gates, image: Described, dockerfile: Dockerfile) -> None:
    """Raises Refused where the image does not keep the gates."""
    for refused in image_gates.of_image(gates, image, dockerfile):
        raise refused


def plan(request: Request, facts: Facts) -> Plan:
    """Decide. What is checked out must be the commit that the image will name; else the plan says why it cannot be."""
    labels = dict(sorted([*request.recipe.labels.items(), (f"{LABEL}created", facts.created)]))
    return Plan(
        status=Status.UNCHANGED if facts.digest else Status.PLANNED,
        repository=str(request.repository),
        tag=facts.tag,
        digest=facts.digest,
        labels=labels,
        context=request.context,
        file=request.file,
        git_context=request.git_context,
        target=request.recipe.target,
        platforms=request.recipe.platforms,
        build_args=request.recipe.build_args,
        secrets=tuple(secret.name for secret in request.recipe.secrets),
        cache=request.recipe.cache,
        sent=facts.sent,
        unread=(*facts.unread, *_other(request, facts), *facts.refused),
        untracked=facts.untracked,
        without=() if facts.digest else facts.without,
        request=request,
        recipe=replace(request.recipe, labels=labels, epoch=_seconds(facts.created)),
    )


def _seconds(created: str) -> int:
    return int(datetime.fromisoformat(created).timestamp())


def _other(request: Request, facts: Facts) -> Iterator[PipelineError]:
    """Why what is checked out is not the commit; a commit's own tree always is."""
    if request.git_context:
        return
    if facts.head != request.tagged.commit:
        yield Refused(
            f"{facts.head[:8]} is checked out, but {request.tagged.name} is on {request.tagged.commit[:8]}",
            hint=f"git checkout {request.tagged.name}",
        )
    if facts.changed:
        yield Refused(
            f"uncommitted changes: {_named(facts.changed)}",
            hint="commit or restore them, or build the commit alone with --git-context: "
            "an image is labelled with the commit it is made of",
        )
    yield from _absent(facts)


def _absent(facts: Facts) -> Iterator[PipelineError]:
    """Files of the commit that may not be in the checkout, though git calls that clean."""
    if facts.unseen:
        yield Refused(
            f"files that git is told not to look at: {_named(facts.unseen)}",
            hint="git sparse-checkout disable, git update-index --no-assume-unchanged, or build the commit alone "
            "with --git-context: an image is labelled with the commit it is made of",
        )


def _named(files: tuple[str, ...]) -> str:
    more = f" and {len(files) - SHOWN} more" if len(files) > SHOWN else ""
    return ", ".join(files[:SHOWN]) + more


def check(plan: Plan, ports: Ports) -> Plan:
    """Find who can build, where something is to be built."""
    if plan.status is not Status.PLANNED:
        return plan
    try:
        builder, chosen = choose(plan.recipe, ports.builders)
    except PipelineError as error:
        return replace(plan, unread=(*plan.unread, error))
    log.info("building with %s%s", builder.name, f": {chosen}" if chosen else "")
    return replace(plan, builder=builder.name, chosen=chosen)


def apply(plan: Plan, ports: Ports) -> Outcome:
    """Build, hold it against the gates, push, and see that the registry has it.

    Raises:
        PipelineError: it does not build, or is not there after the push. Refused: a gate says no; nothing was pushed.
    """
    request = cast("Request", plan.request)  # every plan of a request has it
    builder = next(builder for builder in ports.builders if builder.name == plan.builder)
    tree, image = _tree(request, ports), f"{plan.repository}:{plan.tag}"
    context, file = tree.inside(plan.context), tree.inside(plan.file)
    with builder.building(plan.recipe, context, file, image) as built:
        made = built.described()
        _see_platforms(plan.recipe, made)
        for described in made:
            _pass(request.gates, described, _dockerfile(request, tree))
        digest = _published(plan, request, built, ports)
    # By digest: the tag may be another run's by now, which built the same.
    if ports.registries.at(request.repository).head(request.repository.name, digest) is None:
        raise PipelineError(
            f"{image} was pushed as {digest}, but the registry does not have it",
            hint="do the engine and this job reach the same registry?",
        )
    return replace(plan.foreseen(), status=Status.DONE, digest=digest)


def _see_platforms(recipe: Recipe, made: tuple[Described, ...]) -> None:
    """Docker takes a base image that it has, whatever platform that is for.

    Raises:
        PipelineError: a platform was asked for that the image is not for.
    """
    found = [image.platform for image in made]
    for asked in recipe.platforms:
        if not any(f"{platform}/".startswith(f"{asked}/") for platform in found):
            raise PipelineError(
                f"an image for {asked} was asked for, the builder made one for {', '.join(found)}",
                hint="is the base image there for that platform? An engine may hold it for another: docker pull --platform",
            )


def _published(plan: Plan, request: Request, built: Image, ports: Ports) -> str:
    """The candidate's digest: ours, or that of another pipeline of this commit that was quicker."""

    def other() -> str | None:
        return _candidate(request, ports, plan.tag) if request.reuse else None

    if found := other():
        log.info("%s:%s has been built meanwhile; taking that", plan.repository, plan.tag)
        return found
    try:
        return built.push(request.repository, plan.tag, ports.registries.at(request.repository))
    except Refused:  # the tag is immutable, and has come between the look and the push
        if found := other():
            return found
        raise


def record(receipt: Receipt, outcome: Outcome) -> Receipt:
    """The candidate; what an older one led to is dropped."""
    built = Built(outcome.repository, outcome.tag, outcome.digest)
    return receipt if receipt.build == built else Receipt(tag=receipt.tag, build=built)


STEP = Step("build", facts, plan, check, apply)
