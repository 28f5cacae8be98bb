"""The passport: read back as written, one id for one meaning, sealed, compared."""

import json
import random
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline_tools.errors import PipelineError
from pipeline_tools.text import passport, plan_review
from pipeline_tools.text.passport import Passport, Review, Tool, Verdict
from tests.text.plans import KEY, PLANS, SECRET, TEXTS, passport_of, plan, resource, summarised, summary

SEAL = b"the key of the seal"

REVIEWS = st.none() | st.builds(Review, st.sampled_from(Verdict), TEXTS, st.none() | st.integers(1, 99))
PASSPORTS = st.builds(
    lambda made, trees, dirty, review: passport_of(
        summary(made), trees=trees, is_dirty=dirty, review=review
    ).sealed(SEAL),
    PLANS,
    st.dictionaries(TEXTS, TEXTS, max_size=2),
    st.booleans(),
    REVIEWS,
)
SMALL = passport_of(
    summarised(
        resource("x.a", before={"n": 1}, after={"n": 2}, replace_paths=[["n"]]),
        resource("x.b", ["delete"], before={"n": 1}, previous_address="x.c"),
        resource_drift=[resource("x.d", before={"n": 1}, after={"n": 2})],
        output_changes={"o": {"actions": ["update"], "before": 1, "after": 2}},
    ),
    review=Review(Verdict.AS_REVIEWED, "0123456789abcdef", 5),
).sealed(SEAL)


@given(PASSPORTS)
def test_round_trip(made: Passport) -> None:
    read = passport.loads(passport.dumps(made).encode(), "passport.json")
    assert read == made
    assert read.verify(SEAL)
    assert read.id == made.id


@given(PLANS, st.randoms(use_true_random=False))
def test_one_id_for_one_meaning(made: dict[str, Any], rng: random.Random) -> None:
    one = passport_of(summary(made))
    changes, outputs, trees = list(one.changes), list(one.outputs), list(one.trees.items())
    for order in (changes, outputs, trees):
        rng.shuffle(order)
    other = replace(
        one,
        changes=tuple(changes),
        outputs=tuple(outputs),
        trees=dict(trees),
        state=replace(one.state, serial=99),
        plan="sha256:other",
        made=replace(one.made, pipeline="another"),
        review=Review(Verdict.DIFFERS),
    )
    assert other.id == one.id


@pytest.mark.parametrize(
    "changed",
    [
        {"root": "infra/cluster"},
        {"mode": "destroy"},
        {"trees": {"infra/network": "f" * 40}},
        {"lock_file": ""},
        {"state": replace(SMALL.state, lineage="0bb2")},
        {"tool": Tool("terraform", "1.12.0")},
        {"providers": {}},
        {"changes": SMALL.changes[:1]},
        {"outputs": ()},
    ],
)
def test_another_meaning_has_another_id_and_shows(changed: dict[str, Any]) -> None:
    other = replace(SMALL, **changed)
    assert other.id != SMALL.id
    found = plan_review.compare(SMALL, other)
    assert found.verdict is Verdict.DIFFERS
    assert found.lines


