"""An image brought from one repository to another: all that it consists of, and all that refers to it."""

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pipeline_tools.text.manifests import Blob, Manifest

if TYPE_CHECKING:
    from pipeline_tools.adapters.registry import Registries, Registry
    from pipeline_tools.text.references import Repository

log = logging.getLogger(__name__)


def bring(manifest: Manifest, origin: "Repository", target: "Repository", registries: "Registries") -> None:
    """Bring what `manifest` names and what refers to it; `manifest` itself is left for the caller to put under a tag.

    Each blob is mounted or sent once, however many manifests name it. What refers to the image (its `subject`, OCI
    image spec 1.1) goes before it, as the specification allows: who sees the tag sees the signatures too.

    Raises:
        PipelineError: the source lacks something that is named, or the target does not take it.
    """
    copy = _Copy(registries.at(origin), origin.name, registries.at(target), target.name)
    copy.parts(manifest)
    copy.referrers(manifest.digest)


@dataclass
class _Copy:
    """One copy under way; `seen` are the digests that have been dealt with."""

    source: "Registry"
    origin: str
    target: "Registry"
    name: str
    seen: set[str] = field(default_factory=set)

    def parts(self, manifest: Manifest) -> None:
        """Blobs, and of an index its manifests with all that is theirs."""
        for digest in manifest.children():
            if self._is_new(digest):
                self._whole(self.source.get(self.origin, digest))
        for blob in manifest.blobs():
            self._blob(blob)

    def referrers(self, digest: str) -> None:
        """What names `digest` as its subject; a listing may name others too, which do not go along."""
        rows = []
        for row in self.source.referrers(self.origin, digest):
            referrer = self.source.find(self.origin, str(row.get("digest")))
            if referrer is None:
                log.warning(
                    "%s lists %s of %s, which is not there any more", self.origin, row.get("digest"), digest
                )
            elif referrer.subject() == digest:
                rows.append(row)
                if self._is_new(referrer.digest):
                    self._whole(referrer)
        if rows:
            self.target.refer(self.name, digest, rows)

    def _whole(self, manifest: Manifest) -> None:
        self.parts(manifest)
        self.referrers(manifest.digest)
        self.target.put(self.name, manifest.digest, manifest)

    def _blob(self, blob: Blob) -> None:
        if self._is_new(blob.digest):
            self.target.copy(self.name, blob, self.source, self.origin)

    def _is_new(self, digest: str) -> bool:
        is_new = digest not in self.seen
        self.seen.add(digest)
        return is_new
