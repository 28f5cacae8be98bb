"""The tag step: is this release tag sound, which one comes next, and make it."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from pipeline_tools.errors import Denied, PipelineError, Refused
from pipeline_tools.steps.shape import PRIVATE, Reading, Status, Step
from pipeline_tools.text import commits, references, versions
from pipeline_tools.text.commits import Change
from pipeline_tools.text.receipt import Receipt, Tagged

if TYPE_CHECKING:
    from pipeline_tools.adapters.checkout import Checkout
    from pipeline_tools.adapters.git import Remote
    from pipeline_tools.adapters.gitlab import Project


@dataclass(frozen=True)
class Options:
    """What the command line says about the tag."""

    tag: str | None = None
    commit: str | None = None
    tag_pattern: str = versions.DEFAULT_PATTERN
    branch: tuple[str, ...] = ()
    default_branch: str | None = None


@dataclass(frozen=True)
class Request:
    """`name` is the tag to check or create, None for the one at the commit or else the next.

    `is_next` asks for the next version even where the commit has a tag, `creates` for a tag that is missing,
    `pre` for a pre-release of that kind, `message` replaces the list of changes.
    """

    name: str | None
    commit: str | None
    pattern: str
    branches: tuple[str, ...]
    default_branch: str | None
    is_next: bool = False
    creates: bool = False
    pre: str | None = None
    message: str | None = None


@dataclass(frozen=True)
class Ports:
    """`remote` is the origin, None where the checkout has none; `gitlab` is None without a token."""

    checkout: "Checkout"
    remote: "Remote | None"
    gitlab: "Project | None"


@dataclass(frozen=True)
class Facts:
    """What is known.

    `name` is the tag in question, None for the next one; `tags` holds the commit by tag; `branches` the lines that may be released from and `line` the first of them
    that contains the commit; `base` the last release in the commit's history and `changes` what came since;
    `released` whether the GitLab Release is there.
    """

    commit: str
    name: str | None
    tags: dict[str, str]
    branches: tuple[str, ...]
    line: str | None
    base: str | None
    changes: tuple[Change, ...]
    released: bool
    unread: tuple[PipelineError, ...]


@dataclass(frozen=True)
class Outcome:
    """The tag `name`, the `version` it names, its `commit` and the `branch` that contains it."""

    status: Status
    name: str
    version: str
    commit: str
    branch: str | None

    def summary(self) -> str:
        return f"{self.name} at {self.commit[:8]}" + (f", on {self.branch}" if self.branch else "")


@dataclass(frozen=True)
class Plan:
    """`exists` tells whether the tag is there, `is_next` whether we chose its name; `notes` is what a new one and its GitLab Release will say."""

    status: Status
    name: str
    version: str
    commit: str
    branch: str | None
    exists: bool
    is_next: bool
    notes: str
    creates: bool = field(metadata=PRIVATE)
    released: bool = field(metadata=PRIVATE)
    unread: tuple[PipelineError, ...] = ()

    def lines(self) -> Iterator[str]:
        if not self.exists and self.is_next:
            yield f"{self.name} is the next version: {self.commit[:8]} has no version tag"
        elif not self.exists and not self.creates:
            yield f"there is no tag {self.name}"
        if self.creates and self.status is Status.PLANNED:
            yield (
                f"+ tag {self.name} on {self.commit[:8]}" if not self.exists else f"  tag {self.name} exists"
            )
            yield from ("+ GitLab Release", *self.notes.splitlines())

    def foreseen(self) -> Outcome:
        return Outcome(self.status, self.name, self.version, self.commit, self.branch)


def request(options: Options, _receipt: Receipt) -> Request:
    """What to check: the tag given, or the one at the commit.

    Raises:
        Refused: the name given is no release tag; nothing else is looked at.
    """
    if options.tag is not None:
        versions.parse(options.tag, options.tag_pattern)
    if options.commit is not None and not references.COMMIT.fullmatch(options.commit):
        raise PipelineError(f"{options.commit!r} is not a full commit hash", hint="see git rev-parse HEAD")
    return Request(
        name=options.tag,
        commit=options.commit,
        pattern=options.tag_pattern,
        branches=tuple(references.branch(name) for name in options.branch),
        default_branch=options.default_branch,
    )


def facts(request: Request, ports: Ports) -> Facts:
    read = Reading()
    branches = _branches(request, ports, read)
    tags, tips = _refs(ports, branches, read)
    commit = _commit(request, tags, ports)
    line = read(None, _line, ports, tips, commit)
    name = request.name or (None if request.is_next or request.pre else _at(commit, tags, request.pattern))
    base: str | None = None
    changes: tuple[Change, ...] = ()
    if request.creates or not name:
        below = replace(request, name=name)
        base, changes = read((None, ()), _history, below, ports, tags, line or branches[0], commit)
    if request.creates and ports.gitlab is None:
        read.errors.append(_tokenless())
    return Facts(
        commit=commit,
        name=name,
        tags=tags,
        branches=branches,
        line=line,
        base=base,
        changes=changes,
        released=_released(name, request, ports, read),
        unread=read.unread,
    )


def _commit(request: Request, tags: dict[str, str], ports: Ports) -> str:
    """The commit of the release: as given, that of a tag to be checked, or HEAD."""
    known = None if request.creates else {**ports.checkout.tags, **tags}.get(request.name or "")
    return request.commit or known or ports.checkout.head


def _branches(request: Request, ports: Ports, read: Reading) -> tuple[str, ...]:
    """The lines that may be released from: as asked, or the default branch and the protected ones."""
    if request.branches:
        return request.branches
    default = request.default_branch or read(ports.checkout.default_branch(), _remote_head, ports) or "main"
    protected = read([], ports.gitlab.protected_branches) if ports.gitlab else []
    return (default, *(branch for branch in protected if branch != default))


def _remote_head(ports: Ports) -> str | None:
    return ports.remote.head() if ports.remote else None


def _refs(ports: Ports, branches: tuple[str, ...], read: Reading) -> tuple[dict[str, str], dict[str, str]]:
    """The commits of all tags and of `branches`: the remote's, or the checkout's where that cannot be read."""
    heads = [f"refs/heads/{branch}" for branch in branches]
    refs = read(None, ports.remote.refs, "refs/tags/*", *heads) if ports.remote else None
    if refs is None:
        tips = {branch: ports.checkout.branch(branch) for branch in branches}
        return ports.checkout.tags, {branch: tip for branch, tip in tips.items() if tip}
    return _named(refs, "refs/tags/"), _named(refs, "refs/heads/")


def _named(refs: dict[str, str], prefix: str) -> dict[str, str]:
    return {ref.removeprefix(prefix): commit for ref, commit in refs.items() if ref.startswith(prefix)}


def _at(commit: str, tags: dict[str, str], pattern: str) -> str | None:
    """The highest version tag at a commit."""
    here = versions.releases((name for name, target in tags.items() if target == commit), pattern)
    return here[max(here)] if here else None


def _line(ports: Ports, tips: dict[str, str], commit: str) -> str | None:
    return next((branch for branch, tip in tips.items() if _contains(ports, branch, tip, commit)), None)


def _contains(ports: Ports, branch: str, tip: str, commit: str) -> bool:
    """Ask the checkout; where its history is cut off, the remote's."""
    has_tip = ports.checkout.has(tip)
    if tip == commit or (has_tip and ports.checkout.contains(tip, commit)):
        return True
    is_known = has_tip and not ports.checkout.is_shallow
    return False if is_known or ports.remote is None else ports.remote.contains(branch, commit)


