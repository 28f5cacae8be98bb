from __future__ import annotations

import contextlib
import hashlib
import io
import json
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
import requests

from sandbox.proxy import Fault, refusal
from sandbox.registry import Registry
from sandbox.token_server import Mood
from tests.conftest import CI_PASSWORD, CI_USER, READER, READER_PASSWORD

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from sandbox.engine import Engine

MANIFEST_TYPE = "application/vnd.docker.distribution.manifest.v2+json"
CI = (CI_USER, CI_PASSWORD)
Auth = tuple[str, str]


def bearer(registry: Registry, repository: str, actions: str, auth: Auth | None) -> dict[str, str]:
    """The header a client gets by the registry's challenge."""
    assert registry.tokens
    scope = {"service": "sandbox-registry", "scope": f"repository:{repository}:{actions}"}
    answer = requests.get(registry.tokens.realm, params=scope, auth=auth, timeout=5)
    answer.raise_for_status()
    return {"Authorization": f"Bearer {answer.json()['token']}"}


def put_image(registry: Registry, repository: str, tag: str, label: str = "") -> requests.Response:
    """Push the smallest image there is: a config and no layer, without an engine."""
    base = f"{registry.url}/v2/{repository}"
    config = json.dumps({"architecture": "amd64", "os": "linux", "config": {"Labels": {"x": label}}}).encode()
    digest = f"sha256:{hashlib.sha256(config).hexdigest()}"
    with requests.Session() as session:
        session.auth = CI
        upload = session.post(f"{base}/blobs/uploads/", timeout=5)
        upload.raise_for_status()
        session.put(
            upload.headers["Location"], params={"digest": digest}, data=config, timeout=5
        ).raise_for_status()
        media = "application/vnd.docker.container.image.v1+json"
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": {"mediaType": media, "size": len(config), "digest": digest},
            "layers": [],
        }
        headers = {"Content-Type": MANIFEST_TYPE}
        return session.put(f"{base}/manifests/{tag}", data=json.dumps(manifest), headers=headers, timeout=5)


def push(engine: Engine, registry: Registry, repository: str, auth: Auth) -> list[dict[str, Any]]:
    """Build on the engine and push with these credentials; the lines of the stream."""
    name = f"{registry.host}/{repository}"
    with contextlib.closing(engine.client()) as client:
        dockerfile = io.BytesIO(f"FROM busybox:1.35\nLABEL repository={repository}\n".encode())
        client.images.build(fileobj=dockerfile, tag=f"{name}:1.0.0", rm=True)
        config = {"username": auth[0], "password": auth[1]}
        return list(client.images.push(name, tag="1.0.0", auth_config=config, stream=True, decode=True))


def errors(stream: list[dict[str, Any]]) -> str:
    return " ".join(line["error"] for line in stream if "error" in line)


@pytest.fixture(params=["registry", "token_registry"])
def either(request: pytest.FixtureRequest, registry: Registry, token_registry: Registry) -> Registry:
    return {"registry": registry, "token_registry": token_registry}[request.param]


def test_an_engine_pushes_with_credentials_in_memory(
    engine: Engine, either: Registry, repository: str
) -> None:
    stream = push(engine, either, repository, CI)
    assert not errors(stream)
    pushed = next(line["aux"]["Digest"] for line in stream if "aux" in line)
    auth = None if either.tokens else CI
    headers = bearer(either, repository, "pull", CI) if either.tokens else {}
    url = f"{either.url}/v2/{repository}/manifests/1.0.0"
    manifest = requests.get(url, headers={"Accept": MANIFEST_TYPE, **headers}, auth=auth, timeout=5)
    assert manifest.headers["Docker-Content-Digest"] == pushed
    assert f"sha256:{hashlib.sha256(manifest.content).hexdigest()}" == pushed


def test_a_wrong_password_is_refused(engine: Engine, either: Registry, repository: str) -> None:
    said = errors(push(engine, either, repository, (CI_USER, "wrong")))
    assert "unauthorized" in said or "no basic auth credentials" in said


