"""What a publication took."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Usage:
    """Bytes, requests and seconds of one publication.

    `bytes_pushed` are those of blobs and manifests that were sent, `bytes_mounted` those of blobs that the registry
    had in another repository, and `cache_hits` how many blobs the target had already; `requests` counts tries again
    and those for tokens too.
    """

    bytes_pushed: int
    bytes_mounted: int
    cache_hits: int
    requests: int
    seconds: float
