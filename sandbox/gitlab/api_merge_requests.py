"""REST: merge requests."""

import time
from http import HTTPStatus
from typing import Any

from flask import jsonify

from sandbox.gitlab import ci, repository
from sandbox.gitlab.api_repository import user_json
from sandbox.gitlab.model import Access, AutoMerge, MergeRequest, Project, State, User
from sandbox.gitlab.pipelines import Pipeline
from sandbox.gitlab.rules import Change, Push, may_merge, may_push
from sandbox.gitlab.web import Api, Call, missing, page, refuse, stamp

FIELDS = ("title", "description", "target_branch")


def register(api: Api) -> None:
    """Add the endpoints of the Merge requests API, and the list of users by name that reviewers are found with."""
    api.route("GET", "/merge_requests", job=True)(list_merge_requests)
    api.route("POST", "/merge_requests")(create_merge_request)
    api.route("GET", "/merge_requests/<int:iid>", job=True)(get_merge_request)
    api.route("PUT", "/merge_requests/<int:iid>")(update_merge_request)
    api.route("PUT", "/merge_requests/<int:iid>/merge")(merge)
    api.route("GET", "/merge_requests/<int:iid>/pipelines", job=True)(list_pipelines)
    api.route("GET", "/repository/commits/<enc:sha>/merge_requests", job=True)(list_of_commit)
    api.plain("GET", "/users")(list_users)


def _merge_request_json(call: Call, project: Project, row: MergeRequest) -> dict[str, Any]:
    """Show a merge request as lists do (docs: Merge requests API)."""
    _settle(call.state, project, row)
    return {
        "id": row.id,
        "iid": row.iid,
        "project_id": project.id,
        "title": row.title,
        "description": row.description,
        "state": row.state,
        "source_branch": row.source_branch,
        "target_branch": row.target_branch,
        "source_project_id": project.id,
        "target_project_id": project.id,
        "author": user_json(call.state, row.author),
        "labels": row.labels,
        "reviewers": [user_json(call.state, user) for user in row.reviewers],
        "draft": row.title.startswith("Draft:"),
        "sha": _head(project, row),
        "merge_commit_sha": row.merge_sha,
        "squash_commit_sha": row.squash_sha,
        "has_conflicts": _conflicts(project, row),
        "merge_when_pipeline_succeeds": row.auto_merge is not None,
        "merge_status": "can_be_merged",
        "detailed_merge_status": "mergeable" if row.state == "opened" else "not_open",
        "force_remove_source_branch": row.remove_source_branch,
        "created_at": stamp(row.created),
        "updated_at": stamp(row.updated),
        "web_url": f"{project.web_url}/-/merge_requests/{row.iid}",
    }


def _in_full(call: Call, project: Project, row: MergeRequest) -> Any:
    """Show a merge request alone (docs: Merge requests API, "Get single MR"), with its newest pipeline."""
    shown = _merge_request_json(call, project, row)
    found = _pipelines(project, row)
    return jsonify(shown | {"head_pipeline": _pipeline_json(project, found[0]) if found else None})


def _pipelines(project: Project, row: MergeRequest) -> list[Pipeline]:
    """Its pipelines that GitLab has made by now, the newest first; after a push the old one is the newest for a while."""
    shown = [found for found in reversed(project.pipelines) if found.appears <= found.clock()]
    return [found for found in shown if found.ref == row.source_branch]


def _pipeline_json(project: Project, pipeline: Pipeline) -> dict[str, Any]:
    return {
        "id": pipeline.id,
        "iid": pipeline.iid,
        "project_id": project.id,
        "status": pipeline.status,
        "source": pipeline.source,
        "ref": pipeline.ref,
        "sha": pipeline.sha,
        "web_url": f"{project.web_url}/-/pipelines/{pipeline.id}",
    }


def list_pipelines(call: Call, project: Project, iid: int) -> Any:
    """List the pipelines of one (docs: Merge requests API, "List merge request pipelines")."""
    row = merge_request(call, project, iid)
    return page(_pipelines(project, row), lambda pipeline: _pipeline_json(project, pipeline))


def list_users(call: Call) -> Any:
    """List users by exact name (docs: Users API, "List all users", `username`)."""
    wanted = call.optional("username").lower()
    users = [user for user in call.state.users.values() if not wanted or user.username.lower() == wanted]
    return page(users, lambda user: user_json(call.state, user))


