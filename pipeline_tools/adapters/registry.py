"""Registries, by the OCI distribution API (OCI distribution spec 1.1, spec.md), in the toolkit's words."""

import logging
import random
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Protocol
from urllib.parse import urljoin, urlsplit

import requests

from pipeline_tools.adapters import http
from pipeline_tools.adapters.registry_client import (
    CHUNK,
    Body,
    Client,
    Meter,
    json_object,
    no_registry,
    pull,
    push,
)
from pipeline_tools.errors import PipelineError, Refused, Unavailable
from pipeline_tools.text import manifests, references
from pipeline_tools.text.credentials import Credential
from pipeline_tools.text.manifests import Blob, Manifest
from pipeline_tools.text.references import Repository

log = logging.getLogger(__name__)

TRIES = 3
"""How often the copy of one blob is begun."""

Login = Callable[[str], Credential | None]
"""The credential for a registry's `host[:port]`, None to be anonymous there."""


class Source(Protocol):
    """Where blobs come from: another registry, or a folder on this machine, whose `host` is no registry's."""

    @property
    def host(self) -> str: ...

    def reading(self, repository: str, blob: Blob) -> AbstractContextManager[Iterator[bytes]]: ...


class Registries:
    """One `Registry` a host, each with the credential for its own host alone. `meter` counts for all of them."""

    def __init__(self, login: Login, session: Callable[[], requests.Session] = http.session) -> None:
        self._login = login
        self._session = session
        self._known: dict[str, Registry] = {}
        self.meter = Meter()

    def at(self, repository: Repository) -> "Registry":
        """The registry that holds `repository`."""
        host = repository.host
        if host not in self._known:
            self._known[host] = Registry(host, lambda: self._login(host), self._session(), self.meter)
        return self._known[host]

    def credential(self, repository: Repository) -> Credential | None:
        """What we say who we are there, for a builder that pushes by itself."""
        return self._login(repository.host)


