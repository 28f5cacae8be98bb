"""What is in a fetched commit, brought from the remote as far as somebody looks at it, and as much at once as can be."""

import logging
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path, PurePosixPath

from pipeline_tools.adapters.git_objects import Entry, Objects
from pipeline_tools.adapters.git_scratch import Scratch
from pipeline_tools.adapters.process import CommandFailed
from pipeline_tools.errors import PipelineError, Unavailable

log = logging.getLogger(__name__)

ALL = "--no-filter"
NO_FILES = "--filter=blob:none"
_SMALL_FILES = "--filter=blob:limit=1k"
"""Trees on the way to a file are asked for together with the small files below them: a kustomization mostly is one of
these, and so need not be asked for next. Each weighs about as much as the tree that it is in."""


class Files:
    """The files of a remote's commits that were fetched into a scratch repository."""

    url: str
    _scratch: Scratch
    _branch: str = ""
    """The branch that was fetched last."""

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

    def unfold(self, commit: str, *folders: str, what: str = NO_FILES) -> None:
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
        self._bring_all(partial(self._objects.missing, wanted), NO_FILES)
        return self._objects.contents(wanted)

    def materialise(self, commit: str, folders: tuple[str, ...], directory: Path) -> None:
        """Write whole folders of a fetched commit below `directory`, by one batch from the remote."""
        self.unfold(commit, *folders, what=ALL)
        blobs = [
            row.hash for folder in folders for _, row in self._below(commit, folder) if row.kind == "blob"
        ]
        self._bring_all(partial(self._objects.missing, blobs), NO_FILES)
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
                *fetching(self._branch, "--depth=1", "--refetch", "--no-write-fetch-head", ALL)
            )

    def _rows(self, tree: str) -> tuple[Entry, ...]:
        return self._objects.tree(tree) or ()


def fetching(branch: str, *words: str) -> tuple[str, ...]:
    """The words of git that bring `branch`."""
    return ("fetch", "--quiet", "--no-tags", *words, "origin", f"+refs/heads/{branch}:refs/heads/fetched")
