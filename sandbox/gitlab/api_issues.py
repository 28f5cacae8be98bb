"""REST: issues, and the notes of issues and of merge requests.

Sources: docs: Issues API, Notes API, Roles and permissions; `lib/api/notes.rb`, `lib/api/helpers/notes_helpers.rb`.
"""

import re
import time
from http import HTTPStatus
from typing import Any

from flask import jsonify

from sandbox.gitlab.api_merge_requests import merge_request
from sandbox.gitlab.api_repository import user_json
from sandbox.gitlab.model import Access, Issue, MergeRequest, Project
from sandbox.gitlab.web import Api, ApiError, Call, missing, page, refuse, stamp

LONGEST_NOTE = 1_000_000
"""Characters (docs: Application limits, "Size of comments and descriptions of issues, merge requests, and epics")."""
LONGEST_DESCRIPTION = 1_048_576
LONGEST_TITLE = 255
STATES = {"close": "closed", "reopen": "opened"}
# Where quick actions are looked for: not inside these blocks. A fence of tildes is none of them.
BLOCKS = r"^```.+?\n```$", r"^.*`\n*.+?\n*`$", r"^<[^>]+?>\n.+?\n</[^>]+?>$", r"^>>>.+?\n>>>$"
ACTIONS = (
    "approve|assign|close|draft|label|merge|ready|rebase|relabel|reopen|title|unapprove|unassign|unlabel"
)
QUICK_ACTION = re.compile(
    rf"(?:{'|'.join(BLOCKS)})|^/(?P<action>{ACTIONS})(?: [^\n]*)?(?:\s*\n|$)",
    re.MULTILINE | re.DOTALL | re.IGNORECASE,
)


def register(api: Api) -> None:
    """Add the endpoints; a job token may only read the notes of merge requests (docs: CI/CD job token)."""
    api.route("GET", "/issues")(list_issues)
    api.route("POST", "/issues")(create_issue)
    api.route("GET", "/issues/<int:iid>")(get_issue)
    api.route("PUT", "/issues/<int:iid>")(update_issue)
    for place, find, job in (("issues", _issue, False), ("merge_requests", merge_request, True)):
        notes = Notes(find)
        api.route("GET", f"/{place}/<int:iid>/notes", job=job, login=True)(notes.list)
        api.route("POST", f"/{place}/<int:iid>/notes")(notes.create)
        api.route("GET", f"/{place}/<int:iid>/notes/<int:number>", job=job, login=True)(notes.get)
        api.route("PUT", f"/{place}/<int:iid>/notes/<int:number>")(notes.update)


def _issue_json(call: Call, project: Project, row: Issue) -> dict[str, Any]:
    """Show an issue (docs: Issues API)."""
    return {
        "id": row.id,
        "iid": row.iid,
        "project_id": project.id,
        "title": row.title,
        "description": row.description,
        "state": row.state,
        "labels": row.labels,
        "author": user_json(call.state, row.author),
        "created_at": stamp(row.created),
        "updated_at": stamp(row.updated),
        "closed_at": stamp(row.closed),
        "user_notes_count": len(row.notes),
        "web_url": f"{project.web_url}/-/issues/{row.iid}",
    }


def list_issues(call: Call, project: Project) -> Any:
    """List issues, the newest first (docs: Issues API, "List project issues")."""
    call.need(project, Access.GUEST)
    newest_first = call.optional("sort", "desc") == "desc"
    rows = sorted(
        (row for row in project.issues if _wanted(call, row)), key=lambda row: row.iid, reverse=newest_first
    )
    return page(rows, lambda row: _issue_json(call, project, row))


def _wanted(call: Call, row: Issue) -> bool:
    """Match state, all of the labels, the author, and the search (docs: title and description, or what `in` names)."""
    state, author = call.optional("state", "all"), call.optional("author_id", str(row.author.id))
    fields = call.optional("in", "title,description").split(",")
    search = call.optional("search").lower()
    return (
        state in {"all", row.state}
        and author == str(row.author.id)
        and set(_labels(call)) <= set(row.labels)
        and any(search in str(getattr(row, name)).lower() for name in fields)
    )


def _labels(call: Call) -> list[str]:
    given = call.params.get("labels") or []
    names = given.split(",") if isinstance(given, str) else given
    return [name.strip() for name in names if name.strip()]


def create_issue(call: Call, project: Project) -> Any:
    """Open an issue; Guest, and Reporter for its labels (docs: Issues API, "New issue")."""
    title = call.required("title")
    call.need(project, Access.GUEST)
    _measured("title", title, LONGEST_TITLE)
    _measured("description", call.optional("description"), LONGEST_DESCRIPTION)
    now = time.time()
    with call.state.lock:
        number = len(project.issues) + 1
        row = Issue(call.state.next_id("issue"), number, title, call.user, now, now)
        row.description = call.optional("description")
        row.labels = _labels(call) if call.access(project) >= Access.REPORTER else []
        project.issues.append(row)
    return jsonify(_issue_json(call, project, row)), HTTPStatus.CREATED


