"""Overlays of the env repository at a commit: their files, what they build on, and what they render to.

Not a step but what the steps that look at overlays share, as all share `shape`.
"""

import difflib
import posixpath
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline_tools.errors import PipelineError
from pipeline_tools.text import kustomization
from pipeline_tools.text.kustomization import FILE_NAMES

if TYPE_CHECKING:
    from pipeline_tools.adapters.git import Remote
    from pipeline_tools.adapters.kustomize import Kustomize


@dataclass(frozen=True)
class Rendered:
    """What one overlay renders to: as it stands at a commit, and with other files in place."""

    folder: str
    before: str
    after: str


def file(remote: "Remote", tip: str, overlay: str) -> tuple[str, str]:
    """Path and text of an overlay's kustomization file."""
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
    path = f"{overlay}/{names[0]}"
    try:
        return path, remote.read(tip, path).decode()
    except UnicodeDecodeError:
        raise PipelineError(f"{path} is not UTF-8 text", hint="save it as UTF-8") from None


def both(
    remote: "Remote", kustomize: "Kustomize", tip: str, files: tuple[tuple[str, str], ...]
) -> tuple[Rendered, ...]:
    """Render the folders of `files` (path and text) as they stand at `tip`, and again with `files` in place.

    Raises:
        PipelineError: a folder does not render.
    """
    folders = sorted({posixpath.dirname(path) for path, _ in files})
    with tempfile.TemporaryDirectory(prefix="pipeline-tools-render-") as scratch:
        directory = Path(scratch)
        remote.materialise(tip, _closure(remote, tip, set(folders)), directory)
        before = _render(kustomize, directory, folders)
        for path, text in files:
            (directory / path).write_bytes(text.encode())
        after = _render(kustomize, directory, folders)
    return tuple(Rendered(folder, before[folder], after[folder]) for folder in folders)


def _render(kustomize: "Kustomize", directory: Path, folders: Iterable[str]) -> dict[str, str]:
    return {folder: kustomize.build(directory / folder, folder) for folder in folders}


def _closure(remote: "Remote", tip: str, folders: set[str]) -> tuple[str, ...]:
    """The folders and every folder that their kustomizations build on."""
    seen: set[str] = set()
    waiting = set(folders)
    while waiting:
        folder = waiting.pop()
        seen.add(folder)
        path, text = file(remote, tip, folder)
        below = {
            posixpath.normpath(posixpath.join(folder, name)) for name in kustomization.folders(text, path)
        }
        waiting |= {name for name in below - seen if not name.startswith("..") and remote.entries(tip, name)}
    return tuple(sorted(seen))


def difference(rendered: Rendered) -> str:
    """The unified difference of the manifests."""
    lines = difflib.unified_diff(
        rendered.before.splitlines(keepends=True),
        rendered.after.splitlines(keepends=True),
        f"{rendered.folder} (now)",
        f"{rendered.folder} (bumped)",
    )
    return "".join(lines)
