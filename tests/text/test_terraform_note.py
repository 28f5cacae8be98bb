"""The note: what it shows, that data stays data, that it fits, that nothing sensitive is in it."""

import html
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token

from pipeline_tools.text import markdown, passport, terraform_kapsule, terraform_note
from pipeline_tools.text.passport import Made, Passport, Review, Tool, Verdict
from pipeline_tools.text.plan_review import Comparison
from pipeline_tools.text.terraform_kapsule import Note, Severity
from pipeline_tools.text.terraform_plan import Summary
from tests.text.plans import KEY, MARKED_PLANS, SECRET, passport_of, resource, summarised, summary

PARSER = MarkdownIt("commonmark").enable(["table", "strikethrough"])


def rendered(made: Summary, limit: int = markdown.LIMIT, **rest: Any) -> str:
    return terraform_note.render(passport_of(made, **rest), made, limit=limit)


def test_what_a_note_shows() -> None:
    made = summarised(
        resource("x.made", ["create"], after={"n": 1}),
        resource("x.gone", ["delete"], before={"n": 1}),
        resource(
            "x.new", ["create", "delete"], before={"n": 1}, after={"n": 2}, replace_paths=[["n"], ["m", 0]]
        ),
        resource("x.moved", ["no-op"], previous_address="x.old"),
        resource("x.imported", ["update"], importing={"id": "an id"}, before={}, after={"n": 1}),
        resource("x.kept", ["forget"]),
        resource("x.same", ["no-op"]),
        resource_drift=[resource("x.drifted", before={"n": 1}, after={"n": 2})],
        deferred_changes=[{"reason": "absent_prereq", "resource_change": resource("x.late", ["create"])}],
        output_changes={"o": {"actions": ["update"], "before": 1, "after": 2}},
        checks=[
            {
                "address": {"to_display": "check.c"},
                "status": "fail",
                "instances": [{"problems": [{"message": "bad"}]}],
            }
        ],
    )
    review = Review(Verdict.DIFFERS, "0123456789abcdef", 5)
    note = terraform_note.render(
        passport_of(made, review=review),
        made,
        notes=[Note("x.new", Severity.DANGER, "it is replaced", "do not")],
        comparison=Comparison(Verdict.DIFFERS, ("x.gone: delete was not reviewed",)),
    )
    assert note.splitlines()[0] == "<!-- pipeline-tools terraform plan infra/network -->"
    assert (
        "**1 to delete, 1 to replace, 1 to update, 1 to create, 1 to forget, 1 to move, 1 to import" in note
    )
    assert "1 changed outside Terraform, 1 deferred**" in note
    assert "Differs from the reviewed plan" in note
    assert "- ` x.gone: delete was not reviewed `" in note
    assert "🛑 ` x.new `: it is replaced. _do not_" in note
    assert "<summary><code>x.new</code>, forced by <code>n</code>, <code>m[0]</code></summary>" in note
    assert "- ` x.moved `, moved from ` x.old `" in note
    assert "<code>x.imported</code>, imported from <code>an id</code>" in note
    assert "```diff\n- n = 1\n+ n = 2\n```" in note
    assert "- ` check.c ` ` fail `: ` bad `" in note
    assert "<code>x.drifted</code>" in note
    assert "- ` x.late `: ` absent_prereq `" in note
    assert "x.same" not in note
    assert "[pipeline](<https://gitlab.example.com/p/1>)" in note
    titles = re.findall(r"^#### (.*) \(", note, re.MULTILINE)
    assert titles[:4] == ["Differs from what was reviewed", "For the reviewer", "Delete", "Replace"]


def test_nothing_changes() -> None:
    assert "**No changes**" in rendered(summarised())


def test_what_a_reviewer_is_warned_of() -> None:
    made = summarised(
        resource(before={}, after={"p": "x"}, after_sensitive={"p": True}), key=b"", complete=False
    )
    note = rendered(made, mode="destroy", is_dirty=True)
    for words in ("destroys the whole root", "not complete", "not committed", "without a key"):
        assert words in note


def test_a_replacement_shows_what_else_goes() -> None:
    sides = {"delete_additional_resources": True}
    changed = resource(
        "scaleway_k8s_cluster.c",
        ["delete", "create"],
        before={**sides, "cni": "calico"},
        after={**sides, "cni": "cilium"},
    )
    assert "  delete_additional_resources = true\n" in rendered(summarised(changed))


# Data stays data ------------------------------------------------------------------------------------------------

