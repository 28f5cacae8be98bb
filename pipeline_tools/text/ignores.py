"""The patterns of a `.dockerignore`, in one spelling: each builder takes another one of the same line in its own way.

Source: github.com/moby/patternmatcher, ignorefile/ignorefile.go, "ReadAll".
"""

import os
import posixpath
from collections.abc import Iterator

_MARK = "\ufeff"
"""What some editors begin a file with (byte order mark)."""


def patterns(content: bytes) -> tuple[str, ...]:
    """Its patterns in order; bytes that are no UTF-8 are as in the names of files."""
    lines = os.fsdecode(content).removeprefix(_MARK).split("\n")
    return tuple(_cleaned(line.strip() for line in lines if not line.startswith("#")))


def _cleaned(lines: Iterator[str]) -> Iterator[str]:
    for line in lines:
        is_kept, pattern = line.startswith("!"), line.removeprefix("!").strip()
        path = posixpath.normpath(pattern).lstrip("/")
        if path not in {"", "."}:  # the context itself: ignored "for historical reasons" (docs.docker.com)
            yield f"!{path}" if is_kept else path
