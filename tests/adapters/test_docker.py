from __future__ import annotations

import base64
import contextlib
import json
import logging
import os
from typing import TYPE_CHECKING

import pytest

from pipeline_tools.adapters import docker as adapter
from pipeline_tools.adapters.docker import Docker
from pipeline_tools.adapters.docker_config import Logins
from pipeline_tools.errors import Denied, PipelineError, Refused, Unavailable
from pipeline_tools.text.credentials import Credential
from pipeline_tools.text.masks import Secret
from pipeline_tools.text.recipes import Recipe
from sandbox.proxy import Fault, refusal
from tests import registry_images as images
from tests.conftest import CI_PASSWORD, CI_USER, READER, READER_PASSWORD

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sandbox.engine import Engine
    from sandbox.registry import Registry as Server

CI = Credential(CI_USER, Secret(CI_PASSWORD))
BASE = "FROM busybox:1.35\n"


@pytest.fixture
def docker(engine: Engine) -> Iterator[Docker]:
    with Docker(engine.url) as made:
        yield made


def build(
    docker: Docker,
    directory: Path,
    dockerfile: str,
    image: str = "made:0",
    *,
    build_args: dict[str, str] | None = None,
    target: str | None = None,
    platform: str | None = None,
    file: Path | None = None,
) -> None:
    path = file or directory / "Dockerfile"
    path.write_text(dockerfile)
    platforms = (platform,) if platform else ()
    recipe = Recipe({"made.by": "us"}, build_args or {}, target, platforms, epoch=7)
    with docker.building(recipe, directory, path, image):
        """It is in the engine."""


def run(engine: Engine, image: str, *words: str) -> str:
    with contextlib.closing(engine.client()) as client:
        return str(client.containers.run(image, list(words), remove=True).decode().strip())


def test_an_image_with_labels_arguments_and_a_stage(engine: Engine, docker: Docker, tmp_path: Path) -> None:
    dockerfile = f"{BASE[:-1]} AS first\nARG WHO\nARG SOURCE_DATE_EPOCH\nRUN echo $WHO $SOURCE_DATE_EPOCH > /who\nFROM first\nRUN false\n"
    build(docker, tmp_path, dockerfile, "made:1", build_args={"WHO": "me; false"}, target="first")
    assert run(engine, "made:1", "cat", "/who") == "me; false 7"
    with contextlib.closing(engine.client()) as client:
        assert client.images.get("made:1").labels["made.by"] == "us"


def test_what_dockerignore_names_stays_away(engine: Engine, docker: Docker, tmp_path: Path) -> None:
    for name in ("kept", "left", "secret.env"):
        (tmp_path / name).write_text(name)
    (tmp_path / ".dockerignore").write_text("# no\nleft\n*.env\n")
    build(docker, tmp_path, f"{BASE}COPY . /all\n", "made:2")
    assert run(engine, "made:2", "ls", "/all") == "Dockerfile\nkept"


def test_a_dockerfile_beside_its_context(engine: Engine, docker: Docker, tmp_path: Path) -> None:
    context = tmp_path / "context"
    context.mkdir()
    (context / "kept").touch()
    build(docker, context, f"{BASE}COPY . /all\n", "made:3", file=tmp_path / "Other")
    assert "kept" in run(engine, "made:3", "ls", "/all")


@pytest.mark.parametrize(
    "ignore",
    [
        b"\xef\xbb\xbfsecret.env\n",
        b" secret.env \n",
        b"# caf\xe9\r\n/x/../secret.env/\r\n",
        b"*\n! kept\n!/Dockerfile\n",
    ],
)
def test_what_dockerignore_names_stays_away_however_it_is_written(
    engine: Engine, docker: Docker, tmp_path: Path, ignore: bytes
) -> None:
    for name in ("kept", "secret.env"):
        (tmp_path / name).write_text(name)
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / ".dockerignore").write_bytes(ignore + b"loop")
    build(docker, tmp_path, f"{BASE}COPY . /all\n", "made:4")
    assert run(engine, "made:4", "ls", "/all") == "Dockerfile\nkept"


def test_a_dockerfile_that_dockerignore_names(engine: Engine, docker: Docker, tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / ".dockerignore").write_text("\ufeffDockerfile\n.dockerignore\n")
    build(docker, tmp_path, f"{BASE}COPY . /all\n", "made:5")
    assert run(engine, "made:5", "ls", "-A", "/all") == "loop"


