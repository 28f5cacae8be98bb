"""What is wrong with a runner's configuration, by name, each with its cure.

Rules: docs.gitlab.com/runner/security and .../executors/kubernetes; GKE, "Workload Identity"; Vault, "Kubernetes auth".
"""

from pipeline_tools.text.findings import Rule, Severity

_MINOR, _MAJOR, _CRITICAL, _BLOCKER = Severity

RULES = {
    "binding": Rule(_BLOCKER, "the binding file is wrong", "see docs/reference/binding.md"),
    "registration-token": Rule(
        _BLOCKER,
        "registration tokens are removed in GitLab 20.0 and let anyone add a runner",
        "create the runner in GitLab and give its glrt- token in a secret",
    ),
    "plaintext-token": Rule(
        _BLOCKER, "a secret stands in the file", "put it into a Kubernetes secret (runners.secret)"
    ),
    "json-key": Rule(
        _CRITICAL,
        "the cache uses a service account's JSON key",
        "use Workload Identity, with iam.serviceAccounts.signBlob",
    ),
    "privileged": Rule(
        _BLOCKER, "a privileged container owns its node", "build with buildah or rootless BuildKit"
    ),
    "docker-socket": Rule(
        _BLOCKER,
        "whoever reaches the engine's socket owns the node",
        "build with buildah or rootless BuildKit",
    ),
    "cluster-wide-access": Rule(
        _BLOCKER, "the runner may do what it likes in every namespace", "set rbac.clusterWideAccess: false"
    ),
    "unanchored-overwrite": Rule(
        _CRITICAL,
        "the pattern is searched for, not matched: ci-job also admits prod-ci-job-admin",
        "leave it empty, or write ^(…)$",
    ),
    "wildcard-overwrite": Rule(
        _CRITICAL, "a job may choose anything", "leave it empty, or name what it may choose"
    ),
    "bearer-token-overwrite": Rule(
        _CRITICAL, "a job may bring its own token for the Kubernetes API", "set it to false"
    ),
    "merge-patch": Rule(
        _BLOCKER,
        "a patch of this type replaces the list of containers and loses the helper",
        'set patch_type = "strategic"',
    ),
    "pod-spec-flag": Rule(
        _MAJOR,
        "pod_spec does nothing without FF_USE_ADVANCED_POD_SPEC_CONFIGURATION",
        "set it in runners.feature_flags",
    ),
    "missing-audience": Rule(
        _CRITICAL,
        "without an audience the token is good for the Kubernetes API too",
        "name Vault's audience on both sides",
    ),
    "automounted-token": Rule(
        _MAJOR,
        "the job has a token for the Kubernetes API beside the projected one",
        "set automount_service_account_token = false",
    ),
    "vault-in-build": Rule(
        _BLOCKER,
        "an unconfined job has a token for Vault",
        "give builds a runner class of their own, without a Vault role",
    ),
    "escalation": Rule(
        _MAJOR,
        "a job with a token for Vault may gain privileges",
        'set allow_privilege_escalation = false and cap_drop = ["ALL"]',
    ),
    "wildcard-image": Rule(
        _MAJOR, "jobs may run images from everywhere", "name registries and folders in allowed_images"
    ),
    "pull-policy": Rule(
        _MAJOR,
        "a job may use an image that another one had the right to pull",
        'set allowed_pull_policies = ["always"]',
    ),
    "missing-limits": Rule(_MINOR, "a job can starve its node", "set cpu_limit and memory_limit"),
    "short-grace": Rule(
        _MAJOR,
        "the manager goes before its jobs do, which then fail",
        "make terminationGracePeriodSeconds as long as pod_termination_grace_period_seconds",
    ),
    "evictable-apply": Rule(
        _CRITICAL,
        "the autoscaler may cut a terraform apply off",
        'annotate its pods: cluster-autoscaler.kubernetes.io/safe-to-evict: "false"',
    ),
    "spot-apply": Rule(
        _CRITICAL, "a terraform apply runs on nodes that are taken away", "use a pool that is not spot"
    ),
    "deprecated-key": Rule(_MINOR, "the key is deprecated or does nothing", "see docs/how-to/runner.md"),
    "metadata-closed": Rule(
        _CRITICAL,
        "egress to the metadata server is closed, so Workload Identity stops",
        "open 169.254.169.252:987,988, or 169.254.169.254:80,8080 with Dataplane V2",
    ),
    "no-ttl": Rule(_CRITICAL, "without a TTL a token lives 32 days", "set token_ttl and token_max_ttl"),
    "wildcard-binding": Rule(
        _BLOCKER, "any account may log in as this role", "name the account and its namespace"
    ),
    "wildcard-policy": Rule(_CRITICAL, "the policy covers a whole mount or more", "name the folders"),
}
"""Every rule by its name, which is public."""

Sighting = tuple[str, str]
"""A rule's name and the path of the key that breaks it."""