def _history(
    request: Request, ports: Ports, tags: dict[str, str], branch: str, commit: str
) -> tuple[str | None, tuple[Change, ...]]:
    """The last release before this one, and the changes since."""
    source: Checkout | Remote = ports.checkout
    if ports.checkout.is_shallow and ports.remote:
        ports.remote.fetch_history(branch)
        source = ports.remote
    base = _base(tags, source.ancestors(commit), request)
    rows = source.log(tags[base] if base else None, commit)
    return base, tuple(commits.change(sha, message) for sha, message in rows)


def _base(tags: dict[str, str], ancestors: frozenset[str], request: Request) -> str | None:
    """The highest release before this one in its history: a maintenance branch counts from its own."""
    mine = [name for name, commit in tags.items() if commit in ancestors]
    below = versions.parse(request.name, request.pattern) if request.name else None
    known = versions.releases(mine, request.pattern)
    finals = [v for v in known if not v.prerelease and (below is None or v < below)]
    return known[max(finals)] if finals else None


def _released(name: str | None, request: Request, ports: Ports, read: Reading) -> bool:
    if not (request.creates and name and ports.gitlab):
        return False
    return read(False, ports.gitlab.has_release, name)


def _tokenless() -> PipelineError:
    return Denied(
        "PT_GITLAB_TOKEN is empty",
        hint="set it to a token with scope api; a protected variable is absent on an unprotected ref",
    )


