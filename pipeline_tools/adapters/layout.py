"""An image in a folder, as builders write it (OCI image spec 1.1, image-layout.md), and how it gets to a registry."""

import gzip
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from pipeline_tools.errors import PipelineError
from pipeline_tools.text import manifests
from pipeline_tools.text.manifests import Blob, Manifest
from pipeline_tools.text.recipes import Described
from pipeline_tools.text.references import Repository

CHUNK = 1 << 20
_GZIP = b"\x1f\x8b"


class Source(Protocol):
    """What blobs are read from."""

    @property
    def host(self) -> str: ...

    def reading(self, repository: str, blob: Blob) -> AbstractContextManager[Iterator[bytes]]: ...


class Target(Protocol):
    """The registry that an image goes to."""

    def copy(self, repository: str, blob: Blob, source: Source, source_repository: str) -> bool: ...

    def put(self, repository: str, reference: str, manifest: Manifest) -> None: ...

    def refer(self, repository: str, digest: str, rows: Iterable[dict[str, Any]]) -> None: ...


@dataclass(frozen=True)
class Layout:
    """The one image, or index of images, in the folder `path`."""

    path: Path

    @property
    def host(self) -> str:
        """No registry's name: nothing can be mounted from here."""
        return ""

    @property
    def top(self) -> Manifest:
        """The manifest or index that `index.json` names.

        Raises:
            PipelineError: it names none, or several.
        """
        index = Manifest(manifests.OCI_INDEX, (self.path / "index.json").read_bytes())
        digests = index.children()
        if len(digests) != 1:
            raise PipelineError(
                f"the builder left {len(digests)} images, not one", hint="see -v for all that it said"
            )
        return self._manifest(digests[0])

    def described(self) -> tuple[Described, ...]:
        """What each of its images says of itself; sizes are those of the layers unpacked."""
        top = self.top
        images = [self._manifest(digest) for digest in top.images()] if top.is_index else [top]
        return tuple(self._described(image) for image in images)

    def push(self, place: Repository, tag: str, target: Target) -> str:
        """Push it as `place`:`tag`, the tag last; its digest.

        What in an index has a `subject`, as BuildKit's attestations do (github.com/moby/buildkit,
        docs/attestations/attestation-storage.md), is listed among the referrers of that image too.

        Raises:
            Denied: the registry does not let us. Refused: the tag is immutable. Unavailable: worth trying again.
        """
        top = self.top
        for child in map(self._manifest, top.children()):
            self._send(child, place, target)
            target.put(place.name, child.digest, child)
            if subject := child.subject():
                target.refer(place.name, subject, [child.descriptor()])
        self._send(top, place, target)
        target.put(place.name, tag, top)
        return top.digest

    @contextmanager
    def reading(self, repository: str, blob: Blob) -> Iterator[Iterator[bytes]]:  # noqa: ARG002 (there is one)
        """The bytes of a blob in pieces, while the block lasts."""
        with self._blob(blob.digest).open("rb") as file:
            yield iter(lambda: file.read(CHUNK), b"")

    def _send(self, image: Manifest, place: Repository, target: Target) -> None:
        for blob in image.blobs():
            target.copy(place.name, blob, self, "")

    def _described(self, image: Manifest) -> Described:
        config = image.config()
        sizes = [self._unpacked(layer.digest) for layer in image.layers()]
        return manifests.described(self._blob(config.digest).read_bytes() if config else b"{}", sizes)

    def _unpacked(self, digest: str) -> int:
        """Bytes of a layer's tar; a layer in another compression than gzip counts as it is."""
        path = self._blob(digest)
        with path.open("rb") as raw:
            is_gzip = raw.read(2) == _GZIP
        if not is_gzip:
            return path.stat().st_size
        with gzip.open(path) as file:
            return sum(len(chunk) for chunk in iter(lambda: file.read(CHUNK), b""))

    def _manifest(self, digest: str) -> Manifest:
        raw = self._blob(digest).read_bytes()
        return Manifest(manifests.media_type(raw), raw)

    def _blob(self, digest: str) -> Path:
        kind, _, name = digest.partition(":")
        return self.path / "blobs" / kind / name
