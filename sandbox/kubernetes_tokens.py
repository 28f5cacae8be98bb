"""Who signs the tokens that a job shows to Vault: a Kubernetes cluster, and GitLab.

The cluster answers TokenReview, the one request that Vault's Kubernetes auth method makes
(kubernetes.io/docs/reference/kubernetes-api/authentication-resources/token-review-v1), over TLS. GitLab's id tokens
are checked by Vault itself, with the public key in `jwt_validation_pubkeys`.
"""

from __future__ import annotations

import contextlib
import json
import ssl
import time
import uuid
from dataclasses import dataclass, field
from enum import StrEnum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, ClassVar

import jwt
import trustme
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from sandbox.services import serving

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

REVIEW = "/apis/authentication.k8s.io/v1/tokenreviews"
REVIEWER = ("vault", "vault-reviewer")
"""Namespace and account that may ask for reviews (`system:auth-delegator`)."""
SLOW_SECONDS = 3.0


class Mood(StrEnum):
    """How the cluster behaves."""

    GOOD = "good"
    FORBIDS = "forbids"
    """403: the reviewer lacks `system:auth-delegator`."""
    BREAKS = "breaks"
    """500 to everybody."""
    SLOW = "slow"
    """Answers after SLOW_SECONDS."""


@dataclass(frozen=True)
class Issuer:
    """Signs JWTs with RS256."""

    url: str
    key: rsa.RSAPrivateKey = field(repr=False)

    @classmethod
    def make(cls, url: str) -> Issuer:
        return cls(url, rsa.generate_private_key(public_exponent=65537, key_size=2048))

    @property
    def public_key(self) -> str:
        """PEM, as `jwt_validation_pubkeys` takes it."""
        public = self.key.public_key()
        kind = serialization.PublicFormat.SubjectPublicKeyInfo
        return public.public_bytes(serialization.Encoding.PEM, kind).decode()

    def sign(self, seconds: float = 600, *, skew: float = 0, **claims: Any) -> str:
        """A token good for `seconds`, by a clock that is `skew` seconds ahead."""
        now = int(time.time() + skew)
        times = {"iat": now, "nbf": now, "exp": now + int(seconds)}
        return jwt.encode({"iss": self.url, **times, **claims}, self.key, algorithm="RS256")


def gitlab_id_token(
    issuer: Issuer, *, audience: str = "vault", ref: str = "main", is_protected: bool = True, **changes: Any
) -> str:
    """An id token with the claims that Vault roles bind (docs.gitlab.com/ci/secrets/id_token_authentication)."""
    seconds, skew = changes.pop("seconds", 600), changes.pop("skew", 0)
    claims = {
        "aud": audience,
        "sub": f"project_path:platform/infra:ref_type:branch:ref:{ref}",
        "project_id": "42",
        "project_path": "platform/infra",
        "ref": ref,
        "ref_type": "branch",
        "ref_protected": "true" if is_protected else "false",
        "jti": str(uuid.uuid4()),
        **changes,
    }
    return issuer.sign(seconds, skew=skew, **claims)


