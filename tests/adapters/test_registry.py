from __future__ import annotations

import os
import re
import tracemalloc
from typing import TYPE_CHECKING

import pytest
import requests

from pipeline_tools.adapters import http
from pipeline_tools.adapters.registry import TRIES, Registries, Registry
from pipeline_tools.errors import Denied, PipelineError, Refused, Unavailable
from pipeline_tools.text import manifests, references
from pipeline_tools.text.credentials import Credential
from pipeline_tools.text.manifests import Blob, Manifest
from pipeline_tools.text.masks import Secret
from sandbox.proxy import Answer, Fault, refusal
from sandbox.token_server import Mood
from tests import registry_images as images
from tests.conftest import CI_PASSWORD, CI_USER, READER, READER_PASSWORD

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from sandbox.registry import Registry as Server

CI = Credential(CI_USER, Secret(CI_PASSWORD))
WRONG = Credential(CI_USER, Secret("not-the-password"))
READS = Credential(READER, Secret(READER_PASSWORD))


@pytest.fixture(params=["registry", "token_registry"])
def either(request: pytest.FixtureRequest, registry: Server, token_registry: Server) -> Server:
    return {"registry": registry, "token_registry": token_registry}[request.param]


def client(server: Server, credential: Credential | None = CI) -> Registry:
    """Our client, which does not wait long between its tries."""
    return Registry(server.host, lambda: credential, http.session(backoff=0.01))


def seen(server: Server, act: Callable[[], object]) -> list[str]:
    """Method and status of each request that `act` made."""
    with server.recording() as exchanges:
        act()
    return [f"{exchange.method} {exchange.status}" for exchange in exchanges]


def test_a_manifest_is_read_and_written_byte_for_byte(either: Server, repository: str) -> None:
    digest = images.put_image(either, repository, "a")
    ours = client(either)
    found = ours.get(repository, "a")
    ours.put(repository, "b", found)
    assert (found.digest, found.media_type) == (digest, images.MANIFEST)
    assert found.raw == images.raw_manifest(either, repository, "b")
    assert b"  :  " in found.raw
    assert images.contents(either, repository) == {"a": digest, "b": digest}


def test_head_tells_the_digest_or_that_there_is_none(either: Server, repository: str) -> None:
    digest = images.put_image(either, repository, "a")
    ours = client(either)
    assert ours.head(repository, "a") == digest
    assert ours.head(repository, digest) == digest
    assert ours.head(repository, "b") is None
    assert ours.head(f"{repository}-none", "a") is None


def test_head_without_a_digest_reads_the_manifest(registry: Server, repository: str) -> None:
    digest = images.put_image(registry, repository, "a")
    with registry.failing(Fault("HEAD", answer=Answer(200))):
        assert client(registry).head(repository, "a") == digest


def test_a_password_takes_no_request_more(registry: Server, repository: str) -> None:
    images.put_image(registry, repository, "a")
    ours = client(registry)
    assert seen(registry, lambda: ours.put(repository, "b", ours.get(repository, "a"))) == [
        "GET 200",
        "PUT 201",
    ]


def test_a_token_is_fetched_once_a_scope(token_registry: Server, repository: str) -> None:
    images.put_image(token_registry, repository, "a")
    assert token_registry.tokens
    before = len(token_registry.tokens.requests)
    ours = client(token_registry)

    def act() -> None:
        for tag in ("b", "c"):
            ours.put(repository, tag, ours.get(repository, "a"))

    assert seen(token_registry, act) == ["GET 401", "GET 200", "PUT 201", "GET 200", "PUT 201"]
    scopes = [request.scopes for request in token_registry.tokens.requests[before:]]
    assert scopes == [(f"repository:{repository}:pull",), (f"repository:{repository}:pull,push",)]


def test_a_token_that_expired_is_fetched_again(token_registry: Server, repository: str) -> None:
    images.put_image(token_registry, repository, "a")
    ours = client(token_registry)
    ours.head(repository, "a")
    ours._tokens = dict.fromkeys(ours._tokens, "expired")
    assert seen(token_registry, lambda: ours.head(repository, "a")) == ["HEAD 401", "HEAD 200"]


