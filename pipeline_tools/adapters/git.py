"""Remote git repositories without a work tree: a bare scratch one, depth 1, with what is looked at and little more.

Plumbing (`git help fetch`, `commit-tree`, `push`) rather than porcelain: the new tree is written from the trees of the
changed paths alone, so the cost does not grow with the repository.
"""

import logging
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Self

from pipeline_tools.adapters.ahead import Ahead
from pipeline_tools.adapters.git_files import ALL, NO_FILES, Files, fetching
from pipeline_tools.adapters.git_objects import Entry
from pipeline_tools.adapters.git_scratch import Scratch
from pipeline_tools.adapters.process import CommandFailed, Environment
from pipeline_tools.errors import PipelineError
from pipeline_tools.text.credentials import Credential

if TYPE_CHECKING:
    from pipeline_tools.adapters.signing import Signature, Signer

__all__ = ["Entry", "Remote"]

log = logging.getLogger(__name__)

_DEPTHS = (50, 1000, None)
"""How far to look back for an ancestor, step by step; None is all of the history."""

_FIRST = ("--filter=tree:2", NO_FILES, ALL)
"""What to leave out of a tip, the most first: a server may not know a filter, or forbid it (git-config(1),
`uploadpackfilter`). The root and the folders in it show where to go on; the trees of all folders are the most of a
repository without its files (24 000 files: 1 MB of 1.01)."""


