"""The server behind Terraform's `http` backend, asked by its own protocol about the lock.

Source: developer.hashicorp.com/terraform/language/backend/http. Terraform itself tells too little of it: of a lock that
somebody holds it prints the ID alone, and `force-unlock` removes whichever lock is there.
"""

import json
import logging
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from pathlib import Path
from typing import Any

import requests

from pipeline_tools.adapters import http
from pipeline_tools.errors import Denied, Stale
from pipeline_tools.text.terraform_said import Lock

log = logging.getLogger(__name__)

_BLANK = dict.fromkeys(("Operation", "Info", "Who", "Version", "Created", "Path"), "")


@dataclass(frozen=True)
class HttpBackend:
    """Where locks are taken and given back, and as whom; no `address` where the backend is another one."""

    address: str = ""
    release_address: str = ""
    methods: tuple[str, str] = ("LOCK", "UNLOCK")
    login: tuple[str, str] = field(default=("", ""), repr=False)

    @classmethod
    def read(cls, file: Path, environment: Mapping[str, str]) -> "HttpBackend":
        """As `terraform init` has written it down; what it did not write the environment says."""
        try:
            backend = json.loads(file.read_bytes())["backend"]
            config: Mapping[str, Any] = backend["config"] if backend["type"] == "http" else {}
        except (OSError, ValueError, KeyError, TypeError):
            return cls()

        def setting(name: str, default: str = "") -> str:
            return str(config.get(name) or environment.get(f"TF_HTTP_{name.upper()}") or default)

        address = setting("lock_address") if config else ""
        methods = setting("lock_method", "LOCK"), setting("unlock_method", "UNLOCK")
        login = setting("username"), setting("password")
        return cls(address, setting("unlock_address", address), methods, login)

    def completed(self, lock: Lock) -> Lock:
        """The lock with its holder, as far as the server says: who asks for one is told who has it."""
        try:
            held = self._held() if self.address else None
        except (ValueError, requests.RequestException) as error:
            log.debug("who holds the lock cannot be asked: %s", error)
            return lock
        is_it = held is not None and held.get("ID") == lock.id
        return replace(lock, who=str(held["Who"]), created=str(held["Created"])) if held and is_it else lock

    def _held(self) -> dict[str, Any] | None:
        """The lock that is there; None if it was free just now, and is again."""
        ours = {**_BLANK, "ID": str(uuid.uuid4())}
        answer = self._ask(self.methods[0], self.address, ours)
        if answer.status_code in {HTTPStatus.CONFLICT, HTTPStatus.LOCKED}:
            found: dict[str, Any] = answer.json()
            return found
        if answer.ok:
            self._ask(self.methods[1], self.release_address, ours)
        return None

    def release(self, lock: str) -> None:
        """Remove just this lock.

        Raises:
            Stale: by now it is another one.
            Denied: whoever we are may not.
            Unavailable: the server does not answer, or not sensibly.
        """
        with http.errors(self.address.partition("?")[0]):
            answer = self._ask(self.methods[1], self.release_address, {**_BLANK, "ID": lock})
            if answer.status_code in {HTTPStatus.CONFLICT, HTTPStatus.LOCKED}:
                raise Stale(f"lock {lock} is gone, and there is another")
            if answer.status_code in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND}:
                raise Denied(
                    f"the state's server does not let us unlock ({answer.status_code})",
                    hint="GitLab: it takes the role Maintainer",
                )
            answer.raise_for_status()

    def _ask(self, method: str, address: str, lock: Mapping[str, str]) -> requests.Response:
        with http.session() as session:
            session.auth = self.login
            return session.request(method, address, json=lock)