@pytest.mark.parametrize("ignore", ["x\n", "x\n# café\n"])
def test_a_dockerfile_beside_its_context_that_is_not_utf8(
    docker: Docker, tmp_path: Path, ignore: str
) -> None:
    context, file = tmp_path / "context", tmp_path / "Dockerfile"
    context.mkdir()
    (context / ".dockerignore").write_bytes(ignore.encode("latin-1"))
    file.write_bytes(f"{BASE}# café\n".encode("latin-1"))
    with (
        pytest.raises(PipelineError, match="Dockerfile is not UTF-8") as caught,
        docker.building(Recipe(epoch=7), context, file, "made:6"),
    ):
        """It does not get here."""
    assert caught.value.hint


def test_a_pattern_beside_a_dockerfile_that_is_not_utf8(docker: Docker, tmp_path: Path) -> None:
    context = tmp_path / "context"
    context.mkdir()
    (context / ".dockerignore").write_bytes(b"caf\xe9\n")
    with pytest.raises(PipelineError, match=r"\.dockerignore is not UTF-8"):
        build(docker, context, BASE, file=tmp_path / "Dockerfile")


def test_steps_are_said_as_they_come(
    docker: Docker, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG, adapter.__name__):
        build(docker, tmp_path, f"{BASE}RUN echo loud-$((1 + 1)) # {os.urandom(4).hex()}\n")
    said = [(record.levelno, record.getMessage()) for record in caplog.records]
    assert (logging.INFO, "Step 1/3 : FROM busybox:1.35") in said
    assert (logging.DEBUG, "loud-2") in said


def test_a_build_that_fails_shows_its_last_lines(docker: Docker, tmp_path: Path) -> None:
    loud = "for i in $(seq 30); do echo line $i; done; echo no access: denied 403; exit 7"
    with pytest.raises(PipelineError) as caught:
        build(docker, tmp_path, f"{BASE}RUN {loud}\n")
    assert caught.value.exit_code == 1
    assert "returned a non-zero code: 7" in caught.value.message
    assert "line 30\nno access: denied 403" in caught.value.message
    assert "line 5\n" not in caught.value.message


@pytest.mark.parametrize(
    ("dockerfile", "said"),
    [
        ("FROM\n", "FROM requires"),
        ("NONSENSE\n", "unknown instruction: NONSENSE"),
        (f"{BASE}COPY nowhere /\n", "nowhere"),
        ("\n" * 401 + f"{BASE}NONSENSE\n", "line 403"),
        (f"{BASE}ENV a=b timeout\n", "find = in .timeout"),
    ],
)
def test_a_dockerfile_that_is_wrong(docker: Docker, tmp_path: Path, dockerfile: str, said: str) -> None:
    with pytest.raises(PipelineError, match=said) as caught:
        build(docker, tmp_path, dockerfile)
    assert caught.value.exit_code == 1


@pytest.mark.parametrize("body", ["timeout 3 true\n", ""])
def test_a_here_document_is_for_buildkit(docker: Docker, tmp_path: Path, body: str) -> None:
    with pytest.raises(PipelineError, match=r"unknown instruction: (TIMEOUT|EOF)") as caught:
        build(docker, tmp_path, f"{BASE}RUN <<EOF\n{body}EOF\n")
    assert caught.value.exit_code == 1
    assert "--builder buildkit" in caught.value.hint


def test_a_stage_that_is_not_there(docker: Docker, tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match="nowhere"):
        build(docker, tmp_path, BASE, target="nowhere")


def test_a_platform_that_is_none(docker: Docker, tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match="a/b/c/d"):
        build(docker, tmp_path, BASE, platform="a/b/c/d")


def test_an_image_name_that_is_none(docker: Docker, tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match="invalid"):
        build(docker, tmp_path, BASE, "Capital:x")


def test_a_base_image_is_pulled_with_the_logins_given(
    engine: Engine, token_registry: Server, repository: str, tmp_path: Path
) -> None:
    with Docker(engine.url) as docker:
        build(docker, tmp_path, BASE, f"{token_registry.host}/{repository}:base")
        docker.push(f"{token_registry.host}/{repository}", "base", CI)
    with contextlib.closing(engine.client()) as client:
        client.images.remove(f"{token_registry.host}/{repository}:base")
    dockerfile = f"FROM {token_registry.host}/{repository}:base\n"
    with Docker(engine.url) as stranger, pytest.raises(Denied):
        build(stranger, tmp_path, dockerfile)
    reader = Credential(READER, Secret(READER_PASSWORD))
    with Docker(engine.url, logins=lambda: {token_registry.host: reader}) as docker:
        build(docker, tmp_path, dockerfile)


@pytest.fixture(params=["registry", "token_registry"])
def either(request: pytest.FixtureRequest, registry: Server, token_registry: Server) -> Server:
    return {"registry": registry, "token_registry": token_registry}[request.param]


