"""Which folders a root is made of, and which roots a change touches. All paths are relative to the checkout."""

import fnmatch
import posixpath
from collections.abc import Callable, Iterable, Mapping
from typing import TypeAlias

from pipeline_tools.errors import PipelineError
from pipeline_tools.text import terraform_files
from pipeline_tools.text.terraform_files import Folder, ModuleCall, Source

Reader: TypeAlias = Callable[[str], Mapping[str, str]]
"""The configuration files of a folder, and of its `tests`, by their paths; empty where there is no such folder."""

MOST_FOLDERS = 100
"""A root and its local modules."""


def folders(root: str, reader: Reader) -> tuple[Folder, ...]:
    """A root, and every local module that it calls, directly or through others; the root is first.

    Folders outside the checkout are not read: the call is for the rules to find.

    Raises:
        PipelineError: more than `MOST_FOLDERS` of them, or `MOST_CHARACTERS` in them (exit 1).
    """
    found: dict[str, Folder] = {}
    left = terraform_files.MOST_CHARACTERS
    waiting = [clean(root)]
    while waiting:
        path = waiting.pop(0)
        if path in found:
            continue
        if len(found) == MOST_FOLDERS:
            raise PipelineError(f"{root} calls more than {MOST_FOLDERS} modules", hint="split the root")
        found[path] = terraform_files.read(path, reader(path))
        left -= sum(map(len, found[path].files.values()))
        if left < 0:
            raise PipelineError(
                f"{root} and its modules have more than {terraform_files.MOST_CHARACTERS} characters",
                hint="split the root",
            )
        waiting += [inner for call in found[path].modules if (inner := local(path, call)) is not None]
    return tuple(found.values())


def local_modules(root: str, reader: Reader) -> tuple[str, ...]:
    """The folders of the local modules that a root calls, directly or through others, sorted."""
    return tuple(sorted(folder.path for folder in folders(root, reader)[1:]))


def local(folder: str, call: ModuleCall) -> str | None:
    """The folder that a call in `folder` names; None where it is not local, or outside the checkout.

    A test calls from its root, whichever folder it is in ("Tests", "Modules").
    """
    if call.kind is not Source.LOCAL:
        return None
    path = posixpath.normpath(posixpath.join(folder, call.source))
    return None if is_outside(path) else path


def is_outside(path: str) -> bool:
    """Whether a normalised path leads out of the checkout."""
    return path == ".." or path.startswith(("../", "/")) or "\0" in path or "\\" in path


def clean(root: str) -> str:
    """A root's path, normalised (`./envs/dev/` → `envs/dev`).

    Raises:
        PipelineError: it is outside the checkout (exit 1).
    """
    path = posixpath.normpath(root or ".")
    if is_outside(path):
        raise PipelineError(
            f"the root {root} is outside the checkout", hint="name a folder below the checkout"
        )
    return path


def changed(
    roots: Iterable[str], modules: Mapping[str, Iterable[str]], paths: Iterable[str]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The roots that changed files touch, and the folders whose configuration is gone: (touched, removed), sorted.

    A root is touched by a file below it (variable files and templates too) or below one of its `modules`, but not
    by one below another root inside it. A file of configuration in a folder that is neither root nor module hints
    at a root that was removed: the caller looks whether it was one.
    """
    known, changes = set(roots), sorted(set(paths))
    owned = {root: {root, *modules.get(root, ())} for root in known}
    touched = {
        root
        for root, owners in owned.items()
        if any(_nearest(path, known | owners) in owners for path in changes)
    }
    everything = {folder for owners in owned.values() for folder in owners}
    gone = {
        posixpath.dirname(path) or "."
        for path in changes
        if path.endswith((".tf", ".tf.json")) and not any(_is_below(path, folder) for folder in everything)
    }
    return tuple(sorted(touched)), tuple(sorted(gone))


def _nearest(path: str, owners: Iterable[str]) -> str | None:
    return max((owner for owner in owners if _is_below(path, owner)), key=len, default=None)


def _is_below(path: str, folder: str) -> bool:
    # A root may own a single file: a variable file, or what a link leads to.
    return folder in {".", path} or path.startswith(f"{folder}/")


def expand(patterns: Iterable[str], available: Iterable[str]) -> tuple[str, ...]:
    """The roots that `--root` names: folders, or patterns where `*` stays in a folder and `**` goes through any.

    `available` are the folders of the checkout that hold configuration. What a pattern finds is sorted, patterns
    come in their order, nothing twice. Hidden folders are found only by a pattern that names the dot.

    Raises:
        PipelineError: a pattern matches nothing, or leads out of the checkout (exit 1).
    """
    offered = sorted({clean(folder) for folder in available})
    found: dict[str, None] = {}
    for pattern in patterns:
        wanted = _parts(clean(pattern))
        matches = [folder for folder in offered if _matches(_parts(folder), wanted)]
        if not matches:
            raise PipelineError(
                f"--root {pattern} matches no folder with Terraform files",
                hint="name the folder of the .tf files",
            )
        found |= dict.fromkeys(matches)
    return tuple(found)


def _parts(path: str) -> tuple[str, ...]:
    return () if path == "." else tuple(path.split("/"))


def _matches(parts: tuple[str, ...], pattern: tuple[str, ...]) -> bool:
    """Whether a path's parts match a pattern's: the shell's rules, and `**` for any number of folders."""
    if not pattern or not parts:
        return not parts and all(word == "**" for word in pattern)
    word, rest = pattern[0], pattern[1:]
    is_shown = word.startswith(".") or not parts[0].startswith(".")
    if word == "**":
        return _matches(parts, rest) or (is_shown and _matches(parts[1:], pattern))
    return is_shown and fnmatch.fnmatchcase(parts[0], word) and _matches(parts[1:], rest)
