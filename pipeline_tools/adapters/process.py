"""Child processes: an argument list, never a shell; checked; said before they run."""

import logging
import shlex
import subprocess
from collections.abc import Mapping, Sequence

from pipeline_tools.errors import PipelineError

log = logging.getLogger(__name__)

Environment = Mapping[str, str]
LAST_LINES = 12


class CommandFailed(PipelineError):  # noqa: N818 (read as a sentence: except CommandFailed)
    """A child ended with another code than 0. `stderr` is its error output as text."""

    def __init__(self, argv: Sequence[str], returncode: int, stdout: bytes, stderr: bytes) -> None:
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
    log.debug("$ %s", shlex.join(argv))
    try:
        done = subprocess.run(argv, env=environment, input=stdin, capture_output=True, check=False)
    except FileNotFoundError:
        raise PipelineError(
            f"{argv[0]} is not installed", hint=f"install {argv[0]} or put it on the PATH"
        ) from None
    if done.returncode:
        raise CommandFailed(argv, done.returncode, done.stdout, done.stderr)
    return done.stdout
