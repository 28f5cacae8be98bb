"""The real google-auth against the stand-ins, and a real registry behind a door that takes their tokens."""

from __future__ import annotations

import os
import re
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from pipeline_tools.adapters import google, http
from pipeline_tools.adapters.registry import Registry
from pipeline_tools.errors import Denied, PipelineError, Unavailable
from pipeline_tools.text import google_identity
from pipeline_tools.text.credentials import ACCESS_TOKEN, Credential
from pipeline_tools.text.manifests import Blob
from pipeline_tools.text.masks import Secret
from sandbox.google import Tokens
from sandbox.proxy import Answer, Fault, refusal
from tests import registry_images as images
from tests.conftest import CI_PASSWORD, CI_USER
from tests.google_world import ACCOUNT, APPS, CANDIDATES, GoogleWorld

if TYPE_CHECKING:
    from pipeline_tools.adapters.google import Identity
    from sandbox.registry import Registry as Server

IMAGE = f"{APPS}/shop"
CI = Credential(CI_USER, Secret(CI_PASSWORD))


def client(world: GoogleWorld, identity: Identity) -> Registry:
    return Registry(world.registry.host, identity, http.session(backoff=0.01))


# The metadata server -----------------------------------------------------------------------------------------


def test_a_pod_has_the_token_of_its_account(google_world: GoogleWorld) -> None:
    found = google_world.metadata()()
    issued = google_world.issued[-1]
    assert (found.user, found.password.reveal()) == (ACCESS_TOKEN, issued.token)
    assert found.principal == f"serviceAccount:{ACCOUNT}"
    assert found.expires == pytest.approx(issued.ends, abs=2)
    assert issued.token not in repr(found)


def test_a_token_is_fetched_once_and_told_before_it_is_used(google_world: GoogleWorld) -> None:
    identity = google_world.metadata()
    first, second = identity(), identity()
    assert first == second
    assert len(google_world.issued) == 1
    assert google_world.tokens == [first.password]


@pytest.mark.parametrize(
    "fault",
    [
        Fault(reset=True, times=4),
        Fault(answer=Answer(500, b"GKE Metadata Server: Internal Server Error"), times=3),
    ],
    ids=str,
)
def test_a_metadata_server_that_is_not_ready_is_waited_for(google_world: GoogleWorld, fault: Fault) -> None:
    with google_world.google.proxy.failing(fault), google_world.google.proxy.recording() as exchanges:
        assert google_world.metadata(patience=60)().password == Secret(google_world.issued[-1].token)
    assert [exchange.fault for exchange in exchanges].count(str(fault)) == fault.times


def test_a_metadata_server_that_never_comes_is_unavailable(
    google_world: GoogleWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("google.auth.compute_engine._metadata._GCE_METADATA_HOST", "127.0.0.1:1")
    with pytest.raises(Unavailable, match=re.escape("127.0.0.1:1")) as caught:
        google_world.metadata(patience=0.5)()
    assert "GKE" in caught.value.hint


def test_a_pod_whose_account_does_not_trust_it_is_told_the_role(google_world: GoogleWorld) -> None:
    google_world.google.metadata_refusal = (
        "Unable to generate access token; IAM returned 403 Forbidden: Permission "
        "'iam.serviceAccounts.getAccessToken' denied on resource (or it may not exist)."
    )
    with pytest.raises(Denied, match="IAM returned 403") as caught:
        google_world.metadata()()
    assert "roles/iam.workloadIdentityUser" in caught.value.hint
    assert "svc.id.goog[NAMESPACE/SERVICE_ACCOUNT]" in caught.value.hint
    assert "\n" not in caught.value.message


def test_a_pod_without_a_google_account_is_named_by_its_pool(google_world: GoogleWorld) -> None:
    google_world.google.account = "acme.svc.id.goog"
    assert "/workloadIdentityPools/acme.svc.id.goog/subject/ns/" in google_world.metadata()().principal


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"GCE_METADATA_HOST": "127.0.0.1:1"}, True),
        ({"GCE_METADATA_HOST": "127.0.0.1:1", "NO_GCE_CHECK": "true"}, False),
    ],
)
def test_whether_a_metadata_server_is_expected_is_told_without_asking(
    environment: dict[str, str], *, expected: bool
) -> None:
    assert google.is_here(environment) is expected