def plan(request: Request, facts: Facts) -> Plan:
    """Decide.

    Raises:
        Refused: the tag is on another commit, or its commit is on no line that may be released from.
    """
    if facts.name is None and _nothing_new(request, facts):
        return _settled(facts.base or "", request, facts)
    name = facts.name or _next(request, facts)
    exists = _exists(name, facts)
    if request.creates and not exists:
        _rises(name, request, facts)
    if facts.line is None and not facts.unread:
        raise Refused(
            f"{facts.commit[:8]} is on none of {', '.join(facts.branches)}",
            hint="release from the default or a protected branch; see --branch",
        )
    is_settled = exists and (facts.released or not request.creates)
    return Plan(
        status=Status.UNCHANGED if is_settled else Status.PLANNED,
        name=name,
        version=str(versions.parse(name, request.pattern)),
        commit=facts.commit,
        branch=facts.line,
        exists=exists,
        is_next=facts.name is None,
        notes=request.message or commits.notes(facts.changes),
        creates=request.creates,
        released=facts.released,
        unread=facts.unread,
    )


def _exists(name: str, facts: Facts) -> bool:
    target = facts.tags.get(name)
    if target is not None and target != facts.commit:
        raise Refused(
            f"tag {name} is on {target[:8]}, not on {facts.commit[:8]}",
            hint="a release tag never moves; choose the next version",
        )
    return target is not None


def _rises(name: str, request: Request, facts: Facts) -> None:
    """A commit that is released keeps its version; only a higher one may come on top (1.0.0 after 1.0.0-rc.1)."""
    here = _at(facts.commit, facts.tags, request.pattern)
    if here and versions.parse(name, request.pattern) < versions.parse(here, request.pattern):
        raise Refused(
            f"{facts.commit[:8]} has {here} already, which is higher than {name}",
            hint="choose a higher version",
        )


def _nothing_new(request: Request, facts: Facts) -> bool:
    """Whether the last release still stands: no fix, feature or breaking change has come since."""
    return bool((request.is_next or request.creates) and facts.base and not commits.greatest(facts.changes))


def _settled(base: str, request: Request, facts: Facts) -> Plan:
    return Plan(
        status=Status.UNCHANGED,
        name=base,
        version=str(versions.parse(base, request.pattern)),
        commit=facts.tags[base],
        branch=facts.line,
        exists=True,
        is_next=False,
        notes=f"Nothing to release since {base}.",
        creates=False,
        released=True,
        unread=facts.unread,
    )


def _next(request: Request, facts: Facts) -> str:
    """The name of the next version, with a `v` unless the last release had none."""
    pre_releases = [v for v in versions.releases(facts.tags, request.pattern) if v.prerelease]
    known = [*pre_releases, *([versions.parse(facts.base, request.pattern)] if facts.base else [])]
    prefix = "" if facts.base and not facts.base.startswith("v") else "v"
    change = commits.greatest(facts.changes) or "patch"
    taken = versions.releases(facts.tags, request.pattern)
    while (found := versions.following(known, change, request.pre)) in taken:
        known.append(found)  # another line has it already: a version is given once
    return f"{prefix}{found}"


def check(plan: Plan, _ports: Ports) -> Plan:
    """Nothing more to prove: the facts are the proof."""
    return plan


def apply(plan: Plan, ports: Ports) -> Outcome:
    """Create what is missing of tag and GitLab Release.

    Raises:
        PipelineError: there is no tag and none was to be created.
        Refused: somebody made the tag on another commit meanwhile.
    """
    if not plan.creates:
        what = f"{plan.commit[:8]} has no version tag" if plan.is_next else f"there is no tag {plan.name}"
        raise PipelineError(
            what,
            hint=f"run pipeline-tools tag create {plan.name}, or push that tag",
        )
    if ports.gitlab is None:
        raise _tokenless()
    _create_tag(plan, ports.gitlab)
    _create_release(plan, ports.gitlab)
    return replace(plan.foreseen(), status=Status.DONE)


def _create_tag(plan: Plan, gitlab: "Project") -> None:
    """Look, then create; of two creators at once the second finds the first one's tag."""
    found = gitlab.tag(plan.name)
    if found is None:
        try:
            gitlab.create_tag(plan.name, plan.commit, plan.notes)
        except PipelineError:
            found = gitlab.tag(plan.name)
            if found is None:
                raise
    if found and found.commit != plan.commit:
        raise Refused(f"tag {plan.name} is on {found.commit[:8]} by now", hint="choose the next version")


def _create_release(plan: Plan, gitlab: "Project") -> None:
    """Likewise."""
    if gitlab.has_release(plan.name):
        return
    try:
        gitlab.create_release(plan.name, plan.notes)
    except PipelineError:
        if not gitlab.has_release(plan.name):
            raise


def record(receipt: Receipt, outcome: Outcome) -> Receipt:
    """A release begins with its tag: what an older receipt says of other commits is dropped."""
    tagged = Tagged(outcome.name, outcome.version, outcome.commit)
    return receipt if receipt.tag == tagged else Receipt(tag=tagged)


STEP = Step("tag", facts, plan, check, apply)
