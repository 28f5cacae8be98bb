"""Whether a repository keeps its tags, asked of a stand-in of Artifact Registry's API."""

from __future__ import annotations

import json

import pytest

from pipeline_tools.adapters.artifact_registry import keeps_tags
from pipeline_tools.text.credentials import Credential
from pipeline_tools.text.masks import Secret
from pipeline_tools.text.references import Repository
from tests.listener import listening, reply

TOKEN = Credential("oauth2accesstoken", Secret("the-access-token"))
IMAGE = Repository("europe-west1-docker.pkg.dev", "acme/apps/shop/web")
NAME = "projects/acme/locations/europe-west1/repositories/apps"


@pytest.mark.parametrize(
    ("body", "keeps"),
    [
        ({"name": NAME, "format": "DOCKER", "dockerConfig": {"immutableTags": True}}, True),
        ({"name": NAME, "format": "DOCKER", "dockerConfig": {}}, False),
        ({"name": NAME, "format": "DOCKER"}, False),
    ],
)
def test_the_repository_says_whether_it_keeps_its_tags(body: object, keeps: bool) -> None:
    with listening(reply(200, json.dumps(body).encode())) as api:
        assert keeps_tags(IMAGE, TOKEN, api.url) is keeps
    assert [(seen.method, seen.path) for seen in api.seen] == [("GET", f"/v1/{NAME}")]
    assert api.seen[0].headers["Authorization"] == "Bearer the-access-token"


@pytest.mark.parametrize(
    ("status", "body"),
    [(403, b"{}"), (404, b"{}"), (200, b"<html>"), (200, b"[]"), (200, b'{"dockerConfig": 1}')],
)
def test_what_cannot_be_looked_up_is_not_known(status: int, body: bytes) -> None:
    with listening(reply(status, body)) as api:
        assert keeps_tags(IMAGE, TOKEN, api.url) is None
    assert api.seen


def test_a_redirect_does_not_get_the_token() -> None:
    with listening() as other, listening(reply(302, Location=f"{other.other_url}/v1/{NAME}")) as api:
        assert keeps_tags(IMAGE, TOKEN, api.url) is None
    assert not other.seen


def test_a_project_of_a_domain() -> None:
    with listening(reply(200, b"{}")) as api:
        keeps_tags(Repository(IMAGE.host, "example.com/acme/apps/web"), TOKEN, api.url)
    assert api.seen[0].path == f"/v1/{NAME.replace('acme', 'example.com:acme')}"


@pytest.mark.parametrize(
    ("repository", "credential"),
    [
        (Repository("registry.example.com", IMAGE.name), TOKEN),
        (Repository("europe-west1-docker.pkg.dev.example.com", IMAGE.name), TOKEN),
        (Repository(IMAGE.host, "acme/apps"), TOKEN),
        (IMAGE, None),
        (IMAGE, Credential("_json_key", Secret("the-key"))),
    ],
)
def test_nothing_is_asked_where_there_is_nothing_to_ask(
    repository: Repository, credential: Credential | None
) -> None:
    with listening(reply(200, b"{}")) as api:
        assert keeps_tags(repository, credential, api.url) is None
    assert not api.seen
