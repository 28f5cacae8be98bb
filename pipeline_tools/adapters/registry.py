"""Registries, by the OCI distribution API (OCI distribution spec 1.1, spec.md), in the toolkit's words.

Authentication: Basic, or a Bearer token by challenge (distribution.github.io/distribution/spec/auth/token).
"""

import json
import logging
import random
import re
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Protocol
from urllib.parse import urljoin, urlsplit

import requests
from requests.auth import AuthBase, HTTPBasicAuth
from requests.utils import parse_dict_header

from pipeline_tools.adapters import http
from pipeline_tools.errors import Denied, PipelineError, Refused, Unavailable
from pipeline_tools.text import manifests, references
from pipeline_tools.text.credentials import Credential
from pipeline_tools.text.manifests import Blob, Manifest
from pipeline_tools.text.references import Repository

log = logging.getLogger(__name__)

LARGEST = 4 * 1024 * 1024
"""Bytes of a manifest or config that are read: what a registry must accept at least (spec.md, "Pushing Manifests")."""

CHUNK = 1024 * 1024
TRIES = 3
"""How often the copy of one blob is begun."""

Login = Callable[[str], Credential | None]
"""The credential for a registry's `host[:port]`, None to be anonymous there."""


class Source(Protocol):
    """Where blobs come from: another registry, or a folder on this machine, whose `host` is no registry's."""

    @property
    def host(self) -> str: ...

    def reading(self, repository: str, blob: Blob) -> AbstractContextManager[Iterator[bytes]]: ...


class Registries:
    """One `Registry` a host, each with the credential for its own host alone."""

    def __init__(self, login: Login, session: Callable[[], requests.Session] = http.session) -> None:
        self._login = login
        self._session = session
        self._known: dict[str, Registry] = {}

    def at(self, repository: Repository) -> "Registry":
        """The registry that holds `repository`."""
        host = repository.host
        if host not in self._known:
            self._known[host] = Registry(host, lambda: self._login(host), self._session())
        return self._known[host]

    def credential(self, repository: Repository) -> Credential | None:
        """What we say who we are there, for a builder that pushes by itself."""
        return self._login(repository.host)