def test_the_digest_comes_from_the_registry(
    docker: Docker, either: Server, repository: str, tmp_path: Path
) -> None:
    name = f"{either.host}/{repository}"
    build(docker, tmp_path, BASE, f"{name}:a")
    digest = docker.push(name, "a", CI)
    assert images.contents(either, repository) == {"a": digest}
    assert docker.push(name, "a", CI) == digest


@pytest.mark.parametrize("credential", [None, Credential(CI_USER, Secret("not-the-password"))])
def test_a_login_that_is_not_good(
    docker: Docker, either: Server, repository: str, tmp_path: Path, credential: Credential | None
) -> None:
    name = f"{either.host}/{repository}"
    build(docker, tmp_path, BASE, f"{name}:a")
    with pytest.raises(Denied) as caught:
        docker.push(name, "a", credential)
    assert "PT_REGISTRY_PASSWORD" in caught.value.hint
    assert images.contents(either, repository) == {}


def test_who_may_only_pull(docker: Docker, token_registry: Server, repository: str, tmp_path: Path) -> None:
    name = f"{token_registry.host}/{repository}"
    build(docker, tmp_path, BASE, f"{name}:a")
    with pytest.raises(Denied, match="denied"):
        docker.push(name, "a", Credential(READER, Secret(READER_PASSWORD)))


def test_an_immutable_tag(docker: Docker, registry: Server, repository: str, tmp_path: Path) -> None:
    name = f"{registry.host}/immutable/{repository}"
    for text in ("one", "two"):
        build(docker, tmp_path, f"{BASE}LABEL text={text}\n", f"{name}:a")
        if text == "one":
            docker.push(name, "a", CI)
    with pytest.raises(Refused, match="immutability"):
        docker.push(name, "a", CI)


def test_a_registry_that_is_overloaded(
    docker: Docker, registry: Server, repository: str, tmp_path: Path
) -> None:
    name = f"{registry.host}/{repository}"
    build(docker, tmp_path, BASE, f"{name}:a")
    with (
        registry.failing(Fault("PUT", "manifests", answer=refusal(429), times=None)),
        pytest.raises(Unavailable),
    ):
        docker.push(name, "a", CI)


def test_an_image_that_was_never_built(docker: Docker, registry: Server, repository: str) -> None:
    with pytest.raises(PipelineError, match="not exist") as caught:
        docker.push(f"{registry.host}/{repository}", "nowhere", CI)
    assert caught.value.exit_code == 1


def test_no_engine_here(tmp_path: Path) -> None:
    with Docker(f"unix://{tmp_path}/docker.sock") as docker, pytest.raises(PipelineError) as caught:
        docker.ready()
    assert caught.value.exit_code == 1
    assert f"docker does not answer at unix://{tmp_path}/docker.sock" in caught.value.message
    assert "DOCKER_HOST" in caught.value.hint


def test_an_engine_elsewhere_may_be_starting() -> None:
    with Docker("tcp://127.0.0.1:1") as docker, pytest.raises(Unavailable, match=r"127\.0\.0\.1:1"):
        docker.ready()


def test_certificates_that_are_not_there(tmp_path: Path) -> None:
    with (
        Docker("tcp://127.0.0.1:1", tmp_path) as docker,
        pytest.raises(PipelineError, match=r"TLS|certificate"),
    ):
        docker.ready()


def test_an_address_that_is_none() -> None:
    with Docker("nonsense://x") as docker, pytest.raises(PipelineError, match="docker: "):
        docker.ready()


def test_the_users_own_config_is_not_sent(engine: Engine, tmp_path: Path) -> None:
    """A broken credential helper in config.json would fail a build that asked it."""
    config = tmp_path / "config"
    config.mkdir()
    (config / "config.json").write_text('{"credsStore": "does-not-exist"}')
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DOCKER_CONFIG", str(config))
        with Docker(engine.url) as docker:
            build(docker, tmp_path, BASE)


def test_the_engine_knows_docker_hub_by_its_address() -> None:
    """Under any other name it would ask there as nobody (moby/registry, `IndexServer`)."""
    client = object.__new__(adapter._Client)
    client.logins = lambda: {"index.docker.io": CI, "one.example.com": CI}
    headers: dict[str, str] = {}
    client._set_auth_headers(headers)
    sent = json.loads(base64.urlsafe_b64decode(headers["X-Registry-Config"]))
    assert sent.keys() == {"https://index.docker.io/v1/", "one.example.com"}


# Logins --------------------------------------------------------------------------------------------------------


def auth(user: str, password: str) -> dict[str, str]:
    return {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}


def logins(directory: Path | None = None, text: object = None, path: str = "/usr/bin:/bin") -> Logins:
    content = text if isinstance(text, str) else json.dumps(text) if text else ""
    return Logins(directory, Secret(content), {"PATH": path})


