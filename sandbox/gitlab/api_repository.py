"""REST: projects, branches, tags, commits and files."""

import base64
import hashlib
import re
from http import HTTPStatus
from typing import Any

from flask import Response, jsonify

from sandbox.gitlab import ci, hooks, repository
from sandbox.gitlab.model import ACCESS_DESCRIPTIONS, Access, Project, Protection, State, User
from sandbox.gitlab.repository import Commit, GitError, Tag
from sandbox.gitlab.rules import ZERO, Change, Push, matching, may_push
from sandbox.gitlab.web import FILES, Api, ApiError, Call, missing, page, refuse

HOOK_PREFIX = re.compile(r"^(GitLab|GL-HOOK-ERR): ", re.MULTILINE)
VERSION = "18.5.0-sandbox"


def register(api: Api) -> None:
    """Add the endpoints of the Projects, Branches, Protected branches, Tags, Commits, Repositories and Files APIs."""
    api.plain("GET", "/version")(lambda _call: jsonify({"version": VERSION, "revision": "sandbox"}))
    api.plain("GET", "/user")(lambda call: jsonify(user_json(call.state, call.user)))
    api.route("GET", "")(get_project)
    _register_branches(api)
    _register_tags(api)
    api.route("GET", "/repository/commits")(list_commits)
    api.route("GET", "/repository/commits/<enc:sha>", job=True)(get_commit)
    api.route("GET", "/repository/commits/<enc:sha>/refs")(list_commit_refs)
    api.route("GET", "/repository/merge_base")(get_merge_base)
    api.route("GET", "/repository/compare")(compare)
    api.route("GET", "/repository/files/<enc:path>", scopes=FILES)(get_file)
    api.route("GET", "/repository/files/<enc:path>/raw", job=True, scopes=FILES)(get_raw_file)


def _register_branches(api: Api) -> None:
    api.route("GET", "/repository/branches", job=True)(list_branches)
    api.route("GET", "/repository/branches/<enc:name>")(get_branch)
    api.route("GET", "/protected_branches")(
        lambda call, project: _protected(call, project, project.branches, branch=True)
    )
    api.route("GET", "/protected_tags")(
        lambda call, project: _protected(call, project, project.tags, branch=False)
    )
    api.route("GET", "/protected_branches/<enc:name>")(
        lambda call, project, name: _one(call, project.branches, project, name, branch=True)
    )
    api.route("GET", "/protected_tags/<enc:name>")(
        lambda call, project, name: _one(call, project.tags, project, name, branch=False)
    )


def _register_tags(api: Api) -> None:
    api.route("GET", "/repository/tags", job=True)(list_tags)
    api.route("POST", "/repository/tags")(create_tag)
    api.route("GET", "/repository/tags/<enc:name>")(get_tag)
    api.route("DELETE", "/repository/tags/<enc:name>")(delete_tag)


def user_json(state: State, user: User) -> dict[str, Any]:
    """Show a user (docs: Users API)."""
    return {
        "id": user.id,
        "username": user.username,
        "name": user.name,
        "state": "active",
        "locked": False,
        "avatar_url": None,
        "web_url": f"{state.url}/{user.username}",
        "public_email": "",
        "bot": user.bot,
    }


def get_project(call: Call, project: Project) -> Any:
    """Show a project (docs: Projects API, "Get a single project")."""
    access = call.access(project)
    role = {"access_level": int(access), "notification_level": 3} if access else None
    shown: dict[str, Any] = {
        "id": project.id,
        "name": project.name,
        "path": project.name,
        "path_with_namespace": project.path,
        "name_with_namespace": project.path.replace("/", " / "),
        "namespace": {
            "name": project.namespace,
            "path": project.namespace.rsplit("/", 1)[-1],
            "kind": "group",
            "full_path": project.namespace,
        },
        "default_branch": project.default_branch,
        "visibility": project.visibility,
        "web_url": project.web_url,
        "http_url_to_repo": project.http_url,
        "archived": False,
        "empty_repo": not repository.branches(project.repository),
        "ci_config_path": ci.CONFIG,
        "ci_pipeline_variables_minimum_override_role": project.variables_role,
        "ci_push_repository_for_job_token_allowed": project.job_token_push,
        "permissions": {"project_access": role, "group_access": None},
    }
    if call.flag("license"):
        shown |= {"license": None, "license_url": None}
    return jsonify(shown)


def commit_json(project: Project, commit: Commit) -> dict[str, Any]:
    """Show a commit (docs: Commits API)."""
    return {
        "id": commit.sha,
        "short_id": commit.sha[:8],
        "created_at": commit.committed,
        "parent_ids": list(commit.parents),
        "title": commit.title,
        "message": commit.message,
        "author_name": commit.author_name,
        "author_email": commit.author_email,
        "authored_date": commit.authored,
        "committer_name": commit.committer_name,
        "committer_email": commit.committer_email,
        "committed_date": commit.committed,
        "trailers": dict(commit.trailers),
        "extended_trailers": {
            key: [value for name, value in commit.trailers if name == key] for key, _ in commit.trailers
        },
        "web_url": f"{project.web_url}/-/commit/{commit.sha}",
    }


