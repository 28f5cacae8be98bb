"""Lends our logins to other programs, as ssh-agent lends keys: they ask over a socket, and only for what we allow.

Docker's, buildah's and BuildKit's clients run the credential helper that their configuration names
(docs.docker.com, docker login, "Credential helpers"; containers-auth.json(5), "credHelpers"). Ours,
`docker-credential-pipeline-tools`, asks this socket. It is in a folder of its own that only this user may enter,
beside a configuration without any secret, and gone with the block.
"""

import json
import os
import socket
import tempfile
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from socketserver import StreamRequestHandler, ThreadingUnixStreamServer
from sysconfig import get_path
from threading import Thread
from typing import Any, Self

from pipeline_tools.errors import PipelineError, Unavailable
from pipeline_tools.text.credentials import Credential
from pipeline_tools.text.masks import Secret
from pipeline_tools.text.references import HUB

VARIABLE = "PT_CREDENTIAL_SOCKET"
HELPER = "pipeline-tools"
_LONGEST = 64 * 1024
_SECONDS = 120.0


class Agent:
    """Answers `credential(host)` for each of `hosts`, and for no other, while the block lasts."""

    def __init__(self, credential: Callable[[str], Credential | None], hosts: Iterable[str]) -> None:
        self._credential = credential
        self._hosts = frozenset(hosts)
        hub = next(iter(sorted(self._hosts & HUB)), None)
        self._known = {**(dict.fromkeys(HUB, hub) if hub else {}), **{host: host for host in self._hosts}}

    def __enter__(self) -> Self:
        with ExitStack() as opening:
            self._folder = Path(opening.enter_context(tempfile.TemporaryDirectory(prefix="pt-agent-")))
            config = {"credHelpers": dict.fromkeys(sorted(self._known), HELPER)}
            (self._folder / "config.json").write_text(json.dumps(config))
            server = self._server()
            opening.callback(server.server_close)
            thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)
            thread.start()
            opening.callback(thread.join)
            opening.callback(server.shutdown)
            self._closing = opening.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.close()

    def _server(self) -> "_Server":
        try:
            return _Server(str(self._socket), self._answer)
        except OSError as error:  # a socket's path has 107 characters at most (unix(7))
            raise PipelineError(
                f"no socket can be made at {self._socket}: {error}", hint="set TMPDIR to a shorter path"
            ) from None

    @property
    def _socket(self) -> Path:
        return self._folder / "socket"

    def variables(self, environment: Mapping[str, str]) -> dict[str, str]:
        """`environment`, so changed that a program in it asks here."""
        return {
            **environment,
            "DOCKER_CONFIG": str(self._folder),
            "REGISTRY_AUTH_FILE": str(self._folder / "config.json"),
            VARIABLE: str(self._socket),
            "PATH": os.pathsep.join([get_path("scripts"), environment.get("PATH", os.defpath)]),
        }

    def _answer(self, question: dict[str, Any]) -> dict[str, Any]:
        """`{"host": …}` → user and secret, or nothing; `{}` → the hosts."""
        asked = question.get("host")
        if asked is None:
            return {"hosts": sorted(self._hosts)}
        try:
            found = self._credential(self._known[asked]) if asked in self._known else None
        except PipelineError as error:
            return {"error": f"{error.message} ({error.hint})" if error.hint else error.message}
        return {"user": found.user, "secret": found.password.reveal()} if found else {}


class _Server(ThreadingUnixStreamServer):
    daemon_threads = True
    # Who finds the queue of a Unix socket full is turned away at once (unix(7), EAGAIN); the default is 5.
    request_queue_size = socket.SOMAXCONN

    def __init__(self, path: str, answer: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        self.answer = answer
        super().__init__(path, _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A program that goes away, or asks nonsense, gets no answer; that is its own matter."""


class _Handler(StreamRequestHandler):
    server: _Server

    def handle(self) -> None:
        answer = self.server.answer(json.loads(self.rfile.readline(_LONGEST)))
        self.wfile.write(json.dumps(answer).encode() + b"\n")


def ask(path: Path, host: str) -> Credential | None:
    """An agent's credential for `host`; None where it has, or allows, none.

    Raises:
        Unavailable: there is no agent any more.
        PipelineError: what it fails with.
    """
    answer = _asked(path, {"host": host})
    if "error" in answer:
        raise PipelineError(answer["error"])
    return Credential(answer["user"], Secret(answer["secret"])) if "user" in answer else None


def hosts(path: Path) -> list[str]:
    """The hosts that an agent answers for.

    Raises:
        Unavailable: there is no agent any more.
    """
    return [str(host) for host in _asked(path, {})["hosts"]]


def _asked(path: Path, question: dict[str, str]) -> dict[str, Any]:
    try:
        with socket.socket(socket.AF_UNIX) as line:
            line.settimeout(_SECONDS)
            line.connect(str(path))
            line.sendall(json.dumps(question).encode() + b"\n")
            with line.makefile("rb") as answer:
                found = json.loads(answer.readline(_LONGEST))
    except (OSError, ValueError):
        raise Unavailable(
            "the pipeline-tools that lends logins does not answer", hint="is it still running?"
        ) from None
    return found if isinstance(found, dict) else {}
