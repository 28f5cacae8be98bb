"""The token half of a registry's authentication, as Docker Hub, GitLab and Google have it.

A client that the registry answers with `401` and `WWW-Authenticate: Bearer realm=…,service=…,scope=…` asks here
with its name and password, and gets a signed token with the rights it has been granted.
https://distribution.github.io/distribution/spec/auth/token/ and …/auth/jwt/
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import datetime as dt
import hashlib
import json
import secrets
import threading
from dataclasses import dataclass, field
from enum import StrEnum
from fnmatch import fnmatchcase
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, ClassVar
from urllib.parse import parse_qs, urlsplit

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from sandbox.services import serving

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ISSUER = "sandbox-token-server"
ANONYMOUS = ""
PULL = frozenset({"pull"})
PUSH = frozenset({"pull", "push"})
# docker-registry 2.8 forgives a clock that is a minute off (registry/auth/token/token.go, Leeway).
PAST_LEEWAY = dt.timedelta(minutes=5)


@dataclass(frozen=True)
class TokenAuth:
    """Who may do what: passwords by user, and by user the actions on repositories by shell pattern.

    A user without an entry in `rights` may do everything. The user "" is whoever gives no password.
    """

    users: Mapping[str, str] = field(repr=False)
    rights: Mapping[str, Mapping[str, frozenset[str]]] = field(default_factory=dict)
    service: str = "sandbox-registry"
    lifetime: int = 300
    """Seconds a token is good for; docker-registry adds a minute of grace."""


class Mood(StrEnum):
    """How the token server behaves."""

    GOOD = "good"
    FORBIDS = "forbids"
    """403 to everybody."""
    BREAKS = "breaks"
    """500 to everybody."""
    EXPIRED = "expired"
    """Tokens whose time is over already."""
    FORGED = "forged"
    """Tokens signed with a key that the registry does not know."""


@dataclass(frozen=True)
class TokenRequest:
    """One request for a token: who asked for what, and what was granted."""

    user: str
    scopes: tuple[str, ...]
    granted: tuple[str, ...]
    status: int


@dataclass(frozen=True)
class SigningKey:
    """A private key, the certificate the registry trusts, and the id it knows the key by."""

    private: ec.EllipticCurvePrivateKey = field(repr=False)
    certificate: bytes
    kid: str

    @classmethod
    def make(cls) -> SigningKey:
        private = ec.generate_private_key(ec.SECP256R1())
        return cls(private, _certificate(private), key_id(private.public_key()))


def key_id(key: ec.EllipticCurvePublicKey) -> str:
    """The fingerprint that docker-registry 2.x looks a token's `kid` up by (docker/libtrust, keyIDFromCryptoKey)."""
    der = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    text = base64.b32encode(hashlib.sha256(der).digest()[:30]).decode()
    return ":".join(text[at : at + 4] for at in range(0, len(text), 4))


