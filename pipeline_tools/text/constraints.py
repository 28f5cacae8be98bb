"""Version constraints of Terraform (developer.hashicorp.com/terraform/language/expressions/version-constraints)."""

import re

from semver import Version

_TERM = re.compile(r"(=|!=|>=|<=|>|<|~>)?\s*v?(\d{1,9}(?:\.\d{1,9}){0,2})(-[0-9A-Za-z.-]+)?", re.ASCII)


def is_exact(constraint: str | None) -> bool:
    """Whether a constraint admits one version alone: `1.2.3` or `= 1.2.3`."""
    found = _TERM.fullmatch((constraint or "").strip())
    return found is not None and found[1] in {None, "="}


def satisfies(version: str, constraint: str) -> bool:
    """Whether a version is within every term of a constraint; what cannot be read admits nothing.

    A pre-release is admitted only by a term that names it exactly.
    """
    found = _version(version)
    terms = [_TERM.fullmatch(term.strip()) for term in constraint.split(",")]
    return found is not None and all(term is not None and _admits(term, found) for term in terms)


def _version(text: str) -> Version | None:
    try:
        return Version.parse(text)
    except ValueError:
        return None


def _admits(term: re.Match[str], version: Version) -> bool:
    sign, numbers, pre = term[1] or "=", term[2].split("."), term[3] or ""
    bound = _version(".".join(str(int(number)) for number in [*numbers, "0", "0"][:3]) + pre)
    if bound is None:
        return False
    if version.prerelease and sign != "=":
        return False
    if sign == "~>":
        return bound <= version < _above(bound, len(numbers))
    return {
        "=": version == bound,
        "!=": version != bound,
        ">": version > bound,
        ">=": version >= bound,
        "<": version < bound,
        "<=": version <= bound,
    }[sign]


def _above(bound: Version, given: int) -> Version:
    """What `~>` stops before: only the rightmost number given may grow; a single one may grow freely."""
    if given == 3:  # noqa: PLR2004 (major, minor and patch are given)
        return bound.bump_minor()
    return bound.bump_major() if given == 2 else Version(10**9)  # noqa: PLR2004 (major and minor are given)
