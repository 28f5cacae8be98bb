"""What every REST endpoint shares: who asks, for which project, with which parameters, and how answers look.

Sources: GitLab docs, REST API ("Authentication", "Pagination", "Namespaced paths"), Troubleshooting the REST API
("Status codes"), User and IP rate limits ("Response headers").
"""

import re
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import parse_qsl, unquote, urlencode

from flask import Flask, Response, jsonify, request
from werkzeug.routing import BaseConverter

from sandbox.gitlab.model import Access, Project, State, Token, TokenKind, User

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

READ = frozenset({"api", "read_api"})
WRITE = frozenset({"api"})
FILES = frozenset({"api", "read_api", "read_repository", "write_repository"})
LIMIT = 2000
KEY = re.compile(r"\[([^\]]*)\]")
JOB_USER = "gitlab-ci-token"
"""The user name that goes with a job token in HTTP Basic (docs: CI/CD job token)."""

Handler = Callable[..., Any]


class ApiError(Exception):
    """An answer with an error status; `body` is the JSON GitLab sends."""

    def __init__(self, status: HTTPStatus, body: Any = None) -> None:
        super().__init__(status)
        self.status = status
        self.body = {"message": f"{status.value} {status.phrase}"} if body is None else body


def refuse(status: HTTPStatus, message: Any = None) -> NoReturn:
    """Answer with `{"message": …}`."""
    raise ApiError(status, None if message is None else {"message": message})


def missing(what: str) -> NoReturn:
    """Answer 404 in GitLab's form, `404 Tag Not Found`."""
    refuse(HTTPStatus.NOT_FOUND, f"404 {what} Not Found" if what else "404 Not Found")


@dataclass(frozen=True)
class Accepts:
    """The credentials an endpoint takes: access tokens with one of `scopes`; `job`: JOB-TOKEN; `basic`: HTTP Basic.

    `login`: reading needs a token too, a public project's as well (`authenticate!` in `lib/api`).
    """

    scopes: frozenset[str]
    job: bool = False
    basic: bool = False
    login: bool = False


class Encoded(BaseConverter):
    """One path segment as sent; `%2F` inside belongs to the value (docs: REST API, "Path parameters")."""

    def to_python(self, value: str) -> str:
        return unquote(value)


@dataclass
class Call:
    """One request: its token, and its parameters from query, form and JSON together, as GitLab takes them."""

    state: State
    token: Token | None
    params: dict[str, Any]

    @property
    def user(self) -> User:
        """The user behind the token; 401 for anonymous calls."""
        if self.token is None:
            refuse(HTTPStatus.UNAUTHORIZED)
        return self.token.user

    def access(self, project: Project) -> Access:
        return self.token.user.access(project) if self.token else Access.NO_ACCESS

    def need(self, project: Project, access: Access) -> None:
        """Answer 403 when the role is too low (docs: Roles and permissions); public projects can be read by anybody."""
        public = project.visibility == "public" and access <= Access.REPORTER
        if not public and self.access(project) < access:
            refuse(HTTPStatus.FORBIDDEN)

    def required(self, name: str) -> str:
        """Give a parameter; 400 with GitLab's `error` key when it is missing."""
        value = self.params.get(name)
        if value is None:
            raise ApiError(HTTPStatus.BAD_REQUEST, {"error": f"{name} is missing"})
        if value == "":
            raise ApiError(HTTPStatus.BAD_REQUEST, {"error": f"{name} is empty"})
        return str(value)

    def optional(self, name: str, default: str = "") -> str:
        value = self.params.get(name)
        return default if value is None else str(value)

    def flag(self, name: str) -> bool:
        return self.optional(name).lower() in {"true", "1", "t", "yes"}


