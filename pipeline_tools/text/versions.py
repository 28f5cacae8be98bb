"""Release tags: SemVer 2.0 with an optional `v`, restricted to what OCI and git both accept."""

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from semver import Version

from pipeline_tools.errors import Refused
from pipeline_tools.text.printing import printable
from pipeline_tools.text.references import RELEASE_TAG

LONGEST = 128
"""Longest OCI tag (OCI distribution spec 1.1, "Pulling manifests": `[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}`)."""

DEFAULT_PATTERN = RELEASE_TAG


def parse(tag: str, pattern: str = DEFAULT_PATTERN) -> Version:
    """The version that `tag` names.

    Args:
        tag: a git tag name, untrusted.
        pattern: a regular expression that the whole tag must match, over and above SemVer 2.0.

    Raises:
        Refused: not SemVer 2.0 (semver.org, clause 2, 9 and 10), not usable as an OCI tag, or against `pattern`.
    """
    shown = printable(tag)
    if len(tag) > LONGEST:
        raise Refused(f"tag {shown} has {len(tag)} characters, an OCI tag at most {LONGEST}", hint=_HINT)
    try:
        version = Version.parse(tag.removeprefix("v"))
    except ValueError:
        raise Refused(f"tag {shown} is not a SemVer 2.0 version", hint=_HINT) from None
    if version.build:
        plain = tag.partition("+")[0]
        raise Refused(
            f"tag {shown} has build metadata (+{version.build}), which an OCI tag cannot hold",
            hint=f"use {plain}, or a pre-release such as {plain}-{version.build}",
        )
    if not re.fullmatch(pattern, tag):
        raise Refused(f"tag {shown} does not match the tag pattern {pattern}", hint="see --tag-pattern")
    return version


_HINT = "name tags like v1.4.0 or v1.4.0-rc.1"


def releases(tags: Iterable[str], pattern: str = DEFAULT_PATTERN) -> dict[Version, str]:
    """The tags that name a version, by version; all others are left out. `v1.0.0` wins over `1.0.0`."""
    found: dict[Version, str] = {}
    for tag in sorted(tags):
        try:
            found[parse(tag, pattern)] = tag
        except Refused:
            continue
    return found


SEMVER, NUMERIC = "semver", "numeric"
_NUMBERS = re.compile(r"v?([0-9]+(?:\.[0-9]+)*)", re.ASCII)


def precedes(tag: str, other: str, order: str = SEMVER) -> bool:
    """Whether `tag` is older than `other`: by SemVer precedence, or `numeric`, as build numbers are (1234, 20261123.7).

    A tag that has no place in the order is neither older nor newer than any.
    """
    places = [_place(text, order) for text in (tag, other)]
    return None not in places and places[0] < places[1]


def _place(tag: str, order: str) -> Any:
    if order == NUMERIC:
        found = _NUMBERS.fullmatch(tag)
        return [int(number) for number in found[1].split(".")] if found else None
    try:
        return parse(tag)
    except Refused:
        return None


def following(known: Collection[Version], change: str, pre: str | None = None) -> Version:
    """The version to release next.

    Args:
        known: every version released so far, pre-releases too.
        change: what has changed since the highest release: `major`, `minor` or `patch`.
        pre: asks for a pre-release of that version, of this kind (`rc`), numbered on from those known.

    Without a release development starts at 0.1.0 (semver.org, FAQ "How should I deal with revisions in the
    0.y.z initial development phase?"). While the major version is 0 a breaking change raises the minor
    version: going to 1.0.0 is a person's decision.

    Raises:
        Refused: the pre-release would come before one that exists, or `pre` is no identifier.
    """
    target = _following_release(max((v for v in known if not v.prerelease), default=None), change)
    if pre is None:
        return target
    if not re.fullmatch(r"[A-Za-z-][0-9A-Za-z-]*", pre):
        raise Refused(f"{pre!r} is not a kind of pre-release", hint="name it like rc, beta or alpha")
    mine = [v for v in known if v.finalize_version() == target]
    numbers = [
        int(n)
        for v in mine
        for kind, _, n in [str(v.prerelease).partition(".")]
        if kind == pre and n.isdigit()
    ]
    candidate = target.replace(prerelease=f"{pre}.{max(numbers, default=0) + 1}")
    if mine and candidate < max(mine):
        raise Refused(f"{candidate} would come before {max(mine)}", hint="kinds go forward: alpha, beta, rc")
    return candidate


def _following_release(current: Version | None, change: str) -> Version:
    if current is None:
        return Version(0, 1, 0)
    if change == "major" and current.major == 0:
        change = "minor"
    bumps = {"major": current.bump_major, "minor": current.bump_minor, "patch": current.bump_patch}
    return bumps[change]()


@dataclass(frozen=True)
class Move:
    """Whether a moving tag goes to the version that is being published, and why or why not."""

    goes: bool
    reason: str


def moving_tags(
    kinds: Iterable[str], version: Version, known: Mapping[str, Iterable[Version]]
) -> dict[str, Move]:
    """What to do with each moving tag asked for.

    Args:
        kinds: of `minor`, `major`, `latest`.
        version: the version being published.
        known: every version known, by where it is known from, such as `git`.

    Returns:
        By tag (`1.4`, `1`, `latest`): it goes where no newer release of its series is known anywhere. A pre-release
        moves none, and there is never a tag `0` (docker/metadata-action's rules).
    """
    lengths = {"minor": 2, "major": 1, "latest": 0}
    released = {other: where for where, others in known.items() for other in others if not other.prerelease}
    moves = {}
    for kind in kinds:
        length = lengths[kind]
        start = version.to_tuple()[:length]
        mine = {other: where for other, where in released.items() if other.to_tuple()[:length] == start}
        moves[".".join(map(str, start)) or kind] = _move(kind, version, mine)
    return moves


def _move(kind: str, version: Version, series: Mapping[Version, str]) -> Move:
    if version.prerelease:
        return Move(goes=False, reason=f"{version} is a pre-release")
    if kind == "major" and version.major == 0:
        return Move(goes=False, reason="major version 0 promises no compatibility")
    older = [other for other in series if other < version]
    newest = max(series, default=version)
    if newest > version:
        return Move(goes=False, reason=f"{newest} is newer (known from {series[newest]})")
    return Move(goes=True, reason=f"newer than {max(older)}" if older else "the first of its series")