def tampered(value: Any) -> Any:
    """Another value of the same type."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    return "x" if value is None else f"{value}x"


def places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    if isinstance(value, (dict, list)):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        return [place for name, item in items for place in places(item, (*at, name))]
    return [at]


@pytest.mark.parametrize(
    "place", places(json.loads(passport.dumps(SMALL))), ids=lambda place: ".".join(map(str, place))
)
def test_any_tampering_is_found(place: tuple[Any, ...]) -> None:
    data = json.loads(passport.dumps(SMALL))
    inner = data
    for step in place[:-1]:
        inner = inner[step]
    inner[place[-1]] = tampered(inner[place[-1]])
    try:
        read = passport.loads(json.dumps(data).encode(), "passport.json")
    except PipelineError:
        return
    assert not read.verify(SEAL)


def test_the_seal_is_the_keys() -> None:
    assert SMALL.verify(SEAL)
    assert not SMALL.verify(b"another")
    unsealed = SMALL.sealed(b"")
    assert unsealed.seal == ""
    assert not unsealed.verify(SEAL)
    assert not unsealed.verify(b"")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe",
        b"[" * 100_000,
        b"[]",
        b"{}",
        b'{"schema": true}',
        b'{"schema": 2}',
        b'{"schema": "1"}',
        json.dumps({**json.loads(passport.dumps(SMALL)), "future": 1}).encode(),
        json.dumps({**json.loads(passport.dumps(SMALL)), "mode": "other"}).encode(),
        json.dumps({**json.loads(passport.dumps(SMALL)), "is_dirty": 0}).encode(),
        json.dumps({**json.loads(passport.dumps(SMALL)), "trees": {"a": 1}}).encode(),
        json.dumps({**json.loads(passport.dumps(SMALL)), "changes": {}}).encode(),
        json.dumps({**json.loads(passport.dumps(SMALL)), "state": None}).encode(),
        passport.dumps(SMALL).encode()[:-5],
    ],
)
def test_what_is_no_passport_is_refused_by_name(content: bytes) -> None:
    with pytest.raises(PipelineError, match=r"passport\.json") as raised:
        passport.loads(content, "passport.json")
    assert raised.value.hint


def test_a_passport_from_the_future_says_so() -> None:
    content = passport.dumps(SMALL).replace('"schema": 1', '"schema": 2').encode()
    with pytest.raises(PipelineError, match="has passport schema 2, this version reads 1"):
        passport.loads(content, "passport.json")


@given(PLANS)
def test_the_same_plan_is_as_reviewed(made: dict[str, Any]) -> None:
    one, other = (passport_of(summary(made)) for _ in range(2))
    assert plan_review.compare(one, other).verdict is Verdict.AS_REVIEWED
    assert plan_review.differences(one, other) == ()


def test_what_differs_is_named() -> None:
    def made(**after: Any) -> Passport:
        return passport_of(summarised(resource("x.a", before={"n": 1, "m": 1}, after=after)))

    reviewed = made(n=2, m=2)
    assert plan_review.differences(reviewed, made(n=3, m=2)) == ("x.a: update differs in n",)
    fresh = replace(reviewed, changes=SMALL.changes, tool=Tool("terraform", "1.12.0"))
    assert plan_review.differences(reviewed, fresh) == (
        "terraform: reviewed 1.11.4, now 1.12.0",
        "x.a: update differs in m",
        "x.b: delete was not reviewed",
    )
    assert plan_review.differences(fresh, reviewed)[-1] == "x.b: reviewed delete, no longer planned"


def test_what_no_key_hashed_is_not_comparable() -> None:
    def made(value: str, key: bytes) -> Passport:
        return passport_of(
            summary(plan(resource("x.a", before={}, after={"p": value}, after_sensitive={"p": True})), key)
        )

    assert plan_review.compare(made(SECRET, KEY), made(SECRET, KEY)).verdict is Verdict.AS_REVIEWED
    assert plan_review.compare(made(SECRET, KEY), made(SECRET + "2", KEY)).verdict is Verdict.DIFFERS
    assert plan_review.compare(made(SECRET, b""), made(SECRET, b"")).verdict is Verdict.NOT_COMPARABLE
    assert plan_review.differences(made(SECRET, b""), made(SECRET, b""))


def test_what_is_not_committed_is_not_as_reviewed() -> None:
    assert plan_review.compare(SMALL, replace(SMALL, is_dirty=True)).verdict is Verdict.DIFFERS


def test_the_budget() -> None:
    changes = summarised(
        resource("x.a", ["delete"]),
        resource("scaleway_k8s_pool.b", ["create", "delete"]),
        resource("scaleway_vpc.c", ["create"]),
        resource("scaleway_vpc.d", ["forget"]),
        resource("scaleway_rdb_instance.e", ["update"]),
    ).changes
    found = plan_review.budget(changes, 1)
    assert (found.deletions, found.replacements) == (("x.a",), ("scaleway_k8s_pool.b",))
    assert found.protected == ("scaleway_k8s_pool.b",)
    assert not found.is_kept
    assert found.lines == (
        "2 deletions and replacements, 1 are allowed",
        "scaleway_k8s_pool.b is replaced, and its type is protected",
        "x.a is deleted",
    )
    assert not plan_review.budget(changes, 9).is_kept
    assert plan_review.budget(changes, 2, frozenset()).is_kept
    assert not plan_review.budget(changes, 1, frozenset()).is_kept
    assert plan_review.budget(changes[2:], 0).is_kept
