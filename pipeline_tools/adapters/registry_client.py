"""One request to a registry and its answer: who we are, what it refuses in our words, and what passed counted.

Authentication: Basic, a Bearer token by challenge (distribution.github.io/distribution/spec/auth/token), or a Google
access token as the bearer itself. The credential is asked for with each request: its source renews it in time.
"""

import json
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.auth import AuthBase, HTTPBasicAuth
from requests.utils import parse_dict_header

from pipeline_tools.adapters import http
from pipeline_tools.errors import Denied, PipelineError, Refused, Unavailable
from pipeline_tools.text import artifact_registry, references
from pipeline_tools.text.credentials import Credential
from pipeline_tools.text.references import Repository
from pipeline_tools.text.usage import Usage

LARGEST = 4 * 1024 * 1024
"""Bytes of a manifest or config that are read: what a registry must accept at least (spec.md, "Pushing Manifests")."""

CHUNK = 1024 * 1024


@dataclass
class Meter:
    """Counts what passes; see `Usage`."""

    bytes_pushed: int = 0
    bytes_mounted: int = 0
    cache_hits: int = 0
    answers: int = 0
    began: float = field(default_factory=time.monotonic)

    def answered(self, answer: requests.Response, **_: Any) -> None:
        """A session's hook: one request, and one more for each try before it."""
        retries = getattr(answer.raw, "retries", None)
        self.answers += 1 + (len(retries.history) if retries else 0)

    def usage(self) -> Usage:
        seconds = round(time.monotonic() - self.began, 3)
        return Usage(self.bytes_pushed, self.bytes_mounted, self.cache_hits, self.answers, seconds)