def _branch_json(call: Call, project: Project, name: str, sha: str) -> dict[str, Any]:
    """Show a branch (docs: Branches API)."""
    rules = matching(project.branches, name)
    user = call.token.user if call.token else None
    developers = {level for rule in rules for level in (rule.push_access,)}
    return {
        "name": name,
        "commit": commit_json(project, repository.commit(project.repository, sha)),
        "merged": name != project.default_branch and _merged(project, sha),
        "protected": bool(rules),
        "developers_can_push": Access.DEVELOPER in developers,
        "developers_can_merge": any(rule.merge_access is Access.DEVELOPER for rule in rules),
        "can_push": user is not None and may_push(project, user, name),
        "default": name == project.default_branch,
        "web_url": f"{project.web_url}/-/tree/{name}",
    }


def _merged(project: Project, sha: str) -> bool:
    return repository.is_ancestor(project.repository, sha, f"refs/heads/{project.default_branch}")


def list_branches(call: Call, project: Project) -> Any:
    call.need(project, Access.REPORTER)
    found = repository.branches(project.repository, call.optional("search"))
    return page(found, lambda row: _branch_json(call, project, *row))


def get_branch(call: Call, project: Project, name: str) -> Any:
    call.need(project, Access.REPORTER)
    sha = repository.ref_sha(project.repository, f"refs/heads/{name}")
    if sha is None:
        missing("Branch")
    return jsonify(_branch_json(call, project, name, sha))


def _level(rule: Protection, access: Access) -> dict[str, Any]:
    description = ACCESS_DESCRIPTIONS.get(int(access), access.name.title())
    return {
        "id": rule.id,
        "access_level": int(access),
        "access_level_description": description,
        "user_id": None,
        "group_id": None,
    }


def _protection_json(rule: Protection, *, branch: bool) -> dict[str, Any]:
    """Show a rule (docs: Protected branches API, Protected tags API)."""
    if not branch:
        return {"name": rule.pattern, "create_access_levels": [_level(rule, rule.push_access)]}
    return {
        "id": rule.id,
        "name": rule.pattern,
        "push_access_levels": [_level(rule, rule.push_access)],
        "merge_access_levels": [_level(rule, rule.merge_access)],
        "unprotect_access_levels": [],
        "allow_force_push": rule.allow_force_push,
        "code_owner_approval_required": False,
    }


def _protected(call: Call, project: Project, rules: list[Protection], *, branch: bool) -> Any:
    """List rules; Maintainers only (`app/policies/protected_branch_policy.rb`, `lib/api/protected_tags.rb`).

    Everybody else sees `protected` on branches and tags.
    """
    call.need(project, Access.MAINTAINER)
    return page(rules, lambda rule: _protection_json(rule, branch=branch))


def _one(call: Call, rules: list[Protection], project: Project, name: str, *, branch: bool) -> Any:
    call.need(project, Access.MAINTAINER)
    rule = next((found for found in rules if found.pattern == name), None)
    if rule is None:
        missing("")
    return jsonify(_protection_json(rule, branch=branch))


def tag_json(project: Project, tag: Tag) -> dict[str, Any]:
    """Show a tag (docs: Tags API)."""
    release = project.releases.get(tag.name)
    return {
        "name": tag.name,
        "message": tag.message,
        "target": tag.target,
        "commit": commit_json(project, repository.commit(project.repository, tag.commit)),
        "release": {"tag_name": tag.name, "description": release.description} if release else None,
        "protected": bool(matching(project.tags, tag.name)),
        "created_at": tag.created,
    }


def list_tags(call: Call, project: Project) -> Any:
    """List tags; `order_by` name or updated (docs: Tags API, "List project repository tags")."""
    call.need(project, Access.REPORTER)
    found = [tag for tag in repository.tags(project.repository) if _sought(tag.name, call.optional("search"))]
    if call.optional("order_by", "updated") != "updated":
        found.sort(key=lambda tag: tag.name, reverse=True)
    return page(
        found[::-1] if call.optional("sort", "desc") == "asc" else found, lambda tag: tag_json(project, tag)
    )


def _sought(name: str, search: str) -> bool:
    if search.startswith("^"):
        return name.startswith(search[1:])
    return name.endswith(search[:-1]) if search.endswith("$") else search in name


def get_tag(call: Call, project: Project, name: str) -> Any:
    call.need(project, Access.REPORTER)
    tag = repository.tag(project.repository, name)
    if tag is None:
        missing("Tag")
    return jsonify(tag_json(project, tag))