WORDS = [
    "`",
    "``",
    "```",
    "````",
    "~~~",
    "<",
    ">",
    "&",
    "&lt;",
    "</details>",
    "</code>",
    "<script>ZQX</script>",
    "<!--",
    "-->",
    "<b>",
    "@all",
    "/close",
    "#1",
    "!1",
    "|",
    "*",
    "_",
    "**",
    "\\",
    "[ZQX](http://evil.example)",
    "![ZQX](http://evil.example/i)",
    "<http://evil.example>",
    "http://evil.example",
    "](",
    ")",
    "ZQX",
    "-",
    "+",
    "$`",
    "{",
    "}",
    ":tada:",
    "%2D",
]
BREAKS = [
    "\n",
    "\n\n",
    "\r",
    "\t",
    "\u2028",
    "\x85",
    "\x0b",
    "\x1b[0m",
    " ",
    "    ",
    "\n/close\n",
    "\n```\n",
    "\n\n# ZQX\n\n",
]
FRAGMENTS = st.sampled_from([*WORDS, *BREAKS])
HOSTILE = st.lists(FRAGMENTS, max_size=9).map("".join)
HOSTILE_RESOURCES = st.builds(
    lambda address, actions, name, before, after, moved: resource(
        address,
        actions,
        before={name: before, "n": 1},
        after={name: after, "n": 2},
        type="t",
        previous_address=moved,
        importing={"id": after},
        replace_paths=[[name]],
    ),
    HOSTILE,
    st.sampled_from([["update"], ["delete", "create"], ["no-op"], ["delete"]]),
    HOSTILE,
    HOSTILE,
    HOSTILE,
    st.none() | HOSTILE,
)
HOSTILE_SUMMARIES = st.builds(
    lambda changes, drift, name, value, problem: summarised(
        *changes,
        resource_drift=drift,
        deferred_changes=[{"reason": problem, "resource_change": change} for change in changes],
        output_changes={name: {"actions": ["update"], "before": None, "after": value}},
        checks=[
            {
                "address": {"to_display": name},
                "status": "fail",
                "instances": [{"problems": [{"message": problem}]}],
            }
        ],
    ),
    st.lists(HOSTILE_RESOURCES, max_size=3),
    st.lists(HOSTILE_RESOURCES, max_size=2),
    HOSTILE,
    HOSTILE,
    HOSTILE,
)
SKELETON = re.compile(
    r"<details><summary>(?:<code>[^<>]*</code>|[:, ]|forced by|moved from|imported from)*</summary>|</details>"
    r"|<!-- pipeline-tools terraform (?:plan|drift) [A-Za-z0-9/._~%-]* -->"
)


def flat(tokens: list[Token]) -> list[Token]:
    return [found for token in tokens for found in (token, *flat(token.children or []))]


def assert_sound(text: str, given: str = "") -> None:
    """Data is in code, and in code only; folds and fences are as we made them."""
    tokens = flat(PARSER.parse(text))
    kinds = {token.type for token in tokens}
    assert not kinds & {"html_inline", "image", "table_open", "blockquote_open", "code_block", "s_open"}, (
        kinds
    )
    for token in tokens:
        if token.type == "html_block":
            for line in token.content.splitlines():
                assert SKELETON.fullmatch(line), line
        elif token.type == "text":
            assert not re.search(r"ZQX|evil|@|/close|<", token.content), token.content
        elif token.type == "link_open":
            assert token.attrs["href"] == given or str(token.attrs["href"]).startswith(
                "https://gitlab.example"
            )
        elif token.type == "fence":
            assert token.info == "diff"
            assert all(line.startswith(("+ ", "- ", "  ", "# ")) for line in token.content.splitlines())
    blocks = "".join(token.content for token in tokens if token.type == "html_block")
    fences = sum(token.type == "fence" for token in tokens)
    assert blocks.count("<details>") == blocks.count("</details>") == fences
    assert not re.search(r"^\s*/", "\n".join(text.splitlines()), re.MULTILINE), "a quick action"


@given(HOSTILE_SUMMARIES, HOSTILE, st.sampled_from([terraform_note.LEAST, 9_000, markdown.LIMIT]), st.data())
def test_data_stays_data(made: Summary, text: str, limit: int, data: st.DataObject) -> None:
    hostile: dict[str, Any] = {
        "root": text,
        "tool": Tool(text, text),
        "made": Made(data.draw(st.sampled_from([text, "https://gitlab.example.com/p/1"])), text, text, text),
        "review": data.draw(st.none() | st.just(Review(Verdict.AS_REVIEWED, text))),
    }
    note = terraform_note.render(
        passport_of(made, **hostile),
        made,
        notes=[Note(text, Severity.NOTICE, "a line", "a hint")],
        comparison=Comparison(Verdict.DIFFERS, (text, text)),
        limit=limit,
    )
    assert_sound(note, text)
    assert len(note) <= limit
    assert note.startswith(terraform_note.marker(text) + "\n")


@given(HOSTILE_SUMMARIES, HOSTILE)
def test_an_issue_keeps_data_as_data(made: Summary, text: str) -> None:
    issue = terraform_note.drift_issue(text, made, [text], pipeline=text)
    assert_sound(issue.body, text)
    assert not re.search(r"[@#!`<>\n&~$%\[\]]", issue.title)