def _conflicts(project: Project, row: MergeRequest) -> bool:
    ends = (f"refs/heads/{row.target_branch}", f"refs/heads/{row.source_branch}")
    if row.state != "opened" or None in [repository.ref_sha(project.repository, end) for end in ends]:
        return False
    try:
        repository.git(project.repository, "merge-tree", "--write-tree", *ends)
    except repository.GitError:
        return True
    return False


def _head(project: Project, row: MergeRequest) -> str | None:
    return row.merged_head or repository.ref_sha(project.repository, f"refs/heads/{row.source_branch}")


def list_of_commit(call: Call, project: Project, sha: str) -> Any:
    """List the merge requests that brought or bring a commit (docs: Commits API, "List merge requests associated with a commit").

    Those of its own commits, and of the merge and squash commits that came of it (`MergeRequest.by_commit_sha`).
    """
    call.need(project, Access.REPORTER)
    commit = repository.resolve(project.repository, sha)
    if commit is None:
        missing("Commit")
    rows = [row for row in reversed(project.merge_requests) if _brings(project, row, commit)]
    return page(rows, lambda row: _merge_request_json(call, project, row))


def _brings(project: Project, row: MergeRequest, commit: str) -> bool:
    if commit in {row.merge_sha, row.squash_sha}:
        return True
    head = _head(project, row)
    before = f"{row.merge_sha}^" if row.merge_sha else f"refs/heads/{row.target_branch}"
    is_ancestor = repository.is_ancestor
    return bool(head) and (
        is_ancestor(project.repository, commit, str(head))
        and not is_ancestor(project.repository, commit, before)
    )


def list_merge_requests(call: Call, project: Project) -> Any:
    """List by state, source_branch and target_branch, the newest first (docs: Merge requests API, "List project merge requests")."""
    call.need(project, Access.REPORTER)
    state = call.optional("state", "all")
    rows = [
        row
        for row in reversed(project.merge_requests)
        if state in {"all", row.state}
        and call.optional("source_branch", row.source_branch) == row.source_branch
        and call.optional("target_branch", row.target_branch) == row.target_branch
    ]
    return page(rows, lambda row: _merge_request_json(call, project, row))


def create_merge_request(call: Call, project: Project) -> Any:
    """Open a merge request; 409 when the branch has an open one (docs: Merge requests API, "Create MR")."""
    source, target, title = (call.required(name) for name in ("source_branch", "target_branch", "title"))
    call.need(project, Access.DEVELOPER)
    for kind, branch in (("source", source), ("target", target)):
        if repository.ref_sha(project.repository, f"refs/heads/{branch}") is None:
            refuse(HTTPStatus.BAD_REQUEST, {f"{kind}_branch": ["does not exist"]})
    row = _open(call, project, source, target, title)
    return _in_full(call, project, row), HTTPStatus.CREATED


def _open(call: Call, project: Project, source: str, target: str, title: str) -> MergeRequest:
    now = time.time()
    with call.state.lock:
        for other in project.merge_requests:
            if (other.source_branch, other.target_branch, other.state) == (source, target, "opened"):
                refuse(
                    HTTPStatus.CONFLICT,
                    [f"Another open merge request already exists for this source branch: !{other.iid}"],
                )
        row = MergeRequest(
            call.state.next_id("merge_request"),
            len(project.merge_requests) + 1,
            source,
            target,
            title,
            call.user,
            now,
            now,
        )
        row.description, row.labels = call.optional("description"), _labels(call)
        row.remove_source_branch = call.flag("remove_source_branch")
        row.reviewers = _reviewers(call)
        project.merge_requests.append(row)
    return row


def _labels(call: Call, key: str = "labels") -> list[str]:
    labels = call.params.get(key) or []
    return [label.strip() for label in labels.split(",")] if isinstance(labels, str) else list(labels)


def _reviewers(call: Call) -> list[User]:
    """Users by id; whoever there is not is left out."""
    wanted = {int(number) for number in call.params.get("reviewer_ids") or []}
    return [user for user in call.state.users.values() if user.id in wanted]


def merge_request(call: Call, project: Project, iid: int) -> MergeRequest:
    call.need(project, Access.REPORTER)
    found = next((row for row in project.merge_requests if row.iid == iid), None)
    if found is None:
        missing("")
    return found


def get_merge_request(call: Call, project: Project, iid: int) -> Any:
    return _in_full(call, project, merge_request(call, project, iid))


