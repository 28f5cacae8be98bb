"""The mask hides every form of a secret, and nothing else."""

import base64
import json
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline_tools.errors import PipelineError
from pipeline_tools.text.masks import MASKED, Mask, Secret

secrets = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cs", "Cc", "Zs", "Zl", "Zp"]), min_size=6, max_size=40
)
contexts = st.text(st.characters(codec="ascii", categories=["Nd"]), max_size=9)


def mask(*values: str) -> Mask:
    made = Mask()
    for value in values:
        made.add(Secret(value))
    return made


@given(secrets, contexts, contexts)
def test_raw_base64_url_and_json_forms_are_hidden(secret: str, before: str, after: str) -> None:
    made = mask(secret)
    basic = base64.b64encode(f"{before}:{secret}".encode()).decode()
    for form in (
        secret,
        quote(secret, safe=""),
        base64.b64encode(secret.encode()).decode(),
        json.dumps(secret)[1:-1],
    ):
        assert form not in made.text(f"{before} {form} {after}")
    hidden = made.text(f"Authorization: Basic {basic}")
    assert MASKED in hidden
    assert basic not in hidden


@given(st.text("abcdefgh", min_size=4, max_size=30), st.integers(0, 20), st.integers(0, 20))
def test_a_value_is_found_wherever_it_stands(secret: str, before: int, after: int) -> None:
    stream = mask(secret).stream()
    out = stream.feed(b"." * before + secret.encode() + b"." * after) + stream.close()
    assert out == b"." * before + MASKED.encode() + b"." * after


@given(secrets, st.lists(st.integers(1, 7), min_size=1))
def test_a_value_split_across_writes_is_hidden(secret: str, sizes: list[int]) -> None:
    stream = mask(secret).stream()
    data = f"before {secret} after\n".encode()
    out, position = b"", 0
    while position < len(data):
        size = sizes[position % len(sizes)]
        out += stream.feed(data[position : position + size])
        position += size
    out += stream.close()
    assert secret.encode() not in out
    assert MASKED.encode() in out


@given(st.binary(max_size=200), st.lists(st.integers(1, 50), min_size=1))
def test_other_bytes_pass_unchanged(data: bytes, sizes: list[int]) -> None:
    stream = mask("a-secret-that-does-not-occur-ÿ").stream()
    out, position = b"", 0
    while position < len(data):
        size = sizes[position % len(sizes)]
        out += stream.feed(data[position : position + size])
        position += size
    assert out + stream.close() == data


def test_a_line_is_not_held_back() -> None:
    assert mask("hunter2-hunter2").stream().feed(b"progress 10%\n") == b"progress 10%\n"


def test_a_line_is_not_held_back_for_a_value_that_begins_with_one() -> None:
    stream = mask("\nhunter2-hunter2\n").stream()
    assert stream.feed(b"progress 10%\n") == b"progress 10%\n"
    assert stream.feed(b"x hunter2-hunter2\n") == f"x {MASKED}\n".encode()


def test_each_line_of_a_key_is_hidden() -> None:
    key = "-----BEGIN KEY-----\nabcdefgh\nijklmnop\n-----END KEY-----\n"
    hidden = mask(key).text("x abcdefgh y\nijklmnop")
    assert "abcdefgh" not in hidden
    assert "ijklmnop" not in hidden


def test_a_secret_inside_another_leaves_no_rest() -> None:
    assert mask("abcd", "abcdefgh").text("abcdefgh") == MASKED


@pytest.mark.parametrize("value", ["a", "abc", " ab "])
def test_too_short_to_hide(value: str) -> None:
    with pytest.raises(PipelineError, match="cannot be masked"):
        mask(value)


def test_an_empty_secret_hides_nothing() -> None:
    assert mask("").text("anything") == "anything"


def test_a_secret_does_not_say_itself() -> None:
    secret = Secret("hunter2-hunter2")
    assert "hunter2" not in f"{secret} {secret!r} {[secret]}"
    assert secret == Secret("hunter2-hunter2")
    assert len({secret, Secret("hunter2-hunter2")}) == 1