class Api:
    """Registers endpoints on a Flask application."""

    def __init__(self, app: Flask, state: State) -> None:
        self.app = app
        self.state = state
        app.url_map.converters["enc"] = Encoded
        app.url_map.merge_slashes = False
        app.register_error_handler(ApiError, _show_error)
        app.register_error_handler(HTTPStatus.NOT_FOUND, lambda _error: _not_found())
        app.after_request(_rate_limit)

    def route(
        self,
        verb: str,
        rule: str,
        *,
        job: bool = False,
        basic: bool = False,
        login: bool = False,
        scopes: frozenset[str] | None = None,
    ) -> Callable[[Handler], Handler]:
        """Register `handler(call, project, **path)` under /api/v4/projects/:id.

        `job`: the job token may use it (docs: CI/CD job token, "Job token access"); elsewhere a job token counts as no
        token at all. `basic` and `login`: see `Accepts`.
        """
        accepts = Accepts(scopes or (READ if verb == "GET" else WRITE), job, basic, login)

        def register(handler: Handler) -> Handler:
            def view(project_id: str, **path: Any) -> Any:
                call = self.call(accepts)
                return handler(call, self._project(call, project_id), **path)

            self._add(verb, f"/api/v4/projects/<enc:project_id>{rule}", view)
            return handler

        return register

    def plain(self, verb: str, rule: str, *, job: bool = False) -> Callable[[Handler], Handler]:
        """Register `handler(call)` under /api/v4; it needs a token, `job`: a job token will do."""

        def register(handler: Handler) -> Handler:
            def view(**path: Any) -> Any:
                return handler(self.call(Accepts(READ, job, login=True)), **path)

            self._add(verb, f"/api/v4{rule}", view)
            return handler

        return register

    def open(self, verb: str, rule: str) -> Callable[[Handler], Handler]:
        """Register `handler(call, **path)` under /api/v4 that sees to its own authentication."""

        def register(handler: Handler) -> Handler:
            self._add(
                verb, f"/api/v4{rule}", lambda **path: handler(Call(self.state, None, parameters()), **path)
            )
            return handler

        return register

    def _add(self, verb: str, rule: str, view: Handler) -> None:
        self.app.add_url_rule(rule, endpoint=f"{verb} {rule}", view_func=view, methods=[verb])

    def call(self, accepts: Accepts) -> Call:
        """Authenticate the current request; 401 without a token where one is needed."""
        token = _authenticate(self.state, accepts)
        if token is None and (accepts.login or request.method != "GET"):
            refuse(HTTPStatus.UNAUTHORIZED)
        if token is not None:
            request.environ["sandbox.actor"] = token.name
            if token.kind != "job" and not token.scopes & accepts.scopes:
                raise ApiError(HTTPStatus.FORBIDDEN, _insufficient_scope(accepts.scopes))
        return Call(self.state, token, parameters())

    def _project(self, call: Call, key: str) -> Project:
        """Find the project; 404 when it is not there or may not be seen."""
        project = self.state.project(key)
        if project is None or (project.visibility != "public" and call.access(project) is Access.NO_ACCESS):
            missing("Project")
        if call.token is not None and call.token.kind == "job":
            _permit_job(self.state, call.token, project)
        return project


def _permit_job(state: State, token: Token, project: Project) -> None:
    """Answer 403 to job tokens of projects not on the allowlist (docs: CI/CD job token, "Control job token access")."""
    if token.project_id in {project.id, *project.job_tokens} or project.visibility == "public":
        return
    source = state.projects[token.project_id or 0].name
    refuse(
        HTTPStatus.FORBIDDEN,
        f"403 Forbidden - Authentication by CI/CD job token not allowed from {source} to {project.name}.",
    )


def _authenticate(state: State, accepts: Accepts) -> Token | None:
    """Find the token; None for anonymous requests. A job's token is good while the job runs."""
    secret, kind = _secret(accepts)
    if not secret:
        return None
    token = state.token(secret)
    if token is None or token.kind != kind or (token.job and token.job.finished):
        refuse(HTTPStatus.UNAUTHORIZED)
    if token.expired:
        raise ApiError(HTTPStatus.UNAUTHORIZED, _EXPIRED)
    return token


def _secret(accepts: Accepts) -> tuple[str, TokenKind]:
    """Give what stands in PRIVATE-TOKEN, Authorization or JOB-TOKEN, and the kind of token it must be.

    With an access token in HTTP Basic any user name will do (`lib/gitlab/auth/auth_finders.rb`).
    """
    kind, _, bearer = request.headers.get("Authorization", "").partition(" ")
    if found := request.headers.get("PRIVATE-TOKEN") or (bearer if kind.lower() == "bearer" else ""):
        return found, "access"
    basic = request.authorization if accepts.basic and kind.lower() == "basic" else None
    if basic is not None and basic.password:
        return basic.password, "job" if basic.username == JOB_USER else "access"
    return (request.headers.get("JOB-TOKEN", "") if accepts.job else ""), "job"


_EXPIRED = {
    "error": "invalid_token",
    "error_description": "Token is expired. You can either do re-authorization or token refresh.",
}


