"""Remote git repositories without a work tree: a bare scratch one, depth 1, with what is looked at and little more.

Plumbing (`git help fetch`, `commit-tree`, `push`) rather than porcelain: the new tree is written from the trees of the
changed paths alone, so the cost does not grow with the repository.
"""

import logging
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Self

from pipeline_tools.adapters.ahead import Ahead
from pipeline_tools.adapters.git_objects import Entry, Objects
from pipeline_tools.adapters.git_scratch import Scratch
from pipeline_tools.adapters.process import CommandFailed, Environment
from pipeline_tools.errors import PipelineError, Unavailable
from pipeline_tools.text.credentials import Credential

if TYPE_CHECKING:
    from pipeline_tools.adapters.signing import Signature, Signer

__all__ = ["Entry", "Remote"]

log = logging.getLogger(__name__)

_DEPTHS = (50, 1000, None)
"""How far to look back for an ancestor, step by step; None is all of the history."""

_ALL = "--no-filter"
_NO_FILES = "--filter=blob:none"
_FIRST = ("--filter=tree:2", _NO_FILES, _ALL)
"""What to leave out of a tip, the most first: a server may not know a filter, or forbid it (git-config(1),
`uploadpackfilter`). The root and the folders in it show where to go on; the trees of all folders are the most of a
repository without its files (24 000 files: 1 MB of 1.01)."""
_SMALL_FILES = "--filter=blob:limit=1k"
"""Trees on the way to a file are asked for together with the small files below them: a kustomization mostly is one of
these, and so need not be asked for next. Each weighs about as much as the tree that it is in."""


