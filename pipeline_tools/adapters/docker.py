"""The docker engine, through the docker SDK's low-level client. The only module that talks to an engine.

An engine answers a build or a push that fails with 200 and an error in the stream (docker-py #3277, #3161), so
each line of a stream is read for one. Format: Docker Engine API, "ImageBuild" and "ImagePush".
"""

import errno
import logging
import os
import re
import secrets
import socket
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, Any, Protocol, Self

import docker.auth
import docker.errors
import docker.tls
import requests
from docker.api.client import APIClient
from docker.utils import build

from pipeline_tools.adapters import ignoring
from pipeline_tools.errors import Denied, PipelineError, Unavailable
from pipeline_tools.text import build_errors, references
from pipeline_tools.text.credentials import Credential
from pipeline_tools.text.recipes import Described, Layer, Recipe
from pipeline_tools.text.references import HUB, Repository

log = logging.getLogger(__name__)

CONNECT = 10
"""Seconds to connect and to answer who it is."""
SILENCE = 900
"""Seconds that a push may be silent: a registry may take long to store a large layer."""
LAST_LINES = 12

SOCKET = "unix:///var/run/docker.sock"


class Docker:
    """One engine. Nothing is sent before it is used; close it, or use it in a `with`.

    `host` is its address (None: the usual socket), `cert_path` the folder with `ca.pem`, `cert.pem` and `key.pem`
    for one behind TLS, `logins` the registries' credentials by host that a build may need for base images.
    """

    name = "docker"

    def __init__(
        self,
        host: str | None = None,
        cert_path: Path | None = None,
        logins: Callable[[], Mapping[str, Credential]] = dict,
    ) -> None:
        self._host = host or SOCKET
        self._cert_path = cert_path
        self._logins = logins

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if "_client" in self.__dict__:
            self._client.close()
            del self._client

    def ready(self) -> None:
        """Say hello.

        Raises:
            Unavailable: an engine elsewhere does not answer (yet); PipelineError: there is none here.
        """
        with self._errors():
            self._client.ping()

    def lacks(self, recipe: Recipe) -> tuple[str, ...]:
        """What of a recipe the engine's classic builder cannot do; the SDK has no BuildKit (docker-py #2230)."""
        asked = {
            "several platforms at once": len(recipe.platforms) > 1,
            "--build-secret": bool(recipe.secrets),
            "--cache": bool(recipe.cache),
            "--attest": recipe.attest,
        }
        return tuple(name for name, is_asked in asked.items() if is_asked)

    @contextmanager
    def building(self, recipe: Recipe, context: Path, file: Path, image: str) -> Iterator["Local"]:
        """Build `image` (`repository:tag`) from `context`, its `.dockerignore` honoured, with Dockerfile `file`.

        Raises:
            PipelineError: it does not build; the message has the last lines of what it said.
            Denied: a base image may not be pulled. Unavailable: it could not be reached.
        """
        with self._errors(), _archive(context, file) as (archive, name):
            stream = self._client.build(
                fileobj=archive,
                custom_context=True,
                dockerfile=name,
                tag=image,
                labels=dict(recipe.labels),
                buildargs=dict(recipe.arguments),
                target=recipe.target or "",
                platform=next(iter(recipe.platforms), None),
                rm=True,
                forcerm=True,
                decode=True,
            )
            _follow(stream, f"build of {image}")
        yield Local(self, image)

    def described(self, image: str) -> Described:
        """What the engine says of an image that it has (Docker Engine API, "ImageInspect" and "ImageHistory")."""
        with self._errors():
            found = self._client.inspect_image(image)  # type: ignore[no-untyped-call]
            history = self._client.history(image)  # type: ignore[no-untyped-call]
        config = found.get("Config") or {}
        layers = tuple(Layer(int(row["Size"]), str(row["CreatedBy"])) for row in reversed(history))
        platform = "/".join(filter(None, (found.get(key) for key in ("Os", "Architecture", "Variant"))))
        return Described(str(config.get("User") or ""), config.get("Labels") or {}, layers, platform)

    def push(self, repository: str, tag: str, credential: Credential | None) -> str:
        """Push `repository:tag`; the credential stays in memory.

        Returns:
            The manifest's digest, as the registry has it. That of the local image may be another.

        Raises:
            Denied: the registry does not let us. Refused: the tag is immutable. Unavailable: worth trying again.
        """
        # The engine wants a header even of the anonymous; an empty one keeps the SDK from looking for config.json.
        login = _login(credential) if credential else {}
        with self._errors():
            stream = self._client.push(repository, tag=tag, auth_config=login, stream=True, decode=True)
            aux = _follow(stream, f"push of {repository}:{tag}")
        digest = str(aux.get("Digest", ""))
        if not references.DIGEST.fullmatch(digest):
            raise PipelineError(
                f"push of {repository}:{tag} ended without a digest", hint="is the engine's log wiser?"
            )
        return digest

    # How ---------------------------------------------------------------------------------------------------

    @cached_property
    def _client(self) -> "_Client":
        tls: Any = False
        path = self._host.removeprefix("unix://")
        if path != self._host and not Path(path).exists():  # the SDK would leak a socket on finding out
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        if self._cert_path and not self._host.startswith("unix:"):
            tls = docker.tls.TLSConfig(
                client_cert=(str(self._cert_path / "cert.pem"), str(self._cert_path / "key.pem")),
                ca_cert=str(self._cert_path / "ca.pem"),
                verify=True,
            )
        self._knock()
        client = _Client(base_url=self._host, version="auto", timeout=CONNECT, tls=tls)
        client.timeout = SILENCE
        client.logins = self._logins
        return client

    def _knock(self) -> None:
        """See that somebody listens on a socket here; the SDK's own attempt would leave it open."""
        if self._host.startswith("unix://"):
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as knocking:
                knocking.settimeout(CONNECT)
                knocking.connect(self._host.removeprefix("unix://"))

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """The SDK's exceptions in our words."""
        try:
            yield
        except docker.errors.APIError as error:
            raise build_errors.said("docker", str(error.explanation or error), "") from None
        except (docker.errors.DockerException, requests.RequestException, OSError, ValueError) as error:
            raise self._unreachable(error) from None

    def _unreachable(self, error: Exception) -> PipelineError:
        """A socket here that nobody listens on stays so; an engine elsewhere may be starting (`services: docker:dind`)."""
        text = str(error)
        if isinstance(error, PermissionError) or "Permission denied" in text:
            return Denied(
                f"docker at {self._host} does not let this user in",
                hint="run as a user of the socket's group, or use an engine over tcp (services: docker:dind, DOCKER_HOST)",
            )
        if not build_errors.AWAY.search(text):
            return PipelineError(f"docker: {text[:300]}", hint="see docker version")
        kind = PipelineError if self._host.startswith("unix:") else Unavailable
        return kind(
            f"docker does not answer at {self._host}",
            hint="start docker, or name another engine in DOCKER_HOST; in a job: "
            "does the runner offer docker (services: docker:dind, or its socket)?",
        )


