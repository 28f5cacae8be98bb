"""What names may look like in Kubernetes, Google Cloud, GitLab and Vault: one grammar each, with its source."""

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Grammar:
    """A named form of text. `says` completes the sentence "… is not a …"."""

    says: str
    pattern: re.Pattern[str]

    def matches(self, text: str) -> bool:
        return self.pattern.fullmatch(text) is not None


def _grammar(says: str, pattern: str) -> Grammar:
    return Grammar(says, re.compile(pattern, re.ASCII))


# kubernetes.io/docs/concepts/overview/working-with-objects/names, "RFC 1123 Label Names".
DNS_LABEL = _grammar("DNS label (lower case, digits, '-', 63 at most)", r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")

# The same, with room for the `-build` that the build class's namespace ends in.
ENVIRONMENT = _grammar(
    "name (lower case, digits, '-', beginning with a letter, 40 at most)", r"[a-z]([a-z0-9-]{0,38}[a-z0-9])?"
)

# cloud.google.com/resource-manager/docs/creating-managing-projects, "Before you begin".
PROJECT = _grammar("Google Cloud project id", r"[a-z][a-z0-9-]{4,28}[a-z0-9]")
PROJECT_NUMBER = _grammar("Google Cloud project number", r"[1-9][0-9]{5,18}")

# cloud.google.com/compute/docs/regions-zones: a region or a zone.
LOCATION = _grammar("Google Cloud region or zone", r"[a-z]+-[a-z]+[0-9]{1,2}(-[a-z])?")

# cloud.google.com/kubernetes-engine/docs/reference/rest/v1/projects.locations.clusters, "name"; node pools alike.
CLUSTER = _grammar("GKE name (lower case, digits, '-', 40 at most)", r"[a-z]([a-z0-9-]{0,38}[a-z0-9])?")

# cloud.google.com/iam/docs/service-accounts-create: the part before the @.
GOOGLE_ACCOUNT = _grammar("Google service account id (6 to 30 characters)", r"[a-z][a-z0-9-]{4,28}[a-z0-9]")

# cloud.google.com/artifact-registry/docs/repositories/create-repos: LOCATION/NAME.
ARTIFACTS = _grammar(
    "LOCATION/REPOSITORY of Artifact Registry", r"[a-z]+(-[a-z]+[0-9]{1,2})?/[a-z][a-z0-9-]{0,61}[a-z0-9]"
)

# developer.hashicorp.com/vault/docs/concepts/policies: names are lower case; `root` and `default` are its own.
VAULT_NAME = _grammar(
    "Vault name (lower case, digits, '.', '_', '-')", r"(?!(root|default)$)[a-z0-9][a-z0-9._-]{0,126}"
)

# developer.hashicorp.com/vault/api-docs/system/mounts; neither of Vault's own prefixes.
MOUNT = _grammar(
    "mount path of Vault (no '/' at its ends)",
    r"(?!(sys|auth|identity|cubbyhole|audit)(/|$))[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)*",
)

# developer.hashicorp.com/vault/docs/concepts/policies, "Policy syntax": `*` is a glob at the end only. A whole mount
# ('*'), '+' and the templates '{{…}}' are not taken.
SECRET_PATH = _grammar(
    "path below a mount (such as credentials/access or credentials/*)",
    r"[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)*(/\*)?",
)

AUDIENCE = _grammar("audience (no blanks, no wildcard)", r"[A-Za-z0-9_][A-Za-z0-9_.:/-]{0,252}")

# docs.gitlab.com/ci/environments, "name": what GitLab takes, without blanks and variables.
GITLAB_ENVIRONMENT = _grammar("name of a GitLab environment", r"[A-Za-z0-9_][A-Za-z0-9_/.-]{0,254}")

# docs.gitlab.com/ci/runners/configure_runners, "tags".
TAG = _grammar("runner tag (no blanks or commas)", r"[A-Za-z0-9_][A-Za-z0-9_.:/-]{0,254}")

HTTPS = _grammar("https:// address without a path", r"https://[A-Za-z0-9.-]+(:[0-9]{1,5})?")

# kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity.
QUANTITY = _grammar("Kubernetes quantity (500m, 2, 1Gi)", r"[0-9]+(\.[0-9]+)?(m|[kMGTPE]|[KMGTPE]i)?")

# kubernetes.io/docs/concepts/scheduling-eviction/taint-and-toleration: KEY=VALUE:EFFECT.
TAINT = _grammar(
    "taint KEY=VALUE:EFFECT",
    r"([a-z0-9.-]{1,253}/)?[A-Za-z0-9]([A-Za-z0-9_.-]{0,62})=[A-Za-z0-9_.-]{0,63}:(NoSchedule|PreferNoSchedule|NoExecute)",
)

# docs.gitlab.com/runner/executors/kubernetes, "Restrict Docker images and services": doublestar patterns. The host and
# the first path segment are plain, so that no pattern takes images from everywhere.
IMAGE_PATTERN = _grammar(
    "image pattern with a plain host and first path segment (registry.example.com/tools/*)",
    r"[a-z0-9.-]+\.[a-z0-9]+(:[0-9]{1,5})?/[a-z0-9_.-]+(/[A-Za-z0-9_.*-]+)*(:[A-Za-z0-9_.*-]+)?(@sha256:([0-9a-f]{64}|\*))?",
)
IMAGE = _grammar(
    "image with its host and a tag or digest",
    r"[a-z0-9.-]+\.[a-z0-9]+(:[0-9]{1,5})?(/[a-z0-9_.-]+)+(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(@sha256:[0-9a-f]{64})?(?<!:latest)",
)

# RFC 7468: one or more blocks; Vault and Kubernetes read the content.
CERTIFICATE = _grammar(
    "PEM certificate",
    r"\s*(-----BEGIN CERTIFICATE-----\n[A-Za-z0-9+/=\n]+-----END CERTIFICATE-----\s*)+",
)
PUBLIC_KEY = _grammar(
    "PEM public key", r"\s*-----BEGIN PUBLIC KEY-----\n[A-Za-z0-9+/=\n]+-----END PUBLIC KEY-----\s*"
)

DURATION = _grammar("duration (90s, 10m, 1h)", r"[1-9][0-9]{0,5}[smh]")
_SECONDS = {"s": 1, "m": 60, "h": 3600}


def seconds(duration: str) -> int:
    """The seconds of a text that `DURATION` matches."""
    return int(duration[:-1]) * _SECONDS[duration[-1]]
