"""A bump by merge request: a branch of our own, and one open merge request from it. Not a step, but a way to end the bump.

An application and a set of overlays have one branch for good, so that a newer version updates the merge request of the
one before. Nobody else's commits on it are ever thrown away.
"""

import hashlib
import json
import logging
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pipeline_tools.errors import PipelineError, Refused, Stale
from pipeline_tools.steps import branch, entries
from pipeline_tools.steps.entries import Edit
from pipeline_tools.steps.shape import Patience, Status
from pipeline_tools.text import proposals
from pipeline_tools.text.kustomization import Image

if TYPE_CHECKING:
    from pipeline_tools.adapters.git import Remote
    from pipeline_tools.adapters.gitlab import MergeRequest, Pipeline, Project
    from pipeline_tools.text.proposals import Draft

log = logging.getLogger(__name__)

OPEN = frozenset({"opened", "locked"})
"""The states of a merge request that is not decided yet (docs: Merge requests API, `state`)."""

ENDED_BADLY = frozenset({"failed", "canceled", "canceling", "skipped"})


@dataclass(frozen=True)
class Facts:
    """Our `branch`, where its tip is and who made it, its files, and the newest merge request from it."""

    branch: str
    tip: str | None
    is_ours: bool
    files: tuple[tuple[str, str], ...]
    newest: "MergeRequest | None"

    @property
    def open(self) -> "MergeRequest | None":
        return self.newest if self.newest and self.newest.state in OPEN else None


@dataclass(frozen=True)
class Decision:
    """`status` PLANNED: something is to be done; `rebuilds`: the branch too, not only the merge request."""

    status: Status
    rebuilds: bool


def name(project: str | None, target: str, overlays: tuple[str, ...], images: tuple[Image, ...]) -> str:
    """The branch for these images in these overlays: the same for every version."""
    names = [image.name for image in images]
    identity = hashlib.sha256(json.dumps([project, target, overlays, names]).encode()).hexdigest()[:8]
    slug = re.sub(r"[^a-z0-9]+", "-", "-".join(names).lower()).strip("-")[:40]
    return f"bump/{slug}-{identity}" if slug else f"bump/{identity}"


def newest(project: "Project", own: str, target: str) -> "MergeRequest | None":
    """The open merge request from our branch `own` into `target`, else the newest one.

    To be read before the target branch: one that is merged meanwhile then shows in what the branch says.
    """
    known = project.merge_requests(own, target)
    found = next((row for row in known if row.state in OPEN), None)
    # Alone, it comes with its pipeline.
    return project.merge_request(found.iid) if found else next(iter(known), None)


def facts(remote: "Remote", own: str, newest: "MergeRequest | None", paths: tuple[str, ...]) -> Facts:
    """Read the branch `own`; `paths` are the files that a bump would change."""
    if remote.tip(own) is None:
        return Facts(own, None, is_ours=True, files=(), newest=newest)
    tip = remote.fetch(own)
    is_ours = remote.trailer(tip, "Bump-Id") is not None
    return Facts(own, tip, is_ours, _files(remote, tip, paths), newest)


