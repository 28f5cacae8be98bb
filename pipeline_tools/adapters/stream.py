"""A child whose output passes through filters while it runs; its signals and its exit code pass through too."""

import errno
import logging
import math
import os
import select
import shlex
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

from pipeline_tools.errors import PipelineError

log = logging.getLogger(__name__)

CHUNK = 1 << 16
"""What a pipe holds (pipe(7)), and the size at which the mask is fastest."""

PASSED_ON = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)
_LINGER = 0.2
"""Seconds without output after the child's end, when a grandchild still holds its pipe open."""
_Action = tuple[int, int, int]
_KERNEL = 0x80
"""`si_code` of a signal from the terminal (SI_KERNEL, sigaction(2)): the whole foreground group has got it already."""
_SIGNALLED = 128
"""A shell's word for "ended by signal n" is 128 + n (POSIX, 2.8.2)."""


class Filter(Protocol):
    """What a stream passes through; `text.masks.MaskedStream` is one."""

    def feed(self, chunk: bytes) -> bytes: ...

    def close(self) -> bytes: ...


@dataclass
class _Pump(threading.Thread):
    """Carries one stream of the child, until its end or until the child has ended and nothing more comes."""

    source: int
    target: int
    through: Filter
    ended: int
    failure: OSError | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        super().__init__(daemon=True)

    __hash__ = threading.Thread.__hash__

    def run(self) -> None:
        try:
            for chunk in self._chunks():
                _write(self.target, self.through.feed(chunk))
            _write(self.target, self.through.close())
        except BrokenPipeError:
            log.debug("nobody reads descriptor %d any more", self.target)
        except OSError as error:
            self.failure = error
        finally:
            # The child's next write then fails as it would have without us between.
            os.close(self.source)

    def _chunks(self) -> Iterator[bytes]:
        is_over = False
        while True:
            ready = select.select(
                [self.source, *([] if is_over else [self.ended])], [], [], _LINGER if is_over else None
            )[0]
            if self.source in ready:
                chunk = os.read(self.source, CHUNK)
                if not chunk:
                    return
                yield chunk
            elif not ready:
                return
            else:
                is_over = True


@dataclass(frozen=True)
class Ended:
    """How a child ended: its exit code (128 + n when signal n ended it), and the signals that came meanwhile."""

    code: int
    signals: tuple[int, ...] = ()


def run(
    argv: Sequence[str],
    *,
    environment: Mapping[str, str],
    through: Callable[[], Filter],
    stdout: int = 1,
    stderr: int = 2,
    grace: float | None = None,
) -> Ended:
    """Run a command to its end, with our stdin, and its output through a filter each.

    SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1 and SIGUSR2 that this process gets go to the child, once each: Terraform
    takes a second one as "stop at once". So without a terminal the child has a process group of its own, which a
    signal to our group (as GitLab's shell executor sends it) does not reach; on a terminal it shares ours, for Ctrl-C,
    and what the terminal sent is not passed on. Nothing but the child gets a signal; what it leaves running stays.

    Args:
        argv: the program, found on the environment's PATH, and its arguments.
        environment: the whole environment of the child.
        through: makes the filter of one stream.
        stdout: the descriptor that takes its output.
        stderr: the descriptor that takes its errors.
        grace: seconds in which a child that was told to end may do so in peace: only the first signal is passed on,
            and once more when they are over. None: each signal is passed on as it comes.

    Returns:
        How it ended.

    Raises:
        PipelineError: there is no such program, or it cannot be executed. Nothing was started.
        OSError: its output could not be written on (a full disk); the child ran all the same.
    """
    program = _program(argv[0], environment.get("PATH", os.defpath))
    log.debug("$ %s", shlex.join(argv))
    is_shared = _has_terminal()
    with _signals_held() as before, _pipe() as (over, end):
        # posix_spawn, because it can give the child the signal mask from before ours; SIGPIPE and SIGXFSZ are those
        # that Python itself ignores.
        settings: dict[str, Any] = {
            "setsigmask": before,
            "setsigdef": [signal.SIGPIPE, signal.SIGXFSZ],
            **({} if is_shared else {"setpgroup": 0}),
        }
        spawn = partial(_spawn, program, argv, environment, settings)
        pid, pumps = _start(spawn, [(stdout, through()), (stderr, through())], over)
        try:
            ended = _await(_Child(pid, is_shared=is_shared, grace=grace))
        finally:
            os.close(end)
            for pump in pumps:
                pump.join()
    for pump in pumps:
        if pump.failure:
            raise pump.failure
    return ended


