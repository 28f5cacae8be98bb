"""The receipt and the reports made of it."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline_tools.errors import PipelineError
from pipeline_tools.text import pairs, receipt, reports
from pipeline_tools.text.receipt import Built, Bumped, Pushed, Receipt, Tagged, Triggered
from tests.world import DIGEST

COMMIT = "c" * 40
FULL = Receipt(
    Tagged("v1.0.0", "1.0.0", COMMIT),
    Built("r.example.com/a", "sha-1", DIGEST),
    Pushed("r.example.com/a", "1.0.0", DIGEST, ("1.0", "latest")),
    Bumped("platform/env", "main", COMMIT),
    Triggered("platform/env", 7, "https://x/7", COMMIT),
)


PENDING = Receipt(
    bump=Bumped(
        "platform/env", "main", COMMIT, pending=True, merge_request=5, url="https://x/-/merge_requests/5"
    )
)


@pytest.mark.parametrize("made", [Receipt(), Receipt(tag=FULL.tag), FULL, PENDING])
def test_round_trip(made: Receipt) -> None:
    assert receipt.loads(receipt.dumps(made).encode(), "release.json") == made


@given(
    st.text(max_size=60)
    | st.recursive(
        st.none() | st.integers() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)
    ).map(json.dumps)
)
def test_anything_else_is_refused_with_its_name(text: str) -> None:
    with pytest.raises(PipelineError, match=r"release\.json"):
        receipt.loads(text.encode(), "release.json")


@pytest.mark.parametrize(
    "changed",
    [
        {"schema": 2},
        {"tag": {"name": "v1", "version": "1", "commit": "not-a-hash"}},
        {"build": {"repository": "a", "tag": "b", "digest": "sha256:12"}},
        {"tag": {"name": "v1"}},
        {"unknown": {}},
        {"tag": None},
        {"tag": "x"},
        {"bump": {"project": "a/b", "branch": 5, "commit": COMMIT}},
        {"push": {"repository": 5, "tag": "1", "digest": DIGEST}},
    ],
)
def test_a_receipt_against_its_grammar(changed: dict[str, object]) -> None:
    data = {**json.loads(receipt.dumps(FULL)), **changed}
    with pytest.raises(PipelineError):
        receipt.loads(json.dumps(data).encode(), "release.json")


@pytest.mark.parametrize("content", [b"\xff\xfe", b"[" * 100_000, b" " * 2_000_000])
def test_a_receipt_that_is_no_text_or_too_much(content: bytes) -> None:
    with pytest.raises(PipelineError, match="not a release receipt"):
        receipt.loads(content, "release.json")


def test_without_a_merge_request_it_is_what_schema_1_always_was() -> None:
    """A job with an older version of the toolkit refuses members that it does not know."""
    assert set(json.loads(receipt.dumps(FULL))["bump"]) == {"project", "branch", "commit", "superseded"}


def test_annotations_link_the_merge_request() -> None:
    assert "Merge request !5 of platform/env" in reports.render("annotations", PENDING)


def test_dotenv_has_eight_plain_lines() -> None:
    lines = reports.render("dotenv", FULL).splitlines()
    assert len(lines) == 8
    assert all(line.startswith("RELEASE_") and "=" in line for line in lines)
    assert reports.render("dotenv", Receipt()) == ""


def test_annotations_link_the_pipeline() -> None:
    found = json.loads(reports.render("annotations", FULL))
    assert found == {
        "release": [{"external_link": {"label": "Pipeline 7 of platform/env", "url": "https://x/7"}}]
    }


def test_a_report_that_is_none() -> None:
    with pytest.raises(PipelineError, match="dotenv, annotations"):
        reports.render("junit", FULL)


def test_pairs() -> None:
    assert pairs.parse("--x", ["A=1", "B=x=y", "C="]) == {"A": "1", "B": "x=y", "C": ""}
    for bad in ("A", "=1"):
        with pytest.raises(PipelineError, match="KEY=VALUE"):
            pairs.parse("--x", [bad])
