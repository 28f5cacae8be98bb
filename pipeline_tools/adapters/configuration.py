"""The Terraform files of a checkout, as text. Untrusted: links out of the checkout are not followed, sizes are bounded."""

from pathlib import Path

from pipeline_tools.errors import PipelineError
from pipeline_tools.text.terraform_files import is_configuration

MOST = 4 * 1024 * 1024
"""Bytes of one file that are read; what parses it refuses less."""
_BUNDLES = frozenset({".terraform", "terraform.d", ".tflint.d"})
"""Folders that Terraform and tflint take programs from (CLI docs, "Provider Installation"; tflint, "Plugin Configuration")."""
_TFLINT = (".tflint.hcl", ".tflint.json")


class Configuration:
    """The checkout at `root`; `tracked` are the paths of its commit."""

    def __init__(self, root: Path, tracked: frozenset[str]) -> None:
        self._root, self._tracked = root, tracked

    def folders(self) -> list[str]:
        """Every folder that holds configuration, by its path."""
        found = {path.rpartition("/")[0] or "." for path in self._tracked if is_configuration(path)}
        return sorted(found)

    def configuration(self, folder: str) -> dict[str, str]:
        """The texts of a folder's files, and of those in its `tests`, by their paths; empty without such a folder."""
        places = [self._root / folder, self._root / folder / "tests"]
        files = [item for place in places if place.is_dir() for item in sorted(place.iterdir())]
        return {
            item.relative_to(self._root).as_posix(): _text(item)
            for item in files
            if is_configuration(item.name) and item.is_file() and self._is_inside(item)
        }

    def linked(self, folder: str) -> tuple[str, ...]:
        """Where git's links in a folder and below lead, sorted: the folder's tree has a link's name alone.

        Raises:
            PipelineError: one leads out of the checkout, where nothing is bound to a commit.
        """
        paths = [
            path for path in sorted(self._tracked) if f"{path}/".startswith(f"{folder}/") or folder == "."
        ]
        return tuple(sorted({self._target(path) for path in paths if (self._root / path).is_symlink()}))

    def _target(self, path: str) -> str:
        file = self._root / path
        if not self._is_inside(file):
            raise PipelineError(f"the link {path} leads out of the checkout", hint="copy what it leads to")
        return file.resolve().relative_to(self._root.resolve()).as_posix()

    def bundled(self, root: str) -> tuple[str, ...]:
        """What git tracks below the root that programs would be taken from."""
        prefix = "" if root == "." else f"{root}/"
        below = [path for path in sorted(self._tracked) if path.startswith(prefix)]
        return tuple(path for path in below if self._brings_programs(path))

    def _brings_programs(self, path: str) -> bool:
        if _BUNDLES & set(path.split("/")[:-1]):
            return True
        file = self._root / path
        if not path.endswith(_TFLINT) or not file.is_file() or not self._is_inside(file):
            return False
        return "plugin_dir" in _text(file)

    def _is_inside(self, path: Path) -> bool:
        return path.resolve().is_relative_to(self._root.resolve())


def _text(path: Path) -> str:
    """The file's text, one character more than the limit where it is longer; broken UTF-8 is replaced."""
    with path.open("rb") as file:
        return file.read(MOST + 1).decode(errors="replace")