def update_merge_request(call: Call, project: Project, iid: int) -> Any:
    """Change texts, labels or, by `state_event`, the state (docs: Merge requests API, "Update MR")."""
    row = merge_request(call, project, iid)
    call.need(project, Access.DEVELOPER)
    with call.state.lock:
        for name in FIELDS:
            setattr(row, name, call.optional(name, getattr(row, name)))
        if "labels" in call.params:
            row.labels = _labels(call)
        row.labels = list(dict.fromkeys([*row.labels, *_labels(call, "add_labels")]))
        if "reviewer_ids" in call.params:
            row.reviewers = _reviewers(call)
        row.state = {"close": "closed", "reopen": "opened"}.get(call.optional("state_event"), row.state)
        row.updated = time.time()
    return _in_full(call, project, row)


def merge(call: Call, project: Project, iid: int) -> Any:
    """Merge (docs: Merge requests API, "Merge a merge request"): 401 no rights, 405 not open, 409 other sha, 422 conflict.

    With `auto_merge` (`merge_when_pipeline_succeeds` before 17.11), once its pipeline succeeds; at once where there is no
    pipeline (yet) that has not ended (gitlab-org/gitlab#37292).
    """
    row = merge_request(call, project, iid)
    if not may_push(project, call.user, row.target_branch) and not may_merge(
        project, call.user, row.target_branch
    ):
        refuse(HTTPStatus.UNAUTHORIZED)
    source = repository.ref_sha(project.repository, f"refs/heads/{row.source_branch}")
    target = repository.ref_sha(project.repository, f"refs/heads/{row.target_branch}")
    if row.state != "opened" or source is None or target is None:
        refuse(HTTPStatus.METHOD_NOT_ALLOWED)
    if call.optional("sha", source) != source:
        refuse(HTTPStatus.CONFLICT, f"SHA does not match HEAD of source branch: {source}")
    pipeline = next((found for found in _pipelines(project, row) if found.sha == source), None)
    if _waits(call) and pipeline and pipeline.status != "success":
        if pipeline.finished:
            refuse(HTTPStatus.METHOD_NOT_ALLOWED)
        row.auto_merge = AutoMerge(source, call.user)
    else:
        squash = call.flag("squash")
        remove = row.remove_source_branch or call.flag("should_remove_source_branch")
        _merge(call.state, project, row, (source, target), call.user, squash=squash, remove=remove)
    return _in_full(call, project, row)


def _waits(call: Call) -> bool:
    return call.flag("auto_merge") or call.flag("merge_when_pipeline_succeeds")


def _settle(state: State, project: Project, row: MergeRequest) -> None:
    """Do what auto-merge would have done by now; a push to the source branch takes it back (docs: Auto-merge)."""
    wish, ends = row.auto_merge, (row.source_branch, row.target_branch)
    if wish is None or row.state != "opened":
        return
    source, target = (repository.ref_sha(project.repository, f"refs/heads/{branch}") for branch in ends)
    if source != wish.sha or target is None:
        row.auto_merge = None
        return
    if any(found.sha == source and found.status == "success" for found in _pipelines(project, row)):
        row.auto_merge = None
        _merge(
            state, project, row, (source, target), wish.user, squash=False, remove=row.remove_source_branch
        )


def _merge(
    state: State,
    project: Project,
    row: MergeRequest,
    ends: tuple[str, str],
    user: User,
    *,
    squash: bool,
    remove: bool,
) -> None:
    source, target = ends
    message = f"Merge branch '{row.source_branch}' into '{row.target_branch}'\n\n{row.title}\n"
    ref = f"refs/heads/{row.target_branch}"
    identity, squashed = (user.name, user.email), None
    try:
        if squash:
            squashed = repository.squash(project.repository, (target, source), f"{row.title}\n", identity)
        merged = repository.merge(project.repository, (target, squashed or source), message, identity, ref)
    except repository.GitError:
        refuse(HTTPStatus.UNPROCESSABLE_ENTITY, "Branch cannot be merged")
    with state.lock:
        row.state, row.merge_sha, row.updated = "merged", merged, time.time()
        row.merged_head, row.squash_sha = source, squashed
    if remove:
        repository.git(project.repository, "update-ref", "-d", f"refs/heads/{row.source_branch}", source)
    ci.pushed(state, Push(project, user, (Change(target, merged, ref),)))
