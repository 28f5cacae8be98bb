"""What a builder is sent: the checkout's files as they are, or exactly a commit's.

Plumbing (`ls-tree`, `cat-file`) rather than `git archive` or a checkout: no attribute, filter or hook that a
repository may name changes a byte.
"""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Self

from docker.utils.build import exclude_paths

from pipeline_tools.adapters import ignoring, paths, process
from pipeline_tools.adapters.process import Environment
from pipeline_tools.errors import PipelineError

_LFS = b"version https://git-lfs.github.com/spec/"
_LFS_MOST = 1024
"""Bytes of a pointer at most (git-lfs, docs/spec.md)."""
_LINK, _SUBMODULE, _PROGRAM = "120000", "160000", "100755"
CHUNK = 1 << 20


@dataclass(frozen=True)
class Measured:
    """What a context has that `.dockerignore` lets through; `leading_out` are links that point out of it.

    `names` are its files and links, relative to it.
    """

    files: int
    size: int
    leading_out: tuple[str, ...]
    names: frozenset[str]


@dataclass(frozen=True)
class Tree:
    """The files below `root`."""

    root: Path

    def inside(self, path: str) -> Path:
        """`path`, below the root; PipelineError where it leads out."""
        return paths.inside(self.root, path)


@dataclass
class Contexts:
    """The trees of the checkout at `root`. Close it, or use it in a `with`: what it wrote is gone then."""

    root: Path
    environment: Environment
    _written: dict[tuple[str, ...], Path] = field(default_factory=dict, repr=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        for path in self._written.values():
            shutil.rmtree(path, ignore_errors=True)
        self._written.clear()

    def checkout(self) -> Tree:
        """The files as they lie there."""
        return Tree(self.root)

    def commit(self, commit: str, seconds: int, *wanted: str) -> Tree:
        """What `commit` has at or below the paths `wanted`, each file with the time `seconds`.

        Raises:
            PipelineError: a path leads out, or there is a submodule or a Git LFS pointer, whose content is no part of
                the commit.
        """
        key = (commit, *wanted)
        if key not in self._written:
            self._written[key] = folder = Path(tempfile.mkdtemp(prefix="pt-context-")).resolve()
            _write(folder, self._rows(commit, wanted), self._contents)
            _settle(folder, seconds)
        return Tree(self._written[key])

    @staticmethod
    def measured(context: Path, file: Path) -> Measured:
        """What a builder is sent of the folder `context`, with the Dockerfile `file`."""
        return _measured(context, file)

    def _rows(self, commit: str, wanted: tuple[str, ...]) -> list["_Row"]:
        for path in wanted:
            paths.inside(self.root, path)
        plain = [os.path.normpath(path) for path in wanted]
        specs = [] if "." in plain else ["--", *plain]
        listed = process.run(
            *self._git, "ls-tree", "-r", "-z", "--full-tree", commit, *specs, environment=self._environment
        )
        return [_row(row) for row in listed.split(b"\0") if row]

    def _contents(self, rows: list["_Row"]) -> Iterator[tuple["_Row", BinaryIO, int]]:
        """Each row with its content, which is read before the next is taken (git-cat-file(1), "BATCH OUTPUT")."""
        asked = "".join(f"{row.hash}\n" for row in rows).encode()
        argv = (*self._git, "cat-file", "--batch")
        with process.opened(*argv, environment=self._environment, stdin=asked) as output:
            for row in rows:
                head = output.readline().split()
                if len(head) != len(("hash", "type", "size")):
                    raise PipelineError(f"git does not have the content of {row.path}", hint="git fsck")
                yield row, output, int(head[2])
                output.read(1)

    @property
    def _git(self) -> tuple[str, ...]:
        return ("git", "-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null", "-C", str(self.root))

    @property
    def _environment(self) -> Environment:
        return {**self.environment, "GIT_LITERAL_PATHSPECS": "1", "LC_ALL": "C"}


@dataclass(frozen=True)
class _Row:
    """One row of `git ls-tree -r`."""

    mode: str
    hash: str
    path: str


def _row(text: bytes) -> _Row:
    """Raises PipelineError where it is no file or link that can be written below a folder."""
    meta, _, path = text.partition(b"\t")
    mode, _, name = meta.decode().split(" ")
    row = _Row(mode, name, os.fsdecode(path))
    if mode == _SUBMODULE:
        raise PipelineError(
            f"{row.path} is a submodule: its files are no part of the commit",
            hint="build with --no-git-context",
        )
    if ".." in PurePosixPath(row.path).parts:
        raise PipelineError(f"the commit has a path {row.path!r}", hint="git fsck")
    return row


_Contents = Callable[[list[_Row]], Iterator[tuple[_Row, BinaryIO, int]]]


def _write(folder: Path, rows: list[_Row], contents: _Contents) -> None:
    """Files first and links last: no file is written through a link."""
    ordered = sorted(rows, key=lambda row: row.mode == _LINK)
    for row, content, size in contents(ordered):
        path = folder / row.path
        path.parent.mkdir(parents=True, exist_ok=True)
        if row.mode == _LINK:
            path.symlink_to(os.fsdecode(content.read(size)))
        else:
            _file(path, row, content, size)


def _file(path: Path, row: _Row, content: BinaryIO, size: int) -> None:
    head = content.read(min(size, _LFS_MOST))
    if size <= _LFS_MOST and head.startswith(_LFS):
        raise PipelineError(
            f"{row.path} is in Git LFS: its content is no part of the commit",
            hint="build with --no-git-context",
        )
    with path.open("xb") as file:
        file.write(head)
        rest = size - len(head)
        while rest:
            chunk = content.read(min(rest, CHUNK))
            if not chunk:
                raise PipelineError(f"git broke off in {row.path}", hint="run it again")
            file.write(chunk)
            rest -= len(chunk)
    path.chmod(0o755 if row.mode == _PROGRAM else 0o644)


def _settle(folder: Path, seconds: int) -> None:
    """Times and modes of the folders and links too, whatever the umask: they go into layers."""
    for parent, folders, files in os.walk(folder, topdown=False):
        for name in (*files, *folders):
            path = os.path.join(parent, name)  # noqa: PTH118 (a tree may have very many)
            if name in folders and not os.path.islink(path):  # noqa: PTH114 (likewise)
                os.chmod(path, 0o755)  # noqa: PTH101, S103 (likewise; as every image has its folders)
            os.utime(path, (seconds, seconds), follow_symlinks=False)


def _measured(context: Path, file: Path) -> Measured:
    """What a builder is sent of the folder `context` (docs.docker.com, "Build context", ".dockerignore files")."""
    name = os.path.relpath(file, context)
    files = size = 0
    leading_out, names = [], set()
    for sent in exclude_paths(str(context), list(ignoring.patterns(context, file)), name):
        path = context / sent
        if path.is_symlink():
            names.add(sent)
            target = paths.resolved_or_none(path)
            leading_out += [sent] if target and not target.is_relative_to(context) else []
        elif path.is_file():
            names.add(sent)
            files, size = files + 1, size + path.stat().st_size
    return Measured(files, size, tuple(sorted(leading_out)), frozenset(names))