class TokenServer:
    """The server itself, on 127.0.0.1; `mood` and `lifetime` may be changed while it runs."""

    def __init__(self, auth: TokenAuth) -> None:
        self.auth = auth
        self.lifetime = auth.lifetime
        self.mood = Mood.GOOD
        self.key = SigningKey.make()
        self._stranger = SigningKey.make()
        self._requests: list[TokenRequest] = []
        self._lock = threading.Lock()
        handler = type("Handler", (_Handler,), {"server_of": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self.realm = f"http://127.0.0.1:{self._server.server_address[1]}/token"

    @contextlib.contextmanager
    def running(self) -> Iterator[TokenServer]:
        with serving(self._server):
            yield self

    @property
    def requests(self) -> list[TokenRequest]:
        with self._lock:
            return list(self._requests)

    @contextlib.contextmanager
    def behaving(self, mood: Mood) -> Iterator[None]:
        """This mood until the block ends."""
        before, self.mood = self.mood, mood
        try:
            yield
        finally:
            self.mood = before

    def answer(self, user: str, password: str, scopes: tuple[str, ...]) -> tuple[int, dict[str, object]]:
        """The status and JSON body for one request."""
        status = self._status(user, password)
        granted = tuple(self._granted(user, scope) for scope in scopes) if status == 200 else ()  # noqa: PLR2004
        with self._lock:
            self._requests.append(TokenRequest(user, scopes, tuple(filter(None, granted)), status))
        if status != 200:  # noqa: PLR2004
            return status, {"details": "made up by the sandbox"}
        return status, self._token(user, tuple(filter(None, granted)))

    def _status(self, user: str, password: str) -> int:
        if self.mood is Mood.FORBIDS:
            return 403
        if self.mood is Mood.BREAKS:
            return 500
        known = user == ANONYMOUS if user not in self.auth.users else self.auth.users[user] == password
        return 200 if known else 401

    def _granted(self, user: str, scope: str) -> str:
        """The part of `repository:name:pull,push` that this user has; nothing when none of it."""
        kind, _, rest = scope.partition(":")
        name, _, actions = rest.rpartition(":")
        rights = self.auth.rights.get(user, {} if user == ANONYMOUS else {"*": frozenset({"*"})})
        allowed = frozenset[str]().union(
            *(acts for pattern, acts in rights.items() if fnmatchcase(name, pattern))
        )
        given = [action for action in actions.split(",") if action in allowed or "*" in allowed]
        return f"{kind}:{name}:{','.join(given)}" if given else ""

    def _token(self, user: str, granted: tuple[str, ...]) -> dict[str, object]:
        now = dt.datetime.now(dt.UTC)
        if self.mood is Mood.EXPIRED:
            now -= PAST_LEEWAY + dt.timedelta(seconds=self.lifetime)
        claims = {
            "iss": ISSUER,
            "sub": user,
            "aud": self.auth.service,
            "iat": now,
            "nbf": now - dt.timedelta(seconds=5),
            "exp": now + dt.timedelta(seconds=self.lifetime),
            "jti": secrets.token_hex(8),
            "access": [_access(scope) for scope in granted],
        }
        signer = self._stranger if self.mood is Mood.FORGED else self.key
        token = jwt.encode(claims, signer.private, algorithm="ES256", headers={"kid": signer.kid})
        issued = now.strftime("%Y-%m-%dT%H:%M:%SZ")
        return {"token": token, "access_token": token, "expires_in": self.lifetime, "issued_at": issued}


class _Handler(BaseHTTPRequestHandler):
    server_of: ClassVar[TokenServer]

    def log_message(self, *_: object) -> None:
        """Requests are noted, not printed."""

    def do_GET(self) -> None:
        query = parse_qs(urlsplit(self.path).query)
        # One parameter may carry several scopes, apart by spaces, and it may be repeated.
        scopes = tuple(scope for value in query.get("scope", []) for scope in value.split())
        status, body = self.server_of.answer(*_basic(self.headers.get("Authorization", "")), scopes)
        self._send(status, body)

    def do_POST(self) -> None:
        # The OAuth2 form is for refresh tokens, which are not given out here; clients then use GET.
        self._send(405, {"details": "GET only"})

    def _send(self, status: int, body: dict[str, object]) -> None:
        content = json.dumps(body).encode()
        self.send_response_only(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        if status == 401:  # noqa: PLR2004
            self.send_header("WWW-Authenticate", f'Basic realm="{self.server_of.realm}"')
        self.end_headers()
        self.wfile.write(content)


def _basic(header: str) -> tuple[str, str]:
    scheme, _, encoded = header.partition(" ")
    if scheme.lower() != "basic":
        return ANONYMOUS, ""
    try:
        user, _, password = base64.b64decode(encoded, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return "not base64", ""
    return user, password


def _access(scope: str) -> dict[str, object]:
    kind, _, rest = scope.partition(":")
    name, _, actions = rest.rpartition(":")
    return {"type": kind, "name": name, "actions": actions.split(",")}


def _certificate(private: ec.EllipticCurvePrivateKey) -> bytes:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, ISSUER)])
    now = dt.datetime.now(dt.UTC)
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=30))
        .sign(private, hashes.SHA256())
    )
    return built.public_bytes(serialization.Encoding.PEM)
