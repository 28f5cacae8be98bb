"""The words in which a loan is asked for."""

import pytest

from pipeline_tools.errors import PipelineError
from pipeline_tools.text import lending
from pipeline_tools.text.claims import Claims
from pipeline_tools.text.lending import Below, Want


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A=secret/app#f", Want("A", "secret/app", "f")),
        ("A=/secret/app/#f", Want("A", "secret/app", "f")),
        ("A=a=b/c#f=g", Want("A", "a=b/c", "f=g")),
        ("A=a/b@c#user@host", Want("A", "a/b@c", "user@host")),
        ("A=a/b#f@12", Want("A", "a/b", "f", 12)),
        ("A=a/b#f@12:base64", Want("A", "a/b", "f", 12, is_base64=True)),
        ("A=a/b#f:base64:file", Want("A", "a/b", "f", None, is_base64=True, is_file=True)),
        ("A=a/b#f:other", Want("A", "a/b", "f:other")),
        ("A=a/b#f#g", Want("A", "a/b", "f#g")),
    ],
)
def test_a_want(text: str, expected: Want) -> None:
    assert lending.want(text, is_secret=True) == expected


@pytest.mark.parametrize("text", ["", "A", "A=b", "A=#f", "=a#f", "A B=a#f", "A=a#", "1=a#f"])
def test_no_want(text: str) -> None:
    with pytest.raises(ValueError, match="is not NAME=PATH#FIELD"):
        lending.want(text, is_secret=True)


def test_names_below() -> None:
    assert lending.below("APP_=a/b/") == Below("APP_", "a/b")
    assert lending.below("=a/b").want("a/b/c-d/e", "f.g").name == "C_D_E_F_G"
    for text in ("a/b", "A-=b", "A="):
        with pytest.raises(ValueError, match="is not PREFIX=PATH"):
            lending.below(text)
    for path, field in (("a/b", "1st"), ("a/b", "path"), ("a/b", "ld-preload")):
        with pytest.raises(PipelineError, match="would become the variable"):
            lending.below("=a/b").want(path, field)


def test_a_name_is_lent_once() -> None:
    first, other = Want("A", "a", "b"), Want("A", "a", "c")
    assert lending.distinct([first, first]) == (first,)
    with pytest.raises(PipelineError, match="A is wanted twice: a#b and a#c"):
        lending.distinct([first, other])


@pytest.mark.parametrize("token", ["", "a.b", "a.!!!.c", "a.bnVsbA.c", "a.W10.c", "a.e30.c"])
def test_claims_of_nonsense(token: str) -> None:
    found = Claims.of(token)
    assert found is None or (found.account, found.problem(0)) == ("", "")


def test_claims_of_other_types() -> None:
    odd = Claims({"kubernetes.io": {"serviceaccount": 3}, "aud": "vault", "exp": "soon"})
    assert (odd.account, odd.audience, odd.problem(1)) == ("", ("vault",), "")
    assert "expired" in Claims({"exp": -1e30}).problem(1)
