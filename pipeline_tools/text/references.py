"""Names of images and repositories (OCI distribution spec 1.1, "Pulling manifests"; distribution/reference)."""

import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from urllib.parse import SplitResult, unquote, urlsplit, urlunsplit

from pipeline_tools.errors import PipelineError
from pipeline_tools.text.printing import printable

_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_HOST = r"(?:[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)*|\[[0-9a-fA-F:]+\])"
REPOSITORY = re.compile(rf"(?P<host>{_HOST}(?::[0-9]{{1,5}})?)/(?P<name>{_COMPONENT}(?:/{_COMPONENT})*)")
_BARE = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
RELEASE_TAG = r"v?[0-9]+\.[0-9]+\.[0-9]+(-[0-9A-Za-z.-]+)?"
"""The regular expression of release tags unless a user gives another (what it means: `versions.parse`)."""

DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_LOOPBACK = re.compile(r"(127(\.\d+){3}|localhost|\[::1\])(:\d+)?")


def is_loopback(host: str) -> bool:
    """Whether `host[:port]` is this machine."""
    return _LOOPBACK.fullmatch(host) is not None


_PORTS = {"http": 80, "https": 443}

HUB = frozenset({"index.docker.io", "docker.io"})
"""Docker Hub as docker calls it, and as buildah does (containers-auth.json(5)): a login for one is for both."""

ENV_RULES = ".pipeline-tools.yml"
"""Where an env repository's own rules are: at its root."""


@dataclass(frozen=True)
class Repository:
    """A repository of a registry: `host[:port]` and `name`, without tag or digest."""

    host: str
    name: str

    def __str__(self) -> str:
        return f"{self.host}/{self.name}"

    @property
    def url(self) -> str:
        """Where the registry's API is: plain HTTP only on loopback, as docker does it."""
        scheme = "http" if is_loopback(self.host) else "https"
        return f"{scheme}://{self.host}"


@dataclass(frozen=True)
class Reference:
    """An image by name, with a tag, a digest, or both. `name` is as written: a repository or a bare name."""

    name: str
    tag: str | None = None
    digest: str | None = None

    def __str__(self) -> str:
        return self.name + (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")


def repository(text: str) -> Repository:
    """Parse `host[:port]/name`.

    Raises:
        PipelineError: no registry host, capitals, or any other break of the grammar.
    """
    found = REPOSITORY.fullmatch(text)
    host = found["host"] if found else ""
    if not found or not ("." in host or ":" in host or host == "localhost"):
        raise PipelineError(
            f"{printable(text)} is not a repository of a registry",
            hint="write it like europe-west1-docker.pkg.dev/project/repository/app: a host, lower case, no tag",
        )
    _split(f"https://{host}")
    return Repository(host=host, name=found["name"])


def reference(text: str) -> Reference:
    """Parse `name[:tag][@digest]`.

    Raises:
        PipelineError: an empty or ungrammatical name, tag or digest.
    """
    rest, at, digest = text.partition("@")
    head, slash, last = rest.rpartition("/")
    last, colon, tag = last.partition(":")
    name = head + slash + last
    sound = (not colon or TAG.fullmatch(tag)) and (not at or DIGEST.fullmatch(digest))
    if not sound or not (REPOSITORY.fullmatch(name) or _BARE.fullmatch(name)):
        raise PipelineError(
            f"{printable(text)} is not an image reference", hint="write it like name:1.4.0@sha256:…"
        )
    return Reference(name=name, tag=tag or None, digest=digest or None)


def _split(url: str) -> SplitResult:
    """`url` in its parts, with a port that is one."""
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 (it is checked when it is read)
    except ValueError as error:
        reason = "" if "@" in url else f": {error}"  # its words could be a part of a password
        raise PipelineError(
            f"{_anonymous(url)} is not an address{reason}", hint="write it like https://host/path"
        ) from None
    return parts


def _anonymous(url: str) -> str:
    """`url` for a message: without what may be a user and a password."""
    return printable(re.sub(r"//.*@", "//", url, flags=re.DOTALL))


def userless(url: str) -> tuple[str, str, str]:
    """An http(s) address without its user information, then the user and the password it had."""
    parts = _split(url)
    if parts.scheme not in {"http", "https"} or "@" not in parts.netloc:
        return url, "", ""
    plain = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
    return plain, unquote(parts.username or ""), unquote(parts.password or "")


def project_path(url: str) -> str:
    """The path of a GitLab project in the address of its repository: `group/app` of `https://host/group/app.git`."""
    path = _split(url).path if "://" in url else url.partition(":")[2] or url
    return path.strip("/").removesuffix(".git")


PROJECT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)+")
"""A project's path with namespace (docs.gitlab.com/user/reserved_names)."""

_BAD_REF = re.compile(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|//|^[/.-]|/\.|\.lock(/|$)|[/.]$|^@$|^$")


def branch(text: str) -> str:
    """`text`, if git takes it as a branch name (git-check-ref-format(1)).

    Raises:
        PipelineError: it does not.
    """
    if _BAD_REF.search(text):
        raise PipelineError(f"{printable(text)} is not a branch name", hint="see git help check-ref-format")
    return text


def folder(text: str) -> str:
    """`text` as a normal relative path, with `/` between its parts.

    Raises:
        PipelineError: absolute, empty, or with a `..` in it.
    """
    path = PurePosixPath(text)
    if path.is_absolute() or ".." in path.parts or not path.parts or "\0" in text:
        raise PipelineError(
            f"{printable(text)} is not a folder inside the repository", hint="write it like overlays/dev"
        )
    return str(path)


def origin(url: str) -> str:
    """`scheme://host[:port]` of an http(s) address, lower case; the bare host of any other; "" for a path.

    A port that the scheme has anyway is left out (RFC 6454, 4): the two spellings are one origin.
    """
    if "://" not in url:
        host, colon, _ = url.partition(":")
        return host.rpartition("@")[2].lower() if colon and "/" not in host else ""
    parts = _split(url)
    is_default = parts.port in {None, _PORTS.get(parts.scheme)}
    host = (parts.hostname or "") + ("" if is_default else f":{parts.port}")
    return f"{parts.scheme}://{host}" if parts.scheme in {"http", "https"} else host


def web(url: str) -> str:
    """An http(s) address without a slash at its end.

    Raises:
        PipelineError: it is none, or has a user in it: it is shown in messages and links.
    """
    if not origin(url).startswith("http") or userless(url)[0] != url:
        raise PipelineError(
            f"{_anonymous(url)} is not an http address without a user",
            hint="write it like https://gitlab.example.com",
        )
    return url.rstrip("/")
