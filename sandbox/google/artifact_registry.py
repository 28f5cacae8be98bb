"""Artifact Registry's door: a rule of the proxy before a real registry, which takes Google's access tokens.

Bearer and Basic with `oauth2accesstoken`: cloud.google.com/artifact-registry/docs/docker/authentication; the token
server at /v2/token and its challenge as docker/setup-buildx-action issue 79 shows them; the words of refusals:
docker/build-push-action issue 171, GoogleCloudPlatform/developer-journey-app issue 117.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sandbox.proxy import Answer, Request, error_body

if TYPE_CHECKING:
    from sandbox.google.tokens import Issued, Tokens

NAME = re.compile(r"^/v2/(?P<name>.+?)/(?:manifests|blobs|tags|referrers)(?:/|$)")
READS = frozenset({"GET", "HEAD"})
JSON = {"Content-Type": "application/json"}


@dataclass
class ArtifactRegistry:
    """Which repositories (`PROJECT/REPOSITORY`) there are, and the members that may read, or read and write, each."""

    tokens: Tokens = field(repr=False)
    writers: dict[str, frozenset[str]] = field(default_factory=dict)
    readers: dict[str, frozenset[str]] = field(default_factory=dict)
    location: str = "europe-west1"
    takes_bearer: bool = True
    """Whether access tokens are taken as they are; Google does, others want theirs from the token server."""

    def __call__(self, request: Request) -> Answer | None:
        if request.path.startswith("/v2/token"):
            return self._token(request)
        who = self._who(request)
        if who is None:
            return self._challenge(request)
        found = NAME.match(request.path)
        return self._refusal(request.method, found["name"], who.member) if found else None

    def _who(self, request: Request) -> Issued | None:
        scheme, _, rest = _header(request, "Authorization").partition(" ")
        if scheme == "Basic":
            return self._basic(rest)
        found = self.tokens.find(rest) if scheme == "Bearer" else None
        return found if found and (self.takes_bearer or found.member.startswith("registry:")) else None

    def _basic(self, encoded: str) -> Issued | None:
        try:
            user, _, password = base64.b64decode(encoded, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            return None
        return self.tokens.find(password) if user == "oauth2accesstoken" else None

    def _token(self, request: Request) -> Answer:
        who = self._who(request)
        if who is None:
            return Answer(401, error_body("UNAUTHORIZED", "authentication failed"), JSON)
        made = self.tokens.issue(f"registry:{who.member}", who.seconds)
        return Answer(200, json.dumps({"token": made.token, "expires_in": made.seconds}).encode(), JSON)

    def _challenge(self, request: Request) -> Answer:
        host = _header(request, "Host")
        challenge = f'Bearer realm="http://{host}/v2/token",service="{host}"'
        return Answer(
            401,
            error_body("UNAUTHORIZED", "Unauthenticated request."),
            {**JSON, "WWW-Authenticate": challenge},
        )

    def _refusal(self, method: str, name: str, member: str) -> Answer | None:
        project, _, rest = name.partition("/")
        repository, _, image = rest.partition("/")
        if not image:
            words = "Missing image name. Pushes should be of the form docker push HOST-NAME/PROJECT-ID/REPOSITORY/IMAGE"
            return Answer(400, error_body("NAME_INVALID", words), JSON)
        place, who = f"{project}/{repository}", member.removeprefix("registry:")
        if place not in self.writers:
            return Answer(404, error_body("NAME_UNKNOWN", f'Repository "{repository}" not found'), JSON)
        allowed = self.writers[place]
        if method in READS:
            allowed |= self.readers.get(place, frozenset())
        if who in allowed:
            return None
        does = "downloadArtifacts" if method in READS else "uploadArtifacts"
        resource = f"projects/{project}/locations/{self.location}/repositories/{repository}"
        words = f'Permission "artifactregistry.repositories.{does}" denied on resource "{resource}" (or it may not exist)'
        return Answer(403, error_body("DENIED", words), JSON)


def _header(request: Request, name: str) -> str:
    return next((value for key, value in request.headers.items() if key.lower() == name.lower()), "")
