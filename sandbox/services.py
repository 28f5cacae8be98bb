"""Processes the sandbox starts, and its promise that none of them outlives it."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sandbox.parts import search_path

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path
    from socketserver import BaseServer

POLL_SECONDS = 0.02
STOP_SECONDS = 20.0
LAST_LINES = 25


class StartError(RuntimeError):
    """A part could not be started; the message ends with the last lines of its log."""


@dataclass(frozen=True)
class Service:
    """One running process and the file that takes what it writes."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    def alive(self) -> bool:
        return self.process.poll() is None

    def text(self) -> str:
        return self.log.read_text("utf-8", errors="replace")

    def await_ready(self, ready: Callable[[], bool], seconds: float) -> None:
        """Return once `ready` says so; StartError when the process ends or the time is up."""
        deadline = time.monotonic() + seconds
        while not ready():
            if not self.alive():
                raise StartError(self._failure(f"ended with exit code {self.process.returncode}"))
            if time.monotonic() > deadline:
                raise StartError(self._failure(f"was not ready within {seconds:g} s"))
            time.sleep(POLL_SECONDS)

    def stop(self) -> None:
        """End this process, and only this one, by its id; kill it when it ignores the request."""
        if self.alive():
            self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def _failure(self, what: str) -> str:
        last = "\n".join(f"  {line}" for line in self.text().splitlines()[-LAST_LINES:])
        return f"{self.name} {what}; the end of {self.log}:\n{last or '  (empty)'}"


@contextlib.contextmanager
def started(
    name: str,
    argv: Sequence[str],
    log: Path,
    *,
    ready: Callable[[Service], bool],
    seconds: float,
    env: Mapping[str, str] | None = None,
) -> Iterator[Service]:
    """Run `argv` for the length of the block, entered once `ready` is true."""
    with log.open("wb") as out:
        process = subprocess.Popen(
            [*_tied_to_us(), *argv],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            env=None if env is None else dict(env),
        )
    service = Service(name, process, log)
    try:
        service.await_ready(lambda: ready(service), seconds)
        yield service
    finally:
        service.stop()


def plain_env() -> dict[str, str]:
    """Our environment without what would configure the part behind our back, and with the system's programs."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("REGISTRY_", "DOCKER_", "OTEL_"))}
    return {**kept, "PATH": search_path()}


def _tied_to_us() -> list[str]:
    # A killed test run must not leave daemons behind. setpriv (util-linux) asks the kernel to send the signal when
    # the thread that started it ends, and then becomes the program, so its process id is the program's.
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "TERM", "--"] if setpriv else []


@contextlib.contextmanager
def serving(server: BaseServer) -> Iterator[None]:
    """Answer requests in a thread until the block ends; then the socket is closed too."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
