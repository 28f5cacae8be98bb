"""Remote git repositories, worked on without a work tree: a bare scratch repository, depth 1, no blobs.

Plumbing (`git help fetch`, `mktree`, `commit-tree`, `push`) rather than porcelain: the new tree is written from
the trees of the changed paths alone, so the cost does not grow with the repository.
"""

import logging
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import Self

from pipeline_tools.adapters import process
from pipeline_tools.adapters.process import CommandFailed, Environment
from pipeline_tools.adapters.signing import Signature, Signer
from pipeline_tools.errors import PipelineError
from pipeline_tools.text import git_answers, references
from pipeline_tools.text.credentials import Credential

log = logging.getLogger(__name__)

_HELPER = (
    '!f() { test "$1" = get && printf "username=%s\\npassword=%s\\n" "$PT_GIT_USER" "$PT_GIT_PASSWORD"; }; f'
)
"""A credential helper that lives in the environment only (gitcredentials(7), "CUSTOM HELPERS"). Constant text:
what it says stands in two variables of the git process."""

_LITTLE = 1 << 20
"""Bytes that a disk has left when a failure on it may well be due to that."""

_DEPTHS = (50, 1000, None)
"""How far to look back for an ancestor, step by step; None is all of the history."""


@dataclass(frozen=True)
class Entry:
    """One row of a tree: `mode` (as git writes it), `kind` (blob, tree, commit), `hash`, `name`."""

    mode: str
    kind: str
    hash: str
    name: str


