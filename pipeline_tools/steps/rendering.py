"""What overlays of the env repository render to at a commit, and with other files in place.

Not a step but what the steps that look at overlays share, as all share `shape`.
"""

import posixpath
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline_tools.errors import PipelineError
from pipeline_tools.steps import overlays
from pipeline_tools.text import kustomization, rendered
from pipeline_tools.text.rendered import Move, Use

if TYPE_CHECKING:
    from pipeline_tools.adapters.git import Remote
    from pipeline_tools.adapters.kustomize import Kustomize

Files = tuple[tuple[str, str], ...]
_MOST_SHOWN = 20


@dataclass(frozen=True)
class Rendering:
    """What the overlay `folder` renders to: as it stands at a commit, and with other files in place."""

    folder: str
    before: str
    after: str

    @property
    def moves(self) -> tuple[Move, ...]:
        """Which containers get another image."""
        return rendered.moves(self.folder, self.before, self.after)

    @property
    def difference(self) -> str:
        """The unified difference of the manifests."""
        return rendered.difference(self.folder, self.before, self.after)


@dataclass(frozen=True)
class Proof:
    """`renderings` by folder, and for each edited folder in `shows` the folders in whose rendering its edit shows.

    A component renders in what includes it, any other kustomization in its own rendering.
    """

    renderings: tuple[Rendering, ...]
    shows: dict[str, frozenset[str]]

    def uses(self, folder: str) -> tuple[Use, ...]:
        """The images that an edit in `folder` could reach, after it."""
        seen = [rendering for rendering in self.renderings if rendering.folder in self.shows[folder]]
        return tuple(dict.fromkeys(use for rendering in seen for use in rendered.uses(rendering.after)))


def proof(
    remote: "Remote", kustomize: "Kustomize", tip: str, files: Files, *, dependents: bool = False
) -> Proof:
    """Render the folders of `files` (path and text) as they stand at `tip`, and again with `files` in place.

    Args:
        remote: the env repository.
        kustomize: what renders.
        tip: a fetched commit of it.
        files: path and new text of kustomization files that exist there.
        dependents: render every overlay too that builds on one of these folders.

    Raises:
        PipelineError: a folder does not render, or nothing includes a component.
    """
    edited = {posixpath.dirname(path): path for path, _ in files}
    components = {posixpath.dirname(path) for path, text in files if kustomization.is_component(text, path)}
    above = overlays.dependents(remote, tip, set(edited) if dependents else components)
    shows = {
        folder: _shown_in(remote, tip, folder, above) if folder in components else frozenset({folder})
        for folder in edited
    }
    folders = sorted(
        set().union(*shows.values(), *(_buildable(remote, tip, found) for found in above.values()))
    )
    return Proof(_both(remote, kustomize, tip, files, folders), shows)


def _shown_in(remote: "Remote", tip: str, folder: str, above: dict[str, frozenset[str]]) -> frozenset[str]:
    found = _buildable(remote, tip, above[folder])
    if not found:
        raise PipelineError(
            f"{folder} is a component that no overlay includes",
            hint="name the overlay that deploys the image",
        )
    return found


def _buildable(remote: "Remote", tip: str, folders: Iterable[str]) -> frozenset[str]:
    """Those that are no components."""
    files = {folder: overlays.file(remote, tip, folder) for folder in folders}
    return frozenset(
        folder for folder, (path, text) in files.items() if not kustomization.is_component(text, path)
    )


def _both(
    remote: "Remote", kustomize: "Kustomize", tip: str, files: Files, folders: list[str]
) -> tuple[Rendering, ...]:
    with tempfile.TemporaryDirectory(prefix="pipeline-tools-render-") as scratch:
        directory = Path(scratch)
        remote.materialise(tip, overlays.closure(remote, tip, folders), directory)
        before = _render(kustomize, directory, folders)
        for path, text in files:
            (directory / path).write_bytes(text.encode())
        after = _render(kustomize, directory, folders)
    return tuple(Rendering(folder, before[folder], after[folder]) for folder in folders)


def _render(kustomize: "Kustomize", directory: Path, folders: Iterable[str]) -> dict[str, str]:
    return {folder: kustomize.build(directory / folder, folder) for folder in folders}


def listed(uses: Iterable[Use]) -> str:
    """The images that exist, for a message."""
    texts = sorted({f"{use.image} ({use.owner})" for use in uses})
    more = [f"and {len(texts) - _MOST_SHOWN} more"] if len(texts) > _MOST_SHOWN else []
    return ", ".join([*texts[:_MOST_SHOWN], *more]) or "none"
