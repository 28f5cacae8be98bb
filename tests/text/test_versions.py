"""Release tags and what follows them."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from semver import Version

from pipeline_tools.errors import Refused
from pipeline_tools.text import references
from pipeline_tools.text.printing import printable
from pipeline_tools.text.versions import NUMERIC, Move, following, moving_tags, parse, precedes

numbers = st.integers(0, 99)
released = st.builds(Version, numbers, numbers, numbers)


@given(st.text(max_size=40))
def test_whatever_is_accepted_is_an_oci_tag(text: str) -> None:
    try:
        version = parse(text)
    except Refused:
        return
    assert references.TAG.fullmatch(str(version))


@pytest.mark.parametrize("tag", ["v1.0.0", "1.0.0", "v1.0.0-rc.1", "0.0.0", "v10.20.30-alpha-x.7"])
def test_accepted(tag: str) -> None:
    assert str(parse(tag)) == tag.removeprefix("v")


@pytest.mark.parametrize(
    "tag", ["", "v1", "1.0", "vv1.0.0", "01.0.0", "1.0.0-", "1.0.0-01", "1.0.0 ", "V1.0.0", "1.0.0\n"]
)
def test_refused(tag: str) -> None:
    with pytest.raises(Refused):
        parse(tag)


def test_pattern() -> None:
    with pytest.raises(Refused, match="pattern"):
        parse("v1.0.0-rc.1", r"v\d+\.\d+\.\d+")


@given(st.lists(released, min_size=1), st.sampled_from(["major", "minor", "patch"]))
def test_the_next_version_is_higher_than_all(known: list[Version], change: str) -> None:
    assert following(known, change) > max(known)


@given(st.lists(released, min_size=1), st.sampled_from(["major", "minor", "patch"]))
def test_pre_releases_count_on_and_stay_below(known: list[Version], change: str) -> None:
    target = following(known, change)
    first = following(known, change, "rc")
    second = following([*known, first], change, "rc")
    assert max(known) < first < second < target


@pytest.mark.parametrize(
    ("current", "change", "expected"),
    [
        ("0.3.1", "major", "0.4.0"),
        ("0.3.1", "minor", "0.4.0"),
        ("0.3.1", "patch", "0.3.2"),
        ("1.2.3", "major", "2.0.0"),
    ],
)
def test_breaking_before_1_raises_the_minor(current: str, change: str, expected: str) -> None:
    assert str(following([Version.parse(current)], change)) == expected


def test_first() -> None:
    assert str(following([], "major")) == "0.1.0"


@pytest.mark.parametrize("pre", ["", "1", "r c", "$(id)", "rc.1"])
def test_a_kind_that_is_none(pre: str) -> None:
    with pytest.raises(Refused, match="kind"):
        following([], "patch", pre)


@given(released, st.lists(released), st.lists(released))
def test_moving_tags_only_go_forward(version: Version, git: list[Version], registry: list[Version]) -> None:
    moves = moving_tags(["minor", "major", "latest"], version, {"git": git, "the registry": registry})
    for tag, move in moves.items():
        series = [o for o in git + registry if tag == "latest" or f"{o}.".startswith(f"{tag}.")]
        newer = [o for o in series if o > version]
        if tag == "0":
            assert not move.goes
        else:
            assert move.goes is not bool(newer)
        if newer and tag != "0":
            place = "the registry" if max(newer) in registry else "git"
            assert move.reason == f"{max(newer)} is newer (known from {place})"


def test_a_pre_release_moves_nothing() -> None:
    moves = moving_tags(["minor", "major", "latest"], Version.parse("1.0.0-rc.1"), {})
    assert {move.goes for move in moves.values()} == {False}


def test_pre_releases_of_others_do_not_hold_a_tag() -> None:
    others = {"git": [Version.parse("2.0.0-rc.1"), Version.parse("0.9.0")]}
    assert moving_tags(["latest"], Version.parse("1.0.0"), others) == {
        "latest": Move(True, "newer than 0.9.0")
    }


def test_printable_is_short_and_ascii() -> None:
    shown = printable("é\x1b[31m" + "x" * 300)
    assert re.fullmatch(r"[ -~…]{1,70}", shown)


# What follows what ---------------------------------------------------------------------------------------------

build_numbers = st.lists(st.integers(0, 10**9), min_size=1, max_size=4)


@given(released, released)
def test_versions_precede_as_semver_has_it(one: Version, other: Version) -> None:
    assert precedes(f"v{one}", str(other)) == (one < other)


@given(build_numbers, build_numbers)
def test_build_numbers_precede_number_by_number(one: list[int], other: list[int]) -> None:
    tag, current = (".".join(map(str, numbers)) for numbers in (one, other))
    assert precedes(tag, current, NUMERIC) == (one < other)


@given(st.text(max_size=20), st.text(max_size=20), st.sampled_from(["semver", "numeric"]))
def test_nothing_precedes_what_it_follows(one: str, other: str, order: str) -> None:
    assert not (precedes(one, other, order) and precedes(other, one, order))


@pytest.mark.parametrize("other", ["", "latest", "sha-0123", "1.0.0+build", "\u0661"])
def test_what_has_no_place_in_the_order_is_neither_older_nor_newer(other: str) -> None:
    for order in ("semver", "numeric"):
        assert not precedes("1.0.0", other, order)
        assert not precedes(other, "1.0.0", order)
