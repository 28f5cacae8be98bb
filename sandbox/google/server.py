"""GKE's metadata server, the Security Token Service and the Service Account Credentials API, on one port.

Sources, by their addresses at cloud.google.com:
metadata: /compute/docs/access/authenticate-workloads#applications, /kubernetes-engine/docs/concepts/workload-identity;
STS: /iam/docs/reference/sts/rest/v1/TopLevel/token, with OAuth's form of errors (RFC 6749, 5.2; RFC 8693, 2.2.2);
IAM: /iam/docs/reference/credentials/rest/v1/projects.serviceAccounts/generateAccessToken, errors as google.rpc.Status.
The words of refusals are those that people report (google-github-actions/auth issues 160, 340; kubernetes-sigs/
external-dns issue 2064; terraform-google-modules/terraform-example-foundation issue 1404; fullsend-ai/fullsend issue
705). No source was found for the words about audience and target, nor for the status 401 of `unauthorized_client`.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import time
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import jwt
from flask import Flask, Response, jsonify, request
from werkzeug.serving import WSGIRequestHandler, make_server

from sandbox.google.tokens import Issued, Tokens
from sandbox.proxy import Proxy
from sandbox.services import serving

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from sandbox.kubernetes_tokens import Issuer

EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
ACCESS = "urn:ietf:params:oauth:token-type:access_token"
JWT = "urn:ietf:params:oauth:token-type:jwt"
ACCOUNTS = "/computeMetadata/v1/instance/service-accounts"
CACHED_SECONDS = 300
"""The metadata server gives the same token out until it has that long left ("Access scopes and tokens")."""


@dataclass(frozen=True)
class Pool:
    """A workload identity pool with the one provider "gitlab", which takes `issuer`'s tokens if `condition` holds."""

    issuer: Issuer
    condition: Callable[[Mapping[str, Any]], bool] = field(default=lambda _: True)
    name: str = "projects/123456789012/locations/global/workloadIdentityPools/gitlab"

    @property
    def provider(self) -> str:
        return f"{self.name}/providers/gitlab"

    @property
    def audience(self) -> str:
        """The `aud` that id tokens need."""
        return f"https://iam.googleapis.com/{self.provider}"

    def member(self, claims: Mapping[str, Any]) -> str:
        """Who that is, by the mapping in examples/infra/google/identity."""
        return f"principalSet://iam.googleapis.com/{self.name}/attribute.project_id/{claims['project_id']}"


class Google:
    """The server, on 127.0.0.1.

    `account` is whom the metadata server says the pod is; where `metadata_refusal` is set, it says that instead of a
    token. `may_impersonate` has by Google account the members that may act as it.
    """

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.tokens = Tokens()
        self.account = "builder@acme.iam.gserviceaccount.com"
        self.metadata_refusal = ""
        self.may_impersonate: dict[str, frozenset[str]] = {}
        self._cached: Issued | None = None
        self._server = make_server("127.0.0.1", 0, _app(self), threaded=True, request_handler=_Quiet)
        self.proxy = Proxy(f"127.0.0.1:{self._server.server_port}")

    @classmethod
    @contextlib.contextmanager
    def start(cls, pool: Pool) -> Iterator[Google]:
        """Serve until the block ends. What goes wrong, and how slowly it starts, is told to `proxy`."""
        google = cls(pool)
        with serving(google._server), google.proxy.running():
            yield google

    @property
    def host(self) -> str:
        """For `GCE_METADATA_HOST`."""
        return self.proxy.host

    @property
    def url(self) -> str:
        """Of STS and IAM."""
        return f"http://{self.host}"

    # The metadata server -----------------------------------------------------------------------------------

    def metadata_token(self) -> Issued:
        if self._cached is None or self._cached.seconds < CACHED_SECONDS:
            self._cached = self.tokens.issue(f"serviceAccount:{self.account}")
        return self._cached

    # STS ---------------------------------------------------------------------------------------------------

    def exchange(self, form: Mapping[str, str]) -> Response | Issued:
        """A federated token, or the refusal."""
        wanted = {
            "grant_type": EXCHANGE,
            "requested_token_type": ACCESS,
            "subject_token_type": JWT,
            "audience": f"//iam.googleapis.com/{self.pool.provider}",
        }
        wrong = next((name for name, value in wanted.items() if form.get(name) != value), None)
        if wrong == "audience":
            return _oauth_error(
                "invalid_target",
                'The target service indicated by the "audience" parameters is invalid. This might either be because '
                "the pool or provider is disabled or deleted or because it doesn't exist.",
            )
        if wrong or not form.get("scope"):
            return _oauth_error("invalid_request", f'Invalid value for "{wrong or "scope"}".')
        return self._exchanged(form["subject_token"])

    def _exchanged(self, id_token: str) -> Response | Issued:
        key = self.pool.issuer.key.public_key()
        try:
            unchecked = jwt.decode(id_token, options={"verify_signature": False})
            claims = jwt.decode(
                id_token, key, algorithms=["RS256"], audience=self.pool.audience, issuer=self.pool.issuer.url
            )
        except jwt.ExpiredSignatureError:
            return _oauth_error(
                "invalid_grant", f"ID Token issued at {unchecked['iat']} is stale to sign-in."
            )
        except jwt.InvalidAudienceError:
            found = unchecked.get("aud")
            return _oauth_error(
                "invalid_grant", f"The audience in ID Token [{found}] does not match the expected audience."
            )
        except jwt.InvalidTokenError as error:
            return _oauth_error(
                "invalid_grant", f"Error connecting to the given credential's issuer: {error}"
            )
        if not self.pool.condition(claims):
            return _oauth_error(
                "unauthorized_client", "The given credential is rejected by the attribute condition."
            )
        # No federated token outlives what it was given for (google-github-actions/auth issues 474 and 485).
        left = claims["exp"] - time.time()
        return self.tokens.issue(self.pool.member(claims), min(left, self.tokens.lifetime))

    # IAM ---------------------------------------------------------------------------------------------------

    def impersonate(self, authorization: str, account: str) -> Response | Issued:
        """A token of `account`, or the refusal."""
        caller = self.tokens.find(authorization.removeprefix("Bearer "))
        if caller is None:
            return _status_error(401, "UNAUTHENTICATED", "Request had invalid authentication credentials.")
        if caller.member not in self.may_impersonate.get(account, frozenset()):
            return _status_error(
                403,
                "PERMISSION_DENIED",
                "Permission 'iam.serviceAccounts.getAccessToken' denied on resource (or it may not exist).",
                reason="IAM_PERMISSION_DENIED",
            )
        return self.tokens.issue(f"serviceAccount:{account}")