def test_skopeo_sees_what_was_pushed(registry: Registry, repository: str) -> None:
    if not shutil.which("skopeo"):
        pytest.skip("skopeo is not installed")
    pushed = put_image(registry, repository, "1.0.0")
    argv = ["skopeo", "inspect", "--tls-verify=false", "--creds", ":".join(CI), "--format", "{{.Digest}}"]
    seen = subprocess.run(
        [*argv, f"docker://{registry.host}/{repository}:1.0.0"], capture_output=True, text=True, check=True
    )
    assert seen.stdout.strip() == pushed.headers["Docker-Content-Digest"]


def test_basic_authentication(registry: Registry) -> None:
    codes = [
        requests.get(f"{registry.url}/v2/", auth=auth, timeout=5).status_code
        for auth in (None, (CI_USER, "no"), CI)
    ]
    assert codes == [401, 401, 200]


def test_who_may_only_pull_gets_a_token_without_push(
    engine: Engine, token_registry: Registry, repository: str
) -> None:
    assert token_registry.tokens
    said = errors(push(engine, token_registry, repository, (READER, READER_PASSWORD)))
    assert "denied" in said
    last = token_registry.tokens.requests[-1]
    assert last.user == READER
    assert any("push" in scope for scope in last.scopes)
    assert not any("push" in scope for scope in last.granted)


def test_the_challenge_names_realm_service_and_scope(token_registry: Registry, repository: str) -> None:
    answer = requests.get(f"{token_registry.url}/v2/{repository}/tags/list", timeout=5)
    assert answer.status_code == 401
    assert token_registry.tokens
    assert answer.headers["WWW-Authenticate"] == (
        f'Bearer realm="{token_registry.tokens.realm}",service="sandbox-registry",scope="repository:{repository}:pull"'
    )


@pytest.mark.parametrize("mood", [Mood.EXPIRED, Mood.FORGED])
def test_a_token_that_is_not_good_is_refused(token_registry: Registry, repository: str, mood: Mood) -> None:
    assert token_registry.tokens
    with token_registry.tokens.behaving(mood):
        headers = bearer(token_registry, repository, "pull", CI)
    assert (
        requests.get(
            f"{token_registry.url}/v2/{repository}/tags/list", headers=headers, timeout=5
        ).status_code
        == 401
    )


@pytest.mark.parametrize(("mood", "code"), [(Mood.FORBIDS, 403), (Mood.BREAKS, 500)])
def test_a_token_server_in_a_mood(token_registry: Registry, mood: Mood, code: int) -> None:
    assert token_registry.tokens
    with token_registry.tokens.behaving(mood):
        assert requests.get(token_registry.tokens.realm, auth=CI, timeout=5).status_code == code
    assert requests.get(token_registry.tokens.realm, auth=CI, timeout=5).status_code == 200
    assert requests.get(token_registry.tokens.realm, auth=(CI_USER, "no"), timeout=5).status_code == 401


def test_a_token_of_another_repository_is_refused(token_registry: Registry, repository: str) -> None:
    headers = bearer(token_registry, "acme/other", "pull,push", CI)
    url = f"{token_registry.url}/v2/{repository}/blobs/uploads/"
    assert requests.post(url, headers=headers, timeout=5).status_code == 401


def test_requests_are_recorded_with_their_bytes(registry: Registry, repository: str) -> None:
    with registry.recording() as seen:
        put_image(registry, repository, "1.0.0")
    assert [(exchange.method, exchange.status, exchange.scheme) for exchange in seen] == [
        ("POST", 202, "Basic"),
        ("PUT", 201, "Basic"),
        ("PUT", 201, "Basic"),
    ]
    assert [exchange.sent > 0 for exchange in seen] == [False, True, True]


def test_a_manifest_can_be_deleted_by_digest(registry: Registry, repository: str) -> None:
    digest = put_image(registry, repository, "1.0.0").headers["Docker-Content-Digest"]
    url = f"{registry.url}/v2/{repository}/manifests/{digest}"
    assert requests.delete(url, auth=CI, timeout=5).status_code == 202


