"""`buildctl build` as far as its output goes: an image with two attestations, in the folder that `dest` names.

Run as a program, with the words of `buildctl`. Forms: github.com/moby/buildkit, docs/attestations/
attestation-storage.md. Where the variable `VERSION` names is 0.18 it knows no `oci-artifact` and leaves the legacy
form, which has no subject.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from pathlib import Path
from typing import Any

OCI = "application/vnd.oci.image"
IN_TOTO = "application/vnd.in-toto+json"
ARTIFACT = "application/vnd.docker.attestation.manifest.v1+json"
PREDICATES = ("https://slsa.dev/provenance/v1", "https://spdx.dev/Document")
VERSION = "FAKE_BUILDKIT_VERSION"
UNKNOWN = {"os": "unknown", "architecture": "unknown"}


def main(*words: str) -> None:
    labels = dict(word.removeprefix("--opt=label:").split("=", 1) for word in words if "=label:" in word)
    output = next(word for word in words if word.startswith("--output="))
    exporter = dict(pair.split("=", 1) for pair in output.removeprefix("--output=").split(","))
    is_attested = any("attest:" in word for word in words)
    is_artifact = exporter.get("oci-artifact") == "true" and os.environ.get(VERSION) != "0.18"
    leave(Path(exporter["dest"]), labels, is_attested, is_artifact)


def leave(folder: Path, labels: dict[str, str], is_attested: bool, is_artifact: bool) -> None:
    (folder / "blobs" / "sha256").mkdir(parents=True)

    def put(kind: str, content: bytes) -> dict[str, Any]:
        name = hashlib.sha256(content).hexdigest()
        (folder / "blobs" / "sha256" / name).write_bytes(content)
        return {"mediaType": kind, "digest": f"sha256:{name}", "size": len(content)}

    def document(kind: str, **members: Any) -> dict[str, Any]:
        return put(kind, json.dumps({"schemaVersion": 2, "mediaType": kind, **members}).encode())

    config = {"os": "linux", "architecture": "amd64", "config": {"Labels": labels}, "rootfs": {}}
    image = document(
        f"{OCI}.manifest.v1+json",
        config=put(f"{OCI}.config.v1+json", json.dumps(config).encode()),
        layers=[put(f"{OCI}.layer.v1.tar", b"a layer")],
    )
    rows = [image | {"platform": {"os": "linux", "architecture": "amd64"}}]
    if is_attested:
        statements = [
            put(IN_TOTO, json.dumps({"predicateType": predicate}).encode())
            | {"annotations": {"in-toto.io/predicate-type": predicate}}
            for predicate in PREDICATES
        ]
        attested: dict[str, Any] = (
            {
                "artifactType": ARTIFACT,
                "config": put("application/vnd.oci.empty.v1+json", b"{}"),
                "subject": image,
            }
            if is_artifact
            else {"config": put(f"{OCI}.config.v1+json", json.dumps(UNKNOWN).encode())}
        )
        reference = {
            "vnd.docker.reference.type": "attestation-manifest",
            "vnd.docker.reference.digest": image["digest"],
        }
        manifest = document(f"{OCI}.manifest.v1+json", **attested, layers=statements)
        rows.append(manifest | {"platform": UNKNOWN, "annotations": reference})
    index = document(f"{OCI}.index.v1+json", manifests=rows)
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [index]}))


if __name__ == "__main__" and sys.argv[1:2] == ["build"]:
    main(*sys.argv[2:])
