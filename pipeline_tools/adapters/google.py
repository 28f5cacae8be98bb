"""Google access tokens by google-auth: from GKE's metadata server, or for a GitLab id token. Nothing on disk.

cloud.google.com/kubernetes-engine/docs/concepts/workload-identity and
cloud.google.com/iam/docs/workload-identity-federation-with-other-providers. google-auth reads `GCE_METADATA_HOST`
when it is imported. It does not look at the addresses that it sends tokens to: they are checked here.
"""

import json
import logging
import random
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC
from threading import Lock
from typing import Any, Protocol
from urllib.parse import urlsplit

from google.auth import compute_engine, exceptions, identity_pool, transport
from google.auth.credentials import TokenState
from google.auth.transport.requests import Request

from pipeline_tools.adapters import http
from pipeline_tools.errors import Denied, PipelineError, Unavailable
from pipeline_tools.text import google_identity
from pipeline_tools.text.claims import Claims
from pipeline_tools.text.credentials import ACCESS_TOKEN, Credential
from pipeline_tools.text.google_identity import Provider
from pipeline_tools.text.masks import Secret

log = logging.getLogger(__name__)

PATIENCE = 60.0
"""Seconds to go on asking: GKE's metadata server needs some to start in a new pod (docs: "Limitations")."""
_LONGEST_WAIT = 5.0
_TIMEOUT = 10.0
_SCOPES = ("https://www.googleapis.com/auth/cloud-platform",)
_JWT = "urn:ietf:params:oauth:token-type:jwt"

STS = "https://sts.googleapis.com"
IAM = "https://iamcredentials.googleapis.com"


class _Refreshed(Protocol):
    """The part of google-auth's credentials that is used here."""

    token: str | None
    expiry: Any

    @property
    def token_state(self) -> TokenState: ...

    def refresh(self, request: transport.Request) -> None: ...


class Identity:
    """Who we are to Google, as a credential that is always good for some minutes more; safe to share by threads."""

    def __init__(
        self,
        credentials: _Refreshed,
        request: transport.Request,
        *,
        member: Callable[[], str],
        explain: Callable[[exceptions.GoogleAuthError], PipelineError],
        on_token: Callable[[Secret], None],
    ) -> None:
        """Wrap google-auth's `credentials`.

        Args:
            credentials: what refreshes.
            request: how it asks.
            member: who that is in IAM's words, once there is a token.
            explain: google-auth's failure in our words.
            on_token: told each new token, before anybody else has it, so that it can be masked.
        """
        self._credentials = credentials
        self._request = request
        self._member = member
        self._explain = explain
        self._on_token = on_token
        self._lock = Lock()
        self._next = 0.0

    def __call__(self) -> Credential:
        """The credential; a token with less than google-auth's threshold left (3:45 minutes) is renewed first.

        Raises:
            Denied: Google refuses; the hint names the setting.
            Unavailable: Google, or the metadata server, does not answer.
        """
        with self._lock:
            if self._is_due():
                self._refresh()
            token = str(self._credentials.token)
            expires = self._expires()
        return Credential(
            ACCESS_TOKEN,
            Secret(token),
            expires=expires,
            principal=self._member(),
            renew=lambda: self._drop(token),
        )

    def _is_due(self) -> bool:
        state = self._credentials.token_state
        return state is TokenState.INVALID or (state is TokenState.STALE and time.time() >= self._next)

    def _refresh(self) -> None:
        try:
            self._credentials.refresh(self._request)
        except (PipelineError, exceptions.GoogleAuthError) as error:
            problem = error if isinstance(error, PipelineError) else self._explain(error)
            if self._credentials.token_state is not TokenState.STALE:
                raise problem from None
            log.warning("going on with a token that ends soon: %s", problem.message)
        else:
            self._on_token(Secret(str(self._credentials.token)))
        # What is short-lived, or cannot be renewed just now, is not asked for with every request.
        self._next = (time.time() + self._expires()) / 2

    def _expires(self) -> float:
        return float(self._credentials.expiry.replace(tzinfo=UTC).timestamp())

    def _drop(self, token: str) -> None:
        with self._lock:
            if self._credentials.token == token:
                self._credentials.token = None


def metadata(on_token: Callable[[Secret], None], patience: float = PATIENCE) -> Identity:
    """The identity of this pod (or machine), from Google's metadata server."""
    credentials = compute_engine.Credentials(scopes=_SCOPES)  # type: ignore[no-untyped-call]
    return Identity(
        credentials,
        _Patient("Google's metadata server", patience, "is this a pod on GKE, or a Google machine?"),
        member=lambda: google_identity.metadata_member(credentials.service_account_email),
        explain=_explain_metadata,
        on_token=on_token,
    )


def is_here(environment: Mapping[str, str]) -> bool:
    """Whether a metadata server of Google's is to be expected: told by the variables, or by the machine's maker.

    Nothing is asked over the network, so it is quick everywhere, and right in a pod's first seconds too.
    """
    if environment.get("NO_GCE_CHECK") == "true":
        return False
    if environment.get("GCE_METADATA_HOST"):
        return True
    return bool(compute_engine.detect_gce_residency_linux())  # type: ignore[no-untyped-call]


@dataclass(frozen=True)
class Federation:
    """Whom Google takes an id token from, and whom it then is: `account` (None: the job as itself)."""

    provider: Provider
    account: str | None = None
    sts: str = STS
    iam: str = IAM


