"""What the registry's own API does not tell: whether an Artifact Registry repository keeps its tags.

Source: cloud.google.com/artifact-registry/docs/reference/rest/v1/projects.locations.repositories, `dockerConfig`.
"""

import logging
from typing import Any

from requests import PreparedRequest

from pipeline_tools.adapters import http
from pipeline_tools.errors import Denied, Unavailable
from pipeline_tools.text import references
from pipeline_tools.text.artifact_registry import HOST
from pipeline_tools.text.credentials import Credential
from pipeline_tools.text.references import Repository

log = logging.getLogger(__name__)

API = "https://artifactregistry.googleapis.com"


def keeps_tags(repository: Repository, credential: Credential | None, api: str = API) -> bool | None:
    """Whether the repository has immutable tags, by one read that `roles/artifactregistry.reader` allows.

    Args:
        repository: the image's, `LOCATION-docker.pkg.dev/PROJECT/REPOSITORY/IMAGE`.
        credential: goes along if it is a Google access token.
        api: where Artifact Registry's API is.

    Returns:
        None where that cannot be known: another registry, no access token, not allowed to look.
    """
    resource = _resource(repository)
    if resource is None or credential is None or not credential.is_access_token:
        return None
    try:
        config = _docker_config(f"{api}/v1/{resource}", credential)
    except (Unavailable, Denied):
        config = None
    if not isinstance(config, dict):
        log.info("%s: cannot look whether its tags are immutable", resource)
        return None
    return bool(config.get("immutableTags"))


def _docker_config(url: str, credential: Credential) -> Any:
    """The repository's `dockerConfig`, which is left out where nothing is set; None where the answer is no repository."""

    def bearer(request: PreparedRequest) -> PreparedRequest:
        # Not as a header of the session: requests would let ~/.netrc overrule it.
        request.headers["Authorization"] = f"Bearer {credential.password.reveal()}"
        return request

    with http.errors(references.origin(url)):
        answer = http.session(stays=True).get(url, auth=bearer)
        found = answer.json() if answer.ok else None
    return found.get("dockerConfig", {}) if isinstance(found, dict) else None


def _resource(repository: Repository) -> str | None:
    """The repository's name in the API; the project of a domain is written `example.com/project` in an image's name."""
    host, segments = HOST.fullmatch(repository.host), repository.name.split("/")
    if len(segments) > 1 and "." in segments[0]:
        segments[:2] = [":".join(segments[:2])]
    if host is None or len(segments) < 3:  # noqa: PLR2004 (project, repository, image)
        return None
    return f"projects/{segments[0]}/locations/{host['location']}/repositories/{segments[1]}"
