"""REST: releases and merge requests."""

import time
from http import HTTPStatus
from typing import Any

from flask import jsonify

from sandbox.gitlab import ci, repository
from sandbox.gitlab.api_repository import commit_json, make_tag, user_json
from sandbox.gitlab.model import Access, MergeRequest, Project, Release
from sandbox.gitlab.rules import Change, Push, may_create_tag, may_merge, may_push
from sandbox.gitlab.web import Api, Call, instant, missing, page, refuse, stamp

MR_FIELDS = ("title", "description", "target_branch")


def register(api: Api) -> None:
    """Add the endpoints of the Releases and Merge requests APIs."""
    api.route("GET", "/releases", job=True)(list_releases)
    api.route("POST", "/releases", job=True)(create_release)
    api.route("GET", "/releases/<enc:tag>", job=True)(get_release)
    api.route("PUT", "/releases/<enc:tag>", job=True)(update_release)
    api.route("DELETE", "/releases/<enc:tag>", job=True)(delete_release)
    api.route("GET", "/merge_requests", job=True)(list_merge_requests)
    api.route("POST", "/merge_requests")(create_merge_request)
    api.route("GET", "/merge_requests/<int:iid>", job=True)(get_merge_request)
    api.route("PUT", "/merge_requests/<int:iid>")(update_merge_request)
    api.route("PUT", "/merge_requests/<int:iid>/merge")(merge)
    api.route("GET", "/repository/commits/<enc:sha>/merge_requests", job=True)(list_of_commit)


def _release_json(call: Call, project: Project, release: Release) -> dict[str, Any]:
    """Show a release (docs: Releases API)."""
    sha = repository.ref_sha(project.repository, f"refs/tags/{release.tag}")
    commit = commit_json(project, repository.commit(project.repository, sha)) if sha else None
    return {
        "tag_name": release.tag,
        "name": release.name,
        "description": release.description,
        "created_at": stamp(release.created),
        "released_at": stamp(release.released),
        "upcoming_release": release.released > time.time(),
        "author": user_json(call.state, release.author),
        "commit": commit,
        "commit_path": f"/{project.path}/-/commit/{sha}",
        "tag_path": f"/{project.path}/-/tags/{release.tag}",
        "assets": {"count": len(release.links), "sources": [], "links": release.links},
        "evidences": [],
        "_links": {"self": f"{project.web_url}/-/releases/{release.tag}"},
    }


def list_releases(call: Call, project: Project) -> Any:
    call.need(project, Access.GUEST)
    rows = sorted(
        project.releases.values(),
        key=lambda row: row.released,
        reverse=call.optional("sort", "desc") == "desc",
    )
    return page(rows, lambda row: _release_json(call, project, row))


def _release(call: Call, project: Project, tag: str) -> Release:
    """Find a release; Reporter, as it shows code (docs: Releases API, "Get a release by a tag name")."""
    call.need(project, Access.REPORTER)
    found = project.releases.get(tag)
    if found is None:
        missing("")
    return found


def get_release(call: Call, project: Project, tag: str) -> Any:
    return jsonify(_release_json(call, project, _release(call, project, tag)))


def create_release(call: Call, project: Project) -> Any:
    """Create a release, and its tag when missing (docs: Releases API, "Create a release").

    The checks stand in the order of `app/services/releases/create_service.rb`: 403, 409, 422 without a ref.
    """
    tag = call.required("tag_name")
    call.need(project, Access.DEVELOPER)
    if not may_create_tag(project, call.user, tag):
        refuse(HTTPStatus.FORBIDDEN, "You are not allowed to create this tag as it is protected.")
    if tag in project.releases:
        refuse(HTTPStatus.CONFLICT, "Release already exists")
    if repository.tag(project.repository, tag) is None:
        if not call.optional("ref"):
            refuse(HTTPStatus.UNPROCESSABLE_ENTITY, "Ref is not specified")
        make_tag(call, project, tag, call.optional("ref"), call.optional("tag_message"))
    return jsonify(_release_json(call, project, _enter(call, project, tag))), HTTPStatus.CREATED


def _enter(call: Call, project: Project, tag: str) -> Release:
    now = time.time()
    released = instant(call.optional("released_at")) if call.optional("released_at") else now
    links = (call.params.get("assets") or {}).get("links", [])
    rows = [{"id": number, "link_type": "other", **link} for number, link in enumerate(links, 1)]
    release = Release(
        tag, call.optional("name", tag), call.optional("description"), now, released, call.user, rows
    )
    with call.state.lock:
        if project.releases.setdefault(tag, release) is not release:
            refuse(HTTPStatus.CONFLICT, "Release already exists")
    return release


