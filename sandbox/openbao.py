"""A real OpenBao in development mode: in memory, unsealed, gone with the block. Its API is HashiCorp Vault's."""

from __future__ import annotations

import contextlib
import os
import re
import socket
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import hvac
import requests

from sandbox.parts import OPENBAO
from sandbox.services import Service, started

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

START_SECONDS = 20.0
ROOT_TOKEN = "root-token-of-the-sandbox"
_UNSEAL_KEY = re.compile(r"Unseal Key: (\S+)")


@dataclass(frozen=True)
class OpenBao:
    """A server at `url`; `ca_file` is the certificate to trust, None without TLS."""

    url: str
    ca_file: Path | None
    service: Service = field(repr=False)
    token: str = field(default=ROOT_TOKEN, repr=False)

    @classmethod
    @contextlib.contextmanager
    def start(cls, directory: Path, *, tls: bool = False) -> Iterator[OpenBao]:
        """Lend a server that logs into `directory`; StartError with the end of its log."""
        directory.mkdir(parents=True, exist_ok=True)
        address = f"127.0.0.1:{_free_port()}"
        argv = [
            str(OPENBAO.find("bao")), "server", "-dev", "-dev-no-store-token",
            f"-dev-root-token-id={ROOT_TOKEN}", f"-dev-listen-address={address}",
            *([f"-dev-tls-cert-dir={directory}", "-dev-tls"] if tls else []),
        ]  # fmt: skip
        # A home of its own, and nothing of ours: it would read VAULT_* and BAO_* as its configuration.
        env = {"PATH": os.environ["PATH"], "HOME": str(directory)}
        ca_file = directory / "vault-ca.pem" if tls else None
        url = f"{'https' if tls else 'http'}://{address}"
        with started(
            "bao",
            argv,
            directory / "bao.log",
            ready=lambda service: _is_ready(service, url, ca_file),
            seconds=START_SECONDS,
            env=env,
        ) as service:
            yield cls(url, ca_file, service)

    def client(self, token: str = ROOT_TOKEN, namespace: str | None = None) -> hvac.Client:
        """A client of the library's own, as root unless told otherwise."""
        verify = str(self.ca_file) if self.ca_file else True
        return hvac.Client(url=self.url, token=token, namespace=namespace, verify=verify)

    def write(self, path: str, /, namespace: str | None = None, **data: Any) -> Any:
        """Write `data` at an API path, as root."""
        return self.client(namespace=namespace).write_data(path, data=data)

    def seal(self) -> None:
        self.client().sys.seal()

    def unseal(self) -> None:
        found = _UNSEAL_KEY.search(self.service.text())
        if not found:
            raise RuntimeError("the log shows no unseal key")
        self.client().sys.submit_unseal_key(found[1])


def _free_port() -> int:
    """A port whose neighbour is free too: OpenBao listens to its cluster there."""
    while True:
        with socket.socket() as first, socket.socket() as second:
            first.bind(("127.0.0.1", 0))
            port: int = first.getsockname()[1]
            with contextlib.suppress(OSError, OverflowError):
                second.bind(("127.0.0.1", port + 1))
                return port


def _is_ready(service: Service, url: str, ca_file: Path | None) -> bool:
    if "Root Token:" not in service.text():
        return False
    try:
        answer = requests.get(f"{url}/v1/sys/health", verify=str(ca_file) if ca_file else True, timeout=2)
    except requests.ConnectionError:
        return False
    return answer.ok
