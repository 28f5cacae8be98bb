"""Vault and OpenBao, which speak the same API: log in, read, give back.

hvac makes the requests, over our session. Every answer that may pass (412, 429, 5xx: sealed, standby, overloaded)
and every lost connection is tried again until the server's deadline; nothing here is done twice by being sent twice
but a login or a lease, and both end with their TTL at the latest.
"""

import base64
import logging
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, urlsplit

import hvac
import requests
from hvac import exceptions
from hvac.adapters import RawAdapter

from pipeline_tools.adapters import http
from pipeline_tools.errors import Denied, PipelineError, Unavailable
from pipeline_tools.text import references
from pipeline_tools.text.claims import Claims
from pipeline_tools.text.masks import Secret

log = logging.getLogger(__name__)

T = TypeVar("T")
U = TypeVar("U")

_PASSING = frozenset({412, 429, 472, 473, 500, 502, 503, 504})
"""Statuses worth another try (developer.hashicorp.com/vault/api-docs, "HTTP status codes"; 412: a replica that has not caught up)."""
_LONGEST_PAUSE = 5.0
_REVOKE_SECONDS = 10.0
"""How long a revocation is tried: it delays the end of a job that has its result."""
_GRACE_SECONDS = 10.0
"""How long a signal waits for the answer of a login that is under way; Kubernetes gives 30 s in all."""
_V2 = 2  # the KV engine that has versions


@dataclass(frozen=True)
class Server:
    """Where Vault is. `seconds`: how long one request is tried again while it is sealed, standby or overloaded."""

    address: str
    namespace: str | None = None
    ca_file: Path | None = None
    seconds: float = 60.0


@dataclass(frozen=True)
class Login:
    """An identity that is proved by a token of somebody else: `method` is kubernetes or jwt."""

    method: str
    role: str
    mount: str
    token: Secret

    def __str__(self) -> str:
        return f"{self.method} role {self.role} at auth/{self.mount}"


@dataclass(frozen=True)
class Given:
    """A Vault token that somebody else made, and will end."""

    token: Secret

    def __str__(self) -> str:
        return "the token given as VAULT_TOKEN"


Identity = Login | Given


@dataclass(frozen=True)
class Mount:
    """A secrets engine: `path` ends with a slash; `version` is KV's, 0 for another engine."""

    path: str
    kind: str
    version: int

    def api(self, path: str, part: str) -> str:
        """The API path of `path`; KV v2 has its parts (data, metadata) after the mount."""
        rest = path.removeprefix(self.path)
        return f"{self.path}{part}/{rest}" if self.version == _V2 else path


@dataclass(frozen=True)
class Read:
    """The fields of one secret, as far as they were read."""

    fields: Mapping[str, Any] = field(repr=False)
    lease: str = ""


