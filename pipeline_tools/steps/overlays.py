"""Overlays of the env repository at a commit: their files, what globs name, what they build on, what builds on them.

Not a step but what the steps that look at overlays share, as all share `shape`.
"""

import logging
import posixpath
import re
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from itertools import takewhile
from typing import TYPE_CHECKING

from pipeline_tools.errors import PipelineError
from pipeline_tools.text import kustomization
from pipeline_tools.text.kustomization import FILE_NAMES

if TYPE_CHECKING:
    from pipeline_tools.adapters.git import Remote

log = logging.getLogger(__name__)

_GLOB = re.compile(r"[*?\[]")


def file(remote: "Remote", tip: str, overlay: str) -> tuple[str, str]:
    """Path and text of an overlay's kustomization file.

    Raises:
        PipelineError: no such folder, none or several of kustomize's file names in it, or no UTF-8 text.
    """
    entries = remote.entries(tip, overlay)
    if not entries:
        raise PipelineError(
            f"there is no folder {overlay} at {tip[:8]}", hint="see --overlay and --env-branch"
        )
    names = [
        entry.name for entry in entries if entry.name in FILE_NAMES and entry.mode in {"100644", "100755"}
    ]
    if len(names) != 1:
        what = f"{len(names)} kustomization files ({', '.join(names)})" if names else "no kustomization file"
        raise PipelineError(f"{overlay} has {what}", hint=f"keep exactly one of {', '.join(FILE_NAMES)}")
    path = posixpath.join(overlay, names[0])
    try:
        return path, remote.read(tip, path).decode()
    except UnicodeDecodeError:
        raise PipelineError(f"{path} is not UTF-8 text", hint="save it as UTF-8") from None


def resolve(remote: "Remote", tip: str, patterns: Iterable[str]) -> tuple[str, ...]:
    """The folders that `patterns` name at `tip`, each once: in the order of the patterns, a glob's sorted.

    A glob is matched part by part as a shell does it: `*`, `?` and `[…]` match no slash and no dot at the beginning.
    It names folders that have a kustomization file; a path without any of these is taken as it is.

    Raises:
        PipelineError: a glob names no folder.
    """
    return tuple(dict.fromkeys(folder for pattern in patterns for folder in _resolved(remote, tip, pattern)))


def _resolved(remote: "Remote", tip: str, pattern: str) -> list[str]:
    if not _GLOB.search(pattern):
        return [pattern]
    remote.unfold(tip, _literal(pattern))
    found = sorted(_matching(remote, tip, "", pattern.split("/")))
    if not found:
        raise PipelineError(
            f"--overlay {pattern} names no folder with a kustomization file at {tip[:8]}",
            hint="is it written as from the root of the env repository?",
        )
    return found


def _literal(pattern: str) -> str:
    """The folder that all of a glob is below."""
    return "/".join(takewhile(lambda part: not _GLOB.search(part), pattern.split("/")))


def _matching(remote: "Remote", tip: str, folder: str, parts: list[str]) -> Iterator[str]:
    entries = remote.entries(tip, folder)
    if not parts:
        yield from [folder] if any(entry.name in FILE_NAMES for entry in entries) else []
        return
    for entry in entries:
        if entry.kind == "tree" and _matches(entry.name, parts[0]):
            yield from _matching(remote, tip, posixpath.join(folder, entry.name), parts[1:])


def _matches(name: str, part: str) -> bool:
    return fnmatchcase(name, part) and (not name.startswith(".") or part.startswith("."))


def closure(remote: "Remote", tip: str, folders: Iterable[str]) -> tuple[str, ...]:
    """The folders and every folder that their kustomizations build on."""
    seen: set[str] = set()
    waiting = set(folders)
    while waiting:
        folder = waiting.pop()
        seen.add(folder)
        below = _below(*file(remote, tip, folder))
        waiting |= {name for name in below - seen if remote.entries(tip, name)}
    return tuple(sorted(seen))


def dependents(remote: "Remote", tip: str, folders: set[str]) -> dict[str, frozenset[str]]:
    """For each of `folders` the folders whose kustomizations build on it, directly or through others.

    Files that are no kustomization kustomize would take are passed over, with a warning.
    """
    if not folders:
        return {}  # nothing to read all of the repository's kustomizations for
    hashes = {path: sha for path, sha in remote.files(tip).items() if posixpath.basename(path) in FILE_NAMES}
    contents = remote.contents(hashes.values())
    texts = {path: contents[sha].decode(errors="replace") for path, sha in hashes.items()}
    return {folder: frozenset(_above(texts, folder)) for folder in folders}


def _above(texts: dict[str, str], folder: str) -> set[str]:
    seen: set[str] = set()
    waiting = {folder}
    while waiting:
        target = waiting.pop()
        above = {posixpath.dirname(path) for path, text in texts.items() if _builds_on(path, text, target)}
        waiting |= above - seen - {folder}
        seen |= above
    return seen - {folder}


def _builds_on(path: str, text: str, target: str) -> bool:
    # Parsing all of a large repository takes its time, and most files do not have the name in them. (A path that ends
    # in `..` has no name, but a folder that the file itself is in: kustomize refuses that as a cycle.)
    if posixpath.basename(target) not in text:
        return False
    try:
        return target in _below(path, text)
    except PipelineError as error:
        log.warning("not looked at as a dependent: %s", error)
        return False


def _below(path: str, text: str) -> set[str]:
    """The paths that a kustomization names and that may be folders of the repository; its root is ""."""
    folder = posixpath.dirname(path)
    named = {posixpath.normpath(posixpath.join(folder, name)) for name in kustomization.folders(text, path)}
    return {"" if name == "." else name for name in named if not name.startswith("..")}
