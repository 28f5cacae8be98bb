"""Manifests of images, as bytes that are never written anew: another spacing is another digest.

Sources: OCI image spec 1.1, manifest.md, image-index.md, config.md; Docker's "Image Manifest Version 2, Schema 2".
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from pipeline_tools.errors import PipelineError
from pipeline_tools.text.recipes import Described, Layer

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
ACCEPTED = (OCI_INDEX, DOCKER_LIST, OCI_MANIFEST, DOCKER_MANIFEST)

REVISION = "org.opencontainers.image.revision"
VERSION = "org.opencontainers.image.version"
"""The labels that name the commit and the version (OCI image spec 1.1, annotations.md)."""


def digest(content: bytes) -> str:
    """The content's name: `sha256:` and 64 hexadecimal digits (OCI image spec 1.1, descriptor.md, "Digests")."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


@dataclass(frozen=True)
class Blob:
    """A layer or a config: its digest and its size in bytes."""

    digest: str
    size: int


@dataclass(frozen=True)
class Manifest:
    """An image manifest or an index: the bytes as the registry gave them, and what they are."""

    media_type: str
    raw: bytes = field(repr=False)

    @property
    def digest(self) -> str:
        return digest(self.raw)

    @property
    def size(self) -> int:
        return len(self.raw)

    @property
    def is_index(self) -> bool:
        return self.media_type in {OCI_INDEX, DOCKER_LIST}

    def children(self) -> tuple[str, ...]:
        """Digests of the manifests that an index lists; none of an image."""
        return tuple(dict.fromkeys(_blob(row).digest for row in self._rows("manifests")))

    def images(self) -> tuple[str, ...]:
        """Digests of the images among the children.

        BuildKit lists its attestations as manifests too, with the platform `unknown/unknown` (docs.docker.com,
        "Image attestation storage").
        """
        rows = [row for row in self._rows("manifests") if _os(row) != "unknown"]
        return tuple(_blob(row).digest for row in rows)

    def platforms(self) -> tuple[str, ...]:
        """What the images of an index run on: os/architecture[/variant] (image-index.md, `platform`)."""
        rows = [
            row["platform"]
            for row in self._rows("manifests")
            if isinstance(row.get("platform"), dict) and _os(row) != "unknown"
        ]
        return tuple(dict.fromkeys(map(_platform, rows)))

    def blobs(self) -> tuple[Blob, ...]:
        """Config, layers and (of an artifact, OCI image spec 1.1-rc, artifact.md) `blobs`, each once; none of an index.

        Layers that may not be distributed have `urls` and are in no registry (OCI image spec 1.1, layer.md,
        "Non-Distributable Layers").
        """
        rows = [*self._rows("layers"), *self._rows("blobs")]
        layers = [row for row in rows if not row.get("urls")]
        return tuple(dict.fromkeys(_blob(row) for row in (*self._config(), *layers)))

    def subject(self) -> str | None:
        """The digest of the manifest that this one refers to, as a signature does (manifest.md, `subject`)."""
        row = self._data().get("subject")
        return str(row.get("digest", "")) if isinstance(row, dict) else None

    def descriptor(self) -> dict[str, Any]:
        """How a list of referrers names this manifest (OCI distribution spec 1.1, "Listing Referrers").

        Its artifact type is that of its config where it states none; an index may have neither.
        """
        data, config = self._data(), next(iter(self._config()), {})
        row = {"mediaType": self.media_type, "digest": self.digest, "size": self.size}
        kind = data.get("artifactType") or config.get("mediaType")
        more = {"artifactType": kind, "annotations": data.get("annotations")}
        return row | {key: value for key, value in more.items() if value}

    def rows(self) -> tuple[dict[str, Any], ...]:
        """The descriptors that an index lists, with all their members (descriptor.md); none of an image."""
        return tuple(self._rows("manifests"))

    def layers(self) -> tuple[Blob, ...]:
        """The layers of an image, in their order."""
        return tuple(_blob(row) for row in self._rows("layers"))

    def config(self) -> Blob | None:
        """The image's config; None of an index."""
        return next((_blob(row) for row in self._config()), None)

    def _config(self) -> list[dict[str, Any]]:
        row = self._data().get("config")
        return [row] if isinstance(row, dict) else []

    def _rows(self, key: str) -> list[dict[str, Any]]:
        rows = self._data().get(key)
        return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []

    def _data(self) -> dict[str, Any]:
        return _object(self.raw, self.digest)


def index(rows: Iterable[dict[str, Any]]) -> Manifest:
    """An index that lists `rows`, descriptors with all their members (image-index.md)."""
    data = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": list(rows)}
    return Manifest(OCI_INDEX, json.dumps(data, indent=2).encode())


def referrers_tag(digest: str) -> str:
    """The tag of the index of what refers to `digest` (OCI distribution spec 1.1, "Referrers Tag Schema")."""
    return digest.replace(":", "-", 1)


def media_type(raw: bytes) -> str:
    """What a manifest's bytes say they are; of those that do not say, what their fields tell (manifest.md, `mediaType`)."""
    data = _object(raw, digest(raw))
    return str(data.get("mediaType") or (OCI_INDEX if "manifests" in data else OCI_MANIFEST))


def labels(config: bytes) -> dict[str, str]:
    """The labels in an image's config (OCI image spec 1.1, config.md, `config.Labels`)."""
    inner = _object(config, digest(config)).get("config")
    found = inner.get("Labels") if isinstance(inner, dict) else None
    return {str(key): str(value) for key, value in found.items()} if isinstance(found, dict) else {}


def platform(config: bytes) -> str:
    """What an image runs on, by its config: os/architecture[/variant] (OCI image spec 1.1, config.md)."""
    return _platform(_object(config, digest(config)))


def described(config: bytes, sizes: Sequence[int]) -> Described:
    """What an image's config says, its layers of these `sizes` each with what made it (config.md, `history`)."""
    data = _object(config, digest(config))
    inner, rows = data.get("config"), data.get("history")
    inner = inner if isinstance(inner, dict) else {}
    rows = rows if isinstance(rows, list) else []
    history = [row for row in rows if isinstance(row, dict) and not row.get("empty_layer")]
    made_by = [str(row.get("created_by", "")) for row in history]
    made_by += [""] * (len(sizes) - len(made_by))
    layers = tuple(Layer(size, words) for size, words in zip(sizes, made_by, strict=False))
    return Described(str(inner.get("User") or ""), labels(config), layers, _platform(data))


def _platform(row: dict[str, Any]) -> str:
    return "/".join(str(row[key]) for key in ("os", "architecture", "variant") if row.get(key))


def _os(row: dict[str, Any]) -> str:
    platform = row.get("platform")
    return str(platform.get("os", "")) if isinstance(platform, dict) else ""


def _blob(row: dict[str, Any]) -> Blob:
    digest, size = row.get("digest"), row.get("size", 0)
    if not isinstance(digest, str) or not isinstance(size, int):
        raise PipelineError("a manifest has a descriptor without digest or size", hint="is it an image?")
    return Blob(digest, size)


def _object(content: bytes, name: str) -> dict[str, Any]:
    try:
        data = json.loads(content)
    except ValueError:
        data = None
    if not isinstance(data, dict):
        raise PipelineError(f"{name} is not a JSON object", hint="is it an image?")
    return data
