"""Git over smart HTTP: who may, and the CGI bridge to `git http-backend`.

Protocol: git's http-protocol and `git-http-backend(1)`. Messages: GitLab's `lib/gitlab/git_access.rb` and docs,
Troubleshooting Git, "HTTP Basic: Access denied".
"""

import base64
import binascii
import os
import re
import secrets
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from http import HTTPStatus
from pathlib import Path
from typing import IO, TYPE_CHECKING
from urllib.parse import parse_qs, unquote

from werkzeug.wsgi import get_input_stream

from sandbox.gitlab import repository
from sandbox.gitlab.hooks import Hooks, Pusher
from sandbox.gitlab.model import Access, Project, State, Token

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

ROUTE = re.compile(
    r"^/(?P<project>.+?)(?P<git>\.git)?/(?P<service>info/refs|git-upload-pack|git-receive-pack)$"
)
CHUNK = 65536
DENIED = (
    "HTTP Basic: Access denied. If a password was provided for Git authentication, the password was incorrect or "
    "you're required to use a token instead of a password. If a token was provided, it was either incorrect, expired, "
    "or improperly scoped."
)
NOT_FOUND = "The project you were looking for could not be found or you don't have permission to view it."
READ_SCOPES = frozenset({"api", "read_repository", "write_repository"})
WRITE_SCOPES = frozenset({"api", "write_repository"})
SETTINGS = {
    "core.logAllRefUpdates": "false",
    "http.receivepack": "true",
    "receive.advertisePushOptions": "true",
    "receive.autogc": "false",
    "receive.denyDeleteCurrent": "ignore",
    "uploadpack.allowFilter": "true",
    "uploadpack.allowAnySHA1InWant": "true",
}


