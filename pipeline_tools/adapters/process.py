"""Child processes: an argument list, never a shell; checked; said before they run."""

import logging
import os
import shlex
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, BinaryIO, cast

from pipeline_tools.errors import PipelineError

log = logging.getLogger(__name__)

Environment = Mapping[str, str]
Done = subprocess.CompletedProcess[bytes]
LAST_LINES = 12


class CommandFailed(PipelineError):  # noqa: N818 (read as a sentence: except CommandFailed)
    """A child ended with another code than 0, its `returncode`. `stderr` is its error output as text."""

    def __init__(self, argv: Sequence[str], returncode: int, stdout: bytes, stderr: bytes) -> None:
        self.returncode = returncode
        self.stderr = stderr.decode(errors="replace").strip()
        output = self.stderr or stdout.decode(errors="replace").strip()
        last = "\n".join(output.splitlines()[-LAST_LINES:])
        super().__init__(
            f"{shlex.join(argv[:3])}… failed with {returncode}: {last}",
            hint="run it with -v to see all of it",
        )


def run(
    *argv: str,
    environment: Environment,
    stdin: bytes = b"",
) -> bytes:
    """Run a command to its end.

    Args:
        argv: the program, found on the environment's PATH, and its arguments.
        environment: the whole environment of the child.
        stdin: what it reads.

    Returns:
        Its standard output.

    Raises:
        CommandFailed: it ended with another code than 0.
        PipelineError: there is no such program.
    """
    done = ended(*argv, environment=environment, stdin=stdin)
    if done.returncode:
        raise CommandFailed(argv, done.returncode, done.stdout, done.stderr)
    return done.stdout


def ended(*argv: str, environment: Environment, stdin: bytes = b"", directory: Path | None = None) -> Done:
    """Run a command to its end, whatever its exit code.

    Raises:
        PipelineError: there is no such program.
    """
    log.debug("$ %s", shlex.join(argv))
    with _missing(argv):
        return subprocess.run(
            argv, env=environment, input=stdin, cwd=directory, capture_output=True, check=False
        )


@dataclass(frozen=True)
class Started:
    """A command that runs while we do something else. Finish it; whoever cannot wait may stop it."""

    argv: tuple[str, ...]
    child: "subprocess.Popen[bytes]"
    is_apart: bool

    def finish(self, stdin: bytes = b"") -> bytes:
        """Let it read `stdin`, and wait for its end; its standard output.

        Raises:
            CommandFailed: it ended with another code than 0.
        """
        with self.child as child:
            try:
                output, said = child.communicate(stdin)
            except BaseException:
                self.stop()
                raise
        if child.returncode:
            raise CommandFailed(self.argv, child.returncode, output, said)
        return output

    def stop(self) -> None:
        """End it and all that it started, if it has not ended; who waits for it is told so."""
        if self.child.returncode is None:
            with suppress(ProcessLookupError):
                (os.killpg if self.is_apart else os.kill)(self.child.pid, signal.SIGTERM)


def start(*argv: str, environment: Environment, apart: bool) -> Started:
    """Begin a command; `apart`, in a process group of its own, it can be stopped with its children, but ask nobody.

    Raises:
        PipelineError: there is no such program.
    """
    log.debug("$ %s", shlex.join(argv))
    pipe, group = subprocess.PIPE, 0 if apart else None
    with _missing(argv):
        child = subprocess.Popen(
            argv, env=environment, stdin=pipe, stdout=pipe, stderr=pipe, process_group=group
        )
    return Started(argv, child, apart)


def piped(*argv: str, environment: Environment) -> "subprocess.Popen[bytes]":
    """Begin a command that answers on its standard output what it is asked on its standard input.

    Raises:
        PipelineError: there is no such program.
    """
    log.debug("$ %s", shlex.join(argv))
    with _missing(argv):
        return subprocess.Popen(
            argv,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )


@contextmanager
def _missing(argv: Sequence[str]) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise PipelineError(
            f"{argv[0]} is not installed", hint=f"install {argv[0]} or put it on the PATH"
        ) from None


@contextmanager
def opened(*argv: str, environment: Environment, stdin: bytes = b"") -> Iterator[BinaryIO]:
    """Run a command that reads `stdin` and give what it prints as it comes, for output that is not to be held.

    Raises:
        CommandFailed: it ended with another code than 0, whatever the reader thought of its output.
        PipelineError: there is no such program.
    """
    log.debug("$ %s", shlex.join(argv))
    with tempfile.TemporaryFile() as said, tempfile.TemporaryFile() as read:
        read.write(stdin)
        read.seek(0)
        with _missing(argv):
            child = subprocess.Popen(argv, env=environment, stdin=read, stdout=subprocess.PIPE, stderr=said)
        output = cast("BinaryIO", child.stdout)  # PIPE: it is there
        with child:
            try:
                yield output
            except BaseException:
                if output.read(1):  # it has more to say: what stopped us is not its fault
                    child.kill()
                    raise
                _check(argv, child.wait(), said)
                raise
            for _ in iter(lambda: output.read(1 << 16), b""):
                pass
        _check(argv, child.returncode, said)


def followed(*argv: str, environment: Environment, say: Callable[[str], None]) -> int:
    """Run a command in a process group of its own; each line that it prints or complains goes to `say`.

    What interrupts us ends the whole group, at once: a builder's own children would go on without it.

    Returns:
        Its exit code.

    Raises:
        PipelineError: there is no such program.
    """
    log.debug("$ %s", shlex.join(argv))
    with _missing(argv):
        child = subprocess.Popen(
            argv,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    with child:
        try:
            for line in cast("BinaryIO", child.stdout):  # PIPE: it is there
                say(line.decode(errors="replace").rstrip())
        except BaseException:
            with suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            raise
    return child.returncode


def _check(argv: Sequence[str], code: int, said: IO[bytes]) -> None:
    if code:
        said.seek(0)
        raise CommandFailed(argv, code, b"", said.read())
