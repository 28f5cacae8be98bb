"""The rules of an env repository, `.pipeline-tools.yml`, schema 1: when nothing may be bumped, and what is held.

`docs/reference/pipeline-tools-yml.md` is written from these classes. Freeze windows have the fields of GitLab's deploy
freezes (docs.gitlab.com/api/freeze_periods); cron as Debian's cron reads it around a change of the clocks (`cronsim`).
"""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError
from ruamel.yaml.nodes import Node

from pipeline_tools.errors import PipelineError
from pipeline_tools.text import references
from pipeline_tools.text.printing import printable
from pipeline_tools.text.schema import Lines, Many, Number, Part, Problem, Reader, accepted, load, said

FILE_NAME = references.ENV_RULES

LONGEST = 200
"""Characters of a reason or a name."""


# Kinds of value ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Word:
    """A text that `sound` takes; `says` completes the sentence "… is no …"."""

    says: str
    sound: Callable[[str], object]

    def read(self, reader: Reader, node: Node, where: str) -> str | None:
        text = reader.text(node, where)
        if text is None or self._is_sound(text):
            return text
        reader.wrong(node, where, f"{printable(text)} is no {self.says}")
        return None

    def _is_sound(self, text: str) -> bool:
        try:
            return bool(self.sound(text))
        except (CronSimError, PipelineError, KeyError, ValueError, OSError, StopIteration):
            return False


class Moment:
    """An instant: date, time and offset from UTC."""

    says = "date and time with its offset (`2026-12-24T18:00:00+01:00`)"

    def read(self, reader: Reader, node: Node, where: str) -> datetime | None:
        text = reader.text(node, where)
        try:
            found = datetime.fromisoformat(text) if text is not None else None
        except ValueError:
            found = None
        if text is not None and (found is None or found.tzinfo is None):
            reader.wrong(node, where, f"{printable(text)} is no {self.says}")
            return None
        return found


def _fires(expression: str) -> bool:
    """Five fields that some minute matches: 30 February never begins a window, and never ends one."""
    return len(expression.split()) == 5 and bool(next(CronSim(expression, datetime(2024, 1, 1, tzinfo=UTC))))  # noqa: PLR2004 (minute, hour, day, month, weekday)


_LINE = Word(
    f"line of at most {LONGEST} characters", lambda text: text.isprintable() and 0 < len(text) <= LONGEST
)
_CRON = Word("cron expression that ever comes true (minute hour day month weekday)", _fires)
_ZONE = Word("time zone of the IANA database (`Europe/Paris`)", ZoneInfo)
_OVERLAYS = Many(Word("glob of folders", references.folder), least=1)
_IMAGES = Many(Word("glob of names", lambda text: re.fullmatch(r"[A-Za-z0-9._/*?:\[\]-]+", text)), least=1)


# The file ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class FreezeWindow:
    """From each `freeze_start` until the next `freeze_end` nothing is bumped."""

    freeze_start: str = said(_CRON, "when a freeze begins")
    freeze_end: str = said(_CRON, "when it ends")
    cron_timezone: str = said(_ZONE, "whose clock both go by", default="UTC")
    overlays: tuple[str, ...] = said(_OVERLAYS, "the overlays it is for; without them all", default=())
    reason: str = said(_LINE, "why, for whoever is refused", default="")
    line: int = 0


@dataclass(frozen=True)
class Hold:
    """What somebody keeps as it is: images, overlays, or these images in these overlays."""

    reason: str = said(_LINE, "why, for whoever is refused")
    by: str = said(_LINE, "who decided it")
    images: tuple[str, ...] = said(_IMAGES, "globs of names under `images:`; without them all", default=())
    overlays: tuple[str, ...] = said(_OVERLAYS, "globs of overlays; without them all", default=())
    since: datetime | None = said(Moment(), "when it begins; without it, it has begun", default=None)
    until: datetime | None = said(Moment(), "when it ends; without it, when it is taken out", default=None)
    line: int = 0


@dataclass(frozen=True)
class EnvRules:
    """The whole file."""

    schema: int = said(Number(1, 1), "version of the format")
    freeze_windows: tuple[FreezeWindow, ...] = said(
        Many(Part(FreezeWindow)), "when nothing is bumped", default=()
    )
    holds: tuple[Hold, ...] = said(Many(Part(Hold)), "what is kept as it is", default=())


PARTS = ((EnvRules, ""), (FreezeWindow, "freeze_windows[]"), (Hold, "holds[]"))
"""Every class of the file and where it stands, for the documentation."""


def read(text: str) -> tuple[EnvRules | None, tuple[Problem, ...]]:
    """The rules of a file's text, and everything that is wrong with it, in the order of the lines."""
    rules, reader = load(EnvRules, text)
    if rules is None:
        return None, tuple(sorted(reader.problems))
    rules = _located(rules, reader.lines)
    problems = [*reader.problems, *_cross(rules)]
    return (None if problems else rules), tuple(sorted(problems))


def loads(text: str, path: str = FILE_NAME) -> EnvRules:
    """The rules of a file's text.

    Raises:
        PipelineError: something is wrong with it; the message names the first line of that, the hint the others. A
            rule that cannot be read is not a rule that is not there: nothing is bumped until it is mended.
    """
    return accepted(*read(text), path, "docs/reference/pipeline-tools-yml.md")