# The id token ------------------------------------------------------------------------------------------------


def test_a_job_is_itself(google_world: GoogleWorld) -> None:
    found = google_world.federated()()
    assert found.password.reveal() == google_world.issued[-1].token
    assert found.principal == google_world.issued[-1].member == google_world.job


def test_a_job_acts_as_an_account_that_lets_it(google_world: GoogleWorld) -> None:
    google_world.google.may_impersonate[ACCOUNT] = frozenset({google_world.job})
    found = google_world.federated(account=ACCOUNT)()
    assert [row.member for row in google_world.issued] == [google_world.job, f"serviceAccount:{ACCOUNT}"]
    assert (found.password.reveal(), found.principal) == (
        google_world.issued[1].token,
        f"serviceAccount:{ACCOUNT}",
    )


def test_an_account_that_does_not_let_it_names_the_role(google_world: GoogleWorld) -> None:
    with pytest.raises(Denied, match=r"iam\.serviceAccounts\.getAccessToken") as caught:
        google_world.federated(account=ACCOUNT)()
    assert f"roles/iam.workloadIdentityUser on {ACCOUNT} to {google_world.job}" in caught.value.hint


@pytest.mark.parametrize(
    ("changes", "said", "hint"),
    [
        ({"audience": "vault"}, r"\[vault\] does not match", "id token is for vault"),
        ({"is_protected": False}, "attribute condition", "ref_protected false"),
        ({"seconds": -60}, "stale to sign-in.*expired at", "job's timeout"),
        ({"provider": "projects/1/locations/global/workloadIdentityPools/other/providers/gitlab"}, "invalid_target",
         "does projects/1/"),
    ],
)  # fmt: skip
def test_an_exchange_that_is_refused_says_what_to_change(
    google_world: GoogleWorld, changes: dict[str, Any], said: str, hint: str
) -> None:
    with pytest.raises(Denied, match=said) as caught:
        google_world.federated(**changes)()
    assert hint in caught.value.hint
    assert "eyJ" not in f"{caught.value.message}{caught.value.hint}"
    assert google_world.issued == []


def test_an_exchange_is_asked_again_while_google_is_overloaded(google_world: GoogleWorld) -> None:
    with google_world.google.proxy.failing(Fault("POST", answer=refusal(503), times=2)):
        assert google_world.federated(patience=60)().password == Secret(google_world.issued[0].token)
    with (
        google_world.google.proxy.failing(Fault("POST", answer=refusal(503), times=None)),
        pytest.raises(Unavailable, match="HTTP 503"),
    ):
        google_world.federated(patience=0.3)()


def test_the_id_token_follows_no_redirect_to_another_host(google_world: GoogleWorld) -> None:
    away = Answer(307, b"", {"Location": "http://localhost:1/v1/token"})
    with (
        google_world.google.proxy.failing(Fault("POST", answer=away)),
        pytest.raises(Denied, match="redirects"),
    ):
        google_world.federated()()


@pytest.mark.parametrize("token", ["", "glpat-no-jwt", "a.b.c"])
def test_what_is_no_id_token_goes_nowhere(google_world: GoogleWorld, token: str) -> None:
    federation = google.Federation(
        google_identity.provider(google_world.google.pool.provider), None, google_world.google.url
    )
    with pytest.raises(PipelineError, match="no id token"):
        google.federated(Secret(token), federation, google_world.tokens.append)