def test_a_login_of_the_variable_comes_before_the_file(tmp_path: Path) -> None:
    both = {
        "auths": {"one.example.com": auth("u", "from-file"), "https://two.example.com/v2/": auth("v", "x:y")}
    }
    (tmp_path / "config.json").write_text(json.dumps(both))
    known = logins(tmp_path, {"auths": {"one.example.com": auth("u", "from-variable")}})
    assert known.credential("one.example.com") == Credential("u", Secret("from-variable"))
    assert known.credential("two.example.com") == Credential("v", Secret("x:y"))
    assert known.credential("three.example.com") is None
    assert known.hosts() == {"one.example.com", "two.example.com"}


def test_no_logins(tmp_path: Path) -> None:
    assert logins().credential("one.example.com") is None
    assert logins(tmp_path).credential("one.example.com") is None
    for empty in ("{}", '{"auths": {}}', '{"auths": {"one.example.com": {}}}', '{"experimental": "enabled"}'):
        assert logins(text=empty).credential("one.example.com") is None
        assert logins(text=empty).credential("") is None


@pytest.mark.parametrize(
    "text",
    [
        "nonsense-secret",
        '["secret"]',
        '{"credsStore": 5}',
        '{"credHelpers": {"a": 5}}',
        '{"auths": ["secret"]}',
        '{"auths": {"a": "secret"}}',
        '{"auths": {"a": {"auth": "secret!"}}}',
    ],
)
def test_logins_in_no_format(text: str) -> None:
    with pytest.raises(PipelineError, match="DOCKER_AUTH_CONFIG is not in the format") as caught:
        logins(text=text)
    assert "secret" not in f"{caught.value.message}"


def helper(directory: Path, script: str) -> str:
    path = directory / "docker-credential-ours"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return f"{directory}:/usr/bin:/bin"


def test_a_credential_helper_is_asked_for_its_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = helper(tmp_path, 'read host; echo "{\\"Username\\": \\"u\\", \\"Secret\\": \\"for-$host\\"}"')
    monkeypatch.setenv("PATH", path)
    known = logins(text={"credHelpers": {"one.example.com": "ours"}}, path=path)
    assert known.credential("one.example.com") == Credential("u", Secret("for-one.example.com"))
    assert known.credential("two.example.com") is None


@pytest.mark.parametrize("address", ["https://index.docker.io/v1/", "index.docker.io", "docker.io"])
@pytest.mark.parametrize("host", ["index.docker.io", "docker.io"])
def test_docker_hub_has_two_names(address: str, host: str) -> None:
    known = logins(text={"auths": {address: auth("u", "p-word")}})
    assert known.credential(host) == Credential("u", Secret("p-word"))


def test_a_credentials_store_tells_its_hosts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on Docker Desktop: `auths` has the hosts without logins, or nothing."""
    script = (
        "case $1 in\n"
        """list) echo '{"https://index.docker.io/v1/": "hub", "one.example.com": "u"}';;\n"""
        """get) read host; echo "{\\"Username\\": \\"u\\", \\"Secret\\": \\"for-$host\\"}";;\n"""
        "esac"
    )
    path = helper(tmp_path, script)
    monkeypatch.setenv("PATH", path)
    known = logins(text={"credsStore": "ours"}, path=path)
    assert known.hosts() == {"index.docker.io", "one.example.com"}
    assert known.credential("docker.io") == Credential("u", Secret("for-https://index.docker.io/v1/"))
    assert known.credential("one.example.com") == Credential("u", Secret("for-one.example.com"))


@pytest.mark.parametrize("script", ["exit 1", "echo nonsense", "echo 7"])
def test_a_credentials_store_that_lists_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str
) -> None:
    path = helper(tmp_path, script)
    monkeypatch.setenv("PATH", path)
    assert logins(text={"credsStore": "ours"}, path=path).hosts() == frozenset()


@pytest.mark.parametrize("script", ["exit 1", "echo nonsense", "echo '{}'"])
def test_a_credential_helper_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    path = helper(tmp_path, script)
    monkeypatch.setenv("PATH", path)
    with pytest.raises(PipelineError, match=r"no login for one\.example\.com"):
        logins(text={"credsStore": "ours"}, path=path).credential("one.example.com")


def test_a_credential_helper_that_is_missing() -> None:
    with pytest.raises(PipelineError, match="docker-credential-nowhere not installed"):
        logins(text={"credsStore": "nowhere"}).credential("one.example.com")


def test_an_identity_token_is_said_to_be_one() -> None:
    text = {"auths": {"one.example.com": {"identitytoken": "secret", **auth("u", "p")}}}
    with pytest.raises(PipelineError, match="identity token") as caught:
        logins(text=text).credential("one.example.com")
    assert "secret" not in caught.value.message
