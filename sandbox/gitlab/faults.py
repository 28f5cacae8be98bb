"""Faults on demand: slow, refusing, broken and forgetful answers, on the REST and the git endpoints alike."""

import json
import re
import socket
import struct
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment


@dataclass(frozen=True)
class Delay:
    seconds: float


@dataclass(frozen=True)
class Status:
    code: int
    retry_after: int | None = None
    body: str | None = None


@dataclass(frozen=True)
class Reset:
    """The connection is reset; `handled` when the request took effect first and only the answer is lost."""

    handled: bool = False


@dataclass(frozen=True)
class Truncate:
    """Half the body arrives, under the Content-Length of the whole."""


class ResetError(ConnectionResetError):
    """Asks the outermost application to log the request and then to reset its connection."""


Kind = Delay | Status | Reset | Truncate


def delay(seconds: float) -> Delay:
    """Answer after a while."""
    return Delay(seconds)


def status(code: int, *, retry_after: int | None = None, body: str | None = None) -> Status:
    """Answer with a status instead of doing anything; 429 with `retry_after` is GitLab's rate limit."""
    return Status(code, retry_after, body)


def reset() -> Reset:
    """Reset the connection; nothing is done."""
    return Reset()


def lost_answer() -> Reset:
    """Do what was asked, then reset the connection instead of answering."""
    return Reset(handled=True)


def truncate() -> Truncate:
    """Do what was asked and send half the answer."""
    return Truncate()


@dataclass(frozen=True)
class Fault:
    """What goes wrong with requests whose method and address match.

    `path_regex` is searched in path and query as sent (`%2F` stays). The first `after` matches pass, the next
    `times` fail (None: all).
    """

    kind: Kind
    method: str | None = None
    path_regex: str = ""
    after: int = 0
    times: int | None = 1

    def matches(self, method: str, address: str) -> bool:
        return self.method in {None, method} and re.search(self.path_regex, address) is not None


class Faults:
    """The faults in force, in the order they were added; the first that applies is the one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seen: list[tuple[Fault, list[int]]] = []

    def add(self, fault: Fault) -> None:
        with self._lock:
            self._seen.append((fault, [0]))

    def clear(self) -> None:
        with self._lock:
            self._seen.clear()

    def take(self, method: str, address: str) -> Kind | None:
        """Count a request and give its fault."""
        with self._lock:
            for fault, seen in self._seen:
                if fault.matches(method, address):
                    seen[0] += 1
                    number = seen[0] - fault.after
                    if number > 0 and (fault.times is None or number <= fault.times):
                        return fault.kind
        return None


class Faulty:
    """A WSGI application behind its faults. `stopping` cuts delays short when the server ends."""

    def __init__(self, app: "WSGIApplication", faults: Faults, stopping: threading.Event) -> None:
        self.app = app
        self.faults = faults
        self.stopping = stopping

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        kind = self.faults.take(environ["REQUEST_METHOD"], environ["RAW_URI"])
        match kind:
            case Delay(seconds):
                self.stopping.wait(seconds)
            case Status():
                return _refuse(kind, start_response)
            case Reset(handled):
                if handled:
                    _collect(self.app, environ)
                raise ResetError
            case Truncate():
                return _half(self.app, environ, start_response)
        return self.app(environ, start_response)


def _refuse(kind: Status, start_response: "StartResponse") -> list[bytes]:
    """Answer like GitLab's rate limit and error pages (GitLab docs: User and IP rate limits, "Response text")."""
    phrase = HTTPStatus(kind.code).phrase
    plain = (
        "Retry later\n"
        if kind.code == HTTPStatus.TOO_MANY_REQUESTS
        else json.dumps({"message": f"{kind.code} {phrase}"})
    )
    body = (plain if kind.body is None else kind.body).encode()
    kind_of_body = "application/json" if body.startswith((b"{", b"[")) else "text/plain"
    headers = [("Content-Type", kind_of_body), ("Content-Length", str(len(body)))]
    if kind.retry_after is not None:
        headers.append(("Retry-After", str(kind.retry_after)))
    start_response(f"{kind.code} {phrase}", headers)
    return [body]


def _collect(app: "WSGIApplication", environ: "WSGIEnvironment") -> tuple[str, list[tuple[str, str]], bytes]:
    """Run an application to its end and keep its answer."""
    head: list[tuple[str, list[tuple[str, str]]]] = []

    def note(status: str, headers: list[tuple[str, str]], _exc_info: object = None, /) -> object:
        head.append((status, headers))
        return lambda _data: None

    answer = app(environ, note)  # type: ignore[arg-type]  # our applications never use the write callable
    try:
        body = b"".join(answer)
    finally:
        getattr(answer, "close", lambda: None)()
    return (*head[-1], body)


def _half(
    app: "WSGIApplication", environ: "WSGIEnvironment", start_response: "StartResponse"
) -> Iterator[bytes]:
    status, headers, body = _collect(app, environ)
    kept = [
        (name, value)
        for name, value in headers
        if name.lower() not in {"content-length", "transfer-encoding"}
    ]
    start_response(status, [*kept, ("Content-Length", str(len(body)))])
    return _cut(body[: len(body) // 2])


def _cut(part: bytes) -> Iterator[bytes]:
    yield part
    raise ConnectionAbortedError("truncated on purpose")


def reset_connection(environ: "WSGIEnvironment") -> None:
    """Reset the client's connection at once.

    With SO_LINGER 0 a close sends RST; the descriptor is taken from the socket so that nothing sends FIN before.
    """
    connection: socket.socket = environ["werkzeug.socket"]
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    socket.close(connection.detach())