@dataclass
class Client:
    """Who asks one registry. `credential` is asked when first needed; `meter` counts what passes."""

    host: str
    credential: Callable[[], Credential | None] = lambda: None
    session: requests.Session = field(default_factory=http.session, repr=False)
    meter: Meter = field(default_factory=Meter, repr=False)
    _challenge: dict[str, str] | None = field(default=None, init=False, repr=False)
    _tokens: dict[str, str] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        self._url = Repository(self.host, "").url
        # Its answers are looked at here: a stream that was refused is begun again by who reads it.
        self._once = http.session(retries=0, statuses=frozenset())
        for session in (self.session, self._once):
            session.hooks["response"].append(self.meter.answered)

    @contextmanager
    def _call(
        self,
        method: str,
        path: str,
        scope: str,
        doing: str,
        *,
        accept: str | None = None,
        data: "bytes | Body | None" = None,
        media_type: str | None = None,
        missing: bool = False,
    ) -> Iterator[requests.Response]:
        """One request and its answer, which is closed with the block.

        Args:
            method: the HTTP method.
            path: below `/v2/`, or a whole address that the registry gave.
            scope: the right it takes, in the token protocol's words.
            doing: the word for it in messages.
            accept: the media types that are understood.
            data: the body, as it is.
            media_type: the body's.
            missing: let 404 through.

        Raises:
            Denied, Refused, Unavailable, PipelineError: the registry says no; see `_said`.
        """
        url = path if "://" in path else f"{self._url}/v2/{path}"
        headers = {"Accept": accept, "Content-Type": media_type}
        with http.errors(self.host):
            answer = self._send(
                method, url, scope, data, {key: value for key, value in headers.items() if value}
            )
            with answer:
                if not (answer.ok or (missing and answer.status_code == HTTPStatus.NOT_FOUND)):
                    raise _said(
                        answer, f"{self.host}/{_named(url)}", doing, self._hint(doing), self._principal
                    )
                yield answer

    def _send(
        self, method: str, url: str, scope: str, data: "bytes | Body | None", headers: dict[str, str]
    ) -> requests.Response:
        """Send; where the answer is a challenge, meet it and send once more."""
        session = self._once if isinstance(data, Body) else self.session
        # An address the registry gave may be another host's: nothing of ours goes there.
        is_ours = references.origin(url) == references.origin(self._url)

        def send() -> requests.Response:
            auth = self._auth(scope) if is_ours else _Anonymous()
            # A stream that was sent once cannot follow to another address.
            follow = not isinstance(data, Body)
            return session.request(
                method, url, data=data, headers=headers, auth=auth, stream=True, allow_redirects=follow
            )

        answer = send()
        for mend in (self._renew, self._challenged_by):
            if answer.status_code != HTTPStatus.UNAUTHORIZED or not is_ours:
                break
            if mend(answer, scope):
                answer.close()
                if isinstance(data, Body):
                    # It cannot be sent twice; who reads it begins again, as after a lost connection.
                    raise Unavailable(f"{self.host}: the login ended during an upload", hint="run it again")
                answer = send()
        return answer

    def _renew(self, _answer: requests.Response, _scope: str) -> bool:
        """Get another credential for one that was refused; whether there may be another."""
        credential = self.credential()
        if credential is None or credential.renew is None:
            return False
        credential.renew()
        self._tokens.clear()
        return True

    def _challenged_by(self, answer: requests.Response, scope: str) -> bool:
        """Whether the answer is a challenge, which the next request then meets."""
        challenge = _challenged(answer)
        if challenge is None:
            return False
        self._challenge = challenge
        self._tokens.pop(scope, None)
        return True

    def _auth(self, scope: str) -> AuthBase:
        """Who we are: a token once the registry has asked for one, else what we have, else nobody."""
        if self._challenge is not None:
            if scope not in self._tokens:
                self._tokens[scope] = self._token(scope, self._challenge)
            return _Bearer(self._tokens[scope])
        credential = self.credential()
        if credential is not None and credential.is_access_token:
            return _Bearer(credential.password.reveal())
        return self._basic()

    def _basic(self) -> AuthBase:
        credential = self.credential()
        return HTTPBasicAuth(credential.user, credential.password.reveal()) if credential else _Anonymous()

    def _token(self, scope: str, challenge: dict[str, str]) -> str:
        """A token for `scope` (distribution spec, "Token Authentication Specification", "Requesting a Token")."""
        realm = challenge.get("realm", "")
        _check_realm(realm, self.host)
        query: list[tuple[str, str]] = [("scope", part) for part in scope.split(" ")]
        if challenge.get("service"):
            query.append(("service", challenge["service"]))
        with http.errors(realm), self._asked(realm, query) as answer:
            if not answer.ok:
                raise _said(answer, realm, "log in", self._hint("log in"), self._principal)
            body = json_object(answer, realm)
        token = body.get("token") or body.get("access_token")
        if not isinstance(token, str) or not token:
            raise Denied(f"{realm} gave no token", hint=self._hint("log in"))
        return token

    def _asked(self, realm: str, query: list[tuple[str, str]]) -> requests.Response:
        """A token server's answer; a login that it refuses is replaced once, where there may be another."""
        answer = self.session.get(realm, params=query, auth=self._basic(), stream=True)
        if answer.status_code != HTTPStatus.UNAUTHORIZED or not self._renew(answer, ""):
            return answer
        answer.close()
        return self.session.get(realm, params=query, auth=self._basic(), stream=True)

    @property
    def _principal(self) -> str:
        credential = self.credential()
        return credential.principal if credential else ""

    def _hint(self, doing: str) -> str:
        right = {"push": "the right to push", "log in": "access"}.get(doing, "the right to pull")
        credential = self.credential()
        if credential is None:
            return (
                f"no login for {self.host}: set PT_REGISTRY_USER and PT_REGISTRY_PASSWORD, or docker login, or see "
                "--registry-auth; a protected variable is absent on an unprotected ref"
            )
        if credential.principal:
            return f"does {self.host} give {credential.principal} {right}?"
        return f"is PT_REGISTRY_PASSWORD (or docker login) for {self.host} valid, with {right} there?"

    def _small(self, answer: requests.Response, path: str) -> bytes:
        """The whole body of an answer that should be small."""
        content = b""
        for chunk in answer.iter_content(CHUNK):
            content += chunk
            if len(content) > LARGEST:
                raise PipelineError(
                    f"{self.host}/{path} is larger than {LARGEST} bytes", hint="is it an image?"
                )
        return content

    def _prove(self, path: str, wanted: str | None, found: str) -> None:
        if wanted and wanted != found:
            raise PipelineError(
                f"{self.host}/{path}: the registry says {wanted}, the content is {found}",
                hint="something between here and the registry changes what passes",
            )


