"""The env repository's own rules, as a gate in front of the bump. Not a step, but a part of the bump's facts and plan."""

import posixpath
from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING

from pipeline_tools.errors import PipelineError, Refused
from pipeline_tools.steps.entries import Change
from pipeline_tools.steps.shape import Status
from pipeline_tools.text import env_rules, references

if TYPE_CHECKING:
    from pipeline_tools.adapters.git import Remote
    from pipeline_tools.text.env_rules import EnvRules

Place = tuple[str, str]
"""A folder of the env repository, and the name of an image there."""


def read(remote: "Remote", tip: str) -> "EnvRules | None":
    """The rules at a fetched commit; None without the file.

    Raises:
        PipelineError: the file cannot be read as rules, which is not the same as that there are none.
    """
    path = references.ENV_RULES
    found = next((entry for entry in remote.entries(tip, "") if entry.name == path), None)
    if found is None:
        return None
    if not found.is_file:
        raise PipelineError(f"{path} is no plain file", hint="no link, no folder: the rules themselves")
    try:
        return env_rules.loads(remote.read(tip, path).decode(), path)
    except UnicodeDecodeError:
        raise PipelineError(f"{path} is not UTF-8 text", hint="save it as UTF-8") from None


def places(changes: Iterable[Change]) -> tuple[Place, ...]:
    """What is to be written, as the rules name it."""
    written = [change for change in changes if change.status is Status.PLANNED]
    return tuple((posixpath.dirname(change.path), change.name) for change in written)


def passed(
    rules: "EnvRules | None", places: Iterable[Place], now: datetime, override: str | None
) -> tuple[str, ...]:
    """The rules that `override` overrules, in words; none where none forbids `places`.

    Raises:
        Refused: a rule forbids it, and there is no reason to override it (exit 3).
    """
    if rules is None:
        return ()
    targets = [env_rules.Target(*place) for place in places]
    found = tuple(str(objection) for objection in env_rules.objections(rules, targets, now))
    if found and not override:
        raise Refused(
            "; ".join(found),
            hint="wait, or bump all the same with --override REASON, which the commit records",
        )
    return found
