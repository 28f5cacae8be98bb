"""The Vault adapter on a real OpenBao: retries, redirects, leases, and any path."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import pytest

from pipeline_tools.adapters.vault import Vault, opened
from pipeline_tools.adapters.vault_client import Server
from pipeline_tools.commands import lending
from pipeline_tools.commands.lending import Loan
from pipeline_tools.errors import Denied, PipelineError, Unavailable
from pipeline_tools.text.lending import Want
from pipeline_tools.text.masks import Mask, Secret
from pipeline_tools.text.vault_login import Given, Identity, Login
from sandbox.proxy import Answer, Fault, Proxy, refusal
from tests.vault_world import VaultWorld


@contextmanager
def root(vault: VaultWorld, url: str = "", seconds: float = 3) -> Iterator[Vault]:
    server = Server(url or vault.bao.url, seconds=seconds)
    with opened(server, Given(Secret(vault.bao.token)), mask=Mask().add) as client:
        yield client


@pytest.fixture
def proxy(vault: VaultWorld) -> Iterator[Proxy]:
    with Proxy(vault.bao.url.removeprefix("http://"), ()).running() as started:
        yield started


@pytest.mark.parametrize("status", [412, 429, 500, 502, 503])
def test_what_passes_is_tried_again(vault: VaultWorld, proxy: Proxy, status: int) -> None:
    with (
        proxy.failing(Fault(path="/v1/", times=2, answer=refusal(status))),
        root(vault, f"http://{proxy.host}") as client,
    ):
        assert client.secret(f"{vault.kv}/dev/app").fields["region"] == "fr-par"


@pytest.mark.parametrize("status", [429, 503])
def test_until_the_deadline(vault: VaultWorld, proxy: Proxy, status: int) -> None:
    begun = time.monotonic()
    with (
        proxy.failing(Fault(path="/v1/", times=None, answer=refusal(status))),
        pytest.raises(Unavailable, match=str(status)),
        root(vault, f"http://{proxy.host}", seconds=1) as client,
    ):
        client.lookup()
    assert 0.9 < time.monotonic() - begun < 5


def test_no_token_follows_a_redirect_to_another_host(vault: VaultWorld, proxy: Proxy) -> None:
    away = Answer(307, b"", {"Location": "http://127.0.0.1:9/v1/auth/token/lookup-self"})
    with (
        proxy.failing(Fault(path="/v1/", times=None, answer=away)),
        pytest.raises(Denied, match="no token goes there"),
        root(vault, f"http://{proxy.host}") as client,
    ):
        client.lookup()


def test_an_answer_that_is_no_json(vault: VaultWorld, proxy: Proxy) -> None:
    page = Answer(200, b"<html>a portal</html>", {"Content-Type": "text/html"})
    with (
        proxy.failing(Fault(path="/v1/", times=None, answer=page)),
        pytest.raises(PipelineError, match="not JSON"),
        root(vault, f"http://{proxy.host}") as client,
    ):
        client.lookup()


def test_any_path(vault: VaultWorld) -> None:
    with root(vault) as client:
        path = f"auth/{vault.id}-k8s/role/other"
        assert client.read(path) is None
        client.write(path, bound_service_account_names=["a"], bound_service_account_namespaces=["b"])
        found = client.read(path)
        assert found
        assert found["data"]["bound_service_account_names"] == ["a"]
        assert "other" in client.names(f"auth/{vault.id}-k8s/role")
        client.delete(path)
        assert client.read(path) is None
        assert client.names("sys/nothing-is-here") == []


def test_a_path_with_spaces_and_signs(vault: VaultWorld) -> None:
    with root(vault) as client:
        client.write(f"{vault.kv}/data/dev/a b/c?d%20", data={"it": "odd-path"})
        assert client.secret(f"{vault.kv}/dev/a b/c?d%20").fields == {"it": "odd-path"}
        assert f"{vault.kv}/dev/a b/c?d%20" in list(client.below(f"{vault.kv}/dev"))


def test_nothing_of_the_users_is_read(
    vault: VaultWorld, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    home = tmp_path_factory.mktemp("home")
    (home / ".vault-token").write_text(vault.bao.token)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("VAULT_TOKEN", vault.bao.token)
    login = Login("kubernetes", "dev", f"{vault.id}-k8s", Secret(""))
    with pytest.raises(Denied, match="no token"), opened(Server(vault.bao.url), login, mask=Mask().add):
        pass


# Leases --------------------------------------------------------------------------------------------------------


class Rabbit(BaseHTTPRequestHandler):
    """RabbitMQ's management API, as far as the engine that leases its users asks it."""

    users: ClassVar[set[str]] = set()

    def log_message(self, *_: object) -> None:
        """Nothing."""

    def _answer(self, status: int, body: object = None) -> None:
        content = json.dumps(body).encode() if body is not None else b""
        self.rfile.read(int(self.headers.get("Content-Length", "0")))
        self.send_response_only(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def do_GET(self) -> None:
        self._answer(200, [])

    def do_PUT(self) -> None:
        if self.path.startswith("/api/users/"):
            self.users.add(self.path)
        self._answer(204)

    def do_DELETE(self) -> None:
        self.users.discard(self.path)
        self._answer(204)


@pytest.fixture
def leased(vault: VaultWorld) -> Iterator[str]:
    """The path of an engine whose every reading makes a user with a lease."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Rabbit)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    mount = f"{vault.kv}-lease"
    vault.bao.client().sys.enable_secrets_engine("rabbitmq", path=mount)
    url = f"http://127.0.0.1:{server.server_address[1]}"
    vault.bao.write(
        f"{mount}/config/connection", connection_uri=url, username="a", password="b", verify_connection=False
    )
    vault.bao.write(f"{mount}/roles/app", tags="monitoring")
    yield f"{mount}/creds/app"
    vault.bao.client().sys.disable_secrets_engine(mount)
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize("is_given", [False, True])
def test_a_lease_is_given_up_at_the_end(vault: VaultWorld, leased: str, is_given: bool) -> None:
    token = Secret(vault.bao.token if is_given else vault.token_file().read_text())
    who: Identity = Given(token) if is_given else Login("kubernetes", "dev", f"{vault.id}-k8s", token)
    wants = (Want("USER", leased, "username", is_secret=False), Want("PASSWORD", leased, "password"))
    with lending.lent(Loan(Server(vault.bao.url, seconds=3), who, None, wants, (), ""), Mask().add) as found:
        assert {f"/api/users/{found['USER']}"} == Rabbit.users
        assert found["PASSWORD"]
    deadline = time.monotonic() + 10
    while Rabbit.users and time.monotonic() < deadline:
        time.sleep(0.05)
    assert Rabbit.users == set()
