"""`runner render`, `runner lint`, `runner bind`."""

from contextlib import suppress
from pathlib import Path
from typing import Any

import click

from pipeline_tools.adapters.folder import Folder
from pipeline_tools.errors import Differs, PipelineError
from pipeline_tools.options import of
from pipeline_tools.steps import render as render_step
from pipeline_tools.steps import shape
from pipeline_tools.steps.shape import Patience
from pipeline_tools.text import binding as bindings
from pipeline_tools.text.binding import Binding


@click.group()
def runner() -> None:
    """Render, check and bind GitLab runners from one binding file."""


def _text(path: Path) -> str:
    """A file's text.

    Raises:
        PipelineError: it is no file, or no text.
    """
    with suppress(OSError, UnicodeDecodeError):
        return path.read_text(encoding="utf-8")
    raise PipelineError(f"{path} cannot be read as text", hint="check the path")


def _binding(path: Path) -> Binding:
    return bindings.loads(_text(path), str(path))


@runner.command()
@of(also=("binding", "directory", "only_check", "dry_run"))
@click.pass_context
def render(
    context: click.Context, /, binding: Path, directory: Path, *, only_check: bool, dry_run: bool, **_: Any
) -> None:
    """Write Helm values, Kubernetes objects, Vault's objects and IAM bindings for every environment and class."""
    outcome = shape.run(
        render_step.STEP,
        render_step.Request(_binding(binding)),
        render_step.Ports(Folder(directory)),
        context.obj,
        dry_run=dry_run or only_check,
        patience=Patience(0),
    )
    if only_check and (outcome.written or outcome.stale):
        names = ", ".join([*outcome.written, *outcome.stale])
        raise Differs(f"not what the binding renders: {names}", hint="run runner render and commit the files")