def federated(
    id_token: Secret,
    federation: Federation,
    on_token: Callable[[Secret], None],
    patience: float = PATIENCE,
) -> Identity:
    """The identity of a GitLab job, for its id token.

    Raises:
        PipelineError: the token is no JWT, or has ended; or a name or an address is not in its form.
    """
    claims = Claims.of(id_token.reveal())
    if claims is None:
        raise PipelineError("PT_GOOGLE_ID_TOKEN is no id token", hint="does the job have id_tokens: for it?")
    credentials = identity_pool.Credentials(  # type: ignore[no-untyped-call]
        audience=federation.provider.audience,
        subject_token_type=_JWT,
        token_url=f"{google_identity.endpoint(federation.sts)}/v1/token",
        subject_token_supplier=_Supplier(id_token),
        service_account_impersonation_url=_impersonation_url(federation),
        scopes=_SCOPES,
    )
    job = federation.provider.member(claims)
    return Identity(
        credentials,
        _Patient("Google's token exchange", patience, "is it reachable from here?"),
        member=lambda: f"serviceAccount:{federation.account}" if federation.account else job,
        explain=lambda error: _explain_exchange(error, federation, claims),
        on_token=on_token,
    )


def _impersonation_url(federation: Federation) -> str | None:
    """Where tokens of the account are made (docs: iamcredentials v1, "projects.serviceAccounts.generateAccessToken")."""
    if not federation.account:
        return None
    account = google_identity.account(federation.account)
    iam = google_identity.endpoint(federation.iam)
    return f"{iam}/v1/projects/-/serviceAccounts/{account}:generateAccessToken"


class _Supplier(identity_pool.SubjectTokenSupplier):
    """Gives the id token from memory."""

    def __init__(self, id_token: Secret) -> None:
        self._id_token = id_token

    def get_subject_token(self, context: Any, request: Any) -> str:  # noqa: ARG002 (google-auth's signature)
        return self._id_token.reveal()


class _Patient(Request):
    """google-auth's way to ask; what fails for now is asked again until `seconds` are over. All its questions are harmless."""

    def __init__(self, what: str, seconds: float, hint: str) -> None:
        # Each answer is looked at here; a redirect to elsewhere would take the token along.
        super().__init__(http.session(retries=0, stays=True, statuses=frozenset()))
        self._what, self._seconds, self._hint = what, seconds, hint

    def __call__(self, url: str, method: str = "GET", body: Any = None, headers: Any = None, timeout: Any = None, **more: Any) -> Any:  # fmt: skip
        """One answer that stays.

        Raises:
            Unavailable: there was none in time.
        """
        end = time.monotonic() + self._seconds
        for wait in _waits():
            try:
                answer = super().__call__(url, method, body, headers, timeout or _TIMEOUT, **more)  # type: ignore[no-untyped-call]
                problem = f"HTTP {answer.status}"
                if answer.status not in http.PASSING:
                    return answer
            except exceptions.TransportError as error:
                problem = http.reason(error)
            if time.monotonic() + wait > end:
                raise Unavailable(f"{self._what} at {urlsplit(url).netloc}: {problem}", hint=self._hint)
            log.debug("%s: %s; asking again", self._what, problem)
            time.sleep(wait)
        raise AssertionError  # the waits never end


def _waits() -> Iterator[float]:
    """Seconds before each further try: doubled, with jitter."""
    wait = 0.2
    while True:
        yield wait * random.uniform(0.5, 1.5)  # noqa: S311 (jitter)
        wait = min(wait * 2, _LONGEST_WAIT)


# Failures in our words ---------------------------------------------------------------------------------------


def _explain_metadata(error: exceptions.GoogleAuthError) -> PipelineError:
    reason = _reason(error)
    return Denied(
        f"Google's metadata server gives no token: {reason}", hint=google_identity.metadata_advice(reason)
    )


def _explain_exchange(
    error: exceptions.GoogleAuthError, federation: Federation, claims: Claims
) -> PipelineError:
    """The exchange's own errors are `OAuthError`, those of the impersonation are not."""
    reason = _reason(error)
    if isinstance(error, exceptions.OAuthError) or not federation.account:
        late = claims.problem(time.time())
        advice = google_identity.exchange_advice(reason, federation.provider, claims)
        return Denied(
            f"Google takes no id token of this job: {reason}" + (f"; {late}" if late else ""), hint=advice
        )
    member = federation.provider.member(claims)
    return Denied(
        f"cannot act as {federation.account}: {reason}",
        hint=google_identity.impersonation_advice(reason, federation.account, member),
    )


def _reason(error: exceptions.GoogleAuthError) -> str:
    """What the other side said, on one line; google-auth's own words where it said nothing."""
    said = next((text for part in _parts(error) if (text := _described(part))), "")
    return " ".join((said or str(error.args[0] if error.args else error)).split())[:400]


def _parts(error: BaseException) -> Iterator[object]:
    """What google-auth put into an error: bodies as text, answers, and the error before it."""
    for part in reversed(error.args):
        yield from _parts(part) if isinstance(part, BaseException) else [part]


def _described(part: object) -> str:
    """A refusal in one of Google's forms: OAuth's (RFC 6749, 5.2), google.rpc.Status, or the metadata server's plain text."""
    if isinstance(part, transport.Response):
        return bytes(part.data).decode(errors="replace")
    try:
        found = json.loads(part) if isinstance(part, str) else {}
        error = found["error"]
        if isinstance(error, dict):
            details = [str(row["reason"]) for row in error.get("details", []) if "reason" in row]
            return f"{error.get('status', '')}: {error.get('message', '')} {' '.join(details)}".strip(": ")
    except (ValueError, LookupError, TypeError, AttributeError):
        return ""
    return f"{error}: {found.get('error_description', '')}".strip(": ")