class Cluster:
    """A Kubernetes API server as far as Vault knows one: it issues service-account tokens and reviews them."""

    def __init__(self) -> None:
        self.mood = Mood.GOOD
        self.issuer = Issuer.make("https://kubernetes.default.svc.cluster.local")
        self.asked = 0
        """How many reviews were begun."""
        self.reviews: list[dict[str, Any]] = []
        self._ids: dict[tuple[str, str], str] = {}
        authority = trustme.CA()
        self.ca_certificate = authority.cert_pem.bytes().decode()
        handler = type("Handler", (_Handler,), {"cluster": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        authority.issue_cert("127.0.0.1").configure_cert(context)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.url = f"https://127.0.0.1:{self._server.server_address[1]}"

    @classmethod
    @contextlib.contextmanager
    def start(cls) -> Iterator[Cluster]:
        """Lend a cluster until the block ends."""
        cluster = cls()
        with serving(cluster._server):
            yield cluster

    @contextlib.contextmanager
    def behaving(self, mood: Mood) -> Iterator[None]:
        """This mood until the block ends."""
        before, self.mood = self.mood, mood
        try:
            yield
        finally:
            self.mood = before

    @property
    def reviewer_token(self) -> str:
        """What Vault shows when it asks for a review (`token_reviewer_jwt`)."""
        return self.token(*REVIEWER, audience=self.issuer.url, seconds=86_400)

    def token(
        self,
        namespace: str,
        account: str,
        *,
        audience: str | Sequence[str] = "vault",
        seconds: float = 600,
        skew: float = 0,
    ) -> str:
        """A projected token (kubernetes.io/docs/concepts/storage/projected-volumes, "serviceAccountToken")."""
        named = {"name": account, "uid": self._ids.setdefault((namespace, account), str(uuid.uuid4()))}
        return self.issuer.sign(
            seconds,
            skew=skew,
            aud=[audience] if isinstance(audience, str) else list(audience),
            sub=f"system:serviceaccount:{namespace}:{account}",
            jti=str(uuid.uuid4()),
            **{
                "kubernetes.io": {
                    "namespace": namespace,
                    "pod": {"name": "runner-x-project-42", "uid": str(uuid.uuid4())},
                    "serviceaccount": named,
                }
            },
        )

    def review(self, reviewer: str, spec: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """The status and body for one TokenReview."""
        self.asked += 1
        if self.mood is Mood.SLOW:
            time.sleep(SLOW_SECONDS)
        if self.mood is Mood.BREAKS:
            return 500, _status(500, "Internal error occurred: made up by the sandbox")
        if self.mood is Mood.FORBIDS or not self._is_reviewer(reviewer):
            return 403, _status(
                403, "tokenreviews.authentication.k8s.io is forbidden: cannot create resource"
            )
        status = self._reviewed(spec.get("token", ""), spec.get("audiences") or [self.issuer.url])
        self.reviews.append(status)
        return 201, {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "status": status}

    def _is_reviewer(self, token: str) -> bool:
        namespace, account = REVIEWER
        try:
            claims = self._claims(token, [self.issuer.url])
        except jwt.InvalidTokenError:
            return False
        return bool(claims["sub"] == f"system:serviceaccount:{namespace}:{account}")

    def _claims(self, token: str, audiences: list[str]) -> dict[str, Any]:
        claims: dict[str, Any] = jwt.decode(
            token, self.issuer.key.public_key(), algorithms=["RS256"], audience=audiences
        )
        return claims

    def _reviewed(self, token: str, audiences: list[str]) -> dict[str, Any]:
        try:
            claims = self._claims(token, audiences)
        except jwt.InvalidTokenError as error:
            return {"authenticated": False, "error": f"[invalid bearer token, {error}]"}
        namespace = claims["kubernetes.io"]["namespace"]
        groups = ["system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated"]
        user = {
            "username": claims["sub"],
            "uid": claims["kubernetes.io"]["serviceaccount"]["uid"],
            "groups": groups,
        }
        shared = [audience for audience in audiences if audience in claims["aud"]]
        return {"authenticated": True, "user": user, "audiences": shared}


def _status(code: int, message: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Status", "status": "Failure", "message": message, "code": code}


class _Handler(BaseHTTPRequestHandler):
    cluster: ClassVar[Cluster]

    def log_message(self, *_: object) -> None:
        """Reviews are noted, not printed."""

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length", "0"))))
        if self.path != REVIEW:
            self._send(404, _status(404, "not found"))
            return
        reviewer = self.headers.get("Authorization", "").removeprefix("Bearer ")
        self._send(*self.cluster.review(reviewer, body.get("spec", {})))

    def _send(self, status: int, body: dict[str, Any]) -> None:
        content = json.dumps(body).encode()
        with contextlib.suppress(BrokenPipeError, ssl.SSLError):
            self.send_response_only(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)
