"""`vault exec` and `vault doctor`."""

import logging
import os
import shlex
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import click

from pipeline_tools.adapters import stream
from pipeline_tools.adapters.vault import opened
from pipeline_tools.commands import lending
from pipeline_tools.commands.lending import Loan, VaultAccess, Wanted
from pipeline_tools.errors import Differs
from pipeline_tools.options import SECRET_VARIABLES, of, pick
from pipeline_tools.steps import diagnose
from pipeline_tools.steps.shape import Status
from pipeline_tools.text.masks import Secret

if TYPE_CHECKING:
    from pipeline_tools.console import Console

log = logging.getLogger(__name__)

PRIVATE = {"private": True}  # as in `console`, which this module does not need to import

EXIT_AFTER = 125
"""Our own failure once the child has run: a code that children rarely use (env(1), timeout(1))."""


@click.group()
def vault() -> None:
    """Lend a command what Vault keeps, for as long as it runs."""


@dataclass(frozen=True)
class Lending:
    """What a dry run shows, as plan and as outcome."""

    address: str
    identity: str
    variables: dict[str, str]
    command: tuple[str, ...]
    shown: tuple[str, ...] = field(metadata=PRIVATE)
    status: Status = Status.PLANNED
    unread: tuple[()] = field(default=(), metadata=PRIVATE)

    @classmethod
    def of(cls, loan: Loan, command: tuple[str, ...]) -> "Lending":
        names = {want.name: str(want) for want in loan.wants}
        names |= {f"{below.prefix}*": f"{below.path}/**" for below in loan.below}
        who = str(loan.reader) + (f" + {loan.decrypter}" if loan.decrypter else "")
        return cls(loan.server.address, who, names, command, tuple(loan.lines()))

    def lines(self) -> tuple[str, ...]:
        return self.shown

    def foreseen(self) -> "Lending":
        return self

    def summary(self) -> str:
        return f"would run {shlex.join(self.command)}"


@vault.command("exec", context_settings={"allow_interspersed_args": False})
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@of(VaultAccess, Wanted, also=("dry_run",))
@click.pass_context
def exec_(context: click.Context, /, command: tuple[str, ...], **params: Any) -> None:
    """Run COMMAND with secrets from Vault in its environment; its output is masked, its exit code is ours.

    What the login lent is revoked when it ends. --output is about our own errors; COMMAND's output stays its own.
    """
    console: Console = context.obj
    loan = lending.loan(pick(VaultAccess, params), pick(Wanted, params))
    if params["dry_run"]:
        plan = Lending.of(loan, command)
        console.plan("vault", plan)
        console.outcome("vault", plan)
        return
    for name in SECRET_VARIABLES:
        # A job has the secrets of every step; the child may use them, but not print them.
        console.mask.add_if_long_enough(Secret(os.environ.get(name, "")))
    context.exit(_run(console, loan, command, params))


def _run(console: "Console", loan: Loan, command: tuple[str, ...], params: dict[str, Any]) -> int:
    """The child's exit code; EXIT_AFTER for a failure of ours after it was started."""
    code: int | None = None
    try:
        with lending.lent(loan, console.mask.add) as loaned:
            environment = lending.environment(params, loaned)
            try:
                code = stream.run(command, environment=environment, through=console.mask.stream).code
            except OSError as error:
                code = EXIT_AFTER
                log.error("the output of %s could not be written on: %s", command[0], error.strerror)  # noqa: TRY400
    except Exception:
        if code is None:
            raise
        log.exception("after %s had ended with %d", command[0], code)
        return EXIT_AFTER
    return code


@vault.command()
@of(VaultAccess, Wanted, also=("dry_run",))
@click.pass_context
def doctor(context: click.Context, /, **params: Any) -> None:
    """Say what this identity may do in Vault, on each needed path, and what is wrong with it. Reads no secret."""
    console: Console = context.obj
    loan = lending.loan(pick(VaultAccess, params), pick(Wanted, params))
    if params["dry_run"]:
        plan = Lending.of(loan, ())
        console.plan("vault", plan)
        return
    with console.step("vault"):
        reports = []
        for identity, key in ((loan.reader, ""), (loan.decrypter, loan.transit_key)):
            if identity is None:
                continue
            with opened(loan.server, identity, mask=console.mask.add) as client:
                paths = (
                    ()
                    if key
                    else tuple(dict.fromkeys([*(w.path for w in loan.wants), *(b.path for b in loan.below)]))
                )
                reports.append(diagnose.diagnose(client, str(identity), paths, key))
        report = diagnose.Diagnosis(tuple(reports))
        for line in report.lines():
            console.answer(line)
        console.outcome("vault", report)
    if report.findings:
        raise Differs(f"{len(report.findings)} findings", hint="each is a line above")