def _oauth_error(error: str, description: str) -> Response:
    answer = jsonify({"error": error, "error_description": description})
    answer.status_code = 401 if error == "unauthorized_client" else 400
    return answer


def _status_error(code: int, status: str, message: str, reason: str = "") -> Response:
    details = [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason}] if reason else []
    answer = jsonify({"error": {"code": code, "message": message, "status": status, "details": details}})
    answer.status_code = code
    return answer


class _Quiet(WSGIRequestHandler):
    """Says nothing on stderr; what happened can be asked of the proxy and the tokens."""

    def log(self, type: str, message: str, *args: Any) -> None:  # noqa: A002 - werkzeug's own name
        pass


def _app(google: Google) -> Flask:
    app = Flask("sandbox.google", static_folder=None)
    app.add_url_rule(f"{ACCOUNTS}/<account>/", "account", lambda account: _account(google, account))
    app.add_url_rule(f"{ACCOUNTS}/<account>/token", "metadata", lambda account: _metadata(google, account))
    app.add_url_rule("/v1/token", "exchange", lambda: _exchange(google), methods=["POST"])
    app.add_url_rule(
        "/v1/projects/-/serviceAccounts/<account>:generateAccessToken",
        "impersonate",
        lambda account: _impersonate(google, account),
        methods=["POST"],
    )
    return app


def _account(google: Google, account: str) -> Response:
    return _refused(google, account) or _flavoured(
        jsonify({"aliases": ["default"], "email": google.account, "scopes": ["https://www.googleapis.com/auth/cloud-platform"]})
    )  # fmt: skip


def _metadata(google: Google, account: str) -> Response:
    refused = _refused(google, account)
    if refused:
        return refused
    if google.metadata_refusal:
        return _flavoured(Response(google.metadata_refusal, HTTPStatus.FORBIDDEN, content_type="text/plain"))
    made = google.metadata_token()
    return _flavoured(
        jsonify({"access_token": made.token, "expires_in": made.seconds, "token_type": "Bearer"})
    )


def _refused(google: Google, account: str) -> Response | None:
    # The header keeps a browser, or a server that was tricked, from asking ("Required header").
    if request.headers.get("Metadata-Flavor") != "Google":
        return Response("Missing Metadata-Flavor:Google header.\n", HTTPStatus.FORBIDDEN)
    if account not in {"default", google.account}:
        return _flavoured(Response("not found\n", HTTPStatus.NOT_FOUND, content_type="text/plain"))
    return None


def _flavoured(answer: Response) -> Response:
    answer.headers["Metadata-Flavor"] = "Google"
    return answer


def _exchange(google: Google) -> Response:
    made = google.exchange(request.form)
    if isinstance(made, Response):
        return made
    return jsonify(
        {
            "access_token": made.token,
            "issued_token_type": ACCESS,
            "token_type": "Bearer",
            "expires_in": made.seconds,
        }
    )


def _impersonate(google: Google, account: str) -> Response:
    made = google.impersonate(request.headers.get("Authorization", ""), account)
    if isinstance(made, Response):
        return made
    ends = dt.datetime.fromtimestamp(made.ends, dt.UTC)
    return jsonify({"accessToken": made.token, "expireTime": ends.strftime("%Y-%m-%dT%H:%M:%SZ")})
