"""The trigger step: a pipeline of the env repository whose commit is, or contains, the bump."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from pipeline_tools.errors import Denied, PipelineError, Refused, Unavailable
from pipeline_tools.steps.shape import PRIVATE, Patience, Reading, Status, Step
from pipeline_tools.text import pairs, references
from pipeline_tools.text.receipt import Receipt, Triggered

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pipeline_tools.adapters.gitlab import Pipeline, Project

log = logging.getLogger(__name__)

FINAL = frozenset({"success", "failed", "canceled", "skipped"})
"""The statuses in which a pipeline has ended (docs.gitlab.com/api/pipelines, "List project pipelines")."""

WAITING = frozenset({"manual", "scheduled"})
"""The statuses in which a pipeline goes on only when a person, or a date, says so."""

IGNORED = frozenset({"failed", "skipped", "canceled", "canceling"})
"""A pipeline that failed or did not run is none (a push with ci.skip leaves a skipped one behind): to run the
trigger again is to try again."""

SOURCES = frozenset({"api", "pipeline", "push", "trigger", "web"})
"""What starts a pipeline of a branch for its content; a schedule's or a merge request's is about something else."""

MOST = 20
"""How many of the branch's newest pipelines are looked at for one that contains the bump."""


@dataclass(frozen=True)
class Options:
    """What the command line says about the pipeline."""

    env_project: str
    env_branch: str | None = None
    env_commit: str | None = None
    variable: tuple[str, ...] = ()
    input: tuple[str, ...] = ()
    wait: bool = False


@dataclass(frozen=True)
class Request:
    """A pipeline of `project` on `branch` (None: its default branch) that contains `commit`.

    `superseded`: the bump wrote nothing, so there is nothing to start. `proposed`: the bump is in a merge request with
    this number, at `url`; while it is open there is nothing to start either. `waits`: follow it to its end.
    """

    project: str
    branch: str | None
    commit: str | None
    superseded: bool
    variables: tuple[tuple[str, str], ...]
    inputs: tuple[tuple[str, str], ...]
    waits: bool
    proposed: int | None = None
    url: str | None = None


@dataclass(frozen=True)
class Ports:
    """`reader` lists pipelines and follows one (None without a token that may read); `start` starts one."""

    reader: "Project | None"
    start: "Callable[[str, Mapping[str, str], Mapping[str, str]], Pipeline]"
    default_branch: "Callable[[], str]"
    patience: Patience


@dataclass(frozen=True)
class Facts:
    """`found` is a pipeline that contains `commit` already, or that of the merge request which is to bring it."""

    branch: str
    commit: str | None
    found: "Pipeline | None"
    is_pending: bool
    unread: tuple[PipelineError, ...]


@dataclass(frozen=True)
class Outcome:
    """The pipeline: its number, status (GitLab's word), commit and page."""

    status: Status
    project: str
    pipeline: int | None
    pipeline_status: str | None
    commit: str | None
    url: str | None
    merge_request: str | None = None

    def summary(self) -> str:
        if self.status is Status.SUPERSEDED:
            return "nothing to start: the bump is superseded"
        if self.merge_request:
            pipeline = f", pipeline {self.pipeline} ({self.pipeline_status})" if self.pipeline else ""
            return f"the bump waits for its merge request: {self.merge_request}{pipeline}"
        if self.pipeline is None:
            return f"pipeline of {self.project} (known after trigger)"
        return f"pipeline {self.pipeline} ({self.pipeline_status}) {self.url}"


@dataclass(frozen=True)
class Plan:
    """Start a pipeline of `project` on `branch`, or take `pipeline`, which contains `commit` already."""

    status: Status
    project: str
    branch: str
    commit: str | None
    pipeline: int | None
    variables: tuple[str, ...]
    inputs: tuple[str, ...]
    waits: bool
    merge_request: str | None = None
    unread: tuple[PipelineError, ...] = ()
    request: Request | None = field(default=None, metadata=PRIVATE)
    found: "Pipeline | None" = field(default=None, metadata=PRIVATE)

    def lines(self) -> Iterator[str]:
        if self.merge_request:
            yield f"the bump waits for its merge request: {self.merge_request}"
        if self.status is not Status.PLANNED:
            return
        commit = self.commit[:8] if self.commit else "the bump (commit known after bump)"
        if self.found:
            yield f"pipeline {self.found.id} ({self.found.status}) of {self.project} contains {commit}"
        else:
            yield f"+ pipeline of {self.project} on {self.branch}, containing {commit}"
            yield from (f"    variable {name}" for name in self.variables)
            yield from (f"    input {name}" for name in self.inputs)
        if self.waits:
            yield "  wait for its end"

    def foreseen(self) -> Outcome:
        return _outcome(self.status, self, self.found)


