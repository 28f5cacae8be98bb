"""A plan for a terminal or a job log: a line for each object, with Terraform's own symbols."""

from collections.abc import Iterator

from pipeline_tools.text.terraform_kapsule import notes
from pipeline_tools.text.terraform_plan import Action, Change, Summary

SYMBOLS = {
    Action.NO_OP: " ",
    Action.CREATE: "+",
    Action.READ: "<=",
    Action.UPDATE: "~",
    Action.DELETE: "-",
    Action.REPLACE: "-/+",
    Action.FORGET: ".",
}
"""developer.hashicorp.com/terraform/cli/commands/plan, "Reading the output"."""


def lines(summary: Summary) -> Iterator[str]:
    """What happens to each object, what a reviewer should know of it, and what Terraform found besides."""
    yield from (f"{SYMBOLS[change.action]:3} {_said(change)}" for change in summary.changes)
    yield from (f"{'!':3} {change.address} has changed outside Terraform" for change in summary.drift)
    yield from (f"{'…':3} {late.change.address} is deferred: {late.reason}" for late in summary.deferred)
    yield from (f"{'=':3} output {output.name}" for output in summary.outputs)
    for check in summary.failed_checks:
        yield f"{'?':3} {check.address}: {check.status}"
        yield from (f"{'':3}   {problem}" for problem in check.problems)
    for note in notes(summary):
        yield f"{note.severity}: {note.address}: {note.line}"
        yield f"  {note.hint}"


def _said(change: Change) -> str:
    parts = [change.address]
    if change.replaced_by:
        parts.append(f"because of {', '.join(change.replaced_by)}")
    if change.previous_address:
        parts.append(f"moved from {change.previous_address}")
    if change.importing:
        parts.append(f"imported as {change.importing}")
    return ", ".join(parts)
