"""A bare scratch repository, and the git that works in it: alone with what is here, or talking to one remote.

Only a talk is told of the remote, the credential, and that what is missing here is there (a partial clone). So every
other git stays with what was fetched, and no object is asked for by accident, one request each.
"""

import base64
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from pipeline_tools.adapters import process
from pipeline_tools.adapters.git_objects import FULL, Objects
from pipeline_tools.adapters.process import CommandFailed, Environment
from pipeline_tools.errors import PipelineError
from pipeline_tools.text import git_answers, references
from pipeline_tools.text.credentials import Credential

_HELPER = (
    '!f() { test "$1" = get && printf "username=%s\\npassword=%s\\n" "$PT_GIT_USER" "$PT_GIT_PASSWORD"; }; f'
)
"""A credential helper that lives in the environment only (gitcredentials(7), "CUSTOM HELPERS"). Constant text:
what it says stands in two variables of the git process."""

_LITTLE = 1 << 20
"""Bytes that a disk has left when a failure on it may well be due to that."""

_QUIET = {
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_ASKPASS": "",
    "LC_ALL": "C",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_LITERAL_PATHSPECS": "1",
}

_CONFIGURATION = (
    "[core]\n\trepositoryFormatVersion = 1\n\tbare = true\n[gc]\n\tauto = 0\n[maintenance]\n\tauto = false\n"
)