def update_release(call: Call, project: Project, tag: str) -> Any:
    release = _release(call, project, tag)
    call.need(project, Access.DEVELOPER)
    with call.state.lock:
        release.name = call.optional("name", release.name)
        release.description = call.optional("description", release.description)
    return jsonify(_release_json(call, project, release))


def delete_release(call: Call, project: Project, tag: str) -> Any:
    """Delete a release; its tag stays (docs: Releases API, "Delete a release")."""
    release = _release(call, project, tag)
    call.need(project, Access.DEVELOPER)
    with call.state.lock:
        project.releases.pop(tag, None)
    return jsonify(_release_json(call, project, release))


def _merge_request_json(call: Call, project: Project, row: MergeRequest) -> dict[str, Any]:
    """Show a merge request (docs: Merge requests API)."""
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
        "draft": row.title.startswith("Draft:"),
        "sha": _head(project, row),
        "merge_commit_sha": row.merge_sha,
        "squash_commit_sha": row.squash_sha,
        "merge_status": "can_be_merged",
        "detailed_merge_status": "mergeable" if row.state == "opened" else "not_open",
        "force_remove_source_branch": row.remove_source_branch,
        "created_at": stamp(row.created),
        "updated_at": stamp(row.updated),
        "web_url": f"{project.web_url}/-/merge_requests/{row.iid}",
    }


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
    """List by state, source_branch and target_branch (docs: Merge requests API, "List project merge requests")."""
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
    return jsonify(_merge_request_json(call, project, row)), HTTPStatus.CREATED


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
        project.merge_requests.append(row)
    return row


def _labels(call: Call) -> list[str]:
    labels = call.params.get("labels") or []
    return [label.strip() for label in labels.split(",")] if isinstance(labels, str) else list(labels)


def merge_request(call: Call, project: Project, iid: int) -> MergeRequest:
    call.need(project, Access.REPORTER)
    found = next((row for row in project.merge_requests if row.iid == iid), None)
    if found is None:
        missing("")
    return found


def get_merge_request(call: Call, project: Project, iid: int) -> Any:
    return jsonify(_merge_request_json(call, project, merge_request(call, project, iid)))


def update_merge_request(call: Call, project: Project, iid: int) -> Any:
    """Change texts, labels or, by `state_event`, the state (docs: Merge requests API, "Update MR")."""
    row = merge_request(call, project, iid)
    call.need(project, Access.DEVELOPER)
    with call.state.lock:
        for name in MR_FIELDS:
            setattr(row, name, call.optional(name, getattr(row, name)))
        if "labels" in call.params:
            row.labels = _labels(call)
        row.state = {"close": "closed", "reopen": "opened"}.get(call.optional("state_event"), row.state)
        row.updated = time.time()
    return jsonify(_merge_request_json(call, project, row))


def merge(call: Call, project: Project, iid: int) -> Any:
    """Merge (docs: Merge requests API, "Merge a merge request"): 401 no rights, 405 not open, 409 other sha, 422 conflict."""
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
    _merge(call, project, row, source, target)
    return jsonify(_merge_request_json(call, project, row))


def _merge(call: Call, project: Project, row: MergeRequest, source: str, target: str) -> None:
    message = f"Merge branch '{row.source_branch}' into '{row.target_branch}'\n\n{row.title}\n"
    ref = f"refs/heads/{row.target_branch}"
    identity, squashed = (call.user.name, call.user.email), None
    try:
        if call.flag("squash"):
            squashed = repository.squash(project.repository, (target, source), f"{row.title}\n", identity)
        merged = repository.merge(project.repository, (target, squashed or source), message, identity, ref)
    except repository.GitError:
        refuse(HTTPStatus.UNPROCESSABLE_ENTITY, "Branch cannot be merged")
    with call.state.lock:
        row.state, row.merge_sha, row.updated = "merged", merged, time.time()
        row.merged_head, row.squash_sha = source, squashed
    if row.remove_source_branch or call.flag("should_remove_source_branch"):
        repository.git(project.repository, "update-ref", "-d", f"refs/heads/{row.source_branch}", source)
    ci.pushed(call.state, Push(project, call.user, (Change(target, merged, ref),)))