@dataclass
class Registry(Client):
    """One registry. Names of repositories are without the host."""

    _lists_referrers: bool = field(default=True, init=False, repr=False)

    # Reading -----------------------------------------------------------------------------------------------

    def head(self, repository: str, reference: str) -> str | None:
        """The digest that a tag (or digest) stands for, or None where there is none."""
        with self._call(
            "HEAD",
            f"{repository}/manifests/{reference}",
            pull(repository),
            "read",
            accept=_ACCEPT,
            missing=True,
        ) as answer:
            if answer.status_code == HTTPStatus.NOT_FOUND:
                return None
            digest = answer.headers.get("Docker-Content-Digest", "")
        return digest if references.DIGEST.fullmatch(digest) else self.get(repository, reference).digest

    def get(self, repository: str, reference: str) -> Manifest:
        """A manifest or an index, byte for byte.

        Raises:
            PipelineError: there is none, or the bytes are not what their digest says.
        """
        path = f"{repository}/manifests/{reference}"
        with self._call("GET", path, pull(repository), "read", accept=_ACCEPT) as answer:
            return self._read(answer, path, reference)

    def find(self, repository: str, reference: str) -> Manifest | None:
        """As `get`; None where there is none."""
        path = f"{repository}/manifests/{reference}"
        with self._call("GET", path, pull(repository), "read", accept=_ACCEPT, missing=True) as answer:
            is_there = answer.status_code != HTTPStatus.NOT_FOUND
            return self._read(answer, path, reference) if is_there else None

    def _read(self, answer: requests.Response, path: str, reference: str) -> Manifest:
        media_type = answer.headers.get("Content-Type", "").partition(";")[0]
        # Types that we do not know are passed on as they are; a web page is none.
        if not media_type or media_type.startswith("text/"):
            raise PipelineError(
                f"{self.host}/{path} is {media_type or 'of no type'}, not an image manifest",
                hint="is that host a registry, and its version 2 of the API?",
            )
        if media_type.startswith(_SCHEMA_1):
            raise PipelineError(
                f"{self.host}/{path} is a manifest of schema 1",
                hint="registries no longer take it: pull it, and push it with a docker of 1.10 or later",
            )
        found = Manifest(media_type, self._small(answer, path))
        stated = answer.headers.get("Docker-Content-Digest")
        wanted = reference if references.DIGEST.fullmatch(reference) else stated
        self._prove(path, wanted, found.digest)
        return found

    def images(self, repository: str, manifest: Manifest) -> list[Manifest]:
        """The images of an index, or the image itself.

        Raises:
            Refused: it is an index without an image.
        """
        found = (
            [self.get(repository, child) for child in manifest.images()] if manifest.is_index else [manifest]
        )
        if not found:
            raise Refused(f"{self.host}/{repository}@{manifest.digest} holds no image", hint="build it anew")
        return found

    def tags(self, repository: str) -> list[str]:
        """All tags, page after page; none where there is no such repository (spec.md, "Listing Tags")."""
        found: list[str] = []
        for answer in self._pages(f"{repository}/tags/list?n=1000", repository):
            if answer.status_code == HTTPStatus.NOT_FOUND:
                break
            found += [str(tag) for tag in json_object(answer, self.host).get("tags") or []]
        return found

    def _pages(self, path: str, repository: str, accept: str | None = None) -> Iterator[requests.Response]:
        """The answers of a listing, each good until the next is asked for; the first may be a 404."""
        url: str | None = f"{self._url}/v2/{path}"
        seen: set[str] = set()
        while url and url not in seen:
            seen.add(url)
            with self._call("GET", url, pull(repository), "list", accept=accept, missing=True) as answer:
                yield answer
                following = answer.links.get("next", {}).get("url")
            url = urljoin(url, following) if following else None

    def referrers(self, repository: str, digest: str) -> tuple[dict[str, Any], ...]:
        """Descriptors of what refers to the manifest `digest`: signatures, SBOMs, provenance (spec.md, "Listing Referrers").

        Where the registry has no API for that, those in the index that the tag `sha256-…` stands for ("Referrers
        Tag Schema").
        """
        found = self._referrers_by_api(repository, digest)
        return self._referrers_by_tag(repository, digest) if found is None else found

    def _referrers_by_api(self, repository: str, digest: str) -> tuple[dict[str, Any], ...] | None:
        """None where there is no such API, which is asked for once."""
        if not self._lists_referrers:
            return None
        rows: list[dict[str, Any]] = []
        for answer in self._pages(f"{repository}/referrers/{digest}", repository, manifests.OCI_INDEX):
            kind = answer.headers.get("Content-Type", "").partition(";")[0]
            self._lists_referrers = answer.ok and kind == manifests.OCI_INDEX
            if not self._lists_referrers:
                return None
            rows += Manifest(kind, self._small(answer, "referrers")).rows()
        return tuple(rows)

    def _referrers_by_tag(self, repository: str, digest: str) -> tuple[dict[str, Any], ...]:
        tag = manifests.referrers_tag(digest)
        return self.get(repository, tag).rows() if self.head(repository, tag) else ()

    def labels(self, repository: str, manifest: Manifest) -> dict[str, str]:
        """The labels of an image; of an index those of its first image."""
        if manifest.is_index:
            images = manifest.images()
            return self.labels(repository, self.get(repository, images[0])) if images else {}
        config = manifest.config()
        return manifests.labels(self.config(repository, config)) if config else {}

    def config(self, repository: str, config: Blob) -> bytes:
        """The config of an image."""
        path = f"{repository}/blobs/{config.digest}"
        with self._call("GET", path, pull(repository), "read") as answer:
            content = self._small(answer, path)
        self._prove(path, config.digest, manifests.digest(content))
        return content

    def has(self, repository: str, blob: Blob) -> bool:
        """Whether the registry holds a blob for this repository."""
        path = f"{repository}/blobs/{blob.digest}"
        with self._call("HEAD", path, pull(repository), "read", missing=True) as answer:
            return answer.status_code != HTTPStatus.NOT_FOUND

    @contextmanager
    def reading(self, repository: str, blob: Blob) -> Iterator[Iterator[bytes]]:
        """The bytes of a blob in pieces, while the block lasts."""
        with self._call("GET", f"{repository}/blobs/{blob.digest}", pull(repository), "read") as answer:
            yield self._chunks(answer)

    def _chunks(self, answer: requests.Response) -> Iterator[bytes]:
        """The body; where it breaks off, this registry is named, not the one that it goes to."""
        with http.errors(self.host):
            yield from answer.iter_content(CHUNK)

    # Writing -----------------------------------------------------------------------------------------------

    def put(self, repository: str, reference: str, manifest: Manifest) -> None:
        """Store a manifest under a tag or its digest, byte for byte. What it names must be there already.

        Raises:
            Refused: the tag is immutable and stands for something else.
            PipelineError: the registry made something else of it.
        """
        path = f"{repository}/manifests/{reference}"
        with self._call(
            "PUT", path, push(repository), "push", data=manifest.raw, media_type=manifest.media_type
        ) as answer:
            self._prove(path, answer.headers.get("Docker-Content-Digest"), manifest.digest)
        self.meter.bytes_pushed += manifest.size

    def refer(self, repository: str, digest: str, rows: Iterable[dict[str, Any]]) -> None:
        """Let the registry list `rows`, descriptors of manifests that are there already, as referrers of `digest`.

        A registry with the API for it knows them by their `subject`; in any other the tag's index is written anew
        (spec.md, "Pushing Manifests with Subject"). Where that tag is immutable and there already, a warning says so.
        """
        if self._referrers_by_api(repository, digest) is not None:
            return
        known = {row.get("digest"): row for row in self._referrers_by_tag(repository, digest)}
        merged = known | {row["digest"]: row for row in rows}
        if len(merged) > len(known):
            try:
                self.put(repository, manifests.referrers_tag(digest), manifests.index(merged.values()))
            except Refused as error:
                # Nobody can add to it any more, so there is nothing to mend before the image may be published.
                log.warning(
                    "%s; what refers to %s is there but not all of it is listed", error.message, digest
                )

    def copy(self, repository: str, blob: Blob, source: Source, source_repository: str) -> bool:
        """Bring a blob here: mounted where source and target are one registry, else streamed.

        Returns:
            Whether it was mounted, that is, no byte was moved (spec.md, "Mounting a blob from another repository").
        """
        for attempt in range(1, TRIES):
            try:
                return self._copy(repository, blob, source, source_repository)
            except Unavailable as error:
                # Harmless to begin again: a mount is idempotent, an upload left open is purged, a blob that did
                # arrive is looked for first.
                log.info("%s; beginning again with %s", error.message, blob.digest[:19])
                time.sleep(error.retry_after + random.uniform(0, 2.0**attempt / 4))  # noqa: S311 (jitter, no secret)
        return self._copy(repository, blob, source, source_repository)

    def _copy(self, repository: str, blob: Blob, source: Source, source_repository: str) -> bool:
        location = None
        if source.host == self.host:
            location = self._mount(repository, blob, source_repository)
            if location is None:
                self.meter.bytes_mounted += blob.size
                return True
        # The registry would not mount: it may have the blob all the same, from a run that was cut off.
        if self.has(repository, blob):
            self.meter.cache_hits += 1
        else:
            log.info("%s: copying %d bytes of %s", repository, blob.size, blob.digest[:19])
            target = location or self._open(f"{repository}/blobs/uploads/", push(repository)) or ""
            with source.reading(source_repository, blob) as chunks:
                self._stream(target, blob, chunks, push(repository))
            self.meter.bytes_pushed += blob.size
        return False

    def _mount(self, repository: str, blob: Blob, source_repository: str) -> str | None:
        """Ask for a mount; None when it is done, else where an upload has been opened instead."""
        query = f"mount={blob.digest}&from={source_repository}"
        scope = f"{push(repository)} {pull(source_repository)}"
        return self._open(f"{repository}/blobs/uploads/?{query}", scope)

    def _open(self, path: str, scope: str) -> str | None:
        """POST for an upload; None when there is nothing left to send."""
        with self._call("POST", path, scope, "push") as answer:
            if answer.status_code == HTTPStatus.CREATED:
                return None
            location = answer.headers.get("Location")
            if answer.status_code != HTTPStatus.ACCEPTED or not location:
                raise no_registry(answer, self.host, "an upload's address")
            return urljoin(answer.url, location)

    def _stream(self, location: str, blob: Blob, chunks: Iterator[bytes], scope: str) -> None:
        """The second half of "POST then PUT" (spec.md)."""
        url = f"{location}{'&' if urlsplit(location).query else '?'}digest={blob.digest}"
        body = Body(chunks, blob.size)
        with self._call(
            "PUT", url, scope, "push", data=body, media_type="application/octet-stream"
        ) as answer:
            # A registry has checked the digest before it says this; a proxy's page says it has not been asked.
            if answer.status_code != HTTPStatus.CREATED:
                raise no_registry(answer, self.host, "201")


_SCHEMA_1 = "application/vnd.docker.distribution.manifest.v1"
"""Docker's "Image Manifest Version 2, Schema 1": its digest is not that of its bytes."""
_ACCEPT = ", ".join((*manifests.ACCEPTED, "*/*"))