@dataclass
class Registry:
    """One registry. `credential` is asked when first needed; names of repositories are without the host."""

    host: str
    credential: Callable[[], Credential | None] = lambda: None
    session: requests.Session = field(default_factory=http.session, repr=False)
    _challenge: dict[str, str] | None = field(default=None, init=False, repr=False)
    _tokens: dict[str, str] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        self._url = Repository(self.host, "").url
        self._once = http.session(retries=0)

    # Reading -----------------------------------------------------------------------------------------------

    def head(self, repository: str, reference: str) -> str | None:
        """The digest that a tag (or digest) stands for, or None where there is none."""
        with self._call(
            "HEAD",
            f"{repository}/manifests/{reference}",
            _pull(repository),
            "read",
            accept=_ACCEPT,
            missing=True,
        ) as answer:
            if answer.status_code == HTTPStatus.NOT_FOUND:
                return None
            digest = answer.headers.get("Docker-Content-Digest", "")
        return digest if references.DIGEST.fullmatch(digest) else self.get(repository, reference).digest

    def get(self, repository: str, reference: str) -> Manifest:
        """A manifest or an index, byte for byte.

        Raises:
            PipelineError: there is none, or the bytes are not what their digest says.
        """
        path = f"{repository}/manifests/{reference}"
        with self._call("GET", path, _pull(repository), "read", accept=_ACCEPT) as answer:
            media_type = answer.headers.get("Content-Type", "").partition(";")[0]
            if media_type not in manifests.ACCEPTED:
                raise PipelineError(
                    f"{self.host}/{repository}: {reference} is {media_type or 'of no type'}, not an image manifest",
                    hint="is that host a registry, and its version 2 of the API?",
                )
            stated = answer.headers.get("Docker-Content-Digest")
            found = Manifest(media_type, self._small(answer, path))
        wanted = reference if references.DIGEST.fullmatch(reference) else stated
        self._prove(path, wanted, found.digest)
        return found

    def tags(self, repository: str) -> list[str]:
        """All tags, page after page; none where there is no such repository (spec.md, "Listing Tags")."""
        found: list[str] = []
        url: str | None = f"{self._url}/v2/{repository}/tags/list?n=1000"
        seen: set[str] = set()
        while url and url not in seen:
            seen.add(url)
            with self._call("GET", url, _pull(repository), "list tags", missing=True) as answer:
                if answer.status_code == HTTPStatus.NOT_FOUND:
                    return found
                found += [str(tag) for tag in _json(answer, self.host).get("tags") or []]
                following = answer.links.get("next", {}).get("url")
            url = urljoin(url, following) if following else None
        return found

    def labels(self, repository: str, manifest: Manifest) -> dict[str, str]:
        """The labels of an image; of an index those of its first image."""
        if manifest.is_index:
            images = manifest.images()
            return self.labels(repository, self.get(repository, images[0])) if images else {}
        config = manifest.config()
        return manifests.labels(self.config(repository, config)) if config else {}

    def config(self, repository: str, config: Blob) -> bytes:
        """The config of an image."""
        path = f"{repository}/blobs/{config.digest}"
        with self._call("GET", path, _pull(repository), "read") as answer:
            content = self._small(answer, path)
        self._prove(path, config.digest, manifests.digest(content))
        return content

    def has(self, repository: str, blob: Blob) -> bool:
        """Whether the registry holds a blob for this repository."""
        path = f"{repository}/blobs/{blob.digest}"
        with self._call("HEAD", path, _pull(repository), "read", missing=True) as answer:
            return answer.status_code != HTTPStatus.NOT_FOUND

    @contextmanager
    def reading(self, repository: str, blob: Blob) -> Iterator[Iterator[bytes]]:
        """The bytes of a blob in pieces, while the block lasts."""
        with self._call("GET", f"{repository}/blobs/{blob.digest}", _pull(repository), "read") as answer:
            yield answer.iter_content(CHUNK)

    # Writing -----------------------------------------------------------------------------------------------

    def put(self, repository: str, reference: str, manifest: Manifest) -> None:
        """Store a manifest under a tag or its digest, byte for byte. What it names must be there already.

        Raises:
            Refused: the tag is immutable and stands for something else.
            PipelineError: the registry made something else of it.
        """
        path = f"{repository}/manifests/{reference}"
        with self._call(
            "PUT", path, _push(repository), "push", data=manifest.raw, media_type=manifest.media_type
        ) as answer:
            self._prove(path, answer.headers.get("Docker-Content-Digest"), manifest.digest)

    def copy(self, repository: str, blob: Blob, source: Source, source_repository: str) -> bool:
        """Bring a blob here: mounted where source and target are one registry, else streamed.

        Returns:
            Whether it was mounted, that is, no byte was moved (spec.md, "Mounting a blob from another repository").
        """
        for attempt in range(1, TRIES):
            try:
                return self._copy(repository, blob, source, source_repository)
            except Unavailable as error:
                # Harmless to begin again: a mount is idempotent, an upload left open is purged, a blob that did
                # arrive is looked for first.
                log.info("%s; beginning again with %s", error.message, blob.digest[:19])
                time.sleep(random.uniform(0, 2.0**attempt / 4))  # noqa: S311 (jitter, no secret)
        return self._copy(repository, blob, source, source_repository)

    def _copy(self, repository: str, blob: Blob, source: Source, source_repository: str) -> bool:
        location = None
        if source.host == self.host:
            location = self._mount(repository, blob, source_repository)
            if location is None:
                return True
        # The registry would not mount: it may have the blob all the same, from a run that was cut off.
        if not self.has(repository, blob):
            log.info("%s: copying %d bytes of %s", repository, blob.size, blob.digest[:19])
            target = location or self._open(f"{repository}/blobs/uploads/", _push(repository)) or ""
            with source.reading(source_repository, blob) as chunks:
                self._stream(target, blob, chunks, _push(repository))
        return False

    def _mount(self, repository: str, blob: Blob, source_repository: str) -> str | None:
        """Ask for a mount; None when it is done, else where an upload has been opened instead."""
        query = f"mount={blob.digest}&from={source_repository}"
        scope = f"{_push(repository)} {_pull(source_repository)}"
        return self._open(f"{repository}/blobs/uploads/?{query}", scope)

    def _open(self, path: str, scope: str) -> str | None:
        """POST for an upload; None when there is nothing left to send."""
        with self._call("POST", path, scope, "push") as answer:
            if answer.status_code == HTTPStatus.CREATED:
                return None
            return urljoin(f"{self._url}/v2/", answer.headers.get("Location", ""))

    def _stream(self, location: str, blob: Blob, chunks: Iterator[bytes], scope: str) -> None:
        """The second half of "POST then PUT" (spec.md)."""
        url = f"{location}{'&' if urlsplit(location).query else '?'}digest={blob.digest}"
        body = _Body(chunks, blob.size)
        with self._call("PUT", url, scope, "push", data=body, media_type="application/octet-stream"):
            """The registry has checked the digest before it answered."""

    # How ---------------------------------------------------------------------------------------------------

    @contextmanager
    def _call(
        self,
        method: str,
        path: str,
        scope: str,
        doing: str,
        *,
        accept: str | None = None,
        data: "bytes | _Body | None" = None,
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
                    raise _said(answer, f"{self.host}/{_named(url)}", doing, self._hint(doing))
                yield answer

    def _send(
        self, method: str, url: str, scope: str, data: "bytes | _Body | None", headers: dict[str, str]
    ) -> requests.Response:
        """Send; where the answer is a challenge, meet it and send once more."""
        session = self._once if isinstance(data, _Body) else self.session
        # An address the registry gave may be another host's: nothing of ours goes there.
        is_ours = references.origin(url) == references.origin(self._url)

        def send() -> requests.Response:
            auth = self._auth(scope) if is_ours else _Anonymous()
            return session.request(method, url, data=data, headers=headers, auth=auth, stream=True)

        answer = send()
        if answer.status_code != HTTPStatus.UNAUTHORIZED or not is_ours or isinstance(data, _Body):
            return answer
        challenge = _challenged(answer)
        if challenge is None:
            return answer
        answer.close()
        self._challenge = challenge
        self._tokens.pop(scope, None)
        return send()

    def _auth(self, scope: str) -> AuthBase:
        """Who we are: a token once the registry has asked for one, else the password, else nobody."""
        if self._challenge is not None:
            if scope not in self._tokens:
                self._tokens[scope] = self._token(scope, self._challenge)
            return _Bearer(self._tokens[scope])
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
        with (
            http.errors(realm),
            self.session.get(realm, params=query, auth=self._basic(), stream=True) as answer,
        ):
            if not answer.ok:
                raise _said(answer, realm, "log in", self._hint("log in"))
            body = _json(answer, realm)
        token = body.get("token") or body.get("access_token")
        if not isinstance(token, str) or not token:
            raise Denied(f"{realm} gave no token", hint=self._hint("log in"))
        return token

    def _hint(self, doing: str) -> str:
        right = {"push": "the right to push", "log in": "access"}.get(doing, "the right to pull")
        if self.credential() is None:
            return (
                f"no login for {self.host}: set PT_REGISTRY_USER and PT_REGISTRY_PASSWORD, or docker login; "
                "a protected variable is absent on an unprotected ref"
            )
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


_ACCEPT = ", ".join(manifests.ACCEPTED)


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


class _Body:
    """A body of known length, read as it is sent: requests takes `Content-Length` from `len()`."""

    def __init__(self, chunks: Iterator[bytes], size: int) -> None:
        self._chunks, self._size, self._rest = chunks, size, b""

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[bytes]:
        return self._chunks

    def read(self, size: int) -> bytes:
        if not self._rest:
            self._rest = next(self._chunks, b"")
        piece, self._rest = self._rest[:size], self._rest[size:]
        return piece


def _pull(repository: str) -> str:
    return f"repository:{repository}:pull"


def _push(repository: str) -> str:
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


def _json(answer: requests.Response, what: str) -> dict[str, Any]:
    try:
        body = json.loads(answer.content)
    except ValueError:
        body = None
    if not isinstance(body, dict):
        kind = answer.headers.get("Content-Type", "no type").partition(";")[0]
        raise PipelineError(f"{what} answered with {kind}, not JSON", hint="is that host a registry?")
    return body


_IMMUTABLE = re.compile(r"immutab", re.IGNORECASE)
"""Artifact Registry: "The repository has enabled tag immutability"; Harbor: "configured as immutable"; ECR: "is immutable"."""


def _said(answer: requests.Response, what: str, doing: str, hint: str) -> PipelineError:
    """The registry's status and error codes in our words (spec.md, "Error Codes")."""
    status, reason = answer.status_code, _reason(answer)
    message = f"cannot {doing} {what}: {reason} ({status})"
    if _IMMUTABLE.search(reason):
        return Refused(
            message,
            hint="an immutable tag keeps its first image; moving tags need a repository without immutable tags",
        )
    if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        return Denied(message, hint=hint)
    if status in {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS} or answer.status_code >= _SERVER:
        return Unavailable(message, hint="run it again")
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