@dataclass
class Remote:
    """A remote repository and a scratch one for what is read of it. Close it, or use it in a `with`.

    `credential` goes only to `url`'s own host. `silence` is how many seconds a server may say nothing.
    """

    url: str
    environment: Environment
    credential: Callable[[], Credential | None] = lambda: None
    silence: int = 60
    _branch: str = field(default="", init=False, repr=False)
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
            self._scratch.talk(*_fetching(branch, "--depth=1", leaving_out))
        except CommandFailed as error:
            if leaving_out == _ALL or "filter" not in error.stderr:
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
            self._scratch.talk(*_fetching(branch, *words))
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

    # Files -------------------------------------------------------------------------------------------------

    def entries(self, commit: str, folder: str) -> list[Entry]:
        """The rows of one folder of a fetched commit; none where there is no such folder."""
        found = self._reached(commit, folder)
        return list(self._rows(found)) if found else []

    def read(self, commit: str, path: str) -> bytes:
        """The content of a file of a fetched commit.

        Raises:
            PipelineError: there is no such file.
        """
        found = self._reached(commit, path)
        content = self._objects.read(found) if found else None
        if content is None or content[0] != "blob":
            raise PipelineError(f"{self.url} has no file {path} at {commit[:8]}", hint="is the path right?")
        return content[1]

    def reach(self, commit: str, paths: Iterable[str]) -> None:
        """Bring what stands at `paths` of a fetched commit, and the trees on the way there, all paths at once."""
        wanted = tuple(paths)
        self._bring_all(
            lambda: {sha for path in wanted if (sha := self._missing(commit, path))}, _SMALL_FILES
        )

    def unfold(self, commit: str, *folders: str, what: str = _NO_FILES) -> None:
        """Bring the trees of `folders` of a fetched commit and of all folders below them."""
        self.reach(commit, folders)
        self._bring_all(
            lambda: {
                row.hash
                for folder in folders
                for _, row in self._below(commit, folder)
                if row.kind == "tree" and self._objects.tree(row.hash) is None
            },
            what,
        )

    def files(self, commit: str, *folders: str) -> dict[str, str]:
        """Hash by path of every file of a fetched commit, or of those below `folders`; links and submodules are none."""
        places = folders or ("",)
        self.unfold(commit, *places)
        return {
            path: row.hash for folder in places for path, row in self._below(commit, folder) if row.is_file
        }

    def contents(self, hashes: Iterable[str]) -> dict[str, bytes]:
        """Content by hash of many files, brought from the remote at once."""
        wanted = list(dict.fromkeys(hashes))
        self._bring_all(lambda: {sha for sha in wanted if self._objects.read(sha) is None}, _NO_FILES)
        return {sha: found[1] for sha in wanted if (found := self._objects.read(sha))}

    def materialise(self, commit: str, folders: tuple[str, ...], directory: Path) -> None:
        """Write whole folders of a fetched commit below `directory`, by one batch from the remote."""
        self.unfold(commit, *folders, what=_ALL)
        blobs = [
            row.hash for folder in folders for _, row in self._below(commit, folder) if row.kind == "blob"
        ]
        self.contents(blobs)
        index = {"GIT_INDEX_FILE": str(directory / ".index"), "GIT_WORK_TREE": str(directory)}
        paths = [folder or "." for folder in folders]
        self._scratch.git("checkout", "--quiet", commit, "--", *paths, extra=index)
        (directory / ".index").unlink()

    @property
    def _objects(self) -> Objects:
        return self._scratch.objects

    def _reached(self, commit: str, path: str) -> str | None:
        """The hash of what is at `path`, which is here now; None where there is nothing."""
        self.reach(commit, (path,))
        return self._way(commit, path)[-1]

    def _missing(self, commit: str, path: str) -> str | None:
        """The first on the way to `path` that is not here; None where there is none, or nothing at `path`."""
        *_, last = self._way(commit, path)
        return last if last and self._objects.read(last) is None else None

    def _way(self, commit: str, path: str) -> list[str | None]:
        """The hashes from the root to `path`, as far as they are known; at the end None where there is nothing."""
        way: list[str | None] = [self._objects.root(commit)]
        for part in PurePosixPath(path).parts:
            rows = self._objects.tree(str(way[-1]))
            if rows is None:
                break
            row = next((row for row in rows if row.name == part), None)
            if row is None or row.kind == "commit":  # a submodule is another repository
                return [*way, None]
            way.append(row.hash)
        return way

    def _below(self, commit: str, folder: str) -> Iterator[tuple[str, Entry]]:
        """Path and row of everything below a folder, as far as its trees are here."""
        found = self._reached(commit, folder)
        return self._walk(found, PurePosixPath(folder)) if found else iter(())

    def _walk(self, tree: str, folder: PurePosixPath) -> Iterator[tuple[str, Entry]]:
        for row in self._rows(tree):
            yield str(folder / row.name), row
            if row.kind == "tree":
                yield from self._walk(row.hash, folder / row.name)

    def _bring_all(self, missing: Callable[[], set[str]], what: str) -> None:
        """Bring what is missing until nothing is.

        Raises:
            Unavailable: the server does not give it.
        """
        before: set[str] = set()
        while wanted := missing():
            if wanted == before:
                raise Unavailable(f"{self.url} does not give {min(wanted)}", hint="run it again")
            self._bring(wanted, what)
            before = wanted

    def _bring(self, hashes: set[str], what: str) -> None:
        """Fetch objects by their hashes, in one request.

        The words are those with which git itself fetches what a partial clone lacks (2.39, traced). A server that gives
        no objects that no branch points to is asked for all of the branch.
        """
        words = ("--quiet", "--no-tags", "--no-write-fetch-head", what, "--stdin", "origin")
        try:
            self._scratch.talk(
                "-c", "fetch.negotiationAlgorithm=noop", "fetch", *words, stdin="\n".join(hashes).encode()
            )
        except CommandFailed as error:
            log.debug("the whole branch is fetched: %s", error)
            self._scratch.talk(
                *_fetching(self._branch, "--depth=1", "--refetch", "--no-write-fetch-head", _ALL)
            )

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

    def _rows(self, tree: str) -> tuple[Entry, ...]:
        return self._objects.tree(tree) or ()

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


def _fetching(branch: str, *words: str) -> tuple[str, ...]:
    return ("fetch", "--quiet", "--no-tags", *words, "origin", f"+refs/heads/{branch}:refs/heads/fetched")