class Vault:
    """One identity at one server. `opened` lends it logged in and gives the login back."""

    def __init__(self, server: Server, identity: Identity, mask: Callable[[Secret], None]) -> None:
        self.server, self.identity = server, identity
        self._mask = mask
        self._client = _client(server)
        self._adapter: _Adapter = self._client.adapter
        self._mounts: dict[str, Mount] = {}
        self._leases: list[str] = []
        self._is_revocable = False
        self._ends = float("inf")

    # The login ---------------------------------------------------------------------------------------------

    def login(self) -> None:
        """Be that identity from now on.

        Raises:
            Denied: which of role, audience, namespace, account or claim failed, as far as Vault says.
        """
        if isinstance(self.identity, Given):
            self._mask(self.identity.token)
            self._client.token = self.identity.token.reveal()
            return
        self._mask(self.identity.token)
        answer = _begun(self._proved, self.identity)
        try:
            self._be(answer.result())
        except KeyboardInterrupt:
            # A login that is forgotten half way may succeed when we are gone, and its token would live until its TTL.
            self._awaited(answer)
            raise

    def _awaited(self, answer: "Future[dict[str, Any]]") -> None:
        """Be who the login under way makes us, so that `close` can give it back; not for longer than a few seconds."""
        try:
            self._be(answer.result(_GRACE_SECONDS))
        except TimeoutError:
            log.warning("vault: the login had no answer yet: if it succeeds, its token lives until its TTL")
        except PipelineError as error:
            log.debug("vault: %s", error.message)

    def _be(self, auth: Mapping[str, Any]) -> None:
        self._mask(Secret(auth["client_token"]))
        self._client.token = auth["client_token"]
        self._is_revocable = auth.get("token_type") != "batch"
        self._ends = time.monotonic() + (auth.get("lease_duration") or float("inf"))
        log.debug("vault: logged in as %s, policies %s", self.identity, ", ".join(auth.get("policies") or ()))

    def _proved(self, login: Login) -> dict[str, Any]:
        token = login.token.reveal()
        if not token:
            raise Denied(f"no token to log in to Vault with as {login}", hint=_TOKEN_HINTS[login.method])
        try:
            if login.method == "kubernetes":
                answer = self._client.auth.kubernetes.login(
                    login.role, token, use_token=False, mount_point=login.mount
                )
            else:
                answer = self._client.auth.jwt.jwt_login(login.role, token, use_token=False, path=login.mount)
        except exceptions.VaultError as error:
            raise _login_refused(login, error) from None
        auth = _body(answer).get("auth")
        if not auth or not auth.get("client_token"):
            raise PipelineError(
                f"{self.server.address} gave no token for {login}", hint="is that a Vault server?"
            )
        return dict(auth)

    def close(self) -> None:
        """Give back what was lent: leases, and the token that our login made. What fails is said as a warning."""
        self._adapter.seconds = min(self.server.seconds, _REVOKE_SECONDS)
        try:
            if self._is_revocable:
                self._give_back("the Vault token of this login", "auth/token/revoke-self", {})
                return
            for lease in self._leases:
                self._give_back(
                    f"the lease {lease.rpartition('/')[0]}/…", "sys/leases/revoke", {"lease_id": lease}
                )
            if isinstance(self.identity, Login) and self._client.token:
                log.warning(
                    "vault: role %s makes batch tokens, which cannot be revoked: this one ends by itself in %.0f s",
                    self.identity.role,
                    max(0.0, self._ends - time.monotonic()),
                )
        finally:
            self._client.token = None
            self._adapter.close()

    def _give_back(self, what: str, path: str, data: dict[str, str]) -> None:
        try:
            self.write(path, **data)
        except PipelineError as error:
            if time.monotonic() >= self._ends:
                log.debug("vault: %s had ended before it was revoked", what)
                return
            log.warning("vault: %s could not be revoked and lives until its TTL: %s", what, error.message)

    # Any path ----------------------------------------------------------------------------------------------

    def read(self, path: str, **query: str) -> dict[str, Any] | None:
        """The answer of GET on an API path (`sys/mounts`, `auth/kubernetes/role/dev`), None where nothing is.

        Raises:
            Denied: no policy allows it; the hint names policies and capabilities.
            Unavailable: still sealed, standby, overloaded or unreachable at the deadline.
        """
        try:
            return _body(self._adapter.get(_url(path), params=query or None))
        except exceptions.InvalidPath as error:
            return error.json if error.json and error.json.get("data") else None
        except exceptions.VaultError as error:
            raise self._refused("read", path, error) from None

    def names(self, path: str) -> list[str]:
        """The names below an API path (LIST); those of folders end with a slash."""
        try:
            answer = _body(self._adapter.list(_url(path)))
        except exceptions.InvalidPath:
            return []
        except exceptions.VaultError as error:
            raise self._refused("list", path, error) from None
        return list(answer.get("data", {}).get("keys", []))

    def write(self, path: str, /, **data: Any) -> dict[str, Any]:
        """POST `data` to an API path; the answer, empty where Vault gives none."""
        try:
            return _body(self._adapter.post(_url(path), json=data))
        except exceptions.VaultError as error:
            raise self._refused("update", path, error) from None

    def delete(self, path: str) -> None:
        """DELETE an API path; one that is not there is fine."""
        try:
            self._adapter.delete(_url(path))
        except exceptions.InvalidPath:
            return
        except exceptions.VaultError as error:
            raise self._refused("delete", path, error) from None

    # Secrets -----------------------------------------------------------------------------------------------

    def mount(self, path: str) -> Mount:
        """The secrets engine that `path` stands in; any token that reaches something below it may ask."""
        known = next((mount for mount in self._mounts.values() if path.startswith(mount.path)), None)
        if known:
            return known
        answer = self.read(f"sys/internal/ui/mounts/{path}") or {}
        data = answer.get("data", {})
        is_kv = data.get("type") in {"kv", "generic"}
        version = int((data.get("options") or {}).get("version") or 1) if is_kv else 0
        found = Mount(data.get("path", ""), data.get("type", ""), version)
        self._mounts[found.path] = found
        return found

    def secret(self, path: str, version: int | None = None) -> Read:
        """The fields of the secret at `path`, of whatever engine; its lease is given up at `close`.

        Raises:
            PipelineError: nothing is there; the version was deleted or destroyed; a version where there are none.
        """
        mount = self.mount(path)
        if mount.version == _V2:
            return self._versioned(mount, path, version)
        if version:
            raise PipelineError(
                f"{path} has no versions: {mount.path} is {mount.kind}", hint="leave @VERSION away"
            )
        answer = self.read(path)
        if not answer:
            raise _missing(path, mount)
        lease = str(answer.get("lease_id") or "")
        if lease:
            self._leases.append(lease)
        return Read(answer.get("data") or {}, lease)

    def _versioned(self, mount: Mount, path: str, version: int | None) -> Read:
        answer = self.read(mount.api(path, "data"), **({"version": str(version)} if version else {}))
        if not answer:
            raise _missing(path, mount, version)
        data = answer["data"]
        if data.get("data") is None:
            raise _deleted(path, data.get("metadata") or {})
        return Read(data["data"])

    def below(self, path: str) -> Iterator[str]:
        """Every secret's path at or below `path`, in order.

        Raises:
            PipelineError: nothing is there; the engine has no folders.
        """
        mount = self.mount(f"{path}/")
        if not mount.version:
            raise PipelineError(
                f"{mount.path} is {mount.kind}, which cannot be listed", hint="name the secret itself"
            )
        found = list(self._walk(mount, path))
        if not found:
            raise _missing(path, mount)
        yield from found

    def _walk(self, mount: Mount, path: str) -> Iterator[str]:
        folder, _, name = path.rpartition("/")
        if f"{path}/" != mount.path and name in self.names(mount.api(f"{folder}/", "metadata")):
            yield path
        yield from self._inside(mount, path)

    def _inside(self, mount: Mount, folder: str) -> Iterator[str]:
        for name in self.names(mount.api(f"{folder}/", "metadata")):
            if name.endswith("/"):
                yield from self._inside(mount, f"{folder}/{name.rstrip('/')}")
            else:
                yield f"{folder}/{name}"

    def decrypt(self, key: str, ciphertext: str) -> bytes:
        """The plain text of a transit ciphertext; `key` is MOUNT/NAME (`transit/prod`).

        Raises:
            Denied: this identity may not decrypt with that key.
        """
        mount, _, name = key.rpartition("/")
        answer = self.write(f"{mount}/decrypt/{name}", ciphertext=ciphertext)
        return base64.b64decode(answer["data"]["plaintext"])

    # Itself ------------------------------------------------------------------------------------------------

    def lookup(self) -> dict[str, Any]:
        """What Vault knows of the token in use: policies, ttl, expire_time, type and more."""
        answer = self.read("auth/token/lookup-self") or {}
        return dict(answer.get("data") or {})

    def capabilities(self, paths: Sequence[str]) -> dict[str, tuple[str, ...]]:
        """What the token may do at each API path; `deny` alone is nothing."""
        answer = self.write("sys/capabilities-self", paths=list(paths))
        found = answer.get("data") or answer
        return {path: tuple(found.get(path) or ("deny",)) for path in paths}

    def _refused(self, doing: str, path: str, error: exceptions.VaultError) -> PipelineError:
        """Vault's refusal in our words; of a denial, what the token may do there."""
        said = _said(error)
        if isinstance(error, (exceptions.Forbidden, exceptions.Unauthorized)):
            return Denied(
                f"Vault does not let {self.identity} {doing} {path}: {said}", hint=self._reach(doing, path)
            )
        return PipelineError(f"Vault refused to {doing} {path}: {said}", hint=_BAD_REQUEST)

    def _reach(self, doing: str, path: str) -> str:
        """The policies of the token, what they grant at `path`, and what is missing."""
        if path.startswith("auth/token/"):
            return "the token's policies must allow it; Vault's default policy does"
        inner = path.removeprefix("sys/internal/ui/mounts/")
        try:
            found = _body(self._adapter.get(_url("auth/token/lookup-self")))["data"]
        except (exceptions.VaultError, PipelineError, LookupError):
            return "is the token still valid? Vault does not even let it look itself up"
        policies = ", ".join([*(found.get("policies") or ()), *(found.get("identity_policies") or ())])
        if inner != path:
            return f"nothing is mounted at {inner}, or the policies of this token ({policies}) reach nothing there"
        doubled = "; is its data/ doubled?" if "/data/data/" in path else ""
        return f"its policies ({policies}) grant {self._has(inner)} on {inner}; one of them must grant {doing}{doubled}"

    def _has(self, path: str) -> str:
        """What the token may do at a path; a policy need not let it ask."""
        try:
            granted = _body(self._adapter.post(_url("sys/capabilities-self"), json={"paths": [path]}))
        except (exceptions.VaultError, PipelineError, LookupError):
            return "too little"
        return ", ".join((granted.get("data") or granted).get(path) or ["deny"])