class Denied(Exception):  # noqa: N818 - an answer, not an error of ours
    """An answer other than git's."""

    def __init__(self, status: HTTPStatus, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text


@dataclass(frozen=True)
class Visit:
    """A request that may go on to git. `token` None: anonymous on a public project."""

    project: Project
    token: Token | None
    service: str
    push: bool


def authorise(state: State, path: str, query: str, authorization: str) -> Visit:
    """Decide on a git request, or raise Denied.

    401 without or with bad credentials, whether the project exists or not; 404 when the token may not see the project;
    403 when it may not do this.
    """
    found = ROUTE.match(path)
    if found is None:
        raise Denied(HTTPStatus.NOT_FOUND, NOT_FOUND)
    service = found["service"]
    push = "git-receive-pack" in (parse_qs(query).get("service", []) if service == "info/refs" else [service])
    name, token = unquote(found["project"]), _token(state, authorization)
    project = state.project(name) if "/" in name else None  # an id is no address
    if token is None:
        if project is None or project.visibility != "public" or push:
            raise Denied(HTTPStatus.UNAUTHORIZED, DENIED)
        return Visit(project, None, service, push)
    if project is None:
        raise Denied(HTTPStatus.NOT_FOUND, NOT_FOUND)
    _permit(state, project, token, push=push)
    return Visit(project, token, service, push)


def _token(state: State, authorization: str) -> Token | None:
    """Read the token of a Basic header: any user name for access tokens, `gitlab-ci-token` for job tokens; None without header."""
    if not authorization:
        return None
    user, secret = _basic(authorization)
    token = state.token(secret)
    if (
        token is None
        or token.expired
        or token.kind == "trigger"
        or (token.kind == "job" and user != "gitlab-ci-token")
    ):
        raise Denied(HTTPStatus.UNAUTHORIZED, DENIED)
    return token


def _basic(authorization: str) -> tuple[str, str]:
    kind, _, value = authorization.partition(" ")
    if kind.lower() != "basic":
        raise Denied(HTTPStatus.UNAUTHORIZED, DENIED)
    try:
        user, _, secret = base64.b64decode(value, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        raise Denied(HTTPStatus.UNAUTHORIZED, DENIED) from None
    return user, secret


def _permit(state: State, project: Project, token: Token, *, push: bool) -> None:
    access = token.user.access(project)
    if access is Access.NO_ACCESS and (push or project.visibility != "public"):
        raise Denied(HTTPStatus.NOT_FOUND, NOT_FOUND)
    if token.kind == "job":
        _permit_job(state, project, token, push=push)
    elif not token.scopes & (WRITE_SCOPES if push else READ_SCOPES):
        raise Denied(HTTPStatus.FORBIDDEN, f"You are not allowed to {'upload' if push else 'download'} code.")
    if push and access < Access.DEVELOPER:
        raise Denied(HTTPStatus.FORBIDDEN, "You are not allowed to push code to this project.")
    if access < Access.REPORTER and project.visibility != "public":
        raise Denied(HTTPStatus.FORBIDDEN, "You are not allowed to download code from this project.")


def _permit_job(state: State, project: Project, token: Token, *, push: bool) -> None:
    """Limit a job token to its own project and those that list it (GitLab docs: CI/CD job token, "Control job token access")."""
    own = token.project_id == project.id
    if push and not (own and project.job_token_push):
        raise Denied(HTTPStatus.FORBIDDEN, "You are not allowed to upload code.")
    if not own and token.project_id not in project.job_tokens and project.visibility != "public":
        source = state.projects[token.project_id or 0].path.rsplit("/", 1)[-1]
        raise Denied(
            HTTPStatus.FORBIDDEN,
            f"Authentication by CI/CD job token not allowed from {source} to {project.name}.",
        )


class Git:
    """The WSGI application for `*.git` addresses."""

    def __init__(self, state: State, hooks: Hooks, hooks_path: Path) -> None:
        self.state = state
        self.hooks = hooks
        self.hooks_path = hooks_path
        self.running: set[subprocess.Popen[bytes]] = set()

    def __call__(
        self, environ: "WSGIEnvironment", start_response: "StartResponse"
    ) -> Iterator[bytes] | list[bytes]:
        path = environ["RAW_URI"].partition("?")[0]
        found = ROUTE.match(path)
        if found and not found["git"]:
            return _answer(
                start_response,
                HTTPStatus.MOVED_PERMANENTLY,
                "",
                [("Location", self._with_suffix(environ, path))],
            )
        try:
            visit = authorise(
                self.state, path, environ["QUERY_STRING"], environ.get("HTTP_AUTHORIZATION", "")
            )
        except Denied as denied:
            basic = (
                [("WWW-Authenticate", 'Basic realm="GitLab"')]
                if denied.status is HTTPStatus.UNAUTHORIZED
                else []
            )
            return _answer(start_response, denied.status, denied.text, basic)
        environ["sandbox.actor"] = visit.token.name if visit.token else None
        return self._serve(environ, start_response, visit)

    def _with_suffix(self, environ: "WSGIEnvironment", path: str) -> str:
        """Give the address a clone without `.git` is redirected to, as GitLab does."""
        query = f"?{environ['QUERY_STRING']}" if environ["QUERY_STRING"] else ""
        return self.state.url + re.sub(r"/(info/refs|git-[a-z]+-pack)$", r".git/\1", path) + query

    def _serve(
        self, environ: "WSGIEnvironment", start_response: "StartResponse", visit: Visit
    ) -> Iterator[bytes]:
        key = secrets.token_hex(16)
        if visit.push and visit.token:
            self.hooks.pushers[key] = Pusher(visit.project, visit.token)
        process = subprocess.Popen(
            [backend()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=self._cgi(environ, visit, key),
            start_new_session=True,
        )
        self.running.add(process)
        feeder = threading.Thread(target=_feed, args=(get_input_stream(environ), process), daemon=True)
        feeder.start()
        assert process.stdout is not None  # noqa: S101 - a pipe was asked for
        status, headers = _head(process.stdout)
        start_response(status, headers)
        return self._stream(process, feeder, key)

    def _cgi(self, environ: "WSGIEnvironment", visit: Visit, key: str) -> dict[str, str]:
        """Environment of `git http-backend(1)`; absent Content-Length (a chunked body) means: read to the end."""
        copied = ("REQUEST_METHOD", "QUERY_STRING", "CONTENT_TYPE", "CONTENT_LENGTH", "HTTP_CONTENT_ENCODING")
        settings = {**SETTINGS, "core.hooksPath": str(self.hooks_path)}
        numbered = [
            (f"GIT_CONFIG_{part}_{number}", word)
            for number, pair in enumerate(settings.items())
            for part, word in zip(("KEY", "VALUE"), pair, strict=True)
        ]
        return repository.environment(
            {name: environ[name] for name in copied if environ.get(name)}
            | {
                "GIT_PROJECT_ROOT": str(visit.project.repository),
                "GIT_HTTP_EXPORT_ALL": "1",
                "GIT_PROTOCOL": environ.get("HTTP_GIT_PROTOCOL", ""),
                "PATH_INFO": f"/{visit.service}",
                "REMOTE_USER": visit.token.user.username if visit.token else "",
                "REMOTE_ADDR": environ["REMOTE_ADDR"],
                "SANDBOX_PUSH": key,
                "SANDBOX_PORT": environ["SERVER_PORT"],
                "GIT_CONFIG_COUNT": str(len(settings)),
            }
            | dict(numbered)
        )

    def _stream(
        self, process: subprocess.Popen[bytes], feeder: threading.Thread, key: str
    ) -> Iterator[bytes]:
        assert process.stdout is not None  # noqa: S101 - a pipe was asked for
        try:
            while part := process.stdout.read1(CHUNK):  # type: ignore[attr-defined]
                yield part
        finally:
            self._finish(process, feeder, key)

    def _finish(self, process: subprocess.Popen[bytes], feeder: threading.Thread, key: str) -> None:
        """End the process, whether its output was read to the end or the client went away."""
        assert process.stdout is not None  # noqa: S101 - a pipe was asked for
        process.stdout.close()
        try:
            process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            kill(process)
            process.wait()
        feeder.join(timeout=5)
        self.running.discard(process)
        self.hooks.pushers.pop(key, None)


@cache
def backend() -> str:
    """Where the program of git-http-backend(1) is; `git` itself would only start it."""
    done = subprocess.run(["git", "--exec-path"], stdout=subprocess.PIPE, text=True, check=True)
    return str(Path(done.stdout.strip()) / "git-http-backend")


def kill(process: subprocess.Popen[bytes]) -> None:
    """Kill git and what it started."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _feed(source: IO[bytes], process: subprocess.Popen[bytes]) -> None:
    """Copy the request body to git, piece by piece; a client or a git that went away ends it."""
    assert process.stdin is not None  # noqa: S101 - a pipe was asked for
    with suppress(OSError, ValueError):
        while part := source.read(CHUNK):
            process.stdin.write(part)
    with suppress(OSError, ValueError):
        process.stdin.close()


def _head(output: IO[bytes]) -> tuple[str, list[tuple[str, str]]]:
    """Read the CGI header (RFC 3875, 6.3) up to its empty line."""
    status, headers = "200 OK", []
    while line := output.readline().strip():
        name, _, value = line.decode("latin-1").partition(":")
        if name.lower() == "status":
            status = value.strip()
        else:
            headers.append((name, value.strip()))
    return status, headers


def _answer(
    start_response: "StartResponse", status: HTTPStatus, text: str, headers: list[tuple[str, str]]
) -> list[bytes]:
    body = text.encode()
    fixed = [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(body)))]
    start_response(f"{status.value} {status.phrase}", [*fixed, *headers])
    return [body]