def _outcome(status: Status, plan: Plan, pipeline: "Pipeline | None") -> Outcome:
    page = plan.merge_request
    if pipeline is None:
        return Outcome(status, plan.project, None, None, None, page, page)
    return Outcome(status, plan.project, pipeline.id, pipeline.status, pipeline.sha, pipeline.url, page)


def request(options: Options, receipt: Receipt) -> Request:
    """What to start: for the commit given, or for the one that the receipt says was bumped."""
    commit = options.env_commit or (receipt.bump.commit if receipt.bump else None)
    if commit is not None and not references.COMMIT.fullmatch(commit):
        raise PipelineError(f"--env-commit {commit!r} is not a full commit hash", hint="see git rev-parse")
    if commit is None and receipt.bump is None:
        raise PipelineError("no commit to start a pipeline for", hint="run bump first, or give --env-commit")
    branch = options.env_branch or (receipt.bump.branch if receipt.bump else None)
    return Request(
        project=options.env_project,
        branch=references.branch(branch) if branch else None,
        commit=commit,
        superseded=bool(receipt.bump and receipt.bump.superseded and not options.env_commit),
        variables=tuple(pairs.parse("--variable", options.variable).items()),
        inputs=tuple(pairs.parse("--input", options.input).items()),
        waits=options.wait,
        proposed=_proposed(receipt) if not options.env_commit else None,
        url=receipt.bump.url if receipt.bump else None,
    )


def _proposed(receipt: Receipt) -> int | None:
    return receipt.bump.merge_request if receipt.bump and receipt.bump.pending else None


def facts(request: Request, ports: Ports) -> Facts:
    read = Reading()
    branch = request.branch or read("main", ports.default_branch)
    if request.proposed:
        request, pipeline = read((request, None), _merged, request, request.proposed, ports.reader)
        if request.proposed:
            return Facts(branch, request.commit, pipeline, is_pending=True, unread=read.unread)
    found = None
    if request.commit and ports.reader and not request.superseded:
        found = _found(ports.reader, branch, request.commit, read, waits=request.waits)
    if found and (request.variables or request.inputs):
        log.warning(
            "pipeline %d contains the bump already: variables and inputs reach only one that is started",
            found.id,
        )
    return Facts(branch, request.commit, found, is_pending=False, unread=read.unread)


def _merged(request: Request, iid: int, reader: "Project | None") -> "tuple[Request, Pipeline | None]":
    """The request for what the merge request became; the same one, and its pipeline, while it is open.

    Raises:
        Refused: somebody has closed it.
    """
    if reader is None:  # what the bump said is all there is to know
        return request, None
    found = reader.merge_request(iid)
    if found.state == "closed":
        raise Refused(
            f"!{iid} was closed, so there is no bump: {found.url}", hint="open it again there, or bump again"
        )
    if found.state == "merged":
        return replace(request, proposed=None, commit=found.merged_as), None
    return replace(request, url=found.url), found.pipeline


def _found(reader: "Project", branch: str, commit: str, read: Reading, *, waits: bool) -> "Pipeline | None":
    """The pipeline that contains the commit; without the right to list pipelines none is found, and said so."""
    try:
        return _containing(reader, branch, commit)
    except Denied as error:
        if waits:
            read.errors.append(error)
        else:
            log.warning("a pipeline that contains the bump already would not be found: %s", error)
    except Unavailable as error:
        read.errors.append(error)
    return None


def _containing(reader: "Project", branch: str, commit: str) -> "Pipeline | None":
    """The newest pipeline on this very commit, else the newest one whose commit contains it."""
    known = reader.pipelines(branch, MOST)
    candidates = [found for found in known if found.status not in IGNORED and found.source in SOURCES]
    exact = (pipeline for pipeline in candidates if pipeline.sha == commit)
    later = (pipeline for pipeline in candidates if reader.contains(pipeline.sha, commit))
    return next(exact, None) or next(later, None)