class _Anonymous(AuthBase):
    """Nobody. It also keeps requests from sending what ~/.netrc has for the host."""

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        return request


class _Bearer(AuthBase):
    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request


class Body:
    """A body of known length, sent piece by piece: requests takes `Content-Length` from `len()`."""

    def __init__(self, chunks: Iterator[bytes], size: int) -> None:
        self._chunks, self._size = chunks, size

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[bytes]:
        return self._chunks


def pull(repository: str) -> str:
    return f"repository:{repository}:pull"


def push(repository: str) -> str:
    return f"repository:{repository}:pull,push"


def _named(url: str) -> str:
    """What an address is about, without the upload's long state."""
    return urlsplit(url).path.removeprefix("/v2/")[:200]


def _challenged(answer: requests.Response) -> dict[str, str] | None:
    """The parameters of a Bearer challenge (RFC 6750, 3); None where it is none."""
    scheme, _, rest = answer.headers.get("WWW-Authenticate", "").partition(" ")
    if scheme.lower() != "bearer":
        return None
    return {key.lower(): value or "" for key, value in parse_dict_header(rest).items()}  # type: ignore[no-untyped-call]


def _check_realm(realm: str, host: str) -> None:
    """A password leaves this machine only encrypted."""
    parts = urlsplit(realm)
    is_local = references.is_loopback(host) and references.is_loopback(parts.netloc)
    if parts.scheme != "https" and not (parts.scheme == "http" and is_local):
        raise Denied(
            f"{host} wants the login sent to {realm[:200]!r}, which is not https",
            hint="the registry's token realm must be an https address",
        )


def json_object(answer: requests.Response, what: str) -> dict[str, Any]:
    try:
        body = json.loads(answer.content)
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise no_registry(answer, what, "JSON")
    return body


def no_registry(answer: requests.Response, what: str, wanted: str) -> PipelineError:
    kind = answer.headers.get("Content-Type", "no type").partition(";")[0]
    return PipelineError(f"{what} answered with {kind}, not {wanted}", hint="is that host a registry?")


_IMMUTABLE = re.compile(r"immutab", re.IGNORECASE)
"""Artifact Registry: "The repository has enabled tag immutability"; Harbor: "configured as immutable"; ECR: "is immutable"."""


def _said(answer: requests.Response, what: str, doing: str, hint: str, principal: str = "") -> PipelineError:
    """The registry's status and error codes in our words (spec.md, "Error Codes")."""
    status, reason = answer.status_code, _reason(answer)
    message = f"cannot {doing} {what}: {reason} ({status})"
    if _IMMUTABLE.search(reason):
        return Refused(
            message,
            hint="an immutable tag keeps its first image; moving tags need a repository without immutable tags",
        )
    advice = artifact_registry.advice(reason, what, principal)
    if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        return Denied(message, hint=advice or hint)
    if status in {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS} or answer.status_code >= _SERVER:
        return Unavailable(message, hint="run it again", retry_after=http.retry_after(answer))
    if advice:
        return PipelineError(message, hint=advice)
    if status == HTTPStatus.NOT_FOUND and doing == "push":
        return PipelineError(
            message, hint="the repository must exist before the push (Artifact Registry); is its path right?"
        )
    return PipelineError(message, hint="is the reference right, and has it not been cleaned up?")


_SERVER = 500


def _reason(answer: requests.Response) -> str:
    """The first error's code and message, or what kind of page came instead."""
    try:
        error = json.loads(answer.content)["errors"][0]
        return f"{error['code']}: {error.get('message', '')}"[:300].strip(": ")
    except (ValueError, LookupError, TypeError):
        kind = answer.headers.get("Content-Type", "").partition(";")[0]
        return (
            f"{kind} instead of a registry's answer" if "html" in kind else answer.reason or "no reason given"
        )
