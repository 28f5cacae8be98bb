"""REST: Terraform states and their locks, as Terraform's `http` backend uses them.

Sources: `lib/api/terraform/state.rb`, `app/services/terraform/remote_state_handler.rb`, `spec/requests/api/terraform/state_spec.rb`
of GitLab 18.5; docs: GitLab-managed Terraform state.
"""

import json
import time
from http import HTTPStatus
from typing import Any

from flask import request

from sandbox.gitlab.model import Access, Project, StateLock, StateVersion, TerraformState
from sandbox.gitlab.web import Api, ApiError, Call, missing, refuse, stamp, text

STATE = "/terraform/state/<enc:name>"
LOCK_FIELDS = ("ID", "Operation", "Info", "Who", "Version", "Created", "Path")
LONGEST = 255


def register(api: Api) -> None:
    """Add the state's endpoints; a job token comes in HTTP Basic only (`job_token_allowed: :basic_auth`)."""
    for verb, rule, handler in (
        ("GET", STATE, get_state),
        ("POST", STATE, write_state),
        ("DELETE", STATE, delete_state),
        ("POST", f"{STATE}/lock", lock_state),
        ("DELETE", f"{STATE}/lock", unlock_state),
    ):
        api.route(verb, rule, basic=True, login=True)(handler)


def _allowed(call: Call, project: Project, access: Access) -> None:
    """Developers read, Maintainers write and lock (docs: Roles and permissions, "Terraform state")."""
    if call.access(project) < access:
        refuse(HTTPStatus.FORBIDDEN)


def _lock_id(call: Call) -> str | None:
    given = call.params.get("ID")
    if given is not None and len(str(given)) > LONGEST:
        raise ApiError(HTTPStatus.BAD_REQUEST, {"error": f"ID must be less than {LONGEST} characters"})
    return None if given is None else str(given)


def _existing(project: Project, name: str) -> TerraformState:
    found = project.terraform_states.get(name)
    if found is None:
        missing("")
    return found


def _made(project: Project, name: str) -> TerraformState:
    """Give a state; whoever locks or writes one that is not there makes it."""
    return project.terraform_states.setdefault(name, TerraformState(name))


def get_state(call: Call, project: Project, name: str) -> Any:
    """Show the newest version; 204 while there is none, 404 for a state that nobody locked or wrote."""
    _allowed(call, project, Access.DEVELOPER)
    with call.state.lock:
        latest = _existing(project, name).latest
    return text(latest.content) if latest else text("", HTTPStatus.NO_CONTENT)


def write_state(call: Call, project: Project, name: str) -> Any:
    """Keep a version: 422 for a serial that is there already or for no JSON, 204 for an empty body.

    500 when the lock is not the one of `?ID=`: `StateLockedError` is not rescued in this endpoint.
    """
    _allowed(call, project, Access.MAINTAINER)
    content, token = request.get_data(), call.token
    if not content:
        return text("", HTTPStatus.NO_CONTENT)
    serial, given = _serial(content), _lock_id(call)
    with call.state.lock:
        state = _made(project, name)
        if (state.lock.id if state.lock else None) != given:
            refuse(HTTPStatus.INTERNAL_SERVER_ERROR)
        if any(version.serial == serial for version in state.versions):
            refuse(HTTPStatus.UNPROCESSABLE_ENTITY, "Validation failed: Version has already been taken")
        writer = state.lock.user if state.lock else None
        state.versions.append(StateVersion(serial, content, writer, token.job if token else None))
    return text("")


def _serial(content: bytes) -> int:
    try:
        serial = json.loads(content).get("serial")
    except (ValueError, AttributeError):
        refuse(HTTPStatus.UNPROCESSABLE_ENTITY, "invalid JSON")
    if not isinstance(serial, int):
        refuse(HTTPStatus.UNPROCESSABLE_ENTITY, "No serial in payload")
    return serial


def delete_state(call: Call, project: Project, name: str) -> Any:
    """Delete a state. A locked one stays, and the answer is 200 all the same: the endpoint drops the service's refusal."""
    _allowed(call, project, Access.MAINTAINER)
    with call.state.lock:
        if _existing(project, name).lock is None:
            del project.terraform_states[name]
    return text("")


def lock_state(call: Call, project: Project, name: str) -> Any:
    """Lock a state; 409 with the holder's lock when it is locked.

    GitLab keeps of a lock its ID, user and time. The rest of the answer is what the *asking* side sent, and `Who` is
    a user name.
    """
    _allowed(call, project, Access.MAINTAINER)
    absent = [field for field in LOCK_FIELDS if call.params.get(field) is None]
    if absent:
        message = ", ".join(f"{field} is missing" for field in absent)
        raise ApiError(HTTPStatus.BAD_REQUEST, {"error": message})
    wanted = StateLock(str(_lock_id(call)), call.user, time.time())
    with call.state.lock:
        state = _made(project, name)
        held = state.lock = state.lock or wanted
    status = HTTPStatus.OK if held is wanted else HTTPStatus.CONFLICT
    return text(json.dumps(_lock_json(call, held)), status)


def _lock_json(call: Call, lock: StateLock) -> dict[str, Any]:
    asked = {field: call.params[field] for field in ("Operation", "Info", "Version", "Path")}
    return asked | {"ID": lock.id, "Who": lock.user.username, "Created": stamp(lock.created)}


def unlock_state(call: Call, project: Project, name: str) -> Any:
    """Unlock; 409 for another's ID, and without any ID (force-unlock) whoever holds it."""
    _allowed(call, project, Access.MAINTAINER)
    given = _lock_id(call)
    with call.state.lock:
        state = _made(project, name)
        if given is not None and (state.lock.id if state.lock else "") != given:
            return text("", HTTPStatus.CONFLICT)
        state.lock = None
    return text("")
