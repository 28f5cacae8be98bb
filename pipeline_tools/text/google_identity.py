"""Who a job is to Google: providers of workload identity, principals, and what Google's refusals ask for.

Names: cloud.google.com/iam/docs/principal-identifiers; claims: docs.gitlab.com/ci/secrets/id_token_authentication.
"""

import re
from dataclasses import dataclass

from pipeline_tools.errors import PipelineError
from pipeline_tools.text import references
from pipeline_tools.text.claims import Claims

PROVIDER = re.compile(
    r"(?:(?:https:)?//iam\.googleapis\.com/)?"
    r"(?P<pool>projects/\d+/locations/global/workloadIdentityPools/[a-z0-9-]{4,32})/providers/(?P<name>[a-z0-9-]{4,32})"
)
ACCOUNT = re.compile(r"[a-z0-9.-]+@[a-z0-9.-]+\.gserviceaccount\.com")
_ENDPOINT = re.compile(r"(?P<scheme>https?)://(?P<host>([a-z0-9.-]+|\[[0-9a-f:]+\])(:\d{1,5})?)/?")
_GKE_POOL = re.compile(r"(?P<project>[a-z0-9.:-]+)\.svc\.id\.goog")


@dataclass(frozen=True)
class Provider:
    """A provider of a workload identity pool; `pool` is the pool's full name, with the project's number."""

    pool: str
    name: str

    def __str__(self) -> str:
        return f"{self.pool}/providers/{self.name}"

    @property
    def audience(self) -> str:
        """What the token exchange is asked for."""
        return f"//iam.googleapis.com/{self}"

    @property
    def id_token_audience(self) -> str:
        """The `aud` that an id token needs, where the provider allows no other."""
        return f"https://iam.googleapis.com/{self}"

    def member(self, claims: Claims) -> str:
        """The job as a member of IAM, by the mapping of examples/infra/google/identity: its project's jobs."""
        project = claims.all.get("project_id")
        if project:
            return f"principalSet://iam.googleapis.com/{self.pool}/attribute.project_id/{project}"
        return f"principal://iam.googleapis.com/{self.pool}/subject/{claims.all.get('sub', 'SUBJECT')}"


def provider(text: str) -> Provider:
    """A provider by its full name, also written as an audience.

    Raises:
        PipelineError: it is not one.
    """
    found = PROVIDER.fullmatch(text)
    if not found:
        raise PipelineError(
            f"not a workload identity provider: {text[:200]!r}",
            hint="write projects/NUMBER/locations/global/workloadIdentityPools/POOL/providers/PROVIDER, with the "
            "project's number",
        )
    return Provider(found["pool"], found["name"])


def account(text: str) -> str:
    """The address of a Google service account.

    Raises:
        PipelineError: it is not one.
    """
    if not ACCOUNT.fullmatch(text):
        raise PipelineError(
            f"not a Google service account: {text[:200]!r}", hint="write NAME@PROJECT.iam.gserviceaccount.com"
        )
    return text


def endpoint(text: str) -> str:
    """The address of a Google API, without a slash at the end: tokens go there.

    Raises:
        PipelineError: it is neither https nor this machine's own, or more than scheme, host and port.
    """
    found = _ENDPOINT.fullmatch(text)
    if not found or (found["scheme"] == "http" and not references.is_loopback(found["host"])):
        raise PipelineError(f"tokens do not go to {text[:200]!r}", hint="write https://HOST")
    return f"{found['scheme']}://{found['host']}"


def is_registry(host: str) -> bool:
    """Whether `host` is one of Google's registries: `LOCATION-docker.pkg.dev`, `gcr.io`, `LOCATION.gcr.io`."""
    return host.endswith((".pkg.dev", ".gcr.io")) or host == "gcr.io"


def metadata_member(email: str) -> str:
    """The member that the metadata server names: a Google account, or with no account GKE's own pool.

    docs: cloud.google.com/kubernetes-engine/docs/how-to/workload-identity, "Authorize Kubernetes workloads".
    """
    pool = _GKE_POOL.fullmatch(email)
    if pool is None:
        return f"serviceAccount:{email}"
    return (
        f"principal://iam.googleapis.com/projects/PROJECT_NUMBER/locations/global/workloadIdentityPools/{email}"
        "/subject/ns/NAMESPACE/sa/SERVICE_ACCOUNT"
    )


def exchange_advice(reason: str, provider: Provider, claims: Claims) -> str:
    """What to change when the token exchange refused an id token for `reason` (its error and description)."""
    if "attribute condition" in reason:
        return (
            f"the attribute condition of {provider} refuses {claims.all.get('project_path', 'this project')}, ref "
            f"{claims.all.get('ref', '?')}, ref_protected {claims.all.get('ref_protected', '?')}, environment "
            f"{claims.all.get('environment', 'none')}"
        )
    if "expected audience" in reason:
        return (
            f"the id token is for {claims.all.get('aud', '?')}; let the job say id_tokens: "
            f"{{PT_GOOGLE_ID_TOKEN: {{aud: {provider.id_token_audience}}}}}"
        )
    if "stale" in reason or "expired" in reason:
        return "an id token lives as long as the job's timeout, counted from its start: raise the timeout"
    if "issuer" in reason:
        return f"the id token is of {claims.all.get('iss', '?')}; the provider's issuer_uri must be just that"
    if "invalid_target" in reason or '"audience"' in reason:
        return f"does {provider} exist, with that project number, enabled?"
    return "see cloud.google.com/iam/docs/troubleshooting-workload-identity-federation"


def impersonation_advice(reason: str, account: str, member: str) -> str:
    """What to change when a service account could not be impersonated."""
    if "SERVICE_DISABLED" in reason or "has not been used" in reason:
        return f"enable iamcredentials.googleapis.com in the project of {account}"
    return f"does the account exist? grant roles/iam.workloadIdentityUser on {account} to {member}"


def metadata_advice(reason: str) -> str:
    """What to change when the metadata server has no token for a pod."""
    if "IAM returned" in reason:
        return (
            "the Google account in the annotation iam.gke.io/gcp-service-account must exist, and grant "
            "roles/iam.workloadIdentityUser to serviceAccount:PROJECT.svc.id.goog[NAMESPACE/SERVICE_ACCOUNT]"
        )
    return "is Workload Identity enabled on the cluster and on the pod's node pool?"