@pytest.mark.parametrize("mood", [Mood.EXPIRED, Mood.FORGED, Mood.FORBIDS])
def test_tokens_that_are_not_good_end_as_denied(token_registry: Server, repository: str, mood: Mood) -> None:
    assert token_registry.tokens
    with token_registry.tokens.behaving(mood), pytest.raises(Denied, match=r"401|403"):
        client(token_registry).head(repository, "a")


def test_a_token_server_that_breaks_is_worth_a_retry(token_registry: Server, repository: str) -> None:
    assert token_registry.tokens
    with token_registry.tokens.behaving(Mood.BREAKS), pytest.raises(Unavailable, match="/token"):
        client(token_registry).head(repository, "a")


def test_a_wrong_password_is_denied(either: Server, repository: str) -> None:
    with pytest.raises(Denied) as caught:
        client(either, WRONG).head(repository, "a")
    assert "PT_REGISTRY_PASSWORD" in caught.value.hint
    assert "not-the-password" not in f"{caught.value.message}{caught.value.hint}"


def test_nobody_is_told_how_to_log_in(registry: Server, token_registry: Server, repository: str) -> None:
    for server in (registry, token_registry):
        with pytest.raises(Denied) as caught:
            client(server, None).head(repository, "a")
        assert f"no login for {server.host}" in caught.value.hint