@dataclass
class Remote:
    """A remote repository and a scratch one for what is read of it. Close it, or use it in a `with`.

    `credential` goes only to `url`'s own host. `silence` is how many seconds a server may say nothing.
    """

    url: str
    environment: Environment
    credential: Callable[[], Credential | None] = lambda: None
    silence: int = 60
    _scratch: tempfile.TemporaryDirectory[str] | None = field(default=None, repr=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self._scratch:
            self._scratch.cleanup()
            self._scratch = None

    # Reading -----------------------------------------------------------------------------------------------

    def head(self) -> str:
        """The name of the default branch.

        Raises:
            PipelineError: the repository is empty.
        """
        found = re.search(
            r"^ref: refs/heads/(\S+)\tHEAD$",
            self._talk("ls-remote", "--symref", "--", self.url, "HEAD"),
            re.MULTILINE,
        )
        if not found:
            raise PipelineError(f"{self.url} has no default branch", hint="name it, or push a first commit")
        return found[1]

    def tip(self, branch: str) -> str | None:
        """The commit a branch points to, or None where there is no such branch."""
        return self.refs(f"refs/heads/{branch}").get(f"refs/heads/{branch}")

    def refs(self, *patterns: str) -> dict[str, str]:
        """Commit by full ref name; annotated tags peeled."""
        rows = [line.split("\t") for line in self._talk("ls-remote", "--", self.url, *patterns).splitlines()]
        plain = {name: commit for commit, name in rows if not name.endswith("^{}")}
        return plain | {name.removesuffix("^{}"): commit for commit, name in rows if name.endswith("^{}")}

    def fetch(self, branch: str) -> str:
        """Bring the tip of `branch` into the scratch repository: one commit, its trees, no blobs.

        Returns:
            The tip's commit hash.

        Raises:
            PipelineError: no such branch.
        """
        try:
            self._fetch(branch, "--depth=1", "--filter=blob:none")
        except CommandFailed as error:
            if "couldn't find remote ref" not in error.stderr:
                raise
            raise PipelineError(f"{self.url} has no branch {branch!r}", hint="see --env-branch") from None
        return self._git("rev-parse", "FETCH_HEAD^{commit}").strip()

    def contains(self, branch: str, commit: str) -> bool:
        """Whether `commit` is the tip of `branch` or an ancestor; the history is deepened until it is known."""
        for depth in _DEPTHS:
            self._fetch(branch, f"--depth={depth}" if depth else "--unshallow", "--filter=tree:0")
            if commit in self.ancestors(
                "FETCH_HEAD"
            ):  # merge-base would ask the remote for an unknown commit
                return True
            if not (Path(self._directory) / "shallow").exists():
                break
        return False

    def find(self, branch: str, trailer: str, value: str) -> str | None:
        """The newest of the last commits of `branch` with exactly this trailer (git-interpret-trailers(1)), or None.

        The history is deepened for it, without trees or blobs.
        """
        for depth in _DEPTHS[:2]:
            self._fetch(branch, f"--depth={depth}", "--filter=tree:0")
            form = f"--format=%H%x09%(trailers:key={trailer},valueonly,unfold,separator=%x09)"
            for row in self._git("log", form, "FETCH_HEAD").splitlines():
                commit, *values = row.split("\t")
                if value in values:
                    return commit
        return None

    def trailer(self, commit: str, key: str) -> str | None:
        """The value of a trailer of a fetched commit, or None."""
        form = f"--format=%(trailers:key={key},valueonly,unfold)"
        return self._git("log", "--max-count=1", form, commit).strip() or None

    def fetch_history(self, branch: str) -> None:
        """Bring all commits of `branch` into the scratch repository, without trees or blobs."""
        is_cut = (Path(self._directory) / "shallow").exists()
        self._fetch(branch, "--filter=tree:0", *(["--unshallow"] if is_cut else []))

    def ancestors(self, commit: str) -> frozenset[str]:
        """`commit` and every commit before it that was fetched."""
        return frozenset(self._git("rev-list", commit).split())

    def log(self, since: str | None, until: str) -> list[tuple[str, str]]:
        """Hash and message of the fetched commits in `until` and not in `since`, newest first, no merges."""
        span = f"{since}..{until}" if since else until
        text = self._git("log", span, "--no-merges", "-z", "--format=%H%n%B")
        rows = [row.partition("\n") for row in text.split("\0") if row]
        return [(sha, message) for sha, _, message in rows]

    def entries(self, commit: str, folder: str) -> list[Entry]:
        """The rows of one folder of a fetched commit; none where there is no such folder."""
        # The path with a slash names a folder only; `commit:path` would fetch the content of a file.
        text = self._git("ls-tree", "-z", commit, *([f"{folder}/"] if folder else []))
        rows = [
            re.fullmatch(r"(\d+) (\w+) (\w+)\t(?:.*/)?(.*)", row, re.DOTALL)
            for row in text.split("\0")
            if row
        ]
        return [Entry(*row.groups()) for row in rows if row]

    def read(self, commit: str, path: str) -> bytes:
        """The content of a file of a fetched commit, brought from the remote when first asked for."""
        return self._run("cat-file", "blob", f"{commit}:{path}", remote=True)

    def files(self, commit: str, *folders: str) -> dict[str, str]:
        """Hash by path of every file of a fetched commit, or of those below `folders`; links and submodules are none."""
        below = [] if "" in folders else [f"{folder}/" for folder in folders]
        text = self._git("ls-tree", "-r", "-z", commit, *below)
        rows = [re.fullmatch(r"100\d+ blob (\w+)\t(.*)", row, re.DOTALL) for row in text.split("\0")]
        return {row[2]: row[1] for row in rows if row}

    def contents(self, hashes: Iterable[str]) -> dict[str, bytes]:
        """Content by hash of many files, brought from the remote at once."""
        wanted = list(dict.fromkeys(hashes))
        if not wanted:
            return {}
        self._bring(wanted)
        stream = BytesIO(self._run("cat-file", "--batch", stdin="\n".join(wanted).encode(), remote=True))
        return {sha: _blob(stream) for sha in wanted}

    def materialise(self, commit: str, folders: tuple[str, ...], directory: Path) -> None:
        """Write whole folders of a fetched commit below `directory`, by one batch from the remote."""
        self._bring(self.files(commit, *folders).values())
        index = {"GIT_INDEX_FILE": str(directory / ".index"), "GIT_WORK_TREE": str(directory)}
        paths = [folder or "." for folder in folders]
        self._run("checkout", "--quiet", commit, "--", *paths, remote=True, extra=index)
        (directory / ".index").unlink()

    def _bring(self, hashes: Iterable[str]) -> None:
        """Fetch blobs in one request: `checkout` and `cat-file` would ask for each on its own (git 2.39, traced).

        The words are those with which git itself fetches what a partial clone lacks. A server that does not give
        single objects did not leave them out before either.
        """
        words = ("--quiet", "--no-tags", "--no-write-fetch-head", "--filter=blob:none", "--stdin", "origin")
        wanted = "\n".join(dict.fromkeys(hashes))
        try:
            self._run(
                "-c", "fetch.negotiationAlgorithm=noop", "fetch", *words, stdin=wanted.encode(), remote=True
            )
        except CommandFailed as error:
            log.debug("blobs are fetched one by one: %s", error)

    # Writing -----------------------------------------------------------------------------------------------

    def commit(
        self,
        parent: str,
        files: Mapping[str, bytes],
        message: str,
        by: Signature,
        signer: Signer | None = None,
    ) -> str:
        """Make a commit on `parent` that replaces the content of existing files; nothing else changes.

        Returns:
            Its hash. It exists in the scratch repository until it is pushed.

        Raises:
            PipelineError: it cannot be signed.
        """
        blobs = {
            PurePosixPath(path): self._git("hash-object", "-w", "--stdin", stdin=content).strip()
            for path, content in files.items()
        }
        tree = self._tree(parent, PurePosixPath(), blobs)
        if signer is None:
            return self._commit(tree, parent, message, by.variables)
        with signer.lent() as loan:
            extra = {**by.variables, **loan.environment, **self._configured(loan.configuration)}
            try:
                return self._commit(tree, parent, message, extra, "--gpg-sign")
            except CommandFailed as error:
                raise PipelineError(
                    f"the commit cannot be signed: {error.stderr}",
                    hint="see PT_SIGNING_KEY: a key without a passphrase; gpg or ssh-keygen must be installed",
                ) from None

    def _commit(self, tree: str, parent: str, message: str, extra: Environment, *words: str) -> str:
        argv = ("commit-tree", *words, "-p", parent, tree)
        return self._git(*argv, stdin=message.encode(), extra=extra).strip()

    def _tree(self, parent: str, folder: PurePosixPath, blobs: Mapping[PurePosixPath, str]) -> str:
        """Hash of `folder`'s tree with `blobs` in their places."""
        rows = []
        for entry in self.entries(parent, "" if folder == PurePosixPath() else str(folder)):
            path = folder / entry.name
            sha = blobs.get(path, entry.hash)
            if entry.kind == "tree" and any(blob.is_relative_to(path) for blob in blobs):
                sha = self._tree(parent, path, blobs)
            rows.append(f"{entry.mode} {entry.kind} {sha}\t{entry.name}\0")
        # --missing: the blobs that stay were never fetched.
        return self._git(
            "mktree", "-z", "--missing", stdin="".join(rows).encode("utf-8", "surrogateescape")
        ).strip()

    def push(
        self, commit: str, branch: str, options: tuple[str, ...] = (), *, instead_of: str | None = None
    ) -> str:
        """Move `branch` forward to `commit`; with `instead_of` to wherever, if it still is at that commit.

        An empty `instead_of` says that there must be no such branch yet (git-push(1), `--force-with-lease`).

        Returns:
            Empty when it was accepted, else what the server or git said. What that means is not in its words
            (a lost answer may follow an accepted push): read the tip again.
        """
        words = [word for option in options for word in ("-o", option)]
        ref = f"refs/heads/{branch}"
        lease = [] if instead_of is None else [f"--force-with-lease={ref}:{instead_of}"]
        argv = ("push", "--porcelain", *words, *lease, "origin", f"{commit}:{ref}")
        try:
            self._plain("-C", self._directory, *argv, remote=True)
        except CommandFailed as error:
            return error.stderr
        return ""

    # How ---------------------------------------------------------------------------------------------------

    @property
    def _directory(self) -> str:
        """The scratch repository, made when first needed: bare, without templates or hooks, a partial clone."""
        if self._scratch is None:
            try:
                self._scratch = self._made()
            except (CommandFailed, OSError) as error:
                raise PipelineError(
                    f"no scratch repository can be made in {tempfile.gettempdir()}: {error}",
                    hint="is that disk full, or read-only? TMPDIR names another place",
                ) from None
        return self._scratch.name

    def _made(self) -> "tempfile.TemporaryDirectory[str]":
        scratch = tempfile.TemporaryDirectory(prefix="pipeline-tools-")
        self._plain("init", "--quiet", "--bare", "--template=", scratch.name)
        with (Path(scratch.name) / "config").open("a") as config:
            config.write(_PARTIAL_CLONE)
        self._plain("-C", scratch.name, "config", "remote.origin.url", self.url)
        return scratch

    def _fetch(self, branch: str, *words: str) -> None:
        refspec = f"+refs/heads/{branch}:refs/heads/fetched"
        try:
            self._run("fetch", "--quiet", "--no-tags", *words, "origin", refspec, remote=True)
        except CommandFailed as error:
            if "--unshallow on a complete repository" not in error.stderr:
                raise

    def _git(self, *words: str, stdin: bytes = b"", extra: Environment | None = None) -> str:
        return self._run(*words, stdin=stdin, extra=extra).decode("utf-8", "surrogateescape")

    def _talk(self, *words: str) -> str:
        # In the scratch repository: where we stand, a checkout's own configuration could name a proxy.
        return self._run(*words, remote=True).decode("utf-8", "surrogateescape")

    def _run(
        self, *words: str, stdin: bytes = b"", extra: Environment | None = None, remote: bool = False
    ) -> bytes:
        directory = self._directory
        try:
            return self._plain("-C", directory, *words, stdin=stdin, extra=extra, remote=remote)
        except CommandFailed as error:
            free = shutil.disk_usage(directory).free
            if (
                free < _LITTLE
            ):  # git has many words for a full disk, and at times none (2.39: FETCH_HEAD not written)
                error.hint = f"{free // 1024} KiB are left in {tempfile.gettempdir()}: is that disk full? TMPDIR names another"
                raise
            raise git_answers.failure(self.url, error.stderr) or error from None

    def _plain(
        self, *words: str, stdin: bytes = b"", extra: Environment | None = None, remote: bool = False
    ) -> bytes:
        environment = {
            **self.environment,
            **_QUIET,
            **(self._remotely() if remote else {}),
            **(extra or {}),
        }
        return process.run("git", *words, environment=environment, stdin=stdin)

    def _remotely(self) -> Environment:
        """The environment for a talk with the remote: an end to silence, and the credential for this host only."""
        settings = {"http.lowSpeedLimit": "1", "http.lowSpeedTime": str(self.silence)}
        credential = self.credential()
        origin = references.origin(self.url)
        if credential is None or not origin.startswith("http"):
            return self._configured(settings)
        settings |= {"credential.helper": "", f"credential.{origin}.helper": _HELPER}
        lent = {"PT_GIT_USER": credential.user, "PT_GIT_PASSWORD": credential.password.reveal()}
        return {**lent, **self._configured(settings)}

    def _configured(self, settings: Mapping[str, str]) -> Environment:
        """git-config(1), "GIT_CONFIG_COUNT": after what the environment says already."""
        begin = int(self.environment.get("GIT_CONFIG_COUNT") or 0)
        keys = {f"GIT_CONFIG_KEY_{begin + n}": key for n, key in enumerate(settings)}
        values = {f"GIT_CONFIG_VALUE_{begin + n}": value for n, value in enumerate(settings.values())}
        return {**keys, **values, "GIT_CONFIG_COUNT": str(begin + len(settings))}


_PARTIAL_CLONE = """
[core]
    repositoryFormatVersion = 1
[extensions]
    partialClone = origin
[remote "origin"]
    promisor = true
[gc]
    auto = 0
[maintenance]
    auto = false
"""
"""What `git clone --bare --filter` would write (git-config(1), partial-clone design notes)."""

_QUIET = {
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_ASKPASS": "",
    "LC_ALL": "C",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_LITERAL_PATHSPECS": "1",
}


def _blob(stream: BytesIO) -> bytes:
    """One answer of `cat-file --batch`: a line with hash, type and size, the content, and a line end."""
    size = int(stream.readline().split()[2])
    return stream.read(size + 1)[:-1]