def _begun(call: Callable[[T], U], argument: T) -> "Future[U]":
    """The answer to come of a call in a thread of its own, which a signal to the main thread does not end."""
    answer: Future[U] = Future()

    def run() -> None:
        try:
            answer.set_result(call(argument))
        except BaseException as error:  # noqa: BLE001 (it is raised again where the answer is asked for)
            answer.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return answer


@contextmanager
def opened(server: Server, identity: Identity, *, mask: Callable[[Secret], None]) -> Iterator[Vault]:
    """Log in as `identity` and give back at the end what that lent, whatever happens.

    Every credential passes `mask` before it is used. A token that was given is left alone.
    """
    vault = Vault(server, identity, mask)
    try:
        vault.login()
        yield vault
    finally:
        vault.close()


_TOKEN_HINTS = {
    "kubernetes": "--kubernetes-token-file names the projected service-account token of this pod",
    "jwt": "give the job an id token: id_tokens: {VAULT_ID_TOKEN: {aud: …}}",
}
_BAD_REQUEST = "is the path right, without a doubled data/, and the right engine mounted there?"


# The transport -------------------------------------------------------------------------------------------------


class _Adapter(RawAdapter):  # type: ignore[misc]  # hvac ships no types
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
        return answer, _errors(answer)


def _client(server: Server) -> hvac.Client:
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
        adapter=partial(_Adapter, server.seconds),
    )


