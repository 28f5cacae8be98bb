"""Vault and OpenBao, which speak the same API: log in, read, give back.

What may pass is tried again (`vault_client`); nothing here is done twice by being sent twice but a login or a lease,
and both end with their TTL at the latest.
"""

import base64
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from hvac import exceptions

from pipeline_tools.adapters.vault_client import Adapter, Server, body, client, url
from pipeline_tools.errors import Denied, PipelineError
from pipeline_tools.text import vault_login
from pipeline_tools.text.masks import Secret
from pipeline_tools.text.vault_login import TOKEN_HINTS, Given, Identity, Login

log = logging.getLogger(__name__)

T = TypeVar("T")
U = TypeVar("U")

_REVOKE_SECONDS = 10.0
"""How long a revocation is tried: it delays the end of a job that has its result."""
_GRACE_SECONDS = 10.0
"""How long a signal waits for the answer of a login that is under way; Kubernetes gives 30 s in all."""
_V2 = 2  # the KV engine that has versions


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
        self._client = client(server)
        self._adapter: Adapter = self._client.adapter
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
            raise Denied(f"no token to log in to Vault with as {login}", hint=TOKEN_HINTS[login.method])
        try:
            if login.method == "kubernetes":
                answer = self._client.auth.kubernetes.login(
                    login.role, token, use_token=False, mount_point=login.mount
                )
            else:
                answer = self._client.auth.jwt.jwt_login(login.role, token, use_token=False, path=login.mount)
        except exceptions.VaultError as error:
            raise vault_login.refused(login, _said(error), time.time()) from None
        auth = body(answer).get("auth")
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
            return body(self._adapter.get(url(path), params=query or None))
        except exceptions.InvalidPath as error:
            return error.json if error.json and error.json.get("data") else None
        except exceptions.VaultError as error:
            raise self._refused("read", path, error) from None

    def names(self, path: str) -> list[str]:
        """The names below an API path (LIST); those of folders end with a slash."""
        try:
            answer = body(self._adapter.list(url(path)))
        except exceptions.InvalidPath:
            return []
        except exceptions.VaultError as error:
            raise self._refused("list", path, error) from None
        return list(answer.get("data", {}).get("keys", []))

    def write(self, path: str, /, **data: Any) -> dict[str, Any]:
        """POST `data` to an API path; the answer, empty where Vault gives none."""
        try:
            return body(self._adapter.post(url(path), json=data))
        except exceptions.VaultError as error:
            raise self._refused("update", path, error) from None

    def delete(self, path: str) -> None:
        """DELETE an API path; one that is not there is fine."""
        try:
            self._adapter.delete(url(path))
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
            found = body(self._adapter.get(url("auth/token/lookup-self")))["data"]
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
            granted = body(self._adapter.post(url("sys/capabilities-self"), json={"paths": [path]}))
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


_BAD_REQUEST = "is the path right, without a doubled data/, and the right engine mounted there?"


# Refusals ------------------------------------------------------------------------------------------------------


def _said(error: exceptions.VaultError) -> str:
    """Vault's own reason on one line."""
    text = "; ".join(error.errors or ()) or str(error.text or "no reason given")
    return " ".join(text.replace("1 error occurred:", "").replace("* ", "").split())[:300]


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
