"""The objects of a local git repository: read through one process for all of them, written without any.

A process an object would cost more than all else that a bump does to a tree. What is not here is said to be missing:
nothing in this module talks to a remote.

Formats: git-cat-file(1), "BATCH OUTPUT"; trees and loose objects: Pro Git, 10.2 "Git Objects".
"""

import hashlib
import re
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple, cast

from pipeline_tools.adapters import process
from pipeline_tools.adapters.process import Environment
from pipeline_tools.errors import PipelineError

if TYPE_CHECKING:
    import subprocess

_KINDS = {"40000": "tree", "160000": "commit"}
"""What an entry is by its mode; every other is a blob (a link too)."""
FULL = "is that disk full, or read-only? TMPDIR names another place"
_MISSING = " missing"
_ROW = re.compile(rb"(\d+) ([^\0]+)\0(.{20})", re.DOTALL)


class Entry(NamedTuple):
    """One row of a tree: `mode` (as the tree has it), `kind` (blob, tree, commit), `hash`, `name`."""

    mode: str
    kind: str
    hash: str
    name: str

    @property
    def is_file(self) -> bool:
        """Whether it is a plain file: no folder, link or submodule."""
        return self.mode.startswith("100")


@dataclass
class Objects:
    """The object store of the bare repository in `directory`. Close it."""

    directory: Path
    environment: Environment
    _reader: "subprocess.Popen[bytes] | None" = field(default=None, init=False, repr=False)
    _trees: dict[str, tuple[Entry, ...]] = field(default_factory=dict, init=False, repr=False)

    def close(self) -> None:
        if self._reader:
            with self._reader as reader:
                cast("BinaryIO", reader.stdin).close()
            self._reader = None

    def ready(self) -> None:
        """Start the reading process, which so need not be waited for later."""
        if self._reader is None:
            argv = ("git", "-C", str(self.directory), "cat-file", "--batch")
            self._reader = process.piped(*argv, environment=self.environment)

    def read(self, name: str) -> tuple[str, bytes] | None:
        """Kind and content of the object with this hash, or None where it is not here.

        Raises:
            PipelineError: git cannot read here.
        """
        self.ready()
        reader = cast("subprocess.Popen[bytes]", self._reader)
        asked, answers = cast("BinaryIO", reader.stdin), cast("BinaryIO", reader.stdout)
        asked.write(f"{name}\n".encode())
        asked.flush()
        return _answer(answers)

    def contents(self, names: Iterable[str]) -> dict[str, bytes]:
        """Content by hash of many objects that are here, at once rather than one question each.

        Raises:
            PipelineError: git cannot read here.
        """
        wanted = list(names)
        stream = BytesIO(self._asked("--batch", wanted))
        found = {name: _answer(stream) for name in wanted}
        return {name: answer[1] for name, answer in found.items() if answer}

    def missing(self, names: Iterable[str]) -> set[str]:
        """Which of these hashes are of no object that is here; no content is read."""
        rows = self._asked("--batch-check", list(names)).decode().splitlines()
        return {row.split()[0] for row in rows if row.endswith(_MISSING)}

    def _asked(self, how: str, names: list[str]) -> bytes:
        argv = ("git", "-C", str(self.directory), "cat-file", how)
        return process.run(*argv, environment=self.environment, stdin="\n".join(names).encode())

    def root(self, commit: str) -> str:
        """The hash of a commit's tree.

        Raises:
            LookupError: the commit is not here.
        """
        found = self.read(commit)
        if found is None:
            raise LookupError(commit)
        return found[1].partition(b"\n")[0].removeprefix(b"tree ").decode()

    def tree(self, name: str) -> tuple[Entry, ...] | None:
        """The rows of a tree, none if it is another object; None where it is not here."""
        if name not in self._trees:
            found = self.read(name)
            if found is None:
                return None
            self._trees[name] = tuple(_rows(found[1])) if found[0] == "tree" else ()
        return self._trees[name]

    def write_tree(self, rows: Iterable[Entry]) -> str:
        """Write a tree; its hash. The rows stay in their order, which is git's."""
        content = [
            f"{row.mode} {row.name}\0".encode("utf-8", "surrogateescape") + bytes.fromhex(row.hash)
            for row in rows
        ]
        return self.write("tree", b"".join(content))

    def write(self, kind: str, content: bytes) -> str:
        """Write a loose object; its hash.

        Raises:
            PipelineError: the disk does not take it.
        """
        data = f"{kind} {len(content)}\0".encode() + content
        name = hashlib.sha1(data, usedforsecurity=False).hexdigest()
        path = self.directory / "objects" / name[:2] / name[2:]
        try:
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(zlib.compress(data))
        except OSError as error:
            raise PipelineError(f"{path} cannot be written: {error.strerror}", hint=FULL) from None
        return name


def _answer(stream: BinaryIO) -> tuple[str, bytes] | None:
    """One answer of `cat-file --batch`: a line with hash, kind and size, the content, and a line end."""
    said = stream.readline().decode().rstrip("\n")
    if said.endswith(_MISSING):
        return None
    if not said:
        raise PipelineError("git cat-file has ended", hint=FULL)
    _, kind, size = said.split()
    return kind, stream.read(int(size) + 1)[:-1]


def _rows(content: bytes) -> list[Entry]:
    rows = []
    for mode, name, sha in _ROW.findall(content):
        text = mode.decode()
        rows.append(Entry(text, _KINDS.get(text, "blob"), sha.hex(), name.decode("utf-8", "surrogateescape")))
    return rows
