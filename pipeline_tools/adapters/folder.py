"""A folder of text files that we write: whole or not at all, and only what differs."""

import os
from pathlib import Path

from pipeline_tools.errors import PipelineError


class Folder:
    """The files below `path`, by their names relative to it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def folders(self) -> tuple[str, ...]:
        """The folders in it, sorted."""
        if not self.path.is_dir():
            return ()
        return tuple(sorted(item.name for item in self.path.iterdir() if item.is_dir()))

    def read(self, folder: str) -> dict[str, str]:
        """Every file below one of its folders; bytes that are no UTF-8 are replaced, so that they differ from ours."""
        found = sorted(item for item in (self.path / folder).rglob("*") if item.is_file())
        return {
            item.relative_to(self.path).as_posix(): item.read_bytes().decode(errors="replace")
            for item in found
        }

    def write(self, name: str, text: str) -> None:
        """Write one file: beside its place first, then moved there.

        Raises:
            PipelineError: it cannot be written.
        """
        path = self.path / name
        beside = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            beside.write_bytes(text.encode())
            beside.replace(path)
        except OSError as error:
            raise PipelineError(
                f"{path} cannot be written: {error.strerror}", hint="is there room, and may we write there?"
            ) from None
        finally:
            beside.unlink(missing_ok=True)