@dataclass
class Remote(Files):
    """A remote repository and a scratch one for what is read of it. Close it, or use it in a `with`.

    `credential` goes only to `url`'s own host. `silence` is how many seconds a server may say nothing.
    """

    url: str
    environment: Environment
    credential: Callable[[], Credential | None] = lambda: None
    silence: int = 60
    _ahead: "Ahead[tuple[str, str]] | None" = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        self._scratch = Scratch(self.url, self.environment, self.credential, self.silence)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self._ahead:
            self._scratch.interrupt()
            self._ahead.join()
        self._scratch.close()

    # Reading -----------------------------------------------------------------------------------------------

    def foresee(self, branch: str | None, paths: Iterable[str]) -> None:
        """Begin what somebody will ask for: `fetch(branch)`, or of the default branch, and what is at `paths` there.

        Meanwhile other work goes on; who asks waits for the rest. A failure is told to the first who asks. Not
        where a person may be asked for a passphrase meanwhile.
        """
        if self._scratch.asks_nobody:
            self._ahead = Ahead(partial(self._look_ahead, branch, tuple(paths)))

    def _look_ahead(self, branch: str | None, paths: tuple[str, ...]) -> tuple[str, str]:
        self._objects.ready()
        name = branch or self._head()
        tip = self._fetched(name)
        self.reach(tip, paths)
        return name, tip

    def head(self) -> str:
        """The name of the default branch.

        Raises:
            PipelineError: the repository is empty.
        """
        return self._ahead.result()[0] if self._ahead else self._head()

    def _head(self) -> str:
        said = self._scratch.talk("ls-remote", "--symref", "--", "origin", "HEAD")
        found = re.search(r"^ref: refs/heads/(\S+)\tHEAD$", said, re.MULTILINE)
        if not found:
            raise PipelineError(f"{self.url} has no default branch", hint="name it, or push a first commit")
        return found[1]

    def tip(self, branch: str) -> str | None:
        """The commit a branch points to, or None where there is no such branch."""
        return self.refs(f"refs/heads/{branch}").get(f"refs/heads/{branch}")

    def refs(self, *patterns: str) -> dict[str, str]:
        """Commit by full ref name; annotated tags peeled."""
        said = self._scratch.talk("ls-remote", "--", "origin", *patterns)
        rows = [line.split("\t") for line in said.splitlines()]
        plain = {name: commit for commit, name in rows if not name.endswith("^{}")}
        return plain | {name.removesuffix("^{}"): commit for commit, name in rows if name.endswith("^{}")}

    def fetch(self, branch: str) -> str:
        """Bring the tip of `branch` into the scratch repository: one commit, and what of its trees comes along.

        Returns:
            The tip's commit hash.

        Raises:
            PipelineError: no such branch.
        """
        ahead, self._ahead = self._ahead, None
        if ahead:
            name, tip = ahead.result()
            if name == branch:
                return tip
        return self._fetched(branch)

    def _fetched(self, branch: str) -> str:
        self._branch = branch
        try:
            next(filter(partial(self._can_fetch, branch), _FIRST))
        except CommandFailed as error:
            if "couldn't find remote ref" not in error.stderr:
                raise
            raise PipelineError(f"{self.url} has no branch {branch!r}", hint="see --env-branch") from None
        return self._scratch.fetched

    def _can_fetch(self, branch: str, leaving_out: str) -> bool:
        """Fetch the tip; whether the server knows how to leave that out."""
        try:
            self._scratch.talk(*fetching(branch, "--depth=1", leaving_out))
        except CommandFailed as error:
            if leaving_out == ALL or "filter" not in error.stderr:
                raise
            log.debug("the server does without %s: %s", leaving_out, error)
            return False
        return True

    def contains(self, branch: str, commit: str) -> bool:
        """Whether `commit` is the tip of `branch` or an ancestor; the history is deepened until it is known."""
        for depth in _DEPTHS:
            self._fetch(branch, f"--depth={depth}" if depth else "--unshallow", "--filter=tree:0")
            if commit in self.ancestors(
                "FETCH_HEAD"
            ):  # merge-base would ask the remote for an unknown commit
                return True
            if not self._scratch.is_shallow:
                break
        return False

    def find(self, branch: str, trailer: str, value: str) -> str | None:
        """The newest of the last commits of `branch` with exactly this trailer (git-interpret-trailers(1)), or None.

        The history is deepened for it, without trees or blobs.
        """
        for depth in _DEPTHS[:2]:
            self._fetch(branch, f"--depth={depth}", "--filter=tree:0")
            form = f"--format=%H%x09%(trailers:key={trailer},valueonly,unfold,separator=%x09)"
            for row in self._scratch.git("log", form, "FETCH_HEAD").splitlines():
                commit, *values = row.split("\t")
                if value in values:
                    return commit
        return None

    def trailer(self, commit: str, key: str) -> str | None:
        """The value of a trailer of a fetched commit, or None."""
        form = f"--format=%(trailers:key={key},valueonly,unfold)"
        return self._scratch.git("log", "--max-count=1", form, commit).strip() or None

    def fetch_history(self, branch: str) -> None:
        """Bring all commits of `branch` into the scratch repository, without trees or blobs."""
        self._fetch(branch, "--filter=tree:0", *(["--unshallow"] if self._scratch.is_shallow else []))

    def _fetch(self, branch: str, *words: str) -> None:
        try:
            self._scratch.talk(*fetching(branch, *words))
        except CommandFailed as error:
            if "--unshallow on a complete repository" not in error.stderr:
                raise

    def ancestors(self, commit: str) -> frozenset[str]:
        """`commit` and every commit before it that was fetched."""
        return frozenset(self._scratch.git("rev-list", commit).split())

    def log(self, since: str | None, until: str) -> list[tuple[str, str]]:
        """Hash and message of the fetched commits in `until` and not in `since`, newest first, no merges."""
        span = f"{since}..{until}" if since else until
        text = self._scratch.git("log", span, "--no-merges", "-z", "--format=%H%n%B")
        rows = [row.partition("\n") for row in text.split("\0") if row]
        return [(sha, message) for sha, _, message in rows]

    # Writing -----------------------------------------------------------------------------------------------

    def commit(
        self,
        parent: str,
        files: Mapping[str, bytes],
        message: str,
        by: "Signature",
        signer: "Signer | None" = None,
    ) -> str:
        """Make a commit on `parent` that replaces the content of existing files; nothing else changes.

        Returns:
            Its hash. It exists in the scratch repository until it is pushed.

        Raises:
            PipelineError: it cannot be signed.
        """
        self.reach(parent, files)
        blobs = {PurePosixPath(path).parts: self._objects.write("blob", text) for path, text in files.items()}
        tree = self._tree(self._objects.root(parent), blobs)
        if signer is None:
            return self._commit(tree, parent, message, by.variables)
        with signer.lent() as loan:
            extra = {**by.variables, **loan.environment, **self._scratch.configured(loan.configuration)}
            try:
                return self._commit(tree, parent, message, extra, "--gpg-sign")
            except CommandFailed as error:
                raise PipelineError(
                    f"the commit cannot be signed: {error.stderr}",
                    hint="see PT_SIGNING_KEY: a key without a passphrase; gpg or ssh-keygen must be installed",
                ) from None

    def _commit(self, tree: str, parent: str, message: str, extra: Environment, *words: str) -> str:
        argv = ("commit-tree", *words, "-p", parent, tree)
        return self._scratch.git(*argv, stdin=message.encode(), extra=extra).strip()

    def _tree(self, old: str, blobs: Mapping[tuple[str, ...], str]) -> str:
        """Hash of the tree `old` with `blobs`, by the parts of their paths, in their places."""
        changed: dict[str, dict[tuple[str, ...], str]] = {}
        for (name, *rest), sha in blobs.items():
            changed.setdefault(name, {})[tuple(rest)] = sha
        rows = self._rows(old)
        return self._objects.write_tree(
            self._row(row, changed[row.name]) if row.name in changed else row for row in rows
        )

    def _row(self, row: Entry, blobs: Mapping[tuple[str, ...], str]) -> Entry:
        return row._replace(hash=blobs.get(()) or self._tree(row.hash, blobs))

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
        try:
            self._scratch.attempt("push", "--porcelain", *words, *lease, "origin", f"{commit}:{ref}")
        except CommandFailed as error:
            return error.stderr
        return ""