def test_netrc_is_not_read(
    registry: Server, repository: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "netrc").write_text(f"machine 127.0.0.1 login {CI_USER} password {CI_PASSWORD}\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    with pytest.raises(Denied):
        client(registry, None).head(repository, "a")


def test_a_reader_may_read_but_not_push(token_registry: Server, repository: str) -> None:
    images.put_image(token_registry, repository, "a")
    ours = client(token_registry, READS)
    found = ours.get(repository, "a")
    with pytest.raises(Denied) as caught:
        ours.put(repository, "b", found)
    assert "right to push" in caught.value.hint
    assert images.contents(token_registry, repository).keys() == {"a"}


@pytest.mark.parametrize(
    ("host", "realm"),
    [
        ("registry.example.com", "http://registry.example.com/token"),
        ("registry.example.com", "http://127.0.0.1/token"),
        ("127.0.0.1:5000", "http://registry.example.com/token"),
        ("127.0.0.1:5000", "http://127.0.0.1@registry.example.com/token"),
        ("127.0.0.1:5000", "ftp://127.0.0.1/token"),
        ("127.0.0.1:5000", ""),
    ],
)
def test_the_login_goes_to_no_realm_in_the_clear(host: str, realm: str) -> None:
    with pytest.raises(Denied, match="not https"):
        Registry(host, lambda: CI)._token("repository:a:pull", {"realm": realm})


def test_an_address_on_another_host_gets_no_login(
    registry: Server, repository: str, token_registry: Server
) -> None:
    link = f'<{token_registry.url}/v2/{repository}/tags/list?last=z>; rel="next"'
    page = Answer(200, b'{"tags": ["z"]}', {"Link": link, "Content-Type": "application/json"})
    with (
        registry.failing(Fault("GET", "tags/list", answer=page)),
        token_registry.recording() as exchanges,
        pytest.raises(Denied),
    ):
        client(registry).tags(repository)
    assert [exchange.scheme for exchange in exchanges] == [""]


def test_tags_are_listed_page_after_page(registry: Server, repository: str) -> None:
    images.put_image(registry, repository, "1.0.0")
    images.put_image(registry, repository, "1.1.0")
    link = f'</v2/{repository}/tags/list?n=1&last=0.9.0>; rel="next"'
    page = Answer(200, b'{"tags": ["0.9.0"]}', {"Link": link})
    with registry.failing(Fault("GET", "tags/list", answer=page)):
        assert sorted(client(registry).tags(repository)) == ["0.9.0", "1.0.0", "1.1.0"]
    assert client(registry).tags(f"{repository}-none") == []


def test_a_listing_that_never_ends_is_ended(registry: Server, repository: str) -> None:
    link = f'</v2/{repository}/tags/list?n=1000>; rel="next"'
    page = Answer(200, b'{"tags": ["0.9.0"]}', {"Link": link})
    with registry.failing(Fault("GET", "tags/list", answer=page, times=None)):
        assert client(registry).tags(repository) == ["0.9.0"]


def test_labels_are_read_from_the_config(either: Server, repository: str) -> None:
    images.put_image(either, repository, "a", {"x": "1"})
    ours = client(either)
    assert ours.labels(repository, ours.get(repository, "a")) == {"x": "1"}


def test_labels_of_an_index_are_those_of_its_first_image(registry: Server, repository: str) -> None:
    children = [images.put_image(registry, repository, "@", {"x": str(at)}) for at in range(2)]
    images.put_index(registry, repository, "a", children)
    ours = client(registry)
    assert ours.labels(repository, ours.get(repository, "a")) == {"x": "0"}


def test_a_manifest_that_was_changed_on_its_way_is_noticed(registry: Server, repository: str) -> None:
    digest = images.put_image(registry, repository, "a")
    changed = Answer(200, b"{}", {"Content-Type": images.MANIFEST, "Docker-Content-Digest": digest})
    for reference in ("a", digest):
        with (
            registry.failing(Fault("GET", answer=changed)),
            pytest.raises(PipelineError, match="the content is"),
        ):
            client(registry).get(repository, reference)


def test_a_missing_manifest(either: Server, repository: str) -> None:
    images.put_image(either, repository, "a")
    with pytest.raises(PipelineError, match="MANIFEST_UNKNOWN") as caught:
        client(either).get(repository, "b")
    assert caught.value.exit_code == 1


def test_a_manifest_without_end_is_not_read_to_it(registry: Server, repository: str) -> None:
    large = Answer(200, b" " * (5 * 1024 * 1024), {"Content-Type": images.MANIFEST})
    with registry.failing(Fault("GET", answer=large)), pytest.raises(PipelineError, match="larger than"):
        client(registry).get(repository, "a")


HTML = {"Content-Type": "text/html; charset=utf-8"}


def test_a_manifest_of_schema_1_is_said_to_be_one(registry: Server, repository: str) -> None:
    signed = {"Content-Type": "application/vnd.docker.distribution.manifest.v1+prettyjws"}
    with (
        registry.failing(Fault("GET", answer=Answer(200, b"{}", signed))),
        pytest.raises(PipelineError, match="of schema 1"),
    ):
        client(registry).get(repository, "a")


def test_an_upload_follows_nowhere(registry: Server, token_registry: Server, repository: str) -> None:
    blob, ours = layer(token_registry, repository), client(registry)
    away = Answer(307, b"", {"Location": f"{registry.url}/elsewhere"})
    with (
        registry.failing(Fault("PUT", "blobs/uploads", answer=away)),
        registry.recording() as exchanges,
        pytest.raises(PipelineError, match="not 201"),
    ):
        ours.copy(repository, blob, client(token_registry), repository)
    assert not [exchange for exchange in exchanges if "elsewhere" in exchange.path]


def test_a_web_page_is_no_registry(registry: Server, repository: str) -> None:
    page = Fault(answer=Answer(200, b"<html>", HTML), times=None)
    with registry.failing(page):
        with pytest.raises(PipelineError, match="text/html, not an image manifest"):
            client(registry).get(repository, "a")
        with pytest.raises(PipelineError, match="answered with text/html, not JSON"):
            client(registry).tags(repository)
    with (
        registry.failing(Fault(answer=Answer(403, b"<html>", HTML))),
        pytest.raises(Denied, match="text/html instead"),
    ):
        client(registry).get(repository, "a")


@pytest.mark.parametrize(
    ("method", "said"), [("POST", "text/html, not an upload's address"), ("PUT", "text/html, not 201")]
)
def test_a_web_page_is_no_upload(
    registry: Server, token_registry: Server, repository: str, method: str, said: str
) -> None:
    blob, ours = layer(token_registry, repository), client(registry)
    with (
        registry.failing(Fault(method, "blobs/uploads", answer=Answer(200, b"<html>", HTML), times=None)),
        pytest.raises(PipelineError, match=said),
    ):
        ours.copy(repository, blob, client(token_registry), repository)
    assert not ours.has(repository, blob)


@pytest.mark.parametrize("method", ["HEAD", "GET", "PUT"])
@pytest.mark.parametrize(
    "fault",
    [
        Fault(answer=refusal(429, retry_after="0"), times=2),
        Fault(answer=refusal(503), times=2),
        Fault(reset=True),
        Fault(reset=True, forward=True),
    ],
    ids=str,
)
def test_what_passes_is_tried_again(registry: Server, repository: str, method: str, fault: Fault) -> None:
    digest = images.put_image(registry, repository, "a")
    ours = client(registry)
    manifest = ours.get(repository, "a")
    acts = {
        "HEAD": lambda: ours.head(repository, "a"),
        "GET": lambda: ours.get(repository, "a"),
        "PUT": lambda: ours.put(repository, "b", manifest),
    }
    with registry.failing(fault):
        methods = seen(registry, acts[method])
    assert len(methods) == (fault.times or 0) + 1
    assert images.contents(registry, repository)["a"] == digest


def test_retry_after_is_waited_for(registry: Server, repository: str) -> None:
    images.put_image(registry, repository, "a")
    with (
        registry.failing(Fault("HEAD", answer=refusal(429, retry_after="1"))),
        registry.recording() as exchanges,
    ):
        client(registry).head(repository, "a")
    assert [exchange.status for exchange in exchanges] == [429, 200]


@pytest.mark.parametrize("status", [429, 500, 503])
def test_what_does_not_pass_is_unavailable(registry: Server, repository: str, status: int) -> None:
    with registry.failing(Fault(answer=refusal(status), times=None)), pytest.raises(Unavailable):
        client(registry).head(repository, "a")


def test_a_body_that_is_cut_off_is_unavailable(registry: Server, repository: str) -> None:
    images.put_image(registry, repository, "a")
    with registry.failing(Fault("GET", truncate=10)), pytest.raises(Unavailable):
        client(registry).get(repository, "a")


def test_no_registry_at_all() -> None:
    with pytest.raises(Unavailable, match=re.escape("127.0.0.1:1")):
        Registry("127.0.0.1:1", session=http.session(retries=0)).head("a", "b")


def test_an_immutable_tag_is_refused(registry: Server, repository: str) -> None:
    kept = f"immutable/{repository}"
    digest = images.put_image(registry, kept, "1.0.0", {"x": "1"})
    other = images.put_image(registry, kept, "@", {"x": "2"})
    ours = client(registry)
    ours.put(kept, "1.0.0", ours.get(kept, digest))
    with pytest.raises(Refused, match="immutability") as caught:
        ours.put(kept, "1.0.0", ours.get(kept, other))
    assert caught.value.exit_code == 3
    assert images.contents(registry, kept) == {"1.0.0": digest}


def test_a_repository_that_must_exist(registry: Server, repository: str) -> None:
    images.put_image(registry, repository, "a")
    ours = client(registry)
    manifest = ours.get(repository, "a")
    with (
        registry.failing(Fault("PUT", answer=refusal(404, message="Repository not found"))),
        pytest.raises(PipelineError, match="Repository not found") as caught,
    ):
        ours.put(repository, "b", manifest)
    assert "must exist before the push" in caught.value.hint


def test_a_registry_that_makes_something_else_of_it(registry: Server, repository: str) -> None:
    images.put_image(registry, repository, "a")
    ours = client(registry)
    manifest = ours.get(repository, "a")
    other = Answer(201, b"", {"Docker-Content-Digest": manifests.digest(b"other")})
    with (
        registry.failing(Fault("PUT", answer=other)),
        pytest.raises(PipelineError, match="the registry says"),
    ):
        ours.put(repository, "b", manifest)


# Blobs ---------------------------------------------------------------------------------------------------------


def layer(server: Server, repository: str, content: bytes = b"") -> Blob:
    row = images.put_blob(server, repository, content or os.urandom(100_000))
    return Blob(row["digest"], row["size"])


def test_a_blob_is_mounted_without_moving_a_byte(either: Server, repository: str) -> None:
    blob, ours, target = layer(either, repository), client(either), f"{repository}-target"
    ours.has(repository, blob)
    with either.recording() as exchanges:
        assert ours.copy(target, blob, ours, repository)
    assert [(e.method, e.status, e.sent) for e in exchanges] == [("POST", 201, 0)]
    assert ours.has(target, blob)


NO_MOUNT = Answer(202, b"", {"Location": "/v2/nowhere/blobs/uploads/gone"})
"""A registry that does not know mounts: it takes the request for one to open an upload."""


@pytest.mark.parametrize(
    "fault", [Fault("POST", answer=refusal(429)), Fault("POST", reset=True, forward=True)], ids=str
)
def test_a_mount_is_asked_for_again(registry: Server, repository: str, fault: Fault) -> None:
    blob, ours = layer(registry, repository), client(registry)
    with registry.failing(fault):
        assert ours.copy(f"{repository}-target", blob, ours, repository)


def test_a_blob_that_is_not_mounted_is_streamed(registry: Server, repository: str) -> None:
    blob, ours, target = layer(registry, repository), client(registry), f"{repository}-target"
    # From a repository that does not have it, docker-registry opens an upload instead.
    with registry.recording() as exchanges:
        assert not ours.copy(target, blob, _elsewhere(ours, repository), "acme/none")
    assert [(e.method, e.status) for e in exchanges] == [
        ("POST", 202),
        ("HEAD", 404),
        ("GET", 200),
        ("PUT", 201),
    ]
    assert ours.has(target, blob)


def _elsewhere(ours: Registry, repository: str) -> Registry:
    """`ours`, which reads blobs from `repository` whatever it is asked for."""

    class Elsewhere(Registry):
        def reading(self, _: str, blob: Blob) -> object:  # type: ignore[override]
            return ours.reading(repository, blob)

    return Elsewhere(ours.host)


def test_a_blob_that_is_there_is_not_sent(registry: Server, repository: str) -> None:
    content = os.urandom(1000)
    blob, ours, target = layer(registry, repository, content), client(registry), f"{repository}-target"
    layer(registry, target, content)
    with registry.failing(Fault("POST", "mount=", answer=NO_MOUNT)):
        assert seen(registry, lambda: ours.copy(target, blob, ours, repository)) == ["POST 202", "HEAD 200"]


def test_a_blob_goes_from_one_registry_to_another(
    registry: Server, token_registry: Server, repository: str
) -> None:
    blob = layer(registry, repository)
    ours = client(token_registry)
    assert not ours.copy(repository, blob, client(registry), repository)
    assert ours.has(repository, blob)


@pytest.mark.parametrize(
    "fault",
    [
        Fault("PUT", "blobs/uploads", reset=True),
        Fault("PUT", "blobs/uploads", reset=True, forward=True),
        Fault("PUT", "blobs/uploads", answer=refusal(503)),
        Fault("POST", "blobs/uploads", answer=refusal(429)),
    ],
    ids=str,
)
def test_an_upload_that_broke_is_begun_anew(
    registry: Server, token_registry: Server, repository: str, fault: Fault
) -> None:
    blob, ours = layer(token_registry, repository), client(registry)
    with registry.failing(fault):
        ours.copy(repository, blob, client(token_registry), repository)
    assert ours.has(repository, blob)


def test_a_download_that_broke_is_begun_anew(
    registry: Server, token_registry: Server, repository: str
) -> None:
    blob, ours = layer(token_registry, repository), client(registry)
    with token_registry.failing(Fault("GET", "blobs/", truncate=50_000)):
        ours.copy(repository, blob, client(token_registry), repository)
    assert ours.has(repository, blob)


def test_a_token_that_ends_between_opening_and_sending_is_fetched_again(
    registry: Server, token_registry: Server, repository: str
) -> None:
    blob, ours = layer(registry, repository), client(token_registry)
    assert token_registry.tokens
    challenge = f'Bearer realm="{token_registry.tokens.realm}",service="sandbox-registry"'
    ended = Answer(401, b"", {"WWW-Authenticate": challenge})
    before = len(token_registry.tokens.requests)
    with token_registry.failing(Fault("PUT", "blobs/uploads", answer=ended)):
        ours.copy(repository, blob, client(registry), repository)
    assert ours.has(repository, blob)
    scopes = [request.scopes for request in token_registry.tokens.requests[before:]]
    assert scopes.count((f"repository:{repository}:pull,push",)) == 2


@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_an_upload_waits_as_long_as_it_is_asked_to(
    registry: Server, token_registry: Server, repository: str, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[float] = []
    monkeypatch.setattr("pipeline_tools.adapters.registry.time.sleep", waited.append)
    blob, ours = layer(token_registry, repository), client(registry)
    with registry.failing(Fault(method, "blobs/uploads", answer=refusal(429, retry_after="7"))):
        ours.copy(repository, blob, client(token_registry), repository)
    assert ours.has(repository, blob)
    assert [7 <= seconds < 8 for seconds in waited] == [True]


@pytest.mark.parametrize(("asked", "seconds"), [("7", 7), ("21600", 60), ("", 0), ("soon", 0), ("-1", 0)])
def test_nobody_is_waited_for_for_hours(asked: str, seconds: int) -> None:
    answer = requests.Response()
    answer.headers["Retry-After"] = asked
    assert http.retry_after(answer) == seconds
    retries = http.session().get_adapter("https://").max_retries  # type: ignore[attr-defined]
    assert retries.parse_retry_after("21600") == http.LONGEST_WAIT


def test_the_address_of_an_upload_may_be_relative(
    registry: Server, token_registry: Server, repository: str
) -> None:
    """RFC 9110, 10.2.2: to the address that was asked."""
    blob, ours = layer(token_registry, repository), client(registry)
    opened = requests.post(
        f"{registry.url}/v2/{repository}/blobs/uploads/",
        headers=images.headers(registry, repository),
        timeout=5,
    )
    last = opened.headers["Location"].rpartition("/")[2]
    moved = Answer(202, b"", {"Location": last})
    with registry.failing(Fault("POST", "blobs/uploads", answer=moved)):
        ours.copy(repository, blob, client(token_registry), repository)
    assert ours.has(repository, blob)


def test_a_source_that_breaks_off_is_named(registry: Server, token_registry: Server, repository: str) -> None:
    blob, ours = layer(token_registry, repository), client(registry)
    with (
        token_registry.failing(Fault("GET", "blobs/", truncate=50_000, times=None)),
        pytest.raises(Unavailable, match=token_registry.host),
    ):
        ours.copy(repository, blob, client(token_registry), repository)


def test_an_upload_that_always_breaks_is_given_up(
    registry: Server, token_registry: Server, repository: str
) -> None:
    blob = layer(token_registry, repository)
    with (
        registry.failing(Fault("PUT", answer=refusal(503), times=None)),
        registry.recording() as exchanges,
        pytest.raises(Unavailable),
    ):
        client(registry).copy(repository, blob, client(token_registry), repository)
    assert [exchange.method for exchange in exchanges].count("PUT") == TRIES


def test_a_blob_is_never_whole_in_memory(registry: Server, token_registry: Server, repository: str) -> None:
    blob = layer(token_registry, repository, os.urandom(1024) * 32 * 1024)
    ours, theirs = client(registry), client(token_registry)
    assert theirs.has(repository, blob)
    tracemalloc.start()
    ours.copy(repository, blob, theirs, repository)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < blob.size / 4


def test_registries_are_one_a_host() -> None:
    asked: list[str] = []

    def login(host: str) -> None:
        asked.append(host)

    registries = Registries(login)
    one, two = (references.repository(f"registry.example.com/{name}") for name in ("a", "b"))
    assert registries.at(one) is registries.at(two)
    assert registries.at(references.repository("other.example.com/a")) is not registries.at(one)
    assert registries.credential(one) is None
    assert asked == ["registry.example.com"]


def test_nothing_tells_the_password() -> None:
    assert "registry-password" not in repr(Registry("127.0.0.1:1", lambda: CI))
    assert Manifest("t", b"raw") == Manifest("t", b"raw")
