"""Release tags: SemVer 2.0 with an optional `v`, restricted to what OCI and git both accept."""

import re
from collections.abc import Iterable

from semver import Version

from pipeline_tools.errors import Refused

LONGEST = 128
"""Longest OCI tag (OCI distribution spec 1.1, "Pulling manifests": `[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}`)."""

DEFAULT_PATTERN = r"v?[0-9]+\.[0-9]+\.[0-9]+(-[0-9A-Za-z.-]+)?"


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


def printable(text: str, limit: int = 60) -> str:
    """`text` quoted for a one-line message: control and non-ASCII characters escaped, long text cut."""
    quoted = ascii(text)
    return quoted if len(quoted) <= limit else quoted[:limit] + "…'"


def releases(tags: Iterable[str], pattern: str = DEFAULT_PATTERN) -> dict[Version, str]:
    """The tags that name a version, by version; all others are left out. `v1.0.0` wins over `1.0.0`."""
    found: dict[Version, str] = {}
    for tag in sorted(tags):
        try:
            found[parse(tag, pattern)] = tag
        except Refused:
            continue
    return found


def following(current: Version | None, change: str, pre: str | None = None) -> Version:
    """The version after `current` for a `change` of kind `major`, `minor` or `patch`.

    Without a current version development starts at 0.1.0 (semver.org, FAQ "How should I deal with revisions
    in the 0.y.z initial development phase?"). While the major version is 0 a breaking change raises the
    minor version: going to 1.0.0 is a person's decision. `pre` gives a pre-release of the next version,
    numbered on from a current pre-release of the same kind.
    """
    base = _following_release(current, change)
    if pre is None:
        return base
    if current and current.prerelease and current.finalize_version() == base:
        return _following_prerelease(current, pre)
    return base.replace(prerelease=f"{pre}.1")


def _following_release(current: Version | None, change: str) -> Version:
    if current is None:
        return Version(0, 1, 0)
    if current.prerelease and _raised(current) in _at_least(change, current):
        return current.finalize_version()
    if change == "major" and current.major == 0:
        change = "minor"
    bumps = {"major": current.bump_major, "minor": current.bump_minor, "patch": current.bump_patch}
    return bumps[change]()


def _raised(version: Version) -> str:
    """Which part a pre-release already raised: 2.0.0-rc.1 the major, 1.3.0-rc.1 the minor, 1.2.3-rc.1 the patch."""
    if version.patch:
        return "patch"
    return "minor" if version.minor else "major"


def _at_least(change: str, current: Version) -> tuple[str, ...]:
    order = ("patch", "minor", "major")
    if change == "major" and current.major == 0:
        change = "minor"
    return order[order.index(change) :]


def _following_prerelease(current: Version, pre: str) -> Version:
    kind, _, number = str(current.prerelease).partition(".")
    if kind == pre and number.isdigit():
        return current.replace(prerelease=f"{pre}.{int(number) + 1}")
    candidate = current.replace(prerelease=f"{pre}.1")
    if candidate > current:
        return candidate
    raise Refused(
        f"{candidate} would come before {current}",
        hint="pre-release kinds go forward in alphabetical order (alpha, beta, rc)",
    )


def moving_tags(kinds: Iterable[str], version: Version, others: Iterable[Version]) -> dict[str, str]:
    """What to do with each moving tag asked for.

    Args:
        kinds: of `minor`, `major`, `latest`.
        version: the version being published.
        others: every version known, from the registry and from git.

    Returns:
        By tag (`1.4`, `1`, `latest`): an empty text if it moves to `version`, else the reason why not.
        A pre-release moves none, and there is never a tag `0` (docker/metadata-action's rules).
    """
    released = {other for other in others if not other.prerelease} | {version}
    series = {
        "minor": (f"{version.major}.{version.minor}", {o for o in released if o[:2] == version[:2]}),
        "major": (f"{version.major}", {o for o in released if o.major == version.major}),
        "latest": ("latest", released),
    }
    return {series[kind][0]: _moves(kind, version, series[kind][1]) for kind in kinds}


def _moves(kind: str, version: Version, series: set[Version]) -> str:
    if version.prerelease:
        return f"{version} is a pre-release"
    if kind == "major" and version.major == 0:
        return "major version 0 promises no compatibility"
    newest = max(series)
    return f"{newest} is newer" if newest > version else ""