def _insufficient_scope(scopes: frozenset[str]) -> dict[str, str]:
    return {
        "error": "insufficient_scope",
        "error_description": "The request requires higher privileges than provided by the access token.",
        "scope": " ".join(sorted(scopes)),
    }


def parameters() -> dict[str, Any]:
    """Merge query, form and JSON; bracketed names nest as in GitLab (docs: REST API, "Encoding API parameters")."""
    pairs = [
        *parse_qsl(request.query_string.decode(), keep_blank_values=True),
        *request.form.items(multi=True),
    ]
    merged: dict[str, Any] = {}
    for name, value in pairs:
        _put(merged, name, value)
    body = request.get_json(silent=True)
    return merged | (body if isinstance(body, dict) else {})


def _put(target: dict[str, Any], name: str, value: str) -> None:
    """Enter `a=1`, `a[]=1`, `a[k]=1` or `a[][k]=1`."""
    head, keys = name.partition("[")[0], KEY.findall(name)
    match keys:
        case []:
            target[head] = value
        case [""]:
            target.setdefault(head, []).append(value)
        case [key]:
            target.setdefault(head, {})[key] = value
        case _:
            rows = target.setdefault(head, [])
            if not rows or keys[-1] in rows[-1]:
                rows.append({})
            rows[-1][keys[-1]] = value


def page(items: Iterable[Any], show: Callable[[Any], Any]) -> Response:
    """Give one page with GitLab's headers (docs: REST API, "Offset-based pagination": 20 a page, at most 100)."""
    rows = list(items)
    number, size = (
        max(1, request.args.get("page", 1, int)),
        min(100, max(1, request.args.get("per_page", 20, int))),
    )
    pages = max(1, -(-len(rows) // size))
    answer = jsonify([show(row) for row in rows[(number - 1) * size : number * size]])
    answer.headers.extend(
        {
            "X-Total": str(len(rows)),
            "X-Total-Pages": str(pages),
            "X-Page": str(number),
            "X-Per-Page": str(size),
            "X-Next-Page": str(number + 1) if number < pages else "",
            "X-Prev-Page": str(number - 1) if number > 1 else "",
            "Link": _links(number, size, pages),
        }
    )
    return answer


def _links(number: int, size: int, pages: int) -> str:
    wanted = {"prev": number - 1, "next": number + 1, "first": 1, "last": pages}
    return ", ".join(f'<{_address(to, size)}>; rel="{rel}"' for rel, to in wanted.items() if 1 <= to <= pages)


def _address(number: int, size: int) -> str:
    kept = [
        (name, value)
        for name, value in parse_qsl(request.query_string.decode())
        if name not in {"page", "per_page"}
    ]
    query = urlencode([*kept, ("page", number), ("per_page", size)])
    return f"http://{request.host}{request.environ['RAW_URI'].partition('?')[0]}?{query}"


def stamp(seconds: float | None) -> str | None:
    """ISO 8601 in UTC with milliseconds, as the API gives times."""
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def text(answer: str | bytes, status: HTTPStatus = HTTPStatus.OK) -> Response:
    """Answer with a body that is not the API's own JSON, or with none."""
    return Response(answer, status.value)


def instant(value: str) -> float:
    """Read an ISO 8601 time; 400 when it is none."""
    try:
        return datetime.fromisoformat(value).timestamp()
    except ValueError:
        raise ApiError(HTTPStatus.BAD_REQUEST, {"error": "time is invalid"}) from None


def _show_error(error: ApiError) -> tuple[Response, int]:
    return jsonify(error.body), error.status.value


def _not_found() -> tuple[Response, int]:
    """Answer an address no endpoint has; the body is GitLab's."""
    return jsonify({"error": "404 Not Found"}), HTTPStatus.NOT_FOUND.value


def _rate_limit(response: Response) -> Response:
    """Add the RateLimit-* headers of docs: User and IP rate limits, "Response headers"."""
    now = int(time.time())
    response.headers.extend(
        {
            "RateLimit-Limit": str(LIMIT),
            "RateLimit-Observed": "1",
            "RateLimit-Remaining": str(LIMIT - 1),
            "RateLimit-Reset": str(now + 60 - now % 60),
            "RateLimit-Name": "throttle_authenticated_api",
        }
    )
    return response


def encoded_paths(environ: "WSGIEnvironment") -> None:
    """Let routing see the path as sent, so that `%2F` in a name is no separator."""
    environ["PATH_INFO"] = environ["RAW_URI"].partition("?")[0]
