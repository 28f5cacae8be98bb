"""Terraform's version constraints."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline_tools.text import constraints


@pytest.mark.parametrize(
    ("version", "constraint", "expected"),
    [
        ("2.81.0", "~> 2.81", True), ("2.99.1", "~> 2.81", True), ("3.0.0", "~> 2.81", False),
        ("2.80.9", "~> 2.81", False), ("2.81.4", "~> 2.81.1", True), ("2.82.0", "~> 2.81.1", False),
        ("9.0.0", "~> 2", True), ("1.9.0", "~> 2", False),
        ("1.2.3", "1.2.3", True), ("1.2.3", "= 1.2.3", True), ("1.2.4", "1.2.3", False), ("1.2.0", "1.2", True),
        ("1.2.3", "!= 1.2.3", False), ("1.2.4", "!= 1.2.3", True),
        ("1.2.3", ">= 1.0, < 2.0", True), ("2.0.0", ">= 1.0, < 2.0", False), ("1.0.0", "> 1.0", False),
        ("1.0.0", "<= 1", True), ("1.2.3", ">=1.0", True),
        ("1.2.3-beta1", ">= 1.0", False), ("1.2.3-beta1", "1.2.3-beta1", True), ("1.2.3", "1.2.3-beta1", False),
        ("1.2.3", "nonsense", False), ("1.2.3", "", False), ("1.2", ">= 1.0", False), ("1.2.3", "1.2.3.4", False),
    ],
)  # fmt: skip
def test_satisfies(version: str, constraint: str, expected: bool) -> None:
    assert constraints.satisfies(version, constraint) is expected


@pytest.mark.parametrize(
    ("constraint", "expected"),
    [("1.2.3", True), ("= 1.2.3", True), ("~> 1.2.3", False), (">= 1", False), ("1.2.3, < 2", False), (None, False)],
)  # fmt: skip
def test_exact(constraint: str | None, expected: bool) -> None:
    assert constraints.is_exact(constraint) is expected


@given(st.text(max_size=20), st.text("0123456789.,<>=~! v-a", max_size=20))
def test_no_text_is_too_odd(version: str, constraint: str) -> None:
    assert constraints.satisfies(version, constraint) in {True, False}


@given(st.tuples(*[st.integers(0, 50)] * 3), st.tuples(*[st.integers(0, 50)] * 3))
def test_at_least_and_below_are_opposites(version: tuple[int, ...], bound: tuple[int, ...]) -> None:
    found, limit = (".".join(map(str, item)) for item in (version, bound))
    assert constraints.satisfies(found, f">= {limit}") is (version >= bound)
    assert constraints.satisfies(found, f"< {limit}") is (version < bound)
