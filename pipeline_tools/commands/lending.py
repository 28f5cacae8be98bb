"""What Vault lends to a child: the options that say it, and the one context from login to revocation."""

import base64
import binascii
import functools
import json
import logging
import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from pipeline_tools.adapters.vault import Read, Vault, opened
from pipeline_tools.adapters.vault_client import Server
from pipeline_tools.errors import Denied, PipelineError
from pipeline_tools.text import lending
from pipeline_tools.text.lending import Want
from pipeline_tools.text.masks import SHORTEST, Secret
from pipeline_tools.text.vault_login import Given, Identity, Login

log = logging.getLogger(__name__)

DUAL = "kubernetes+jwt"
CIPHERTEXT = "vault:v"
"""How a transit ciphertext begins (developer.hashicorp.com/vault/api-docs/secret/transit, "Encrypt data")."""
_MEMORY = Path("/dev/shm")  # noqa: S108 (a file system in memory; the folder in it is ours alone)


@dataclass(frozen=True)
class VaultAccess:
    """Where Vault is and who we are there."""

    vault_address: str | None
    vault_auth: str
    vault_role: str | None
    vault_jwt_role: str | None
    vault_namespace: str | None
    vault_ca_file: Path | None
    vault_kubernetes_mount: str
    vault_jwt_mount: str
    vault_timeout: float
    kubernetes_token_file: Path
    vault_id_token: Secret
    vault_token: Secret


@dataclass(frozen=True)
class Wanted:
    """What is lent under which name."""

    secret: tuple[str, ...]
    value: tuple[str, ...]
    secrets_below: tuple[str, ...]
    scaleway: str | None
    s3_backend: bool
    vault_transit_key: str | None


@dataclass(frozen=True)
class Loan:
    """All that one run needs from Vault: `reader` reads the secrets; `decrypter`, if any, decrypts what it reads."""

    server: Server
    reader: Identity
    decrypter: Identity | None
    wants: tuple[Want, ...]
    below: tuple[lending.Below, ...]
    transit_key: str

    def lines(self) -> Iterator[str]:
        """The loan for a person: identity, and which path goes into which name. No value is known here."""
        who = f"{self.reader}, decrypted as {self.decrypter}" if self.decrypter else str(self.reader)
        yield f"{self.server.address} as {who}"
        for want in self.wants:
            forms = [name for name, is_on in (("base64", want.is_base64), ("file", want.is_file)) if is_on]
            yield f"{want.name} ← {want} ({', '.join([*forms, 'secret' if want.is_secret else 'value'])})"
        for below in self.below:
            yield f"{below.prefix}… ← every field at and below {below.path} (secret)"


def loan(access: VaultAccess, wanted: Wanted) -> Loan:
    """What is asked for, checked as far as it can be without asking anybody.

    Raises:
        PipelineError: an option is missing or malformed, or two values want one name.
    """
    if not access.vault_address:
        raise PipelineError("which Vault?", hint="give --vault-address (VAULT_ADDR)")
    server = Server(
        access.vault_address, access.vault_namespace, access.vault_ca_file, seconds=access.vault_timeout
    )
    reader, decrypter = _identities(access)
    if decrypter and not wanted.vault_transit_key:
        raise PipelineError(
            f"--vault-auth {DUAL} needs a transit key", hint="give --vault-transit-key MOUNT/NAME"
        )
    wants = [
        *(_parsed(text, is_secret=True) for text in wanted.secret),
        *(_parsed(text, is_secret=False) for text in wanted.value),
        *(lending.scaleway(wanted.scaleway, with_s3=wanted.s3_backend) if wanted.scaleway else ()),
    ]
    if wanted.s3_backend and not wanted.scaleway:
        raise PipelineError(
            "--s3-backend lends a Scaleway project's keys", hint="give --scaleway PROJECT too"
        )
    below = tuple(_below(text) for text in wanted.secrets_below)
    return Loan(server, reader, decrypter, lending.distinct(wants), below, wanted.vault_transit_key or "")


def _identities(access: VaultAccess) -> tuple[Identity, Identity | None]:
    """Who reads, and who decrypts what was read."""
    if access.vault_auth == "token":
        if not access.vault_token.reveal():
            raise Denied(
                "--vault-auth token, but VAULT_TOKEN is empty",
                hint="set VAULT_TOKEN, or give --vault-token-file",
            )
        return Given(access.vault_token), None
    if not access.vault_role:
        raise PipelineError("which role of Vault?", hint="give --vault-role")
    kubernetes = Login("kubernetes", access.vault_role, access.vault_kubernetes_mount, Secret(""))
    jwt = Login(
        "jwt", access.vault_jwt_role or access.vault_role, access.vault_jwt_mount, access.vault_id_token
    )
    if access.vault_auth == "jwt":
        return jwt, None
    kubernetes = Login(
        kubernetes.method, kubernetes.role, kubernetes.mount, _projected(access.kubernetes_token_file)
    )
    return (jwt, kubernetes) if access.vault_auth == DUAL else (kubernetes, None)


def _projected(path: Path) -> Secret:
    """The service-account token that the kubelet keeps fresh in this file; empty where there is none.

    An empty one is refused at the login, so that a dry run plans without it.
    """
    try:
        return Secret(path.read_text().strip())
    except FileNotFoundError:
        return Secret("")
    except (OSError, UnicodeDecodeError) as error:
        raise PipelineError(
            f"{path} cannot be read: {error}", hint="--kubernetes-token-file names the token"
        ) from None


