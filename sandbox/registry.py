"""Debian's docker-registry behind a recording proxy, for as long as a test run or the demo lasts."""

from __future__ import annotations

import contextlib
import hashlib
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import bcrypt
from ruamel.yaml import YAML

from sandbox.proxy import Answer, Exchange, Fault, Proxy, Request, Rule, error_body
from sandbox.services import Service, plain_env, started
from sandbox.token_server import ISSUER, TokenAuth, TokenServer

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

START_SECONDS = 20.0
LISTENING = re.compile(r'msg="listening on (127\.0\.0\.1:\d+)"')
MANIFEST = re.compile(r"^/v2/(?P<name>.+)/manifests/(?P<reference>[^?]+)")
# The lowest cost bcrypt has: these passwords are made up, and each request checks one.
BCRYPT_ROUNDS = 4


@dataclass(frozen=True)
class Htpasswd:
    """Basic authentication: passwords by user; whoever has one may do everything."""

    users: Mapping[str, str] = field(repr=False)


@dataclass(frozen=True)
class Registry:
    """A registry at `host`; clients see the proxy in front of it."""

    host: str
    proxy: Proxy = field(repr=False)
    tokens: TokenServer | None = field(default=None, repr=False)

    @classmethod
    @contextlib.contextmanager
    def start(
        cls,
        directory: Path,
        *,
        auth: Htpasswd | TokenAuth | None = None,
        immutable_tags: str = "",
        rules: tuple[Rule, ...] = (),
    ) -> Iterator[Registry]:
        """Lend a registry that keeps its data in `directory`; StartError with the end of its log.

        `immutable_tags` is a regular expression of the repositories (whole names) that keep their tags.
        """
        directory.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as stack:
            tokens = stack.enter_context(TokenServer(auth).running()) if isinstance(auth, TokenAuth) else None
            config = _write_config(directory, _auth_section(directory, auth, tokens))
            service = stack.enter_context(_serve(directory, config))
            kept: tuple[Rule, ...] = (ImmutableTags(immutable_tags),) if immutable_tags else ()
            proxy = stack.enter_context(Proxy(_address(service) or "", (*rules, *kept)).running())
            yield cls(proxy.host, proxy, tokens)

    @property
    def url(self) -> str:
        return f"http://{self.host}"

    @property
    def requests(self) -> list[Exchange]:
        """Every request so far, oldest first, those refused by the proxy among them."""
        return self.proxy.exchanges

    @contextlib.contextmanager
    def recording(self) -> Iterator[list[Exchange]]:
        """The requests of the block, in a list that is filled when the block ends."""
        with self.proxy.recording() as seen:
            yield seen

    @contextlib.contextmanager
    def failing(self, *faults: Fault) -> Iterator[None]:
        """These faults, first come first served, until the block ends."""
        with self.proxy.failing(*faults):
            yield


@dataclass(frozen=True)
class ImmutableTags:
    """Google Artifact Registry's immutable tags: a tag keeps its digest, and cannot be taken away.

    The words are those Docker shows for such a push: "manifest invalid: cannot update tag 1.0.0. The repository
    has enabled tag immutability". https://cloud.google.com/artifact-registry/docs/docker/troubleshoot#push
    """

    repositories: str

    def __call__(self, request: Request) -> Answer | None:
        found = MANIFEST.match(request.path)
        if not found or not re.fullmatch(self.repositories, found["name"]) or "sha256:" in found["reference"]:
            return None
        if request.method == "DELETE":
            return _refusal(f"cannot delete tag {found['reference']}")
        if request.method == "PUT" and self._moves(request):
            return _refusal(f"cannot update tag {found['reference']}")
        return None

    def _moves(self, request: Request) -> bool:
        headers = {name: value for name, value in request.headers.items() if name.lower() == "authorization"}
        accept = next((v for k, v in request.headers.items() if k.lower() == "content-type"), "*/*")
        status, answer = request.ask("HEAD", request.path, {**headers, "Accept": accept})
        digest = f"sha256:{hashlib.sha256(request.body()).hexdigest()}"
        return status == 200 and answer.get("Docker-Content-Digest") != digest  # noqa: PLR2004


def _refusal(what: str) -> Answer:
    body = error_body("MANIFEST_INVALID", f"{what}. The repository has enabled tag immutability")
    return Answer(400, body, {"Content-Type": "application/json"})


def _auth_section(
    directory: Path, auth: Htpasswd | TokenAuth | None, tokens: TokenServer | None
) -> dict[str, Any]:
    if isinstance(auth, Htpasswd):
        path = directory / "htpasswd"
        path.write_text(
            "".join(f"{user}:{_hashed(password)}\n" for user, password in auth.users.items()), "utf-8"
        )
        return {"auth": {"htpasswd": {"realm": "sandbox", "path": str(path)}}}
    if tokens:
        bundle = directory / "token-signer.pem"
        bundle.write_bytes(tokens.key.certificate)
        service = tokens.auth.service
        token = {"realm": tokens.realm, "service": service, "issuer": ISSUER, "rootcertbundle": str(bundle)}
        return {"auth": {"token": token}}
    return {}


def _write_config(directory: Path, auth: dict[str, Any]) -> Path:
    """https://distribution.github.io/distribution/about/configuration/ as of 2.8."""
    config = {
        "version": 0.1,
        "log": {"level": "info", "formatter": "text", "accesslog": {"disabled": True}},
        "storage": {
            "filesystem": {"rootdirectory": str(directory / "data")},
            "delete": {"enabled": True},
            "maintenance": {"uploadpurging": {"enabled": False}},
        },
        # Port 0: the kernel chooses, the log tells. No port is ever tried twice.
        "http": {"addr": "127.0.0.1:0"},
        **auth,
    }
    path = directory / "config.yml"
    with path.open("w", encoding="utf-8") as out:
        YAML().dump(config, out)
    return path


@contextlib.contextmanager
def _serve(directory: Path, config: Path) -> Iterator[Service]:
    argv = ["docker-registry", "serve", str(config)]
    log = directory / "registry.log"
    with started(
        "docker-registry", argv, log, ready=_is_up, seconds=START_SECONDS, env=plain_env()
    ) as service:
        yield service


def _is_up(service: Service) -> bool:
    return _address(service) is not None


def _address(service: Service) -> str | None:
    found = LISTENING.search(service.text())
    return found[1] if found else None


def _hashed(password: str) -> str:
    return bcrypt.hashpw(password.encode(), bcrypt.gensalt(BCRYPT_ROUNDS)).decode()
