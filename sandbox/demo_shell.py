"""How the demo runs commands: shown as a person would type them, in an environment without this machine's own."""

import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sandbox import parts

ANNA = {
    "GIT_AUTHOR_NAME": "Anna",
    "GIT_AUTHOR_EMAIL": "anna@example.com",
    "GIT_COMMITTER_NAME": "Anna",
    "GIT_COMMITTER_EMAIL": "anna@example.com",
}
QUIET = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1", "GIT_TERMINAL_PROMPT": "0"}
FOREIGN = ("CI_", "PT_", "GITLAB_", "GIT_", "SCW_", "TF_", "VAULT_")


class DemoError(Exception):
    """A chapter failed; the message says which and why."""


@dataclass(frozen=True)
class Shell:
    """Commands in a checkout. `variables` is what a job there would have."""

    directory: Path
    variables: Mapping[str, str] = field(repr=False)

    def run(self, *words: str, expected: int = 0, variables: Mapping[str, str] | None = None) -> None:
        """A command that must end with the expected code; it writes to the terminal itself."""
        _show(shlex.join(words))
        done = subprocess.run(words, cwd=self.directory, env=self._environment(variables), check=False)
        _ended(words, done.returncode, expected)

    def brief(
        self,
        *words: str,
        keeps: Callable[[Iterator[str]], Iterator[str]],
        expected: int = 0,
        variables: Mapping[str, str] | None = None,
    ) -> str:
        """The same for one that says much: only what `keeps` lets through is shown. All that it said is returned."""
        _show(shlex.join(words))
        done = subprocess.run(
            words,
            cwd=self.directory,
            env=self._environment(variables),
            check=False,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for line in keeps(iter(done.stdout.splitlines())):
            print(line, flush=True)
        _ended(words, done.returncode, expected)
        return done.stdout

    def quietly(self, *words: str) -> None:
        done = subprocess.run(
            words, cwd=self.directory, env=self._environment(), check=False, capture_output=True, text=True
        )
        if done.returncode:
            raise DemoError(f"`{shlex.join(words)}` failed: {done.stderr.strip()}")

    def clone(self, address: str) -> None:
        """Make the directory a checkout that keeps no token: git asks a helper, which reads the variable."""
        helper = '!f() { echo username=oauth2; echo "password=$PT_GITLAB_TOKEN"; }; f'
        self.directory.mkdir()
        self.quietly("git", "-c", f"credential.helper={helper}", "clone", "--quiet", address, ".")
        self.quietly("git", "config", "credential.helper", helper)

    def _environment(self, variables: Mapping[str, str] | None = None) -> dict[str, str]:
        path = os.pathsep.join((str(Path(sys.executable).parent), str(parts.NODE_BIN), os.environ["PATH"]))
        kept = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
        return {**kept, **ANNA, **QUIET, **self.variables, **(variables or {}), "PATH": path}


def _show(command: str) -> None:
    print(f"\n$ {command}", flush=True)


def _ended(words: tuple[str, ...], code: int, expected: int) -> None:
    if code != expected:
        raise DemoError(
            f"`{shlex.join(words)}` ended with exit code {code}, not {expected}; its error stands above"
        )