@given(HOSTILE, HOSTILE)
def test_a_root_has_a_marker_of_its_own(one: str, other: str) -> None:
    assert (terraform_note.marker(one) == terraform_note.marker(other)) == (one == other)
    assert re.fullmatch(r"<!-- [^\n<>]* -->", terraform_note.marker(one))


@given(HOSTILE)
def test_code_shows_what_it_was_given(text: str) -> None:
    (span,) = (
        token for token in flat(PARSER.parse(f"- {markdown.code(text)}")) if token.type == "code_inline"
    )
    assert span.content.strip() == markdown.line(text)[:300].strip()
    assert html.unescape(markdown.html_code(text)) == f"<code>{markdown.line(text)}</code>"


# It fits --------------------------------------------------------------------------------------------------------


def large(number: int) -> Summary:
    def many(what: str, actions: list[str], **sides: Any) -> list[dict[str, Any]]:
        return [resource(f"{what}.n[{index}]", actions, **sides) for index in range(number)]

    sides = {"before": {"text": "v" * 300}, "after": {"text": "w" * 300}}
    return summarised(
        *many("made", ["create"], after=sides["after"]),
        *many("gone", ["delete"], before=sides["before"]),
        *many("changed", ["update"], **sides),
        resource_drift=many("drifted", ["update"], **sides),
    )


LARGE = large(150)


@pytest.mark.parametrize(
    "limit", [terraform_note.LEAST, 7_000, 8_000, 12_000, 20_000, 50_000, 100_000, 600_000]
)
def test_a_cut_note_is_whole(limit: int) -> None:
    note = rendered(LARGE, limit)
    assert len(note) <= limit
    assert_sound(note)
    assert ("Left out for length" in note) == (len(rendered(LARGE)) > limit)
    assert note.rstrip().splitlines()[-1].startswith("passport")


def test_addresses_stay_longer_than_their_details() -> None:
    note = rendered(LARGE, 50_000)
    listed = set(re.findall(r"\w+\.n\[\d+\]", note))
    assert len(listed) == 600
    assert note.count("<details>") > 20
    # What is deleted is seen before anything else.
    folds = re.findall(r"<summary><code>(\w+)", note)
    assert set(folds) == {"gone"}


def test_the_least_important_goes_first() -> None:
    note = rendered(LARGE, terraform_note.LEAST)
    assert note.count("gone.n[") == 150
    assert note.count("drifted.n[") == 0
    assert "150 more" in note


def test_a_million_characters() -> None:
    note = rendered(large(2_000))
    assert 900_000 < len(note) <= markdown.LIMIT
    assert_sound(note)


def test_too_little_room_is_a_mistake_of_ours() -> None:
    with pytest.raises(ValueError, match="too few"):
        rendered(LARGE, 100)


def test_lines_about_the_review_leave_room_for_the_changes() -> None:
    many = Comparison(Verdict.DIFFERS, ("x" * 200,) * 1_000)
    note = terraform_note.render(passport_of(LARGE), LARGE, comparison=many, limit=70_000)
    assert "- and 800 more" in note
    assert len(set(re.findall(r"\w+\.n\[\d+\]", note))) == 600


# Nothing sensitive ----------------------------------------------------------------------------------------------


@given(MARKED_PLANS, st.sampled_from([KEY, b""]))
def test_nothing_sensitive_is_anywhere(made: dict[str, Any], key: bytes) -> None:
    found = summary(made, key)
    document: Passport = passport_of(found)
    issue = terraform_note.drift_issue("root", found, [change.address for change in found.changes])
    everything = [
        repr(found),
        passport.dumps(document),
        terraform_note.render(document, found, notes=terraform_kapsule.notes(found)),
        issue.title + issue.body,
    ]
    assert not any(SECRET in text for text in everything)


# The issue ------------------------------------------------------------------------------------------------------


def test_drift_apart_from_what_nobody_applied() -> None:
    made = summarised(
        resource("x.drifted", before={"n": 2}, after={"n": 1}),
        resource("x.waiting", ["create"], after={"n": 1}),
        resource_drift=[resource("x.drifted", before={"n": 1}, after={"n": 2})],
    )
    issue = terraform_note.drift_issue(
        "infra/network", made, ["x.waiting"], pipeline="https://gitlab.example.com/p/1"
    )
    assert issue.title == "Terraform drift in infra/network"
    assert issue.body.startswith(terraform_note.drift_marker("infra/network"))
    drift, rest = issue.body.split("#### Drift: what an apply would change back")
    would, waiting = rest.split("#### Configured, and not applied yet")
    assert ("x.drifted" in drift, "x.drifted" in would, "x.drifted" in waiting) == (True, True, False)
    assert "x.waiting" in waiting
