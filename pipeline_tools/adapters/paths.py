"""Paths that must not lead out."""

from pathlib import Path

from pipeline_tools.errors import PipelineError


def inside(root: Path, path: str) -> Path:
    """`path`, below `root`, which has no links in its own path.

    Raises:
        PipelineError: it leads out, by `..`, as an absolute path or through a link, or in a circle.
    """
    resolved = resolved_or_none(root / path)
    if resolved is None:
        raise PipelineError(f"{path!r} is links that lead nowhere", hint="they lead round in a circle")
    if not resolved.is_relative_to(root):
        raise PipelineError(f"{path!r} is outside the checkout", hint="give a path inside the repository")
    return resolved


def resolved_or_none(path: Path) -> Path | None:
    """Where a path leads, through its links; None where they lead round in a circle."""
    try:
        return path.resolve()
    except (RuntimeError, OSError):  # pathlib, up to Python 3.12 the first
        return None