def _measured(field: str, value: str, longest: int) -> None:
    if len(value) > longest:
        refuse(HTTPStatus.BAD_REQUEST, {field: [f"is too long (maximum is {longest} characters)"]})


def _issue(call: Call, project: Project, iid: int) -> Issue:
    call.need(project, Access.GUEST)
    found = next((row for row in project.issues if row.iid == iid), None)
    if found is None:
        missing("")
    return found


def get_issue(call: Call, project: Project, iid: int) -> Any:
    return jsonify(_issue_json(call, project, _issue(call, project, iid)))


def update_issue(call: Call, project: Project, iid: int) -> Any:
    """Change texts, labels or, by `state_event`, the state; its author or a Reporter (docs: Issues API, "Edit an issue")."""
    row = _issue(call, project, iid)
    if row.author is not call.user and call.access(project) < Access.REPORTER:
        refuse(HTTPStatus.FORBIDDEN)
    _measured("title", call.optional("title"), LONGEST_TITLE)
    _measured("description", call.optional("description"), LONGEST_DESCRIPTION)
    with call.state.lock:
        row.title = call.optional("title", row.title)
        row.description = call.optional("description", row.description)
        row.labels = _labels(call) if "labels" in call.params else row.labels
        row.state = STATES.get(call.optional("state_event"), row.state)
        row.updated = time.time()
        row.closed = (row.closed or row.updated) if row.state == "closed" else None
    return jsonify(_issue_json(call, project, row))


class Notes:
    """The notes of what `find` finds: issues or merge requests."""

    def __init__(self, find: Any) -> None:
        self._find = find

    def _row(self, call: Call, project: Project, iid: int) -> Issue | MergeRequest:
        row: Issue | MergeRequest = self._find(call, project, iid)
        return row

    def _note(self, call: Call, project: Project, iid: int, number: int) -> dict[str, Any]:
        notes = self._row(call, project, iid).notes
        found = next((note for note in notes if note["id"] == number), None)
        if found is None:
            missing("")
        return found

    def list(self, call: Call, project: Project, iid: int) -> Any:
        """List notes, the newest first (docs: Notes API, "List all merge request notes")."""
        rows = self._row(call, project, iid).notes
        return page(rows if call.optional("sort", "desc") == "asc" else rows[::-1], lambda row: row)

    def get(self, call: Call, project: Project, iid: int, number: int) -> Any:
        return jsonify(self._note(call, project, iid, number))

    def create(self, call: Call, project: Project, iid: int) -> Any:
        """Make a note, and do the quick actions in it; 202 when there is nothing else in it."""
        row, now = self._row(call, project, iid), stamp(time.time())
        body, actions = _acted(row, _body(call))
        if actions and not body:
            return jsonify({"commands_changes": {}, "summary": actions}), HTTPStatus.ACCEPTED
        with call.state.lock:
            note = {
                "id": call.state.next_id("note"),
                "body": body,
                "author": user_json(call.state, call.user),
                "system": False,
                "noteable_iid": iid,
                "created_at": now,
                "updated_at": now,
            }
            row.notes.append(note)
        return jsonify(note), HTTPStatus.CREATED

    def update(self, call: Call, project: Project, iid: int, number: int) -> Any:
        """Change a note's body; its author, or a Maintainer (docs: Roles and permissions, "Edit comments (posted by any user)")."""
        note = self._note(call, project, iid, number)
        if note["author"]["id"] != call.user.id and call.access(project) < Access.MAINTAINER:
            refuse(HTTPStatus.FORBIDDEN)
        body, _ = _acted(self._row(call, project, iid), _body(call))
        with call.state.lock:
            note |= {"body": body, "updated_at": stamp(time.time())}
        return jsonify(note)


def _body(call: Call) -> str:
    """Give a note's body; 400 in GitLab's own words when it is too long."""
    body = call.required("body")
    if len(body) > LONGEST_NOTE:
        wrong = f'{{:note=>["is too long (maximum is {LONGEST_NOTE} characters)"]}}'
        raise ApiError(HTTPStatus.BAD_REQUEST, {"message": f"400 Bad request - Note {wrong}"})
    return body


def _acted(row: Issue | MergeRequest, body: str) -> tuple[str, list[str]]:
    """Do the quick actions of a note, with the rights of its token, and give what is left of the note.

    Whoever can put a line that begins with a slash into a note acts as the token's user; here only `/close` and
    `/reopen` do something (docs: Quick actions; `lib/gitlab/quick_actions/extractor.rb`, whose blocks these are).
    """
    actions: list[str] = []

    def take(match: re.Match[str]) -> str:
        if match["action"] is None:
            return match[0]
        actions.append(match["action"].lower())
        return ""

    left = QUICK_ACTION.sub(take, body.replace("\r", "")).rstrip()
    for action in actions:
        row.state = STATES.get(action, row.state)
    return left, actions