def test_immutable_tags_as_artifact_registry_has_them(registry: Registry, repository: str) -> None:
    kept = f"immutable/{repository}"
    assert put_image(registry, kept, "1.0.0", "a").status_code == 201
    assert put_image(registry, kept, "1.0.0", "a").status_code == 201
    refused = put_image(registry, kept, "1.0.0", "b")
    assert refused.status_code == 400
    assert refused.json()["errors"][0] == {
        "code": "MANIFEST_INVALID",
        "message": "cannot update tag 1.0.0. The repository has enabled tag immutability",
    }
    gone = requests.delete(f"{registry.url}/v2/{kept}/manifests/1.0.0", auth=CI, timeout=5)
    assert gone.status_code == 400
    assert put_image(registry, repository, "1.0.0", "a").status_code == 201
    assert put_image(registry, repository, "1.0.0", "b").status_code == 201


def test_a_status_is_given_as_often_as_asked(registry: Registry) -> None:
    fault = Fault(path="^/v2/$", times=2, answer=refusal(429, retry_after="7"))
    with registry.recording() as seen, registry.failing(fault):
        answers = [requests.get(f"{registry.url}/v2/", auth=CI, timeout=5) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [429, 429, 200]
    assert answers[0].headers["Retry-After"] == "7"
    assert answers[0].json()["errors"][0]["code"] == "TOOMANYREQUESTS"
    assert [exchange.fault for exchange in seen] == ["429", "429", ""]


def test_a_lost_answer_is_lost_after_the_work_is_done(registry: Registry, repository: str) -> None:
    put_image(registry, repository, "1.0.0")
    with (
        registry.failing(Fault(method="PUT", path="/manifests/1.1.0$", reset=True, forward=True)),
        pytest.raises(requests.ConnectionError),
    ):
        put_image(registry, repository, "1.1.0")
    listed = requests.get(f"{registry.url}/v2/{repository}/tags/list", auth=CI, timeout=5).json()
    assert sorted(listed["tags"]) == ["1.0.0", "1.1.0"]


def test_a_reset_comes_before_any_work(registry: Registry, repository: str) -> None:
    put_image(registry, repository, "1.0.0")
    with (
        registry.failing(Fault(method="PUT", path="/manifests/1.1.0$", reset=True)),
        pytest.raises(requests.ConnectionError, match=r"[Rr]eset|aborted"),
    ):
        put_image(registry, repository, "1.1.0")
    assert requests.get(f"{registry.url}/v2/{repository}/tags/list", auth=CI, timeout=5).json()["tags"] == [
        "1.0.0"
    ]


def test_a_truncated_answer_breaks_off(registry: Registry) -> None:
    with (
        registry.failing(Fault(path="^/v2/$", truncate=1)),
        pytest.raises((requests.ConnectionError, requests.exceptions.ChunkedEncodingError)),
    ):
        requests.get(f"{registry.url}/v2/", auth=CI, timeout=5)


def test_a_delay(registry: Registry) -> None:
    with registry.failing(Fault(delay=0.6)), pytest.raises(requests.ReadTimeout):
        requests.get(f"{registry.url}/v2/", auth=CI, timeout=0.2)


def test_a_registry_without_authentication(tmp_path: Path, registry: Registry) -> None:
    with Registry.start(tmp_path / "open") as other:
        assert requests.get(f"{other.url}/v2/_catalog", timeout=5).json() == {"repositories": []}
    with pytest.raises(requests.ConnectionError):
        requests.get(f"{other.url}/v2/", timeout=5)


def test_large_blobs_stream_both_ways(
    registry: Registry, repository: str, benchmark_bytes: Callable[[int], bytes]
) -> None:
    content = benchmark_bytes(3 * 1024 * 1024)
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    base = f"{registry.url}/v2/{repository}/blobs"
    upload = requests.post(f"{base}/uploads/", auth=CI, timeout=5)
    chunks = (content[at : at + 100_000] for at in range(0, len(content), 100_000))
    sent = requests.patch(upload.headers["Location"], data=chunks, auth=CI, timeout=30)
    assert sent.status_code == 202
    requests.put(sent.headers["Location"], params={"digest": digest}, auth=CI, timeout=5).raise_for_status()
    with registry.recording() as seen:
        assert requests.get(f"{base}/{digest}", auth=CI, timeout=30).content == content
    assert seen[0].received == len(content)


@pytest.fixture
def benchmark_bytes() -> Callable[[int], bytes]:
    return lambda size: hashlib.shake_256(b"layer").digest(size)
