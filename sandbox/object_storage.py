"""Object storage that speaks S3, for Terraform's `s3` backend as Scaleway Object Storage meets it: moto's server.

Source of what is asked: Terraform's `s3` backend with `use_lockfile`, which writes the lock object with
`If-None-Match: *`. https://docs.getmoto.org/en/latest/docs/server_mode.html
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import requests

from sandbox.services import Service, started

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

START_SECONDS = 30.0
REGION = "fr-par"
KEY_ID, SECRET_KEY = "SCWXXXXXXXXXXXXXXXXX", "sandbox-secret-key"
HEADERS = {
    "Content-Type": "application/octet-stream",
    # moto asks for a signature and does not check it; only in us-east-1 does a bucket need no location.
    "Authorization": f"AWS4-HMAC-SHA256 Credential={KEY_ID}/20260101/us-east-1/s3/aws4_request",
}


@dataclass(frozen=True)
class ObjectStorage:
    """A server at `url`; it takes any access key. What is in it goes with the block."""

    url: str
    service: Service = field(repr=False)

    @classmethod
    @contextlib.contextmanager
    def start(cls, directory: Path) -> Iterator[ObjectStorage]:
        """Lend a server that logs into `directory`; StartError with the end of its log."""
        directory.mkdir(parents=True, exist_ok=True)
        port = _free_port()
        url = f"http://127.0.0.1:{port}"
        argv = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
        # Nothing of ours: it would read AWS_* and MOTO_* as its configuration.
        env = {"PATH": os.environ["PATH"], "HOME": str(directory)}
        with started(
            "object storage",
            argv,
            directory / "object-storage.log",
            ready=lambda _service: _is_ready(url),
            seconds=START_SECONDS,
            env=env,
        ) as service:
            yield cls(url, service)

    def create_bucket(self, name: str) -> None:
        self._ask("PUT", name).raise_for_status()

    def read(self, bucket: str, key: str) -> bytes | None:
        """An object, or None."""
        answer = self._ask("GET", f"{bucket}/{key}")
        if answer.status_code == requests.codes.not_found:
            return None
        answer.raise_for_status()
        return answer.content

    def write(self, bucket: str, key: str, content: bytes) -> None:
        self._ask("PUT", f"{bucket}/{key}", content).raise_for_status()

    def delete(self, bucket: str, key: str) -> None:
        self._ask("DELETE", f"{bucket}/{key}").raise_for_status()

    def backend(self, bucket: str, key: str) -> str:
        """The block as the documentation has it for Scaleway, with this server's address in it."""
        return f"""\
terraform {{
  backend "s3" {{
    bucket                      = "{bucket}"
    key                         = "{key}"
    region                      = "{REGION}"
    endpoints                   = {{ s3 = "{self.url}" }}
    use_path_style              = true
    use_lockfile                = true
    skip_credentials_validation = true
    skip_region_validation      = true
    skip_requesting_account_id  = true
    skip_metadata_api_check     = true
  }}
}}
"""

    @property
    def variables(self) -> Mapping[str, str]:
        """What the backend takes from the environment."""
        return {"AWS_ACCESS_KEY_ID": KEY_ID, "AWS_SECRET_ACCESS_KEY": SECRET_KEY}

    def _ask(self, method: str, path: str, content: bytes = b"") -> requests.Response:
        return requests.request(method, f"{self.url}/{path}", data=content, headers=HEADERS, timeout=10)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _is_ready(url: str) -> bool:
    try:
        return requests.get(f"{url}/moto-api/", timeout=2).ok
    except requests.ConnectionError:
        return False
