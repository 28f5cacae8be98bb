"""Paths that must not lead out."""

from pathlib import Path

from pipeline_tools.errors import PipelineError


def inside(root: Path, path: str) -> Path:
    """`path`, below `root`, which has no links in its own path.

    Raises:
        PipelineError: it leads out, by `..`, as an absolute path or through a link.
    """
    resolved = (root / path).resolve()
    if not resolved.is_relative_to(root):
        raise PipelineError(f"{path!r} is outside the checkout", hint="give a path inside the repository")
    return resolved
