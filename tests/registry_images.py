"""Images put into a registry without an engine, and what a registry holds: by plain requests, none of our client."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from typing import TYPE_CHECKING, Any

import requests

from tests.conftest import CI_PASSWORD, CI_USER

if TYPE_CHECKING:
    from sandbox.registry import Registry

MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
INDEX = "application/vnd.oci.image.index.v1+json"
OCI = "application/vnd.oci.image.manifest.v1+json"
ACCEPT = {"Accept": f"{MANIFEST}, {OCI}, {INDEX}"}
REVISION = "org.opencontainers.image.revision"


def headers(registry: Registry, repository: str) -> dict[str, str]:
    """What authorises CI_USER to pull and push."""
    if registry.tokens is None:
        request = requests.Request("GET", registry.url, auth=(CI_USER, CI_PASSWORD)).prepare()
        return {"Authorization": str(request.headers["Authorization"])}
    scope = {"service": "sandbox-registry", "scope": f"repository:{repository}:pull,push"}
    answer = requests.get(registry.tokens.realm, params=scope, auth=(CI_USER, CI_PASSWORD), timeout=5)
    return {"Authorization": f"Bearer {answer.json()['token']}"}


def put_blob(registry: Registry, repository: str, content: bytes) -> dict[str, Any]:
    """Upload a blob; its descriptor without media type."""
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    auth = headers(registry, repository)
    opened = requests.post(f"{registry.url}/v2/{repository}/blobs/uploads/", headers=auth, timeout=5)
    opened.raise_for_status()
    url = opened.headers["Location"]
    requests.put(url, params={"digest": digest}, data=content, headers=auth, timeout=30).raise_for_status()
    return {"digest": digest, "size": len(content)}


def put_manifest(
    registry: Registry, repository: str, reference: str, raw: bytes, media: str = MANIFEST
) -> str:
    url = f"{registry.url}/v2/{repository}/manifests/{reference}"
    auth = headers(registry, repository)
    answer = requests.put(url, data=raw, headers={**auth, "Content-Type": media}, timeout=5)
    answer.raise_for_status()
    return str(answer.headers["Docker-Content-Digest"])


def put_image(
    registry: Registry,
    repository: str,
    reference: str,
    labels: dict[str, str] | None = None,
    *,
    layers: tuple[bytes, ...] = (b"one", b"two"),
) -> str:
    """Push an image whose layers hold one file each, its manifest spaced like nobody else's; the digest."""
    diffs = [_digest(_tar(layer)) for layer in layers]
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Labels": labels or {}},
        "rootfs": {"type": "layers", "diff_ids": diffs},
    }
    rows = [
        {
            "mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip",
            **put_blob(registry, repository, gzip.compress(_tar(layer), mtime=0)),
        }
        for layer in layers
    ]
    blob = put_blob(registry, repository, json.dumps(config).encode())
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": {"mediaType": "application/vnd.docker.container.image.v1+json", **blob},
        "layers": rows,
    }
    raw = json.dumps(manifest, indent=5, separators=(" ,", "  :  ")).encode() + b"\n\n"
    by = f"sha256:{hashlib.sha256(raw).hexdigest()}" if reference == "@" else reference
    return put_manifest(registry, repository, by, raw)


def put_index(registry: Registry, repository: str, reference: str, children: list[str]) -> str:
    """Push an index over manifests that are there, the first an attestation as BuildKit lists it."""
    rows = []
    for at, digest in enumerate(children):
        platform = {"os": "linux", "architecture": ("amd64", "arm64")[at % 2]}
        size = len(raw_manifest(registry, repository, digest))
        rows.append({"mediaType": MANIFEST, "digest": digest, "size": size, "platform": platform})
    rows.insert(0, {**rows[0], "platform": {"os": "unknown", "architecture": "unknown"}})
    raw = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": rows}, indent=1).encode()
    return put_manifest(registry, repository, reference, raw, INDEX)


def raw_manifest(registry: Registry, repository: str, reference: str) -> bytes:
    url = f"{registry.url}/v2/{repository}/manifests/{reference}"
    answer = requests.get(url, headers={**headers(registry, repository), **ACCEPT}, timeout=5)
    answer.raise_for_status()
    return answer.content


def contents(registry: Registry, repository: str) -> dict[str, str]:
    """Digest by tag."""
    auth = headers(registry, repository)
    listed = requests.get(f"{registry.url}/v2/{repository}/tags/list", headers=auth, timeout=5)
    tags = listed.json().get("tags") or [] if listed.ok else []
    return {tag: _digest(raw_manifest(registry, repository, tag)) for tag in tags}


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _tar(content: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        entry = tarfile.TarInfo("file")
        entry.size = len(content)
        tar.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()
