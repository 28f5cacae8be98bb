"""A recording reverse proxy: what a client really sent, and answers that go wrong on purpose.

It stands in front of a real server on loopback, streams both ways without buffering, notes each
exchange, and can be told to fail: by a `Fault` for a number of requests, or by a rule that always holds.
"""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import json
import os
import re
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import IO, ClassVar, cast
from urllib.parse import urlsplit

from sandbox.services import serving

BLOCK = 64 * 1024
BACKEND_SECONDS = 60.0
SETTLE_SECONDS = 5.0
# Headers that speak about one connection, not about the message (RFC 9110, 7.6.1).
HOP_BY_HOP = frozenset(
    {"connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"}
)


@dataclass(frozen=True)
class Exchange:
    """One request and what the client got for it."""

    method: str
    path: str
    query: str
    status: int
    sent: int
    """Bytes of the request's body."""
    received: int
    """Bytes of the answer's body."""
    scheme: str
    """The word before the credential in `Authorization`: "Basic", "Bearer" or nothing."""
    agent: str
    fault: str
    seconds: float

    def __str__(self) -> str:
        return f"{self.method} {self.path} {self.status}"


@dataclass(frozen=True)
class Answer:
    """An answer made up here instead of by the server behind."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Fault:
    """Something that goes wrong with the next `times` requests that match (None: with all of them).

    `answer` is given instead of asking the server. `reset` breaks the connection: with `forward` after the
    server has done the work (its answer is lost), without it before. `truncate` promises the whole body and
    closes after that many bytes. `delay` waits first, by itself or with any other.
    """

    method: str = ""
    path: str = ""
    """A regular expression, searched for in the path and query."""
    times: int | None = 1
    answer: Answer | None = None
    reset: bool = False
    forward: bool = False
    truncate: int | None = None
    delay: float = 0.0

    def matches(self, method: str, path: str) -> bool:
        return self.method in ("", method) and re.search(self.path, path) is not None

    def __str__(self) -> str:
        if self.answer:
            return str(self.answer.status)
        if self.reset:
            return "answer lost" if self.forward else "reset"
        return "truncated" if self.truncate is not None else "delayed"


def refusal(code: int, *, retry_after: str = "", message: str = "made up by the sandbox") -> Answer:
    """An answer in the error form of the registry API, with `Retry-After` if given."""
    headers = {"Content-Type": "application/json", **({"Retry-After": retry_after} if retry_after else {})}
    return Answer(code, error_body(ERROR_CODES.get(code, "UNKNOWN"), message), headers)


# https://github.com/opencontainers/distribution-spec/blob/main/spec.md#error-codes
ERROR_CODES = {401: "UNAUTHORIZED", 403: "DENIED", 404: "NAME_UNKNOWN", 429: "TOOMANYREQUESTS"}


def error_body(code: str, message: str) -> bytes:
    return json.dumps({"errors": [{"code": code, "message": message}]}).encode()


@dataclass(frozen=True)
class Request:
    """What a rule may look at before the server behind sees the request."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: Callable[[], bytes]
    """Reads the whole body, once; it is still forwarded afterwards."""
    ask: Callable[[str, str, Mapping[str, str]], tuple[int, Mapping[str, str]]]
    """Puts a question (method, path, headers) without body to the server behind: status and headers."""


Rule = Callable[[Request], Answer | None]