def _parsed(text: str, *, is_secret: bool) -> Want:
    try:
        return lending.want(text, is_secret=is_secret)
    except ValueError as error:
        hint = "for example DB_PASSWORD=secret/app#password"
        raise PipelineError(f"{'--secret' if is_secret else '--value'} {error}", hint=hint) from None


def _below(text: str) -> lending.Below:
    try:
        return lending.below(text)
    except ValueError as error:
        raise PipelineError(f"--secrets-below {error}", hint="for example APP_=secret/app") from None


# From login to revocation --------------------------------------------------------------------------------------


@contextmanager
def lent(asked: Loan, mask: Callable[[Secret], None]) -> Iterator[Mapping[str, str]]:
    """Lend the variables; at the end, however it comes, tokens and leases are revoked and files removed.

    While that is being done a signal waits: it would leave a token behind.
    """
    with ExitStack() as closing:
        closing.callback(_signals, signal.pthread_sigmask(signal.SIG_BLOCK, ()))
        reader = closing.enter_context(opened(asked.server, asked.reader, mask=mask))
        decrypt = None
        if asked.decrypter:
            other = closing.enter_context(opened(asked.server, asked.decrypter, mask=mask))
            decrypt = _Decryption(other, asked.transit_key)
        files = _Files(closing)
        # Each place is read once: two fields of one lease belong together.
        read = functools.cache(reader.secret)
        wants = lending.distinct([*asked.wants, *_found_below(reader, asked, read)])
        found = {}
        for want in wants:
            text = _text(want, read(want.path, want.version).fields)
            found[want.name] = _value(want, text, decrypt, mask, files)
        closing.callback(signal.pthread_sigmask, signal.SIG_BLOCK, _ENDING)
        yield found


_ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def _signals(mask: set[int | signal.Signals]) -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _found_below(vault: Vault, asked: Loan, read: Callable[[str, int | None], Read]) -> Iterator[Want]:
    """A want for each field of each secret at and below the paths."""
    for below in asked.below:
        for path in vault.below(below.path):
            yield from (below.want(path, name) for name in read(path, None).fields)


@dataclass
class _Decryption:
    """The second proof: what the first identity read, the second one decrypts."""

    vault: Vault
    key: str

    def plain(self, want: Want, text: str) -> bytes:
        if text.startswith(CIPHERTEXT):
            return self.vault.decrypt(self.key, text)
        if want.is_secret:
            raise PipelineError(
                f"{want} is no transit ciphertext: one token alone could read it",
                hint=f"write what bao write {self.key.replace('/', '/encrypt/', 1)} gives, or use --value",
            )
        return text.encode()


@dataclass
class _Files:
    """Values in files that only this user can read, in memory; gone with the loan."""

    closing: ExitStack
    directory: Path | None = field(default=None)

    def keep(self, want: Want, content: bytes) -> str:
        if self.directory is None:
            if not _MEMORY.is_dir():
                raise PipelineError(
                    f"no memory for files: {_MEMORY} is not there", hint=f"lend {want.name} as a variable"
                )
            self.directory = Path(tempfile.mkdtemp(prefix="pipeline-tools-", dir=_MEMORY))
            self.closing.callback(shutil.rmtree, self.directory, ignore_errors=True)
        path = self.directory / want.name
        path.touch(0o600)
        path.write_bytes(content)
        return str(path)


def _value(
    want: Want, text: str, decryption: _Decryption | None, mask: Callable[[Secret], None], files: _Files
) -> str:
    """The variable's value: decrypted, decoded, masked, put into a file."""
    content = decryption.plain(want, text) if decryption else text.encode()
    if want.is_secret:
        _hide(want, text if decryption is None else "", mask)
    if want.is_base64:
        content = _decoded(want, content)
    if want.is_secret:
        _hide(want, content.decode(errors="replace"), mask)
    if want.is_file:
        return files.keep(want, content)
    try:
        value = content.decode()
    except UnicodeDecodeError:
        raise PipelineError(f"{want} is binary, which no variable holds", hint="add :file") from None
    if "\0" in value:
        raise PipelineError(f"{want} holds a zero byte, which no variable can", hint="add :file")
    return value


def _hide(want: Want, value: str, mask: Callable[[Secret], None]) -> None:
    if value and len(value.strip()) < SHORTEST:
        raise PipelineError(
            f"{want} has fewer than {SHORTEST} characters and cannot be masked",
            hint=f"is it a secret? --value {want.name}={want} lends it unmasked",
        )
    mask(Secret(value))


def _text(want: Want, fields: Mapping[str, object]) -> str:
    """The field as text; what is no text as JSON, as `bao kv get -field` has it."""
    if want.field not in fields:
        there = ", ".join(sorted(fields)) or "none"
        raise PipelineError(f"{want.path} has no field {want.field}", hint=f"its fields: {there}")
    value = fields[want.field]
    return value if isinstance(value, str) else json.dumps(value)


def _decoded(want: Want, content: bytes) -> bytes:
    try:
        return base64.b64decode(b"".join(content.split()), validate=True)
    except binascii.Error:
        raise PipelineError(f"{want} is not base64", hint="leave :base64 away") from None


def environment(secrets: Mapping[str, object], loaned: Mapping[str, str]) -> dict[str, str]:
    """The child's environment: ours without any secret among `secrets`, with what was lent."""
    given = {value.reveal() for value in secrets.values() if isinstance(value, Secret) and value.reveal()}
    ours = {name: value for name, value in os.environ.items() if not any(secret in value for secret in given)}
    return {**ours, **loaned}
