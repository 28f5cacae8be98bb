"""Requests to Vault by hvac, over our session: what may pass is tried again until the server's deadline.

That is every answer that says so (412, 429, 5xx: sealed, standby, overloaded) and every lost connection.
"""

import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import hvac
import requests
from hvac.adapters import RawAdapter

from pipeline_tools.adapters import http
from pipeline_tools.errors import PipelineError, Unavailable
from pipeline_tools.text import references

log = logging.getLogger(__name__)

_PASSING = frozenset({412, 429, 472, 473, 500, 502, 503, 504})
"""Statuses worth another try (developer.hashicorp.com/vault/api-docs, "HTTP status codes"; 412: a replica that has not caught up)."""
_LONGEST_PAUSE = 5.0


@dataclass(frozen=True)
class Server:
    """Where Vault is. `seconds`: how long one request is tried again while it is sealed, standby or overloaded."""

    address: str
    namespace: str | None = None
    ca_file: Path | None = None
    seconds: float = 60.0


class Adapter(RawAdapter):  # type: ignore[misc]  # hvac ships no types
    """Tries again what may pass, until the deadline."""

    def __init__(self, seconds: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.seconds = seconds

    def request(
        self,
        method: str,
        url: str,
        headers: dict[str, str] | None = None,
        raise_exception: bool = True,
        **kwargs: Any,
    ) -> Any:
        """One answer that stays.

        Raises:
            VaultError: Vault says no (not with `raise_exception` false).
            Unavailable: none in time. PipelineError: the address, or its certificate, is not right.
        """
        ask = partial(RawAdapter.request, self, method, url, headers, raise_exception=False, **kwargs)
        answer = self._insist(ask)
        if answer.status_code == HTTPStatus.BAD_REQUEST and b"to an HTTPS server" in answer.content:
            raise PipelineError(
                f"{self.base_uri} speaks TLS", hint="--vault-address must begin with https://"
            )
        if not answer.ok and raise_exception:
            self._raise_for_error(method, urlsplit(url).path, answer)
        return answer

    def _insist(self, ask: Callable[[], requests.Response]) -> requests.Response:
        deadline, attempt = time.monotonic() + self.seconds, 0
        while True:
            attempt += 1
            answer, problem = self._once(ask)
            if answer is not None and answer.status_code not in _PASSING:
                return answer
            left = deadline - time.monotonic()
            if left <= 0:
                raise Unavailable(f"{self.base_uri}: {problem}", hint=_unavailable_hint(problem))
            if attempt == 1:
                log.info("vault: %s; trying again for %.0f s", problem, left)
            time.sleep(min(left, _pause(attempt, answer)))

    def _once(self, ask: Callable[[], requests.Response]) -> tuple[requests.Response | None, str]:
        """The answer if there is one, and what is wrong with it if something is."""
        try:
            answer = ask()
        except requests.exceptions.SSLError as error:
            raise _tls(self.base_uri, error) from None
        except (requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema) as error:
            raise PipelineError(
                f"{self.base_uri}: {error}", hint="--vault-address is https://HOST:PORT"
            ) from None
        except requests.RequestException as error:
            return None, http.reason(error)
        return answer, _reason(answer)


def client(server: Server) -> hvac.Client:
    """The client of hvac, logged in as nobody; its `adapter` is an `Adapter`.

    Raises:
        PipelineError: `server.address` is none.
    """
    parts = urlsplit(server.address)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise PipelineError(
            f"{server.address!r} is no address of Vault", hint="--vault-address is https://HOST:PORT"
        )
    if parts.scheme == "http" and not references.is_loopback(parts.netloc):
        log.warning(
            "vault: %s is not https: tokens and secrets cross the network in the clear", server.address
        )
    session = http.session(retries=0, stays=True, statuses=frozenset())
    session.verify = str(server.ca_file) if server.ca_file else True
    # A token of "" keeps hvac from reading VAULT_TOKEN and ~/.vault-token by itself.
    return hvac.Client(
        url=server.address.rstrip("/"),
        token="",
        session=session,
        verify=session.verify,
        timeout=None,
        namespace=server.namespace or None,
        adapter=partial(Adapter, server.seconds),
    )


def url(path: str) -> str:
    """The address of an API path, below the server's."""
    return f"/v1/{quote(path.strip('/') if not path.endswith('/') else path.lstrip('/'), safe='/')}"


def body(answer: Any) -> dict[str, Any]:
    """The JSON object of an answer; an empty one where there is none (204)."""
    try:
        found = answer.json() if isinstance(answer, requests.Response) and answer.content else answer
    except ValueError:
        raise PipelineError("the answer is not JSON", hint="is --vault-address a Vault server?") from None
    return found if isinstance(found, dict) else {}


def _reason(answer: requests.Response) -> str:
    try:
        found = answer.json().get("errors") or []
    except (ValueError, AttributeError):
        found = []
    return f"{'; '.join(map(str, found))[:300] or answer.reason or 'no reason given'} ({answer.status_code})"


def _pause(attempt: int, answer: requests.Response | None) -> float:
    """Full jitter, or what the server asks for in whole seconds."""
    asked = answer.headers.get("Retry-After", "") if answer is not None else ""
    if asked.isdigit():
        return float(asked)
    return random.uniform(0, min(_LONGEST_PAUSE, 0.2 * 2.0**attempt))  # noqa: S311 (jitter, no secret)


def _unavailable_hint(problem: str) -> str:
    if "sealed" in problem.lower():
        return "unseal it (bao operator unseal), then run again"
    if "initialized" in problem:
        return "initialise it first (bao operator init)"
    return "is --vault-address (VAULT_ADDR) right, the server up, and reachable from here?"


def _tls(address: str, error: requests.exceptions.SSLError) -> PipelineError:
    text = str(error)
    if "WRONG_VERSION_NUMBER" in text or "RECORD_LAYER_FAILURE" in text:
        return PipelineError(f"{address} does not speak TLS", hint="is its address http://?")
    reason = text.rpartition("certificate verify failed: ")[2].partition(" (_ssl")[0][:200]
    hint = "--vault-ca-file (VAULT_CACERT) names the authority that signed it; the host must be one the certificate names"
    return PipelineError(f"the certificate of {address} is not trusted: {reason}", hint=hint)
