"""Who a commit is by, and their signature: lends git a GPG or SSH key for the one call that needs it.

What git wants: git-config(1), `gpg.format` and `user.signingKey`; gpg(1), `--import`; ssh-keygen(1), `-Y sign`. The key
stands in memory only, in a folder of its own that is gone right after; never in an argument, nor in the environment.
"""

import logging
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pipeline_tools.adapters import process
from pipeline_tools.adapters.process import CommandFailed, Environment
from pipeline_tools.errors import PipelineError
from pipeline_tools.text.masks import Secret

log = logging.getLogger(__name__)

_MEMORY = Path("/dev/shm")  # noqa: S108 (a file system in memory; the folder in it is ours alone)
_GPG, _SSH = "-----BEGIN PGP PRIVATE KEY BLOCK-----", "PRIVATE KEY-----"
_HINT = "PT_SIGNING_KEY takes an armoured GPG secret key or an OpenSSH private key, without a passphrase"


@dataclass(frozen=True)
class Signature:
    """Who a commit is by: name and e-mail address of its author and of its committer."""

    author: tuple[str, str]
    committer: tuple[str, str]

    @property
    def variables(self) -> Environment:
        """For git-commit-tree(1), "Commit information"."""
        return {
            "GIT_AUTHOR_NAME": self.author[0],
            "GIT_AUTHOR_EMAIL": self.author[1],
            "GIT_COMMITTER_NAME": self.committer[0],
            "GIT_COMMITTER_EMAIL": self.committer[1],
        }


@dataclass(frozen=True)
class Loan:
    """What git is to be told to sign: its configuration, and additions to its environment."""

    configuration: Mapping[str, str]
    environment: Environment


@dataclass(frozen=True)
class Signer:
    """Signs with `key`. `environment` is for gpg and ssh-keygen."""

    key: Secret
    environment: Environment

    @contextmanager
    def lent(self) -> Iterator[Loan]:
        """The key for as long as the block lasts.

        Raises:
            PipelineError: it is no key, or one that gpg does not take.
        """
        text = "".join(
            f"{line}\n" for line in self.key.reveal().splitlines()
        )  # GitLab may have CRLF, or no last end
        directory = Path(tempfile.mkdtemp(prefix="pipeline-tools-signing-", dir=_memory()))
        try:
            if text.startswith(_GPG):
                with self._gpg(text, directory) as loan:
                    yield loan
            elif _SSH in text.partition("\n")[0]:
                yield _ssh(text, directory)
            else:
                raise PipelineError("the signing key is neither a GPG nor an SSH private key", hint=_HINT)
        finally:
            shutil.rmtree(directory, ignore_errors=True)

    @contextmanager
    def _gpg(self, text: str, directory: Path) -> Iterator[Loan]:
        home = {"GNUPGHOME": str(directory)}
        try:
            yield Loan({"gpg.format": "openpgp", "user.signingKey": self._imported(text, home)}, home)
        finally:
            self._run(home, "gpgconf", "--kill", "all")  # the agent that gpg started would keep the key

    def _imported(self, text: str, home: Environment) -> str:
        """The fingerprint of the key, which is now in the key ring."""
        try:
            self._run(home, "gpg", "--batch", "--quiet", "--import", stdin=text.encode())
            listed = self._run(home, "gpg", "--batch", "--with-colons", "--list-secret-keys").decode()
        except CommandFailed as error:
            raise PipelineError(f"gpg does not take the signing key: {error.stderr}", hint=_HINT) from None
        # GnuPG, doc/DETAILS, "Format of the colon listings": field 10 of the record `fpr`.
        return next(row.split(":")[9] for row in listed.splitlines() if row.startswith("fpr:"))

    def _run(self, home: Environment, *argv: str, stdin: bytes = b"") -> bytes:
        return process.run(*argv, environment={**self.environment, **home}, stdin=stdin)


def _memory() -> Path | None:
    """A file system in memory, where there is one; None is the usual place for temporary files."""
    if _MEMORY.is_dir() and os.access(_MEMORY, os.W_OK):
        return _MEMORY
    log.warning("there is no file system in memory: the signing key stands on disk for a moment")
    return None


def _ssh(text: str, directory: Path) -> Loan:
    path = directory / "key"
    path.touch(0o600)
    path.write_text(text)
    return Loan({"gpg.format": "ssh", "user.signingKey": str(path)}, {})
