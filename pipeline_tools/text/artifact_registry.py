"""What Google Artifact Registry's refusals ask for.

cloud.google.com/artifact-registry/docs/docker/troubleshoot and …/docs/access-control, "Roles". A repository is
`projects/PROJECT/locations/LOCATION/repositories/REPOSITORY`, an image in it `LOCATION-docker.pkg.dev/PROJECT/REPOSITORY/IMAGE`.
"""

import re

HOST = re.compile(r"(?P<location>[a-z0-9-]+)-docker\.pkg\.dev")
ROLES = {
    "artifactregistry.repositories.downloadArtifacts": "roles/artifactregistry.reader",
    "artifactregistry.repositories.uploadArtifacts": "roles/artifactregistry.writer",
    "artifactregistry.repositories.deleteArtifacts": "roles/artifactregistry.repoAdmin",
    "artifactregistry.tags.delete": "roles/artifactregistry.repoAdmin",
}
"""The least role that has a permission."""

_DENIED = re.compile(
    r'[Pp]ermission "(?P<permission>artifactregistry\.[\w.]+)"(?: denied)? on resource "(?P<resource>[^"]+)"'
)
_UNKNOWN = re.compile(r'Repository "[^"]+" not found')


def advice(reason: str, path: str, principal: str) -> str:
    """What to change after a refusal.

    Args:
        reason: the registry's code and message.
        path: what was asked, host and path: `europe-docker.pkg.dev/acme/apps/shop/manifests/1.0.0`.
        principal: who asked, as a member of IAM; empty where that is not known.

    Returns:
        A hint, empty where the words are not Artifact Registry's.
    """
    denied = _DENIED.search(reason)
    if denied:
        role = ROLES.get(denied["permission"], f"a role with {denied['permission']}")
        return (
            f"grant {role} on {denied['resource']} to {principal or 'the account that is used here'}; if there is no "
            "such repository, create it: Artifact Registry makes none by itself"
        )
    if _UNKNOWN.search(reason):
        return f"create {_resource(path)}: Artifact Registry makes no repository by itself"
    if "Missing image name" in reason or (HOST.match(path) and "NAME_INVALID" in reason):
        return "a path there is LOCATION-docker.pkg.dev/PROJECT/REPOSITORY/IMAGE"
    return ""


def _resource(path: str) -> str:
    """The repository that a path is in, by its full name as far as the path tells it."""
    host, *segments = path.split("/")
    found = HOST.fullmatch(host)
    location = found["location"] if found else "LOCATION"
    project, repository = (
        [*segments, "PROJECT", "REPOSITORY"][:2] if len(segments) > 1 else ("PROJECT", "REPOSITORY")
    )
    return f"projects/{project}/locations/{location}/repositories/{repository}"
