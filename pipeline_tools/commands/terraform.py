"""`terraform check`, `plan`, `apply`, `destroy`, `drift` and `unlock`."""

import logging
import os
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import click

from pipeline_tools.adapters import age
from pipeline_tools.adapters.folder import Folder
from pipeline_tools.commands.infrastructure import ACCESS, Here, Infrastructure, Roots, opened
from pipeline_tools.commands.session import Home
from pipeline_tools.errors import Differs, PipelineError, Refused
from pipeline_tools.options import of
from pipeline_tools.steps import (
    shape,
    terraform_apply,
    terraform_check,
    terraform_drift,
    terraform_plan,
    terraform_unlock,
)
from pipeline_tools.steps.planning import Root
from pipeline_tools.steps.shape import Patience, Step
from pipeline_tools.text import findings, pairs, passport, terraform_rules
from pipeline_tools.text.masks import Secret
from pipeline_tools.text.passport import Passport
from pipeline_tools.text.terraform_ui import Told

log = logging.getLogger(__name__)


@click.group()
def terraform() -> None:
    """Check, plan and apply Terraform roots as they were reviewed; find drift; remove locks."""


@dataclass(frozen=True)
class Planning:
    """Where a plan goes."""

    plans: Path
    plan_recipient: str | None
    note: bool


@dataclass(frozen=True)
class Applying:
    """The rules of an apply, and what opens its plan."""

    plans: Path
    plan_identity: Secret
    max_deletes: int
    approve_deletes: tuple[str, ...]
    lock_timeout: float
    job_id: int | None


# check ---------------------------------------------------------------------------------------------------------


@terraform.command()
@of(Roots, Home, also=("allow_provider", "terraform_binary", "report"))
@click.pass_context
def check(context: click.Context, /, **params: Any) -> None:
    """Find what is wrong with the roots before any credential is fetched: format, validity, providers, modules, secrets."""
    with opened(context) as run:
        reports = _reports(run, "codequality")
        allowed = frozenset(params["allow_provider"]) or terraform_rules.ALLOWED
        ports = terraform_check.Ports(run.configuration, run.inspector)
        with run.console.step("check"):
            found = [terraform_check.check(root, ports, allowed=allowed) for root in run.roots]
            report = terraform_check.joined(found)
            for finding in report.findings:
                run.console.answer(str(finding))
            for part in report.not_run:
                log.warning("%s", part)
            run.console.outcome("check", report)
        for path in reports.values():
            _write(path, findings.code_quality(report.findings))
    if report.findings:
        raise Differs(f"{len(report.findings)} findings", hint="each line above names its cure")


# plan ----------------------------------------------------------------------------------------------------------


@terraform.command()
@of(Planning, Here, *ACCESS, also=("report", "dry_run"))
@click.pass_context
def plan(context: click.Context, /, **_: Any) -> None:
    """Plan each root without a lock, say it on the merge request, and bind it to its content with a passport.

    On a branch the plan is compared with the one that was reviewed on the merge request.
    """
    outcomes: list[terraform_plan.Outcome] = []
    with opened(context) as run:
        reports = _reports(run, "terraform")
        run.each(lambda root: outcomes.append(_plan(run, root, "normal")), past=(PipelineError,))
        if not run.is_dry_run:
            for path in reports.values():
                _write(path, terraform_plan.widget(outcomes))


def _plan(
    run: Infrastructure, root: Root, mode: passport.Mode, *, writes_note: bool = True
) -> terraform_plan.Outcome:
    asked = run.options(Planning)
    request = terraform_plan.Request(
        root, run.made, asked.plan_recipient, mode, writes_note=asked.note and writes_note
    )
    ports = terraform_plan.Ports(
        run.shop(root.path), run.registry, run.notes, Folder(asked.plans), age.encrypt
    )
    return _run(run, terraform_plan.STEP, root, request, ports)  # type: ignore[no-any-return]


def _run(
    run: Infrastructure, step: Step[Any, Any, Any, Any, Any], root: Root, request: Any, ports: Any
) -> Any:
    """A step on one root, under its name where there are several."""
    name = f"{step.name} {root.path}" if run.has_several else step.name
    return shape.run(
        replace(step, name=name),
        request,
        ports,
        run.console,
        dry_run=run.is_dry_run,
        patience=Patience(600.0),
    )


# apply and destroy ---------------------------------------------------------------------------------------------


@terraform.command()
@of(Applying, Here, *ACCESS, also=("as_reviewed", "plan_recipient", "dry_run"))
@click.pass_context
def apply(context: click.Context, /, **params: Any) -> None:
    """Apply the saved plan of this pipeline, if everything it was made from is as it was; nothing else."""
    with opened(context) as run:
        run.each(
            lambda root: _apply(run, root, partial(_passport, run, root), partial(_decrypted, run, root)),
            # One root that is not as reviewed waits for a person; the others need not.
            past=(Refused,) if params["as_reviewed"] else (),
        )


@terraform.command()
@of(Applying, Planning, Here, *ACCESS, also=("dry_run",))
@click.pass_context
def destroy(context: click.Context, /, **_: Any) -> None:
    """Plan the destruction of each root, and apply that plan if its passport's deletions are approved."""
    with opened(context) as run:
        run.each(lambda root: _destroy(run, root))


