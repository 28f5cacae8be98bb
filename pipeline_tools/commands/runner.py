"""`runner render`, `runner lint`, `runner bind`."""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from pipeline_tools.adapters import vault as vaults
from pipeline_tools.adapters.folder import Folder
from pipeline_tools.adapters.vault_client import Server
from pipeline_tools.errors import Differs, PipelineError
from pipeline_tools.options import of, pick
from pipeline_tools.steps import bind as bind_step
from pipeline_tools.steps import prove as prove_step
from pipeline_tools.steps import render as render_step
from pipeline_tools.steps import shape
from pipeline_tools.steps.shape import Patience, Status
from pipeline_tools.text import binding_file, pairs, runner_lint
from pipeline_tools.text import findings as reports
from pipeline_tools.text.binding import Binding
from pipeline_tools.text.findings import Finding
from pipeline_tools.text.masks import Secret
from pipeline_tools.text.vault_login import Given


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
    return binding_file.loads(_text(path), str(path))


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


@dataclass(frozen=True)
class Report:
    """The findings of `runner lint`, in the files that were read."""

    status: Status
    files: tuple[str, ...]
    findings: tuple[Finding, ...]

    def summary(self) -> str:
        return f"{len(self.findings)} findings in {len(self.files)} files"


LINTED = frozenset({".yml", ".yaml", ".toml", ".json", ".hcl"})


@runner.command()
@click.argument("files", nargs=-1, type=click.Path(exists=True, path_type=Path))
@of(also=("binding", "directory", "report"))
@click.pass_context
def lint(
    context: click.Context,
    /,
    files: tuple[Path, ...],
    binding: Path,
    directory: Path,
    report: tuple[str, ...],
    **_: Any,
) -> None:
    """Find what is unsafe or out of date in binding files, Helm values, config.toml and what is rendered.

    FILES are files or folders. Default: the binding file and what is rendered from it.
    """
    paths = sorted(_files(files or (binding, directory)))
    with context.obj.step("lint"):
        findings = tuple(found for path in paths for found in runner_lint.lint(_text(path), str(path)))
        for finding in findings:
            context.obj.answer(str(finding))
        context.obj.outcome("lint", Report(Status.UNCHANGED, tuple(map(str, paths)), findings))
    _write_report(report, findings)
    if findings:
        raise Differs(f"{len(findings)} findings", hint="each line above names its cure")


def _files(paths: tuple[Path, ...]) -> set[Path]:
    """The files themselves, and below folders those that can be read."""
    found = {path for path in paths if not path.is_dir()}
    folders = [path for path in paths if path.is_dir()]
    return found | {
        item for path in folders for item in path.rglob("*") if item.is_file() and item.suffix in LINTED
    }


def _write_report(report: tuple[str, ...], findings: tuple[Finding, ...]) -> None:
    for kind, name in pairs.parse("--report", report).items():
        if kind != "codequality":
            raise PipelineError(
                f"--report here knows codequality, not {kind!r}", hint="write --report codequality=FILE"
            )
        Folder(Path(name).parent).write(Path(name).name, reports.code_quality(findings))


@dataclass(frozen=True)
class VaultAccess:
    """The server, and the token of someone who may write policies, roles and mounts there."""

    vault_address: str | None
    vault_namespace: str | None
    vault_ca_file: Path | None
    vault_token: Secret
    timeout: float


@dataclass(frozen=True)
class Bind:
    """What to bind, and how far to go."""

    binding: Path
    environment: tuple[str, ...]
    reviewer_token: Secret
    prove: bool
    only_check: bool
    dry_run: bool


@runner.command()
@of(Bind, VaultAccess)
@click.pass_context
def bind(context: click.Context, /, **params: Any) -> None:
    """Write mounts, auth configuration, policies, roles and transit keys of the binding into Vault, and prove the result."""
    asked, access = pick(Bind, params), pick(VaultAccess, params)
    binding = _binding(asked.binding)
    names = asked.environment or tuple(environment.name for environment in binding.environments)
    context.obj.is_flow = True
    with vaults.opened(
        _server(context, access), Given(access.vault_token), mask=context.obj.mask.add
    ) as vault:
        outcome = shape.run(
            bind_step.STEP,
            bind_step.Request(binding, names, asked.reviewer_token, is_strict=asked.only_check),
            bind_step.Ports(vault),
            context.obj,
            dry_run=asked.dry_run or asked.only_check,
            patience=Patience(access.timeout),
        )
        if asked.only_check and outcome.written:
            raise Differs(f"Vault is not as bound: {', '.join(outcome.written)}", hint="run runner bind")
        if asked.prove and not asked.dry_run and not asked.only_check:
            _prove(context, vault, prove_step.Request(binding, names))


def _prove(context: click.Context, vault: vaults.Vault, request: prove_step.Request) -> None:
    ports = prove_step.Ports(vault)
    shape.run(prove_step.STEP, request, ports, context.obj, dry_run=False, patience=Patience(0))


def _server(context: click.Context, access: VaultAccess) -> Server:
    """The server that option or variable names; a checkout's file does not choose where a token goes.

    Raises:
        click.UsageError: neither names one (exit 2), or there is no token.
    """
    for name in ("vault_address", "vault_token"):
        value = getattr(access, name)
        if not (value.reveal() if isinstance(value, Secret) else value):
            param = next(param for param in context.command.params if param.name == name)
            raise click.MissingParameter(ctx=context, param=param)
    return Server(
        str(access.vault_address), access.vault_namespace, access.vault_ca_file, min(access.timeout, 60.0)
    )