def create_tag(call: Call, project: Project) -> Any:
    """Create a tag (docs: Tags API, "Create a new tag"); 403 below Developer, 400 for all else, protected tags too.

    GitLab's endpoint answers 400 to whatever the creation refuses (`lib/api/tags.rb`); only releases give 403.
    """
    name, ref = call.required("tag_name"), call.required("ref")
    call.need(project, Access.DEVELOPER)
    tag = make_tag(call, project, name, ref, call.optional("message"))
    return jsonify(tag_json(project, tag)), HTTPStatus.CREATED


def make_tag(call: Call, project: Project, name: str, ref: str, message: str) -> Tag:
    """Create a tag as `app/services/tags/create_service.rb` does; annotated when there is a message."""
    if not _valid(project, name):
        refuse(HTTPStatus.BAD_REQUEST, "Tag name invalid")
    sha = repository.resolve(project.repository, ref)
    if repository.tag(project.repository, name) is not None:
        refuse(HTTPStatus.BAD_REQUEST, f"Tag {name} already exists")
    if sha is None:
        refuse(HTTPStatus.BAD_REQUEST, f"Target {ref} is invalid")
    push = Push(project, call.user, (Change(ZERO, sha, f"refs/tags/{name}"),))
    answer = hooks.check(push)
    if not answer.allowed:
        refuse(HTTPStatus.BAD_REQUEST, HOOK_PREFIX.sub("", answer.output).strip())
    _write_tag(call, project, name, sha, message)
    ci.pushed(call.state, push)
    made = repository.tag(project.repository, name)
    assert made is not None  # noqa: S101 - just made
    return made


def _write_tag(call: Call, project: Project, name: str, sha: str, message: str) -> None:
    """Write the ref; two that create the same tag at once: one gets "already exists"."""
    identity = {"GIT_COMMITTER_NAME": call.user.name, "GIT_COMMITTER_EMAIL": call.user.email}
    note = ("-a", "-m", message) if message else ()
    try:
        repository.git(project.repository, "tag", "--no-sign", *note, "--", name, sha, extra=identity)
    except GitError:
        refuse(HTTPStatus.BAD_REQUEST, f"Tag {name} already exists")


def _valid(project: Project, name: str) -> bool:
    try:
        repository.git(project.repository, "check-ref-format", f"refs/tags/{name}")
    except GitError:
        return False
    return not name.startswith("-")


def delete_tag(call: Call, project: Project, name: str) -> Any:
    """Delete a tag; of a protected one only Maintainers (docs: Protected tags, "Delete a protected tag")."""
    if repository.tag(project.repository, name) is None:
        missing("Tag")
    call.need(project, Access.MAINTAINER if matching(project.tags, name) else Access.DEVELOPER)
    repository.git(project.repository, "update-ref", "-d", f"refs/tags/{name}")
    with call.state.lock:
        project.releases.pop(name, None)
    return "", HTTPStatus.NO_CONTENT


def _commit(call: Call, project: Project, revision: str) -> str:
    call.need(project, Access.REPORTER)
    sha = repository.resolve(project.repository, revision or project.default_branch)
    if sha is None:
        missing("Commit")
    return sha


def list_commits(call: Call, project: Project) -> Any:
    """List commits by ref_name, since, until and path (docs: Commits API, "List repository commits")."""
    call.need(project, Access.REPORTER)
    sha = repository.resolve(project.repository, call.optional("ref_name", project.default_branch))
    if sha is None:
        missing("Repository" if not repository.branches(project.repository) else "Commit")
    limits = [
        f"--{name}={call.optional(name)}" for name in ("since", "until", "author") if call.optional(name)
    ]
    path = ["--", call.optional("path")] if call.optional("path") else []
    return page(
        repository.commits(project.repository, *limits, sha, *path),
        lambda commit: commit_json(project, commit),
    )


def get_commit(call: Call, project: Project, sha: str) -> Any:
    """Show a commit with its last pipeline (docs: Commits API, "Get a single commit")."""
    commit = repository.commit(project.repository, _commit(call, project, sha))
    last = next((p for p in reversed(project.pipelines) if p.sha == commit.sha), None)
    pipeline = {"id": last.id, "ref": last.ref, "sha": last.sha, "status": last.status} if last else None
    extra = {"status": last.status if last else None, "project_id": project.id, "last_pipeline": pipeline}
    return jsonify(commit_json(project, commit) | extra)


def list_commit_refs(call: Call, project: Project, sha: str) -> Any:
    """List the branches and tags that contain a commit (docs: Commits API, "Get references a commit is pushed to")."""
    kind = call.optional("type", "all")
    found = repository.refs_containing(project.repository, _commit(call, project, sha))
    return page(
        [row for row in found if kind in {"all", row[0]}], lambda row: {"type": row[0], "name": row[1]}
    )