def _destroy(run: Infrastructure, root: Root) -> None:
    run.console.is_flow = True  # two steps, each with a plan and a result of its own
    outcome = _plan(run, root, "destroy", writes_note=False)
    made, path = outcome.planned.passport.sealed(root.key), outcome.planned.path
    _apply(run, root, lambda: made, lambda: path, mode="destroy")


def _apply(
    run: Infrastructure,
    root: Root,
    made: Callable[[], Passport],
    path: Callable[[], Path],
    mode: passport.Mode = "normal",
) -> terraform_apply.Outcome:
    asked = run.options(Applying)
    request = terraform_apply.Request(
        root,
        run.made,
        asked.max_deletes,
        asked.approve_deletes,
        run.params.get("as_reviewed", False),
        asked.lock_timeout,
        _holder(run),
        mode,
    )
    ports = terraform_apply.Ports(
        run.shop(root.path),
        made,
        path,
        partial(_discard, asked.plans / root.slug),
        run.registry,
        Told,
        partial(_keep, run, root),
    )
    return _run(run, terraform_apply.STEP, root, request, ports)  # type: ignore[no-any-return]


def _holder(run: Infrastructure) -> Mapping[str, Any]:
    """What `unlock` reads of this job: Terraform's lock names user and host."""
    return {
        "job": run.params["job_id"],
        "url": run.params["job_url"],
        "host": socket.gethostname(),
        "pid": os.getpid(),
    }


def _passport(run: Infrastructure, root: Root) -> Passport:
    """The passport that the plan job left."""
    file = _left(run, root, terraform_plan.PASSPORT_FILE)
    return passport.loads(file.read_bytes(), str(file))


def _decrypted(run: Infrastructure, root: Root) -> Path:
    """The plan that the plan job left, in the clear as long as this runs."""
    target = run.scratch / f"{root.slug}.saved"
    identity = run.ours("PT_PLAN_IDENTITY", run.options(Applying).plan_identity)
    age.decrypt(_left(run, root, terraform_plan.PLAN_FILE), target, identity)
    return target


def _left(run: Infrastructure, root: Root, name: str) -> Path:
    file = run.options(Applying).plans / root.slug / name
    if not file.is_file():
        raise PipelineError(
            f"{root.path}: there is no {file}",
            hint="run terraform plan with --plan-recipient in this pipeline first",
        )
    return file


def _discard(folder: Path) -> None:
    (folder / terraform_plan.PLAN_FILE).unlink(missing_ok=True)


def _keep(run: Infrastructure, root: Root, state: Path) -> str:
    """A state that could not be stored goes encrypted into the artifacts; without a recipient it stays where it is."""
    to = run.params["plan_recipient"]
    identity = run.ours("PT_PLAN_IDENTITY", run.options(Applying).plan_identity)
    if not to and identity.reveal():
        to = age.recipient(identity)
    if not to:
        return str(state)
    target = run.options(Applying).plans / root.slug / "errored.tfstate.age"
    age.encrypt(state, target, to)
    state.unlink()
    return str(target)


# drift and unlock ----------------------------------------------------------------------------------------------


@terraform.command()
@of(Here, *ACCESS, also=("dry_run",))
@click.pass_context
def drift(context: click.Context, /, **_: Any) -> None:
    """Find what differs from what was applied though nobody changed the configuration; one issue a root says so."""
    drifted: list[str] = []
    with opened(context) as run:
        run.each(lambda root: drifted.extend(_drift(run, root).drifted), past=(PipelineError,))
    if drifted:
        raise Differs(f"drift: {len(drifted)} objects", hint="the issue of each root says what to do")


def _drift(run: Infrastructure, root: Root) -> terraform_drift.Outcome:
    request = terraform_drift.Request(root, run.made)
    ports = terraform_drift.Ports(run.shop(root.path), run.registry, run.notes)
    return _run(run, terraform_drift.STEP, root, request, ports)  # type: ignore[no-any-return]


@terraform.command()
@of(*ACCESS, also=("force", "dry_run"))
@click.pass_context
def unlock(context: click.Context, /, force: bool, **_: Any) -> None:
    """Show who holds a state's lock; remove it if it is ours and that job has ended."""
    with opened(context) as run:
        run.each(partial(_unlock, run, force), past=(PipelineError,))


def _unlock(run: Infrastructure, force: bool, root: Root) -> None:
    ports = terraform_unlock.Ports(run.terraform(root.path), run.registry, run.jobs)
    _run(run, terraform_unlock.STEP, root, terraform_unlock.Request(root, force), ports)


# Reports -------------------------------------------------------------------------------------------------------


def _reports(run: Infrastructure, kind: str) -> dict[str, str]:
    """Path by kind of report; known to be good before anything is done."""
    found = pairs.parse("--report", run.params["report"])
    if unknown := found.keys() - {kind}:
        raise PipelineError(
            f"--report here knows {kind}, not {unknown.pop()!r}", hint=f"write --report {kind}=FILE"
        )
    return found


def _write(path: str, text: str) -> None:
    Folder(Path(path).parent).write(Path(path).name, text)
