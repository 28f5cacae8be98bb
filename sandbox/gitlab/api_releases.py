"""REST: releases."""

import time
from http import HTTPStatus
from typing import Any

from flask import jsonify

from sandbox.gitlab import repository
from sandbox.gitlab.api_repository import commit_json, make_tag, user_json
from sandbox.gitlab.model import Access, Project, Release
from sandbox.gitlab.rules import may_create_tag
from sandbox.gitlab.web import Api, Call, instant, missing, page, refuse, stamp


def register(api: Api) -> None:
    """Add the endpoints of the Releases API."""
    api.route("GET", "/releases", job=True)(list_releases)
    api.route("POST", "/releases", job=True)(create_release)
    api.route("GET", "/releases/<enc:tag>", job=True)(get_release)
    api.route("PUT", "/releases/<enc:tag>", job=True)(update_release)
    api.route("DELETE", "/releases/<enc:tag>", job=True)(delete_release)


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
