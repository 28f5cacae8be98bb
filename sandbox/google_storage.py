"""Google Cloud Storage as Terraform's `gcs` backend meets it: objects with generations, so that its lock is one.

The JSON API's objects: https://cloud.google.com/storage/docs/json_api/v1/objects; the conditions:
https://cloud.google.com/storage/docs/request-preconditions. PyPI's gcp-storage-emulator takes `ifGenerationMatch` and
does not look at it, so that two lock holders would not meet.
"""

from __future__ import annotations

import contextlib
import threading
from dataclasses import dataclass, field
from http import HTTPStatus
from itertools import count
from typing import TYPE_CHECKING, Any

from flask import Flask, Response, abort, jsonify, request
from werkzeug.http import parse_options_header
from werkzeug.serving import WSGIRequestHandler, make_server

from sandbox.services import serving

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

TOKEN = "sandbox-access-token"


@dataclass(frozen=True)
class _Object:
    generation: int
    content: bytes


@dataclass
class _Objects:
    """The objects by bucket and name; each write has a generation of its own."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    found: dict[tuple[str, str], _Object] = field(default_factory=dict)
    generations: Iterator[int] = field(default_factory=lambda: count(1))

    def write(self, place: tuple[str, str], content: bytes, condition: str | None) -> _Object:
        with self.lock:
            self._check(place, condition)
            made = self.found[place] = _Object(next(self.generations), content)
            return made

    def delete(self, place: tuple[str, str], condition: str | None) -> None:
        with self.lock:
            if place not in self.found:
                abort(HTTPStatus.NOT_FOUND)
            self._check(place, condition)
            del self.found[place]

    def _check(self, place: tuple[str, str], condition: str | None) -> None:
        """Compare with `ifGenerationMatch`; 0 means that there is no such object."""
        now = self.found[place].generation if place in self.found else 0
        if condition is not None and int(condition) != now:
            abort(HTTPStatus.PRECONDITION_FAILED)


class GoogleStorage:
    """The server, on 127.0.0.1; every bucket is there already, and `TOKEN` may do everything."""

    def __init__(self) -> None:
        self._objects = _Objects()
        app = _app(self._objects)
        self._server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=_Quiet)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    @classmethod
    @contextlib.contextmanager
    def start(cls) -> Iterator[GoogleStorage]:
        """Serve until the block ends."""
        storage = cls()
        with serving(storage._server):
            yield storage

    @property
    def variables(self) -> Mapping[str, str]:
        """What the backend takes from the environment (Terraform docs: Backend type gcs)."""
        return {
            "GOOGLE_BACKEND_STORAGE_CUSTOM_ENDPOINT": f"{self.url}/storage/v1/",
            "GOOGLE_OAUTH_ACCESS_TOKEN": TOKEN,
        }

    def backend(self, bucket: str, prefix: str) -> str:
        """The backend's block; the state is the object `prefix/default.tfstate`, its lock `prefix/default.tflock`."""
        return (
            f'terraform {{\n  backend "gcs" {{\n    bucket = "{bucket}"\n    prefix = "{prefix}"\n  }}\n}}\n'
        )

    def read(self, bucket: str, name: str) -> bytes | None:
        """An object, or None."""
        found = self._objects.found.get((bucket, name))
        return found.content if found else None

    def write(self, bucket: str, name: str, content: bytes) -> int:
        """Plant an object; its generation, which for a lock is the ID that `force-unlock` wants."""
        return self._objects.write((bucket, name), content, None).generation

    def delete(self, bucket: str, name: str) -> None:
        self._objects.delete((bucket, name), None)


class _Quiet(WSGIRequestHandler):
    """Says nothing on stderr; what happened can be asked of the objects."""

    def log(self, type: str, message: str, *args: Any) -> None:  # noqa: A002 - werkzeug's own name
        pass


def _app(objects: _Objects) -> Flask:
    app = Flask("sandbox.google_storage", static_folder=None)
    app.before_request(_authenticate)
    app.add_url_rule("/storage/v1/b/<bucket>/o", "list", lambda bucket: _list(objects, bucket))
    app.add_url_rule(
        "/storage/v1/b/<bucket>/o/<path:name>",
        "metadata",
        lambda bucket, name: _metadata((bucket, name), _found(objects, (bucket, name))),
    )
    app.add_url_rule(
        "/storage/v1/b/<bucket>/o/<path:name>",
        "delete",
        lambda bucket, name: _delete(objects, (bucket, name)),
        methods=["DELETE"],
    )
    app.add_url_rule(
        "/upload/storage/v1/b/<bucket>/o",
        "upload",
        lambda bucket: _upload(objects, bucket),
        methods=["POST"],
    )
    app.add_url_rule(
        "/<bucket>/<path:name>", "media", lambda bucket, name: _media(_found(objects, (bucket, name)))
    )
    return app


def _authenticate() -> None:
    if request.headers.get("Authorization") != f"Bearer {TOKEN}":
        abort(HTTPStatus.UNAUTHORIZED)


def _found(objects: _Objects, place: tuple[str, str]) -> _Object:
    return objects.found.get(place) or abort(HTTPStatus.NOT_FOUND)


def _media(found: _Object) -> Response:
    """Give the content, as the XML API does, which the Go client reads with."""
    headers = {"X-Goog-Generation": str(found.generation), "X-Goog-Metageneration": "1"}
    return Response(found.content, headers=headers)


def _list(objects: _Objects, bucket: str) -> dict[str, Any]:
    prefix = request.args.get("prefix", "")
    with objects.lock:
        places = sorted(
            place for place in objects.found if place[0] == bucket and place[1].startswith(prefix)
        )
        return {
            "kind": "storage#objects",
            "items": [_metadata(place, objects.found[place]) for place in places],
        }


def _metadata(place: tuple[str, str], found: _Object) -> dict[str, str]:
    """Show an object (docs: Objects, "Resource representations")."""
    bucket, name = place
    return {
        "kind": "storage#object",
        "bucket": bucket,
        "name": name,
        "generation": str(found.generation),
        "metageneration": "1",
        "size": str(len(found.content)),
    }


def _upload(objects: _Objects, bucket: str) -> Response:
    """Take `uploadType=multipart`: a part of metadata, and one of content (docs: Objects: insert)."""
    boundary = parse_options_header(request.headers["Content-Type"])[1]["boundary"]
    _, _, part, _ = request.get_data().split(f"--{boundary}".encode())
    content = part.partition(b"\r\n\r\n")[2].removesuffix(b"\r\n")
    place = (bucket, request.args["name"])
    made = objects.write(place, content, request.args.get("ifGenerationMatch"))
    return jsonify(_metadata(place, made))


def _delete(objects: _Objects, place: tuple[str, str]) -> tuple[str, int]:
    objects.delete(place, request.args.get("ifGenerationMatch"))
    return "", HTTPStatus.NO_CONTENT.value