def plan(request: Request, facts: Facts) -> Plan:
    """Start one, or take the one there is."""
    return Plan(
        status=_status(request, facts),
        project=request.project,
        branch=facts.branch,
        commit=facts.commit,
        pipeline=facts.found.id if facts.found else None,
        variables=tuple(name for name, _ in request.variables),
        inputs=tuple(name for name, _ in request.inputs),
        waits=request.waits,
        merge_request=request.url if facts.is_pending else None,
        unread=facts.unread,
        request=request,
        found=facts.found,
    )


def _status(request: Request, facts: Facts) -> Status:
    if request.superseded:
        return Status.SUPERSEDED
    if facts.is_pending:
        is_running = facts.found is not None and facts.found.status != "success"
        return Status.PLANNED if request.waits and is_running else Status.PENDING
    is_settled = facts.found is not None and (not request.waits or facts.found.status == "success")
    return Status.UNCHANGED if is_settled else Status.PLANNED


def _said(before: "Pipeline", now: "Pipeline") -> "Pipeline":
    if now.status != before.status:
        log.info("pipeline %d: %s", now.id, now.status)
    return now


def check(plan: Plan, _ports: Ports) -> Plan:
    """Nothing more to prove."""
    return plan


def apply(plan: Plan, ports: Ports) -> Outcome:
    """Start the pipeline and, if asked, follow it.

    Raises:
        PipelineError: it failed, or it does not contain the bump; Unavailable: it has not ended in time.
    """
    request = plan.request
    if request is None:
        raise PipelineError("nothing to start")
    pipeline = plan.found or ports.start(plan.branch, dict(request.variables), dict(request.inputs))
    try:
        _must_contain(plan, pipeline, ports)
        if request.waits:
            pipeline = _follow(pipeline, plan, ports)
    except PipelineError as error:
        error.done = error.done or _outcome(Status.FAILED, plan, pipeline)
        raise
    status = (
        Status.PENDING
        if plan.merge_request or pipeline.status in WAITING
        else Status.UNCHANGED
        if plan.found
        else Status.DONE
    )
    return _outcome(status, plan, pipeline)


def _must_contain(plan: Plan, pipeline: "Pipeline", ports: Ports) -> None:
    if plan.commit and not plan.merge_request and pipeline.sha != plan.commit and ports.reader:
        if plan.found or _contains(ports.reader, pipeline.sha, plan.commit):
            return
        raise PipelineError(
            f"pipeline {pipeline.id} runs on {pipeline.sha[:8]}, which does not contain the bump {plan.commit[:8]}",
            hint=f"was {plan.branch} force-pushed? run bump again",
        )


def _contains(reader: "Project", sha: str, commit: str) -> bool:
    """Whether `sha` contains `commit`; without the right to read commits the branch is trusted to."""
    try:
        return reader.contains(sha, commit)
    except Denied as error:
        log.warning("not checked that the pipeline contains the bump: %s", error)
        return True


def _follow(pipeline: "Pipeline", plan: Plan, ports: Ports) -> "Pipeline":
    """Poll until the pipeline has ended or waits for a person; say each change of its status."""
    if ports.reader is None:
        raise PipelineError(
            f"pipeline {pipeline.id} was started, and cannot be followed",
            hint="--wait needs PT_ENV_TOKEN with scope read_api: trigger and job tokens only start pipelines",
        )
    deadline, attempt = ports.patience.deadline(), 0
    while pipeline.status not in FINAL | WAITING:
        attempt += 1
        ports.patience.pause(
            min(attempt, 4), deadline, f"pipeline {pipeline.id} is {pipeline.status}: {pipeline.url}"
        )
        pipeline = _said(pipeline, ports.reader.pipeline(pipeline.id))
    if pipeline.status in FINAL - {"success"}:
        raise _failure(pipeline, plan, ports.reader)
    return pipeline


def _failure(pipeline: "Pipeline", plan: Plan, reader: "Project") -> PipelineError:
    jobs = ", ".join(f"{job.name} ({job.url})" for job in reader.failed_jobs(pipeline.id))
    return PipelineError(
        f"pipeline {pipeline.id} of {plan.project} {pipeline.status}" + (f": {jobs}" if jobs else ""),
        hint=f"see {pipeline.url}; retry it there, then run this again",
        done=_outcome(Status.FAILED, plan, pipeline),
    )


def record(receipt: Receipt, outcome: Outcome) -> Receipt:
    triggered = Triggered(outcome.project, outcome.pipeline, outcome.url, outcome.commit)
    return replace(receipt, trigger=triggered)


STEP = Step("trigger", facts, plan, check, apply)