def _url(path: str) -> str:
    return f"/v1/{quote(path.strip('/') if not path.endswith('/') else path.lstrip('/'), safe='/')}"


def _body(answer: Any) -> dict[str, Any]:
    """The JSON object of an answer; an empty one where there is none (204)."""
    try:
        found = answer.json() if isinstance(answer, requests.Response) and answer.content else answer
    except ValueError:
        raise PipelineError("the answer is not JSON", hint="is --vault-address a Vault server?") from None
    return found if isinstance(found, dict) else {}


def _errors(answer: requests.Response) -> str:
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


# Refusals ------------------------------------------------------------------------------------------------------


def _said(error: exceptions.VaultError) -> str:
    """Vault's own reason on one line."""
    text = "; ".join(error.errors or ()) or str(error.text or "no reason given")
    return " ".join(text.replace("1 error occurred:", "").replace("* ", "").split())[:300]


def _login_refused(login: Login, error: exceptions.VaultError) -> PipelineError:
    """Which of role, audience, namespace, account, claim or time failed.

    The words are those of OpenBao 2.7 and Vault (builtin/credential/jwt, vault-plugin-auth-kubernetes path_login.go).
    """
    said, claims = _said(error), Claims.of(login.token.reveal())
    problem = claims.problem(time.time()) if claims else "the token is no JWT"
    hint = next((text for words, text in _LOGIN_HINTS if any(word in said for word in words)), "")
    if not hint and not problem:
        hint = _unsaid(login)
    reason = f"{problem} ({said})" if problem else said
    return Denied(
        f"Vault refused {login}: {reason}", hint=(hint or _TIME_HINT).format(**_facts(login, claims))
    )


