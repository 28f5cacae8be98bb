"""`--state`: one option for every backend."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline_tools.errors import PipelineError
from pipeline_tools.text import state_backend
from pipeline_tools.text.state_backend import parse, slug

API = "https://gitlab.example.com/api/v4/projects/7"


def settings(text: str, root: str = "scaleway/network") -> dict[str, str]:
    return dict(parse(text, root, API).settings)


def test_gitlab_is_the_default_and_named_by_the_root() -> None:
    found = parse("gitlab", "scaleway/network", API)
    assert (found.type, found.name) == ("http", "gitlab:scaleway-network")
    assert f"-backend-config=address={API}/terraform/state/scaleway-network" in found.words
    assert f"-backend-config=lock_address={API}/terraform/state/scaleway-network/lock" in found.words
    assert found == parse("gitlab:{root}", "scaleway/network", API)


def test_gcs_and_scaleways_object_storage() -> None:
    assert settings("gs://states/prod/{root}") == {"bucket": "states", "prefix": "prod/scaleway-network"}
    found = settings("s3://states/{root}.tfstate?region=nl-ams")
    assert (found["key"], found["use_lockfile"]) == ("scaleway-network.tfstate", "true")
    assert found["endpoints"] == '{"s3": "https://s3.nl-ams.scw.cloud"}'


def test_the_roots_own_block_may_say_all() -> None:
    assert parse("configured", "a", API).words == ()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "local",
        "gitlab:",
        "gitlab:a/b",
        "gitlab:../x",
        "gs://",
        "gs://b",
        "gs://bucket/../x",
        "gs://bucket/p?x=y",
        "s3://bucket/key?endpoint=file:///etc",
        "s3://bucket/key?region=a b",
        "s3://bucket/key?acl=public",
        "http://example.com/state",
    ],
)
def test_what_names_no_place_is_refused_with_the_grammar(text: str) -> None:
    with pytest.raises(PipelineError, match="no place for a state") as caught:
        parse(text, "a", API)
    assert "gitlab:NAME" in caught.value.hint


def test_two_roots_never_share_a_state() -> None:
    for text, roots in (("gitlab:one", ["a", "b"]), ("gitlab", ["a/b", "a-b"])):
        with pytest.raises(PipelineError, match="would share the state"):
            state_backend.distinct(text, roots, API)
    assert len(state_backend.distinct("gitlab", ["a", "b"], API)) == 2
    assert len(state_backend.distinct("configured", ["a", "b"], API)) == 2


@given(st.text())
def test_no_text_gets_words_with_a_line_end_or_fails_otherwise(text: str) -> None:
    try:
        words = parse(text, "a", API).words
    except PipelineError:
        return
    assert not any("\n" in word or "\0" in word for word in words)


def test_the_slug_of_the_checkout_itself() -> None:
    assert [slug(root) for root in (".", "", "a/", "a/b")] == ["root", "root", "a", "a-b"]