def _program(name: str, path: str) -> str:
    found = shutil.which(name, path=path)
    if found:
        return found
    if os.path.dirname(name) and os.path.exists(name):  # noqa: PTH110, PTH120 (a word of argv, as exec takes it)
        raise PipelineError(f"{name} cannot be executed", hint="is it a file with the execute bit?")
    raise PipelineError(f"{name} is not installed", hint=f"install {name} or put it on the PATH")


def _has_terminal() -> bool:
    """Whether this process has a controlling terminal (tty(4)), whatever its stdin is."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR))
    except OSError:
        return False
    return True


@contextmanager
def _pipe() -> Iterator[tuple[int, int]]:
    """A pipe whose writing end the block closes."""
    reader, writer = os.pipe()
    try:
        yield reader, writer
    finally:
        os.close(reader)


@contextmanager
def _signals_held() -> Iterator[set[signal.Signals]]:
    """Signals wait to be taken by `_await`, so that none is lost or taken twice; gives the mask from before."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (*PASSED_ON, signal.SIGCHLD))
    try:
        yield {signal.Signals(number) for number in before}
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _spawn(
    program: str,
    argv: Sequence[str],
    environment: Mapping[str, str],
    settings: Mapping[str, Any],
    actions: Sequence[_Action],
) -> int:
    try:
        return os.posix_spawn(program, list(argv), dict(environment), file_actions=actions, **settings)
    except OSError as error:
        reason = "no format the system knows" if error.errno == errno.ENOEXEC else error.strerror
        raise PipelineError(
            f"{argv[0]} cannot be executed: {reason}", hint="is it a program, or a script with #!?"
        ) from None


def _start(
    spawn: Callable[[Sequence[_Action]], int], outputs: Sequence[tuple[int, Filter]], ended: int
) -> tuple[int, list[_Pump]]:
    """The child's id and a running pump for each of its outputs: descriptor 1, then 2."""
    pipes = [os.pipe() for _ in outputs]
    try:
        pid = spawn(
            [(os.POSIX_SPAWN_DUP2, writer, number) for number, (_, writer) in enumerate(pipes, start=1)]
        )
    except PipelineError:
        for reader, _ in pipes:
            os.close(reader)
        raise
    finally:
        for _, writer in pipes:
            os.close(writer)
    pumps = [_Pump(reader, *output, ended) for (reader, _), output in zip(pipes, outputs, strict=True)]
    for pump in pumps:
        pump.start()
    return pid, pumps


@dataclass
class _Child:
    """A running child, and which signals it has got."""

    pid: int
    is_shared: bool
    grace: float | None
    heard: list[int] = field(default_factory=list)
    deadline: float | None = None

    def tell(self, number: int, code: int) -> None:
        """A signal came for us: it is the child's, unless the terminal gave it that already or it is ending in peace."""
        self.heard.append(number)
        if self.deadline is not None:
            return
        if self.grace is not None:
            self.deadline = time.monotonic() + self.grace
        if not (self.is_shared and code == _KERNEL):
            self._send(number)

    def remind(self) -> None:
        """Grace is over: once more, and only once."""
        if self.deadline is not None and time.monotonic() >= self.deadline:
            log.warning("not ended within %g s; %s once more", self.grace, signal.Signals(self.heard[0]).name)
            self.deadline = math.inf
            self._send(self.heard[0])

    def _send(self, number: int) -> None:
        log.debug("passing on %s", signal.Signals(number).name)
        with suppress(ProcessLookupError):
            os.kill(self.pid, number)


def _await(child: _Child) -> Ended:
    """How the child ended; until then each signal that comes is passed on."""
    watched = {*PASSED_ON, signal.SIGCHLD}
    while True:
        # With a limit, because another thread of the process may take SIGCHLD.
        info = signal.sigtimedwait(watched, 1.0)
        ended, status = os.waitpid(child.pid, os.WNOHANG)
        if ended:
            code = os.waitstatus_to_exitcode(status)
            return Ended(code if code >= 0 else _SIGNALLED - code, tuple(child.heard))
        if info and info.si_signo != signal.SIGCHLD:
            child.tell(info.si_signo, info.si_code)
        child.remind()


def _write(target: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(target, view) :]
        except BlockingIOError:
            # Somebody made our stdout non-blocking (Node.js does): wait until it takes more.
            select.select([], [target], [])