def _files(remote: "Remote", tip: str, paths: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """As far as the branch has them."""
    found = []
    for path in paths:
        folder, _, file = path.rpartition("/")
        if any(entry.name == file and entry.kind == "blob" for entry in remote.entries(tip, folder)):
            found.append((path, remote.read(tip, path).decode(errors="replace")))
    return tuple(found)


def decide(found: Facts, edit: Edit, paths: tuple[str, ...], *, merges_itself: bool) -> Decision:
    """What the branch and its merge request need, where the target branch needs the bump.

    Args:
        found: what is there.
        edit: what is to be written.
        paths: the files that the target branch needs changed.
        merges_itself: whether auto-merge is asked for.

    Raises:
        Refused: somebody else has committed to the branch, or the same or a newer version was closed unmerged.
    """
    if found.tip and not found.is_ours:
        raise Refused(
            f"the last commit of {found.branch} is not a bump: somebody works there",
            hint="merge or close its merge request and delete the branch, then run it again",
        )
    if found.open is None:
        _respect(found.newest, edit)
    status = _status(found, edit, paths)
    if status is Status.SUPERSEDED and found.open:
        return Decision(Status.SUPERSEDED, rebuilds=False)
    rebuilds = status is not Status.UNCHANGED or (found.open is not None and found.open.has_conflicts)
    is_set = found.open is not None and (found.open.merges_itself or not merges_itself)
    return Decision(Status.PENDING if is_set and not rebuilds else Status.PLANNED, rebuilds)


def _status(found: Facts, edit: Edit, paths: tuple[str, ...]) -> Status:
    """How the bump stands on our branch: UNCHANGED when it is all there, SUPERSEDED by a newer one, else PLANNED."""
    files = dict(found.files)
    if found.tip is None or not set(paths) <= set(files):
        return Status.PLANNED
    changes = [change for path in paths for change in entries.edited(path, files[path], edit)[1]]
    statuses = {change.status for change in changes}
    order = (Status.SUPERSEDED, Status.PLANNED, Status.UNCHANGED)
    return next(status for status in order if status in statuses)


def _respect(newest: "MergeRequest | None", edit: Edit) -> None:
    """A merge request that a person closed said no to its versions, and to those before."""
    if newest is None or newest.state != "closed":
        return
    closed = proposals.tags(newest.description)
    for image in edit.images:
        before = closed.get(image.repository)
        if before and (before == image.tag or edit.is_older(image.tag, before)):
            raise Refused(
                f"!{newest.iid}, which proposed {image.repository}:{before}, was closed: {newest.url}",
                hint="open it again there, or release a newer version",
            )


@dataclass(frozen=True)
class Opened:
    """What became of it: the merge request, and the commit at its tip, or what it was merged as."""

    merge_request: "MergeRequest"
    commit: str
    is_merged: bool


@dataclass(frozen=True)
class Ports:
    """The env project's repository and its GitLab; `patience` is for the pipeline that GitLab makes in its own time."""

    remote: "Remote"
    project: "Project"
    patience: Patience


def write(found: Facts, commit: str | None, draft: "Draft", ports: Ports, *, merges_itself: bool) -> Opened:
    """Move the branch to `commit` (None: it is right as it is) and see that there is one merge request from it.

    Raises:
        Stale: somebody has moved the branch, or opened a merge request from it, since it was read;
        PipelineError: what the server or GitLab say to it.
    """
    if commit:
        branch.move(ports.remote, found.branch, found.tip, commit, is_ours=True)
    tip = commit or found.tip
    if tip is None:
        raise PipelineError(f"there is no branch {found.branch}")
    merge_request = _written(found, draft, ports.project)
    if merges_itself:
        old = found.open.pipeline if found.open and commit else None
        merge_request = _merging(merge_request, tip, old.id if old else 0, ports)
    is_merged = merge_request.state == "merged"
    return Opened(merge_request, (merge_request.merged_as or tip) if is_merged else tip, is_merged)


def _written(found: Facts, draft: "Draft", project: "Project") -> "MergeRequest":
    if found.open is None:
        return project.open_merge_request(draft)
    project.update_merge_request(found.open.iid, draft)
    merge_request = project.merge_request(found.open.iid)
    if merge_request.state not in OPEN:
        raise Stale(f"!{merge_request.iid} is {merge_request.state}")
    return merge_request


def _merging(merge_request: "MergeRequest", tip: str, before: int, ports: Ports) -> "MergeRequest":
    """Let GitLab merge it once its pipeline succeeds; without one it would do so at once, so one must be there first."""
    found = _with_pipeline(merge_request, tip, before, ports)
    if found.merges_itself or found.state != "opened":
        return found
    if found.pipeline is None or found.pipeline.status in ENDED_BADLY:
        why = (
            f"its pipeline {found.pipeline.status}"
            if found.pipeline
            else "it has no pipeline that could succeed"
        )
        log.warning("!%d does not merge by itself: %s", found.iid, why)
        return found
    return ports.project.merge_when_ready(found.iid, tip)


def _with_pipeline(merge_request: "MergeRequest", tip: str, before: int, ports: Ports) -> "MergeRequest":
    """The merge request with the pipeline of its tip, as soon as GitLab shows one, or without."""
    deadline, attempt = ports.patience.deadline(), 0
    while True:
        found = ports.project.merge_request(merge_request.iid)
        # A pipeline of merged results runs on a commit of its own: then its number says that it is the new one.
        if found.state != "opened" or (found.pipeline and _is_new(found.pipeline, tip, before)):
            return found
        attempt += 1
        if ports.patience.clock() >= deadline:
            return replace(found, pipeline=None)
        ports.patience.pause(attempt, deadline, f"the pipeline of !{found.iid}")


def _is_new(pipeline: "Pipeline", tip: str, before: int) -> bool:
    return pipeline.sha == tip or pipeline.id > before
