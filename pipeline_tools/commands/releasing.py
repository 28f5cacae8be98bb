"""Steps of a release as commands run them: on the receipt of the steps before, which they write on, and with reports."""

import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Protocol

from pipeline_tools import options
from pipeline_tools.commands.session import Session, Source
from pipeline_tools.errors import PipelineError
from pipeline_tools.flows import release
from pipeline_tools.steps import shape
from pipeline_tools.steps.shape import Stage
from pipeline_tools.text import pairs, receipt, reports, versions
from pipeline_tools.text.receipt import Receipt, Tagged


class StepModule(Protocol):
    """What a step module offers (see `steps.shape`)."""

    Options: Any
    STEP: Any
    request: Any
    record: Any


def stage(run: Session, module: StepModule, ports: Callable[[Session], Any], **changes: object) -> Stage:
    """`module`'s step on this session's parameters, some of them changed."""
    picked = options.pick(module.Options, {**run.params, **changes})
    return Stage(
        step=module.STEP,
        request=lambda receipt: module.request(picked, receipt),
        ports=lambda: ports(run),
        record=module.record,
    )


def advance(run: Session, stage: Stage) -> Receipt:
    """One step on the receipt of the jobs before."""
    save = _writer(run)
    before = _read_receipt(run)
    return shape.advance(stage, before, run.console, save, dry_run=run.is_dry_run, patience=run.patience)


def flow(run: Session, stages: Iterable[Stage]) -> Receipt:
    """All steps of a release."""
    save = _writer(run)
    run.console.is_flow = True
    return release.run(stages, run.console, save, dry_run=run.is_dry_run, patience=run.patience)


def _read_receipt(run: Session) -> Receipt:
    """The receipt of the jobs before, if it is of this release; else one that begins with the tag at HEAD."""
    path: Path = run.params["receipt"]
    found = receipt.loads(path.read_bytes(), str(path)) if path.is_file() else Receipt()
    here = _tagged(run)
    return found if found.tag == here else Receipt(tag=here)


def _tagged(run: Session) -> Tagged | None:
    source = run.options(Source)
    commit = source.commit or run.checkout.tags.get(source.tag or "") or run.checkout.head
    names = [source.tag] if source.tag else run.checkout.tags_at(commit)
    known = versions.releases(names, source.tag_pattern)
    return Tagged(known[max(known)], str(max(known)), commit) if known else None


def _writer(run: Session) -> Callable[[Receipt], None]:
    """What writes the receipt and the reports; these are known to be good before anything is done."""
    kinds = pairs.parse("--report", run.params.get("report", ()))
    for kind in kinds:
        reports.render(kind, Receipt())

    def write(after: Receipt) -> None:
        if run.is_dry_run:
            return
        _replace(run.params["receipt"], receipt.dumps(after))
        for kind, path in kinds.items():
            _replace(Path(path), reports.render(kind, after))

    return write


def _replace(path: Path, text: str) -> None:
    """Write a file whole or not at all, readable for the jobs after this one, whoever they run as.

    Raises:
        PipelineError: it cannot be written there.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            file.write(text)
        Path(file.name).chmod(0o644)
        Path(file.name).replace(path)
    except OSError as error:
        raise PipelineError(
            f"{path} cannot be written: {error.strerror}", hint="see --receipt and --report"
        ) from None