def _located(rules: EnvRules, lines: Lines) -> EnvRules:
    """Each rule with the line that it begins at."""

    def line(where: str) -> int:
        return min(number for path, number in lines.items() if path.startswith(f"{where}."))

    return replace(
        rules,
        freeze_windows=tuple(
            replace(window, line=line(f"freeze_windows[{n}]"))
            for n, window in enumerate(rules.freeze_windows)
        ),
        holds=tuple(replace(hold, line=line(f"holds[{n}]")) for n, hold in enumerate(rules.holds)),
    )


def _cross(rules: EnvRules) -> Iterator[Problem]:
    for number, hold in enumerate(rules.holds):
        where = f"holds[{number}]"
        if not hold.images and not hold.overlays:
            yield Problem(hold.line, where, "names neither images nor overlays: it would hold everything")
        if hold.since and hold.until and hold.since >= hold.until:
            yield Problem(hold.line, where, "ends before it begins")


# What they say -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Target:
    """What is to be bumped: the folder of an overlay, and the name of an entry there."""

    overlay: str
    image: str


@dataclass(frozen=True)
class Objection:
    """A rule that says no: its line in the file, what it says, and when it ends by itself."""

    line: int
    message: str
    ends: datetime | None

    def __str__(self) -> str:
        ends = f"until {self.ends.isoformat()}" if self.ends else "until it is taken out of the file"
        return f"{FILE_NAME}:{self.line}: {self.message} {ends}"


def objections(rules: EnvRules, targets: Iterable[Target], now: datetime) -> tuple[Objection, ...]:
    """The rules that forbid to bump any of `targets` at the instant `now`, in the order of the file.

    Args:
        rules: of the env repository.
        targets: all that would be changed.
        now: an aware datetime. A window or hold includes the instant it begins at, not the one it ends at.
    """
    wanted = tuple(targets)
    found = (*_frozen(rules, wanted, now), *_held(rules, wanted, now))
    return tuple(sorted(found, key=lambda objection: objection.line))


def _frozen(rules: EnvRules, targets: tuple[Target, ...], now: datetime) -> Iterator[Objection]:
    for window in rules.freeze_windows:
        hit = [target.overlay for target in targets if _in(window.overlays, target.overlay)]
        ends = freeze_end(window, now) if hit else None
        if ends:
            reason = f" ({window.reason})" if window.reason else ""
            yield Objection(window.line, f"{hit[0]} is frozen{reason}", ends)


def _held(rules: EnvRules, targets: tuple[Target, ...], now: datetime) -> Iterator[Objection]:
    for hold in rules.holds:
        begun, ended = hold.since is None or hold.since <= now, hold.until is not None and hold.until <= now
        hit = [target for target in targets if _covers(hold, target)]
        if hit and begun and not ended:
            what = f"{hit[0].image} in {hit[0].overlay}"
            yield Objection(hold.line, f"{what} is held by {hold.by} ({hold.reason})", hold.until)


def _covers(hold: Hold, target: Target) -> bool:
    named = not hold.images or any(fnmatchcase(target.image, glob) for glob in hold.images)
    return named and _in(hold.overlays, target.overlay)


def _in(globs: tuple[str, ...], folder: str) -> bool:
    return not globs or any(_matches(folder.split("/"), glob.split("/")) for glob in globs)


def _matches(parts: list[str], glob: list[str]) -> bool:
    """Part by part as in `--overlay`; besides, `**` is any number of folders."""
    if not glob:
        return not parts
    if glob[0] == "**":
        return any(_matches(parts[number:], glob[1:]) for number in range(len(parts) + 1))
    return bool(parts) and fnmatchcase(parts[0], glob[0]) and _matches(parts[1:], glob[1:])


# Time ----------------------------------------------------------------------------------------------------------

_CLEAR = timedelta(hours=3)
"""Farther from any instant than the clocks are ever moved: counting begins outside an hour that there is twice."""


def freeze_end(window: FreezeWindow, now: datetime) -> datetime | None:
    """When the freeze ends in which `now` lies; None where it lies in none.

    Frozen is whatever has a start behind it and no end since, a start and an end at one instant being an end. (GitLab
    asks besides that no other start comes before the next end, so that of a window with a start every day and an end
    every Monday it freezes only the last day; app/models/ci/freeze_period_status.rb.)
    """
    zone = ZoneInfo(window.cron_timezone)
    started, ended = (_last(expression, now, zone) for expression in (window.freeze_start, window.freeze_end))
    if started is None or (ended is not None and ended >= started):
        return None
    ticks = map(_utc, CronSim(window.freeze_end, (now - _CLEAR).astimezone(zone)))
    return next(tick for tick in ticks if tick > now).astimezone(zone)


def _last(expression: str, now: datetime, zone: ZoneInfo) -> datetime | None:
    """The last time at or before `now` that `expression` was true, as an instant of UTC."""
    ticks = map(_utc, CronSim(expression, (now + _CLEAR).astimezone(zone), reverse=True))
    return next((tick for tick in ticks if tick <= now), None)


def _utc(tick: datetime) -> datetime:
    return tick.astimezone(UTC)