def get_merge_base(call: Call, project: Project) -> Any:
    """Show the common ancestor of two refs or more (docs: Repositories API, "Get merge base")."""
    call.need(project, Access.REPORTER)
    refs = call.params.get("refs")
    if not isinstance(refs, list):
        raise ApiError(HTTPStatus.BAD_REQUEST, {"error": "refs is missing"})
    if len(refs) < 2:  # noqa: PLR2004 - a pair at least
        refuse(HTTPStatus.BAD_REQUEST, "Provide at least 2 refs")
    shas = {ref: repository.resolve(project.repository, ref) for ref in refs}
    unknown = [ref for ref, sha in shas.items() if sha is None]
    if unknown:
        refuse(
            HTTPStatus.BAD_REQUEST,
            f"Could not find ref{'s' if len(unknown) > 1 else ''}: {', '.join(unknown)}",
        )
    base = repository.merge_base(
        project.repository, [sha for sha in shas.values() if sha] * (2 if len(shas) == 1 else 1)
    )
    if base is None:
        missing("Merge Base")
    return jsonify(commit_json(project, repository.commit(project.repository, base)))


def compare(call: Call, project: Project) -> Any:
    """Compare two refs from their merge base, or straight (docs: Repositories API, "Compare branches, tags or commits")."""
    call.need(project, Access.REPORTER)
    ends = [repository.resolve(project.repository, call.required(name)) for name in ("from", "to")]
    old, new = ends
    if old is None or new is None:
        missing("Ref")
    commits = [
        commit_json(project, row)
        for row in repository.commits(project.repository, "--reverse", f"{old}..{new}")
    ]
    dots = ".." if call.flag("straight") else "..."
    diffs = (
        _diffs(project, f"{old}{dots}{new}") if repository.merge_base(project.repository, [old, new]) else []
    )
    return jsonify(
        {
            "commit": commits[-1] if commits else None,
            "commits": commits,
            "diffs": diffs,
            "compare_timeout": False,
            "compare_same_ref": old == new,
            "web_url": f"{project.web_url}/-/compare/{old}...{new}",
        }
    )


def _diffs(project: Project, span: str) -> list[dict[str, Any]]:
    fields = (
        repository.git(project.repository, "diff", "--raw", "-z", "--no-renames", span)
        .decode(errors="replace")
        .split("\0")
    )
    return [_diff(project, span, meta, path) for meta, path in zip(fields[::2], fields[1::2], strict=False)]


def _diff(project: Project, span: str, meta: str, path: str) -> dict[str, Any]:
    old_mode, new_mode, _, _, letter = meta.removeprefix(":").split()
    patch = repository.git(project.repository, "diff", "--no-renames", span, "--", path).decode(
        errors="replace"
    )
    return {
        "old_path": path,
        "new_path": path,
        "a_mode": old_mode,
        "b_mode": new_mode,
        "new_file": letter == "A",
        "renamed_file": False,
        "deleted_file": letter == "D",
        "diff": patch[patch.find("@@") :] if "@@" in patch else "",
    }


def _file(call: Call, project: Project, path: str) -> tuple[str, repository.Entry, bytes]:
    ref = call.optional("ref", "HEAD")
    sha = _commit(call, project, project.default_branch if ref == "HEAD" else ref)
    entry = repository.entry(project.repository, sha, path)
    if entry is None:
        missing("File")
    return sha, entry, repository.blob(project.repository, entry.blob)


def get_file(call: Call, project: Project, path: str) -> Any:
    """Show a file (docs: Repository files API, "Get file from repository")."""
    sha, entry, content = _file(call, project, path)
    last = repository.commits(project.repository, "-1", sha, "--", path)[0]
    return jsonify(
        {
            "file_name": path.rsplit("/", 1)[-1],
            "file_path": path,
            "size": len(content),
            "encoding": "base64",
            "content": base64.b64encode(content).decode(),
            "content_sha256": hashlib.sha256(content).hexdigest(),
            "ref": call.optional("ref", "HEAD"),
            "blob_id": entry.blob,
            "commit_id": sha,
            "last_commit_id": last.sha,
            "execute_filemode": entry.mode == "100755",
        }
    )


def get_raw_file(call: Call, project: Project, path: str) -> Any:
    """Give a file's bytes (docs: Repository files API, "Get raw file from repository")."""
    sha, entry, content = _file(call, project, path)
    headers = {
        "X-Gitlab-Blob-Id": entry.blob,
        "X-Gitlab-Commit-Id": sha,
        "X-Gitlab-Ref": call.optional("ref", "HEAD"),
    }
    return Response(content, mimetype="text/plain", headers=headers)