@dataclass
class Scratch:
    """The repository, made when it is first needed. Close it.

    `credential` goes only to `url`'s own host. `silence` is how many seconds the remote may say nothing.
    """

    url: str
    environment: Environment
    credential: Callable[[], Credential | None]
    silence: int
    _folder: "tempfile.TemporaryDirectory[str] | None" = field(default=None, init=False, repr=False)
    _objects: Objects | None = field(default=None, init=False, repr=False)
    _is_redirected: bool = field(default=False, init=False, repr=False)
    _talking: process.Started | None = field(default=None, init=False, repr=False)
    _is_over: bool = field(default=False, init=False, repr=False)

    def close(self) -> None:
        if self._objects:
            self._objects.close()
            self._objects = None
        if self._folder:
            self._folder.cleanup()
            self._folder = None

    @property
    def asks_nobody(self) -> bool:
        """Whether no talk can ask who sits at the terminal: ssh may, git over HTTP may not (`_QUIET`)."""
        origin = references.origin(self.url)
        return not origin or origin.startswith("http")

    @property
    def objects(self) -> Objects:
        if self._objects is None:
            self._objects = Objects(self.directory, {**self.environment, **_QUIET})
        return self._objects

    @property
    def directory(self) -> Path:
        """Where it is. Without templates or hooks."""
        if self._folder is None:
            try:
                self._folder = _made()
            except OSError as error:
                raise PipelineError(
                    f"no scratch repository can be made in {tempfile.gettempdir()}: {error}",
                    hint=FULL,
                ) from None
        return Path(self._folder.name)

    @property
    def is_shallow(self) -> bool:
        """Whether some of the history is not here (gitrepository-layout(5), `shallow`)."""
        return (self.directory / "shallow").exists()

    @property
    def fetched(self) -> str:
        """The hash of what was fetched last (git-fetch(1), `FETCH_HEAD`).

        Raises:
            PipelineError: git did not write it, as on a full disk (2.39: without a word).
        """
        path = self.directory / "FETCH_HEAD"
        words = path.read_text().split() if path.exists() else []
        if not words:
            raise PipelineError(f"git wrote no {path}", hint=f"{self._room}: {FULL}")
        return words[0]

    def git(self, *words: str, stdin: bytes = b"", extra: Environment | None = None) -> str:
        """Run git on what is here; what it prints."""
        environment = {**self._alone, **(extra or {})}
        with self._explained():
            return _text(process.run(*self._argv(words), environment=environment, stdin=stdin))

    def talk(self, *words: str, stdin: bytes = b"") -> str:
        """Run git with the remote, as `origin`; what it prints.

        Raises:
            Denied: no login, or one that may not. Unavailable: not reached. CommandFailed: it is something else.
        """
        with self._explained():
            return self.attempt(*words, stdin=stdin)

    def attempt(self, *words: str, stdin: bytes = b"") -> str:
        """Run git with the remote, as `talk` does; CommandFailed has its own words, whatever they mean."""
        try:
            return self._talked(words, stdin)
        except CommandFailed as error:
            if not self._redirects(error):
                raise
        return self._talked(words, stdin)

    def interrupt(self) -> None:
        """End the talk that another thread waits for, if there is one; there will be no more."""
        self._is_over = True
        if talking := self._talking:  # looked at once: the other thread may end it meanwhile
            talking.stop()

    def _talked(self, words: tuple[str, ...], stdin: bytes) -> str:
        argv, environment = self._argv(words), self._with_remote()
        self._talking = talking = process.start(*argv, environment=environment, apart=self.asks_nobody)
        if self._is_over:
            talking.stop()
        try:
            return _text(talking.finish(stdin))
        finally:
            self._talking = None

    def configured(self, settings: Mapping[str, str]) -> Environment:
        """git-config(1), "GIT_CONFIG_COUNT": after what the environment says already."""
        begin = int(self.environment.get("GIT_CONFIG_COUNT") or 0)
        keys = {f"GIT_CONFIG_KEY_{begin + n}": key for n, key in enumerate(settings)}
        values = {f"GIT_CONFIG_VALUE_{begin + n}": value for n, value in enumerate(settings.values())}
        return {**keys, **values, "GIT_CONFIG_COUNT": str(begin + len(settings))}

    def _argv(self, words: tuple[str, ...]) -> tuple[str, ...]:
        return ("git", "-C", str(self.directory), *words)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """A failure of git in our words, where it is the transport's or the disk's."""
        try:
            yield
        except CommandFailed as error:
            if self._free < _LITTLE:  # git has many words for a full disk
                error.hint = f"{self._room}: {FULL}"
                raise
            raise git_answers.failure(self.url, error.stderr) or error from None

    @property
    def _free(self) -> int:
        return shutil.disk_usage(self.directory).free

    @property
    def _room(self) -> str:
        return f"{self._free // 1024} KiB are left in {tempfile.gettempdir()}"

    @property
    def _alone(self) -> Environment:
        return {**self.environment, **_QUIET}

    def _with_remote(self) -> Environment:
        """The environment for a talk: what is missing is there, an end to silence, the credential for this host only."""
        settings = {
            "remote.origin.url": self.url,
            "remote.origin.promisor": "true",
            "remote.origin.partialCloneFilter": "blob:none",
            "http.lowSpeedLimit": "1",
            "http.lowSpeedTime": str(self.silence),
        }
        credential = self.credential()
        origin = references.origin(self.url)
        if credential is None or not origin.startswith("http"):
            return {**self._alone, **self.configured(settings)}
        if self._is_redirected:
            settings |= {"credential.helper": "", f"credential.{origin}.helper": _HELPER}
            lent = {"PT_GIT_USER": credential.user, "PT_GIT_PASSWORD": credential.password.reveal()}
            return {**self._alone, **lent, **self.configured(settings)}
        settings |= {f"http.{origin}.extraHeader": _basic(credential), "http.followRedirects": "false"}
        return {**self._alone, **self.configured(settings)}

    def _redirects(self, error: CommandFailed) -> bool:
        """Whether the remote answered with a redirect, which from now on is followed, without a header of ours.

        A login sent with the first request spares the request that is refused for lack of it, and the two processes of
        a helper; but git sends a header wherever it is redirected to. Its own helpers know which host they are for.
        """
        if self._is_redirected or not git_answers.is_redirect(error.stderr):
            return False
        self._is_redirected = True
        return True


def _made() -> "tempfile.TemporaryDirectory[str]":
    """What `git init --bare` would make (gitrepository-layout(5)), in less time than a process takes."""
    scratch = tempfile.TemporaryDirectory(prefix="pipeline-tools-")
    directory = Path(scratch.name)
    for folder in ("objects", "refs"):
        (directory / folder).mkdir()
    (directory / "HEAD").write_text("ref: refs/heads/none\n")
    (directory / "config").write_text(_CONFIGURATION)
    return scratch


def _basic(credential: Credential) -> str:
    """RFC 7617."""
    pair = f"{credential.user}:{credential.password.reveal()}"
    return f"Authorization: Basic {base64.b64encode(pair.encode()).decode()}"


def _text(output: bytes) -> str:
    return output.decode("utf-8", "surrogateescape")
