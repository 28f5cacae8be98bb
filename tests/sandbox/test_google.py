"""The Google stand-ins answer as Google documents it, asked by plain requests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import requests

from sandbox.google.server import ACCESS, ACCOUNTS, EXCHANGE, JWT
from tests.google_world import ACCOUNT, APPS, GoogleWorld

if TYPE_CHECKING:
    from sandbox.google.tokens import Issued

FLAVOUR = {"Metadata-Flavor": "Google"}


def metadata(world: GoogleWorld, path: str, headers: dict[str, str] = FLAVOUR) -> requests.Response:
    return requests.get(f"{world.google.url}{ACCOUNTS}/{path}", headers=headers, timeout=5)


def registry(world: GoogleWorld, path: str, token: Issued, method: str = "GET") -> requests.Response:
    headers = {"Authorization": f"Bearer {token.token}"}
    return requests.request(method, f"{world.registry.url}/v2/{path}", headers=headers, timeout=5)


def test_the_metadata_server_wants_its_header(google_world: GoogleWorld) -> None:
    assert metadata(google_world, "default/token", {}).status_code == 403
    answer = metadata(google_world, "default/token")
    assert (answer.status_code, answer.headers["Metadata-Flavor"]) == (200, "Google")
    assert metadata(google_world, "other@acme.iam.gserviceaccount.com/token").status_code == 404


def test_the_metadata_server_keeps_a_token_until_it_ends_soon(google_world: GoogleWorld) -> None:
    first, second = (metadata(google_world, "default/token").json()["access_token"] for _ in range(2))
    assert first == second
    google_world.google.tokens.revoke()
    assert metadata(google_world, "default/token").json()["access_token"] == first  # it does not know of that
    google_world.google._cached = google_world.google.tokens.issue("serviceAccount:x", 299)
    assert metadata(google_world, "default/token").json()["access_token"] not in {first, "x"}
    assert google_world.issued[-1].seconds > 3000


def test_the_exchange_is_oauth_s(google_world: GoogleWorld) -> None:
    form = {
        "grant_type": EXCHANGE,
        "audience": f"//iam.googleapis.com/{google_world.google.pool.provider}",
        "scope": "https://www.googleapis.com/auth/cloud-platform",
        "requested_token_type": ACCESS,
        "subject_token": google_world.id_token().reveal(),
        "subject_token_type": JWT,
    }
    good = requests.post(f"{google_world.google.url}/v1/token", data=form, timeout=5)
    assert (good.status_code, good.json()["token_type"]) == (200, "Bearer")
    for name in form:
        bad = requests.post(f"{google_world.google.url}/v1/token", data={**form, name: "a.e30.b"}, timeout=5)
        expected = {"audience": "invalid_target", "subject_token": "invalid_grant", "scope": None}
        found = (bad.status_code, bad.json().get("error"))
        assert found == ((200, None) if name == "scope" else (400, expected.get(name, "invalid_request"))), (
            name
        )


def test_a_stranger_s_key_is_no_issuer(google_world: GoogleWorld) -> None:
    token = google_world.id_token().reveal()
    forged = f"{token.rpartition('.')[0]}.{'A' * 342}"
    form = {
        "grant_type": EXCHANGE,
        "audience": f"//iam.googleapis.com/{google_world.google.pool.provider}",
        "scope": "x",
        "requested_token_type": ACCESS,
        "subject_token": forged,
        "subject_token_type": JWT,
    }
    answer = requests.post(f"{google_world.google.url}/v1/token", data=form, timeout=5)
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_grant")
    assert google_world.issued == []


def test_the_registry_opens_for_a_good_token_and_a_right(google_world: GoogleWorld) -> None:
    writer = google_world.google.tokens.issue(f"serviceAccount:{ACCOUNT}")
    stranger = google_world.google.tokens.issue("serviceAccount:stranger")
    ended = google_world.google.tokens.issue(f"serviceAccount:{ACCOUNT}", 0)
    uploads = f"{APPS}/shop/blobs/uploads/"
    assert registry(google_world, uploads, writer, "POST").status_code == 202
    assert registry(google_world, uploads, stranger, "POST").json()["errors"][0]["code"] == "DENIED"
    refused = registry(google_world, uploads, ended, "POST")
    assert (refused.status_code, refused.headers["WWW-Authenticate"].split(" ")[0]) == (401, "Bearer")
    assert registry(google_world, "acme/none/shop/blobs/uploads/", writer, "POST").status_code == 404
    assert registry(google_world, f"{APPS}/tags/list", writer).json()["errors"][0]["code"] == "NAME_INVALID"


def test_a_reader_only_reads(google_world: GoogleWorld) -> None:
    google_world.door.readers[APPS] = frozenset({"serviceAccount:reader"})
    reader = google_world.google.tokens.issue("serviceAccount:reader")
    found = registry(google_world, f"{APPS}/shop/tags/list", reader)
    assert (
        found.json()["errors"][0]["code"] == "NAME_UNKNOWN"
    )  # the registry's own answer: there is no image yet
    assert registry(google_world, f"{APPS}/shop/blobs/uploads/", reader, "POST").status_code == 403