_LOGIN_HINTS = (
    (("namespace not authorized",), "bound_service_account_namespaces of role {role} must name {namespace}"),
    (("account name not authorized",), "bound_service_account_names of role {role} must name {account}"),
    (("audience",), ("the token is for {audience}; audience (or bound_audiences) of role {role} must say the same as the "
                    "projected volume's audience, or the id token's aud")),
    (("invalid role", "could not be found"), "auth/{mount} has no role {role}; --vault-role names one"),
    (("bound claim", "bound_claims", 'claim "'), "bound_claims of role {role} do not admit this job: {claims}"),
    (("bound_subject", "sub claim"), "bound_subject of role {role} must be {subject}"),
    (("known key", "signature"), "auth/{mount} does not know the key of {issuer}: is that the issuer it is configured for?"),
    (("invalid issuer", "issuer"), "bound_issuer of auth/{mount} must be {issuer}"),
)  # fmt: skip
_TIME_HINT = "a fresh token: the kubelet renews the projected file, GitLab makes an id token a job; and are the clocks right?"


def _unsaid(login: Login) -> str:
    """A bare "permission denied": what Vault leaves unsaid on purpose."""
    if login.method == "kubernetes":
        return (
            "Vault gives no reason: is there a kubernetes auth method at auth/{mount} (in this namespace), and may its "
            "reviewer ask the cluster {issuer} for token reviews (system:auth-delegator)?"
        )
    return "Vault gives no reason: is there a jwt auth method at auth/{mount}, in this namespace?"


def _facts(login: Login, claims: Claims | None) -> dict[str, str]:
    known = claims or Claims({})
    named = ("project_path", "ref", "ref_type", "ref_protected", "environment", "project_id")
    return {
        "role": login.role,
        "mount": login.mount,
        "namespace": known.namespace or "(the token names none)",
        "account": known.account or "(the token names none)",
        "audience": ", ".join(known.audience) or "nobody",
        "issuer": known.issuer or "(the token names none)",
        "subject": str(known.all.get("sub", "")),
        "claims": ", ".join(f"{name}={known.all[name]}" for name in named if name in known.all),
    }


def _missing(path: str, mount: Mount, version: int | None = None) -> PipelineError:
    what = f"{path} version {version}" if version else path
    rest = path.removeprefix(mount.path)
    hint = f"{mount.path} is {mount.kind}" + (f" version {mount.version}" if mount.version else "")
    if mount.version == _V2 and rest.startswith("data/"):
        hint += ": leave the data/ away"
    return PipelineError(f"Vault has no secret at {what}", hint=hint)


def _deleted(path: str, metadata: Mapping[str, Any]) -> PipelineError:
    version = metadata.get("version", "?")
    if metadata.get("destroyed"):
        return PipelineError(f"version {version} of {path} was destroyed", hint="name another with @VERSION")
    when = str(metadata.get("deletion_time", ""))[:19]
    hint = f"bring it back (bao kv undelete -versions={version} {path}), or name another with @VERSION"
    return PipelineError(f"version {version} of {path} was deleted at {when}Z", hint=hint)