class Target(Protocol):
    """The registry that an image goes to, as far as the engine is told of it."""

    @property
    def credential(self) -> Callable[[], Credential | None]: ...


@dataclass(frozen=True)
class Local:
    """An image that the engine has."""

    engine: Docker
    name: str

    def described(self) -> tuple[Described, ...]:
        return (self.engine.described(self.name),)

    def push(self, place: Repository, tag: str, target: Target) -> str:
        """Let the engine push it as `place`:`tag`; the digest there. See `Docker.push`."""
        return self.engine.push(str(place), tag, target.credential())


class _Client(APIClient):
    """The SDK's client, which sends along only the logins it was given, not all that it finds in config.json."""

    logins: Callable[[], Mapping[str, Credential]]

    def _set_auth_headers(self, headers: dict[str, Any]) -> None:
        """For `build` (Docker Engine API, "ImageBuild", `X-Registry-Config`)."""
        # The engine knows Docker Hub by its address alone (moby/registry, `IndexServer`).
        logins = {
            docker.auth.INDEX_URL if host in HUB else host: _login(credential)
            for host, credential in self.logins().items()
        }
        if logins:
            headers["X-Registry-Config"] = docker.auth.encode_header(logins)


def _login(credential: Credential) -> dict[str, str]:
    return {"username": credential.user, "password": credential.password.reveal()}


@contextmanager
def _archive(context: Path, file: Path) -> Iterator[tuple[IO[bytes], str]]:
    """What the engine is sent, and what the Dockerfile is called in it.

    The SDK's own would read `.dockerignore` in its own way. One from outside the context has a name there that the
    engine is told to ignore: the SDK writes it into the archive's `.dockerignore`.
    """
    patterns = ignoring.patterns(context, file)
    name, text = os.path.relpath(file, context), None
    if not file.is_relative_to(context):
        name, text = f".dockerfile.{secrets.token_hex(20)}", _text(file.name, file.read_bytes())
        _text(".dockerignore", os.fsencode("\n".join(patterns)))
    with tempfile.TemporaryFile() as archive:
        build.tar(context, exclude=list(patterns), dockerfile=(name, text), fileobj=archive)
        yield archive, name


def _text(name: str, content: bytes) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise PipelineError(
            f"{name} is not UTF-8", hint="save it as UTF-8, or put the Dockerfile into its context"
        ) from None


_STEP = re.compile(r"Step \d+/\d+ : ")


def _follow(stream: Iterable[dict[str, Any]], what: str) -> dict[str, Any]:
    """Read a stream to its end; the last `aux` it had.

    Raises:
        PipelineError: it has an error.
    """
    last: deque[str] = deque(maxlen=LAST_LINES)
    aux: dict[str, Any] = {}
    error = ""
    # To its end even after an error: only a stream that was read whole gives its connection back.
    for line in stream:
        aux = line.get("aux") or aux
        error = error or _error(line)
        for text in _texts(line):
            last.append(text)
            log.log(logging.INFO if _STEP.match(text) else logging.DEBUG, "%s", text)
    if error:
        raise build_errors.said(what, error, "\n".join(last))
    return aux


def _error(line: dict[str, Any]) -> str:
    """The error that a line of the stream tells of, "" where it is none."""
    if "error" not in line and "errorDetail" not in line:
        return ""
    return str((line.get("errorDetail") or {}).get("message") or line.get("error") or "no reason given")


def _texts(line: dict[str, Any]) -> Iterator[str]:
    """What a line of the stream tells a person; progress bars left out."""
    if line.get("progressDetail"):
        return
    words = line.get("stream") or " ".join(str(line[key]) for key in ("id", "status") if key in line)
    yield from (text.rstrip() for text in str(words).splitlines() if text.strip())