@pytest.mark.parametrize(
    "address",
    [
        "http://sts.example.com",
        "https://a@sts.example.com",
        "https://h/p",
        "ftp://127.0.0.1",
        "https://[",
        "x",
    ],
)
def test_an_id_token_goes_to_no_address_in_the_clear(google_world: GoogleWorld, address: str) -> None:
    provider = google_identity.provider(google_world.google.pool.provider)
    for federation in (
        google.Federation(provider, None, address),
        google.Federation(provider, ACCOUNT, google_world.google.url, address),
    ):
        with pytest.raises(PipelineError, match="tokens do not go to"):
            google.federated(google_world.id_token(), federation, google_world.tokens.append)


# At the registry ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["metadata", "federated"])
def test_an_image_is_published_with_the_token_as_bearer(google_world: GoogleWorld, way: str) -> None:
    digest = images.put_image(google_world.behind, IMAGE, "a")
    ours = client(google_world, getattr(google_world, way)())
    with google_world.registry.recording() as exchanges:
        ours.put(IMAGE, "b", ours.get(IMAGE, "a"))
    assert [(row.status, row.scheme) for row in exchanges] == [(200, "Bearer"), (201, "Bearer")]
    assert images.contents(google_world.behind, IMAGE) == {"a": digest, "b": digest}


def test_a_registry_that_wants_its_own_tokens_gets_them_for_google_s(google_world: GoogleWorld) -> None:
    images.put_image(google_world.behind, IMAGE, "a")
    google_world.door.takes_bearer = False
    ours = client(google_world, google_world.metadata())
    ours.put(IMAGE, "b", ours.get(IMAGE, "a"))
    assert images.contents(google_world.behind, IMAGE).keys() == {"a", "b"}


def blob(world: GoogleWorld, repository: str) -> Blob:
    row = images.put_blob(world.behind, repository, os.urandom(200_000))
    return Blob(row["digest"], row["size"])


def test_tokens_that_live_two_seconds_last_a_push_of_four(google_world: GoogleWorld) -> None:
    """Every request is slow, so that tokens end on the way."""
    google_world.google.tokens.lifetime = 2
    blobs = [blob(google_world, f"{CANDIDATES}/shop") for _ in range(6)]
    ours = client(google_world, google_world.metadata())
    with (
        google_world.registry.failing(Fault(delay=0.4, times=None)),
        google_world.registry.recording() as exchanges,
    ):
        for one in blobs:
            ours.copy(IMAGE, one, ours, f"{CANDIDATES}/shop")
            assert ours.has(IMAGE, one)
    ended = [row for row in google_world.issued if row.ends < time.time()]
    assert len(ended) > 1
    assert {exchange.status for exchange in exchanges} <= {200, 201, 202}
    assert google_world.tokens == [Secret(row.token) for row in google_world.issued]


# A registry that wants its own tokens refuses the first of Google's too, before it says so.
@pytest.mark.parametrize(("takes_bearer", "tokens"), [(True, 2), (False, 3)])
def test_a_token_that_is_refused_in_mid_push_is_replaced_once(
    google_world: GoogleWorld, *, takes_bearer: bool, tokens: int
) -> None:
    images.put_image(google_world.behind, IMAGE, "a")
    google_world.door.takes_bearer = takes_bearer
    ours = client(google_world, google_world.federated())
    manifest = ours.get(IMAGE, "a")
    google_world.google.tokens.revoke()
    ours.put(IMAGE, "b", manifest)
    assert images.contents(google_world.behind, IMAGE).keys() == {"a", "b"}
    assert len(google_world.tokens) == tokens


def test_a_token_that_was_replaced_already_is_not_replaced_again(google_world: GoogleWorld) -> None:
    """Two requests at once are refused for the same token; the second to say so finds the new one."""
    identity = google_world.federated()
    first = identity()
    assert first.renew is not None
    first.renew()
    second = identity()
    first.renew()
    assert identity() == second != first