class Proxy:
    """A server on 127.0.0.1 at `host` in front of `backend` ("127.0.0.1:port")."""

    def __init__(self, backend: str, rules: tuple[Rule, ...] = ()) -> None:
        self.backend = backend
        self.rules = rules
        self._exchanges: list[Exchange] = []
        self._faults: list[Fault] = []
        self._lock = threading.Condition()
        self._under_way = 0
        handler = type("Handler", (_Handler,), {"proxy": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self.host = f"127.0.0.1:{self._server.server_address[1]}"

    @contextlib.contextmanager
    def running(self) -> Iterator[Proxy]:
        with serving(self._server):
            yield self

    @property
    def exchanges(self) -> list[Exchange]:
        """What has been answered so far, oldest first.

        A client has its answer a moment before the exchange is noted, so this waits for what is under way.
        """
        with self._lock:
            self._lock.wait_for(lambda: not self._under_way, SETTLE_SECONDS)
            return list(self._exchanges)

    @contextlib.contextmanager
    def recording(self) -> Iterator[list[Exchange]]:
        """The exchanges of the block, in a list that is filled when the block ends."""
        start, seen = len(self.exchanges), list[Exchange]()
        yield seen
        seen.extend(self.exchanges[start:])

    @contextlib.contextmanager
    def failing(self, *faults: Fault) -> Iterator[None]:
        """These faults, first come first served, until the block ends."""
        with self._lock:
            self._faults.extend(faults)
        try:
            yield
        finally:
            with self._lock:
                self._faults.clear()

    def begin(self) -> None:
        with self._lock:
            self._under_way += 1

    def note(self, exchange: Exchange) -> None:
        with self._lock:
            self._exchanges.append(exchange)
            self._under_way -= 1
            self._lock.notify_all()

    def take_fault(self, method: str, path: str) -> Fault | None:
        """The first fault that matches, which then has one time less to happen."""
        with self._lock:
            for at, fault in enumerate(self._faults):
                if fault.matches(method, path):
                    left = None if fault.times is None else fault.times - 1
                    self._faults[at : at + 1] = [] if left == 0 else [dataclasses.replace(fault, times=left)]
                    return fault
        return None


class _Cut(Exception):  # noqa: N818 - not an error: the way to break a connection on purpose
    """The client's connection ends here."""


class _Handler(BaseHTTPRequestHandler):
    """One client connection; a thread of its own."""

    protocol_version = "HTTP/1.1"
    proxy: ClassVar[Proxy]

    def setup(self) -> None:
        super().setup()
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def log_message(self, *_: object) -> None:
        """Exchanges are noted, not printed."""

    def handle_one_request(self) -> None:
        # A client that goes away, on a cut or by itself, is no error of ours.
        with contextlib.suppress(ConnectionError, TimeoutError):
            super().handle_one_request()
            return
        self.close_connection = True

    def _serve(self) -> None:
        self.proxy.begin()
        self._started, self._sent, self._received, self._status = time.monotonic(), 0, 0, 0
        self._body_left = True
        fault = self.proxy.take_fault(self.command, self.path)
        try:
            self._answer(fault)
        except _Cut:
            self._status = 0
            self._break()
        finally:
            self._note(str(fault) if fault else "")

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = _serve  # noqa: N815 - http.server's names

    def _answer(self, fault: Fault | None) -> None:
        if fault and fault.delay:
            time.sleep(fault.delay)
        if fault and fault.answer:
            self._give(fault.answer)
        elif fault and fault.reset and not fault.forward:
            raise _Cut
        else:
            kept = self._rule_answer()
            if isinstance(kept, Answer):
                self._give(kept)
            else:
                self._forward(fault, kept)

    def _rule_answer(self) -> Answer | list[bytes]:
        """A rule's answer, or what rules have read of the body."""
        kept: list[bytes] = []

        def body() -> bytes:
            if self._body_left:
                kept.append(b"".join(self._request_body()))
            return b"".join(kept)

        request = Request(self.command, self.path, dict(self.headers.items()), body, self._ask)
        answers = (rule(request) for rule in self.proxy.rules)
        return next((answer for answer in answers if answer), kept)

    def _ask(self, method: str, path: str, headers: Mapping[str, str]) -> tuple[int, Mapping[str, str]]:
        with contextlib.closing(
            http.client.HTTPConnection(self.proxy.backend, timeout=BACKEND_SECONDS)
        ) as backend:
            backend.request(method, path, headers={**headers, "Host": self.headers["Host"]})
            answer = backend.getresponse()
            answer.read()
            return answer.status, dict(answer.headers.items())

    def _forward(self, fault: Fault | None, kept: list[bytes]) -> None:
        with contextlib.closing(
            http.client.HTTPConnection(self.proxy.backend, timeout=BACKEND_SECONDS)
        ) as backend:
            backend.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() not in HOP_BY_HOP | {"expect"}:
                    backend.putheader(name, value)
            chunked = self._chunked()
            if chunked:
                backend.putheader("Transfer-Encoding", "chunked")
            blocks = kept or self._request_body()
            backend.endheaders(cast("IO[bytes]", blocks), encode_chunked=chunked)
            with backend.getresponse() as answer:
                self._return(answer, fault)

    def _return(self, answer: http.client.HTTPResponse, fault: Fault | None) -> None:
        if fault and fault.reset:
            answer.read()
            raise _Cut
        self._status = answer.status
        self.send_response_only(answer.status, answer.reason)
        for name, value in answer.headers.items():
            if name.lower() not in HOP_BY_HOP:
                self.send_header(name, value)
        whole = answer.length is not None or self.command == "HEAD" or answer.status in (204, 304)
        if not whole:
            self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self._pass_body(answer, None if fault is None else fault.truncate, chunked=not whole)

    def _pass_body(self, answer: http.client.HTTPResponse, limit: int | None, *, chunked: bool) -> None:
        while block := answer.read(BLOCK):
            cut = limit is not None and self._received + len(block) > limit
            if cut:
                block = block[: cast("int", limit) - self._received]
            self._received += len(block)
            self.wfile.write(b"%x\r\n%s\r\n" % (len(block), block) if chunked else block)
            if cut:
                self.wfile.flush()
                raise _Cut
        if chunked:
            self.wfile.write(b"0\r\n\r\n")

    def _give(self, answer: Answer) -> None:
        """An answer of our own; the body of the request is read first, so that the client hears it."""
        if self._body_left:
            for _ in self._request_body():
                pass
        self._status = answer.status
        self.send_response_only(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)
            self._received = len(answer.body)

    def _chunked(self) -> bool:
        return self.headers.get("Transfer-Encoding", "").lower() == "chunked"

    def _request_body(self) -> Iterator[bytes]:
        self._body_left = False
        blocks = (
            self._chunks() if self._chunked() else self._blocks(int(self.headers.get("Content-Length") or 0))
        )
        for block in blocks:
            self._sent += len(block)
            yield block

    def _blocks(self, left: int) -> Iterator[bytes]:
        while left and (block := self.rfile.read(min(left, BLOCK))):
            left -= len(block)
            yield block

    def _chunks(self) -> Iterator[bytes]:
        while size := int(self.rfile.readline().split(b";")[0], 16):
            yield from self._blocks(size)
            self.rfile.readline()
        while self.rfile.readline().strip():
            """A trailer, which no client here sends."""

    def _break(self) -> None:
        """Close with a reset instead of a farewell, as a proxy that dies does."""
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        # Past the socket object, whose own way to close says goodbye first.
        os.close(self.connection.detach())

    def _note(self, fault: str) -> None:
        parts = urlsplit(self.path)
        self.proxy.note(
            Exchange(
                method=self.command,
                path=parts.path,
                query=parts.query,
                status=self._status,
                sent=self._sent,
                received=self._received,
                scheme=self.headers.get("Authorization", "").partition(" ")[0],
                agent=self.headers.get("User-Agent", ""),
                fault=fault,
                seconds=time.monotonic() - self._started,
            )
        )
