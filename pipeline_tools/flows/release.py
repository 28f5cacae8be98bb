"""The release: tag, build, push, bump and trigger, with one receipt."""

from collections.abc import Callable, Iterable

from pipeline_tools.steps.shape import Patience, Stage, Voice, advance
from pipeline_tools.text.receipt import Receipt


def run(
    stages: Iterable[Stage],
    voice: Voice,
    save: Callable[[Receipt], None],
    *,
    dry_run: bool,
    patience: Patience,
) -> Receipt:
    """Run the stages in order; `save` the receipt after each, so that nothing done is forgotten.

    A release may be killed anywhere and run again: each step finds what it did by reading the world, not the
    receipt. In a dry run each plan is made from what the one before foresees.
    """
    receipt = Receipt()
    for stage in stages:
        receipt = advance(stage, receipt, voice, save, dry_run=dry_run, patience=patience)
    return receipt