def test_a_token_that_ends_while_a_layer_is_sent(
    google_world: GoogleWorld, registry: Server, repository: str
) -> None:
    """The upload is begun again with another token: what was streamed cannot be sent twice."""
    content = os.urandom(200_000)
    row = images.put_blob(registry, repository, content)
    wanted = Blob(row["digest"], row["size"])
    source = Registry(registry.host, lambda: CI, http.session(backoff=0.01))
    ours = client(google_world, google_world.federated())
    with (
        google_world.registry.failing(Fault("PUT", "uploads", answer=refusal(401))),
        google_world.registry.recording() as exchanges,
    ):
        ours.copy(IMAGE, wanted, source, repository)
    assert [row.status for row in exchanges if row.method == "PUT"] == [401, 201]
    assert len(google_world.issued) == 2
    with ours.reading(IMAGE, wanted) as chunks:
        assert b"".join(chunks) == content


def test_a_registry_that_takes_no_token_is_asked_for_good_only_twice(google_world: GoogleWorld) -> None:
    google_world.door.tokens = Tokens()
    ours = client(google_world, google_world.federated())
    with google_world.registry.recording() as exchanges, pytest.raises(Denied, match="401"):
        ours.head(IMAGE, "a")
    assert [exchange.status for exchange in exchanges if "/token" not in exchange.path] == [401, 401]


@pytest.mark.parametrize(
    ("repository", "hint", "error"),
    [
        (f"{APPS}/shop", "grant roles/artifactregistry.writer on projects/acme/", Denied),
        ("acme/none/shop", "create projects/acme/locations/LOCATION/repositories/none", PipelineError),
        ("acme/apps", "LOCATION-docker.pkg.dev/PROJECT/REPOSITORY/IMAGE", PipelineError),
    ],
)
def test_a_refused_push_names_what_is_missing(
    google_world: GoogleWorld, repository: str, hint: str, error: type[PipelineError]
) -> None:
    images.put_image(google_world.behind, f"{CANDIDATES}/shop", "a")
    ours = client(google_world, google_world.federated())
    manifest = ours.get(f"{CANDIDATES}/shop", "a")
    google_world.door.writers[APPS] = frozenset()
    with pytest.raises(error) as caught:
        ours.put(repository, "a", manifest)
    assert hint in caught.value.hint


def test_a_refused_pull_names_role_repository_and_who(google_world: GoogleWorld) -> None:
    google_world.door.writers[APPS] = frozenset()
    with pytest.raises(Denied) as caught:
        client(google_world, google_world.federated()).get(IMAGE, "a")
    where = "projects/acme/locations/europe-west1/repositories/apps"
    assert f"grant roles/artifactregistry.reader on {where} to {google_world.job};" in caught.value.hint


def test_threads_share_one_token(google_world: GoogleWorld) -> None:
    identity = google_world.federated()
    threads = [threading.Thread(target=identity) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(google_world.issued) == 1


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (refusal(503), "HTTP 503"),
        (Answer(400, b'{"error": "invalid_grant", "error_description": "stale"}'), "invalid_grant: stale"),
    ],
    ids=["unavailable", "refused"],
)
def test_a_token_that_ends_soon_serves_to_its_end(
    google_world: GoogleWorld, caplog: pytest.LogCaptureFixture, answer: Answer, said: str
) -> None:
    google_world.google.tokens.lifetime = 4
    identity = google_world.federated(patience=0.1)
    first = identity()
    assert identity() == first  # not asked for with every request
    with google_world.google.proxy.failing(Fault("POST", answer=answer, times=None)):
        time.sleep(2.1)
        assert identity() == first
        assert said in caplog.text
        time.sleep(2)
        with pytest.raises(PipelineError, match=said):
            identity()
    assert identity() != first


def test_a_token_lives_no_longer_than_the_id_token_it_is_for(google_world: GoogleWorld) -> None:
    found = google_world.federated(seconds=600)()
    assert found.expires is not None
    assert found.expires - time.time() == pytest.approx(600, abs=5)
