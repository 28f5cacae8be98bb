"""The referrers API, which Debian's docker-registry 2.8 lacks: a rule for the proxy in front of it.

OCI distribution spec 1.1, "Listing Referrers": an index of the manifests whose `subject` is the digest, 200 and
empty where there are none.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sandbox.proxy import Answer

if TYPE_CHECKING:
    from sandbox.proxy import Request

INDEX = "application/vnd.oci.image.index.v1+json"
PUT = re.compile(r"^/v2/(?P<name>.+)/manifests/[^?]+")
ASKED = re.compile(r"^/v2/(?P<name>.+)/referrers/(?P<digest>sha256:[0-9a-f]{64})(?:\?page=(?P<page>\d+))?$")


@dataclass
class ReferrersApi:
    """Remembers each manifest with a subject that passes, and lists `page` of them at a time."""

    page: int = 100
    _rows: dict[tuple[str, str], dict[str, dict[str, Any]]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, request: Request) -> Answer | None:
        asked, put = ASKED.match(request.path), PUT.match(request.path)
        if asked and request.method == "GET":
            return self._list(asked)
        if put and request.method == "PUT":
            self._note(put["name"], request.body(), request.headers)
        return None

    def _note(self, name: str, raw: bytes, headers: Any) -> None:
        data = json.loads(raw)
        if "subject" in data:
            kind = data.get("artifactType") or data["config"]["mediaType"]
            digest = f"sha256:{hashlib.sha256(raw).hexdigest()}"
            row = {
                "mediaType": headers["Content-Type"],
                "digest": digest,
                "size": len(raw),
                "artifactType": kind,
                "annotations": data.get("annotations", {}),
            }
            with self._lock:
                self._rows.setdefault((name, data["subject"]["digest"]), {})[digest] = row

    def _list(self, asked: re.Match[str]) -> Answer:
        with self._lock:
            rows = list(self._rows.get((asked["name"], asked["digest"]), {}).values())
        start = int(asked["page"] or 0) * self.page
        body = {"schemaVersion": 2, "mediaType": INDEX, "manifests": rows[start : start + self.page]}
        headers = {"Content-Type": INDEX}
        if len(rows) > start + self.page:
            path = asked.string.partition("?")[0]
            headers["Link"] = f'<{path}?page={int(asked["page"] or 0) + 1}>; rel="next"'
        return Answer(200, json.dumps(body).encode(), headers)
