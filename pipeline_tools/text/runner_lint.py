"""Findings about a runner: in a binding file, in Helm values, in a config.toml, in what is rendered for Kubernetes and Vault.

Rules: docs.gitlab.com/runner/security and .../executors/kubernetes; GKE, "Workload Identity"; Vault, "Kubernetes auth".
"""

import ipaddress
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pipeline_tools.errors import PipelineError
from pipeline_tools.text import binding, located
from pipeline_tools.text.findings import Finding, Rule, Severity
from pipeline_tools.text.located import Document

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


def lint(text: str, path: str) -> tuple[Finding, ...]:
    """The findings of one file, by line. What kind of file it is follows from its name and content.

    Raises:
        PipelineError: it can be read as none of them.
    """
    return tuple(sorted(set(_findings(text, path))))


def _findings(text: str, path: str) -> Iterator[Finding]:
    if path.endswith(".hcl"):
        yield from _policy(text, path)
    elif path.endswith(".toml"):
        document = located.toml(text, path)
        yield from _found(document, _config(document.value))
    else:
        for document in located.yaml(text, path):
            yield from _document(document, text)


def _document(document: Document, text: str) -> Iterator[Finding]:
    keys = set(document.value) if isinstance(document.value, dict) else set()
    if "environments" in keys or ("schema" in keys and "cluster" in keys):
        yield from _binding(text, document.path)
    elif {"apiVersion", "kind"} <= keys:
        yield from _found(document, _kubernetes(document))
    elif keys & {"bound_service_account_names", "role_type", "bound_claims"}:
        yield from _found(document, _role(document))
    elif keys:
        yield from _values(document, text)


def _found(document: Document, sightings: Iterator[Sighting]) -> Iterator[Finding]:
    for rule, where in sightings:
        yield _finding(rule, document.path, document.lines.of(where), where)


def _finding(name: str, path: str, line: int, where: str = "", message: str = "") -> Finding:
    rule = RULES[name]
    said = message or (f"{where}: {rule.message}" if where else rule.message)
    return Finding(path, line, name, rule.severity, said, rule.cure)


def _binding(text: str, path: str) -> Iterator[Finding]:
    for problem in binding.read(text)[1]:
        yield _finding("binding", path, problem.line, message=str(problem))


# Helm values ---------------------------------------------------------------------------------------------------

_DEPRECATED = (
    *(
        f"rbac.{key}"
        for key in (
            "generatedServiceAccountName",
            "serviceAccountName",
            "serviceAccountAnnotations",
            "imagePullSecrets",
            "resources",
            "verbs",
        )
    ),
    *(
        f"runners.{key}"
        for key in (
            "image",
            "imagePullPolicy",
            "imagePullSecrets",
            "namespace",
            "privileged",
            "pollTimeout",
            "outputLimit",
            "requestConcurrency",
            "serviceAccountName",
            "nodeSelector",
            "nodeTolerations",
            "builds",
            "services",
            "helpers",
            "env",
            "podLabels",
            "podAnnotations",
            "tags",
            "locked",
            "protected",
            "runUntagged",
            "maximumTimeout",
        )
    ),
)
"""Keys of older charts: moved to serviceAccount and runners.config, or without effect for glrt- tokens
(gitlab.com/gitlab-org/charts/gitlab-runner, values.yaml; docs.gitlab.com/ci/runners/new_creation_workflow)."""


def _values(document: Document, text: str) -> Iterator[Finding]:
    yield from _found(document, _chart(document))
    config = document.get("runners.config")
    if not isinstance(config, str):
        return
    # A block begins on the line after its key; what is written otherwise has the key's line for all.
    line = document.lines.of("runners.config")
    is_block = re.search(r"[|>][0-9+-]*\s*(#.*)?$", text.split("\n")[line - 1]) is not None
    inner = located.toml(config, document.path, line)
    if not is_block:
        inner = Document(inner.path, inner.value, type(inner.lines)(dict.fromkeys(inner.lines, line)))
    yield from _found(inner, _config(inner.value, name=str(document.get("runners.name", ""))))
    yield from _grace(document, inner)
    if document.get("runners.cache.secretName") and any(
        _table(r, "cache", "gcs") for r in _runners(inner.value)
    ):
        where = "runners.cache.secretName"
        yield _finding("json-key", document.path, document.lines.of(where), where)


def _chart(document: Document) -> Iterator[Sighting]:
    """The chart's own keys."""
    for key in ("runnerRegistrationToken", "registrationToken"):
        if document.get(key):
            yield "registration-token", key
    if document.get("runnerToken"):
        yield "plaintext-token", "runnerToken"
    if document.get("rbac.clusterWideAccess") is True:
        yield "cluster-wide-access", "rbac.clusterWideAccess"
    if document.get("securityContext.privileged") is True:
        yield "privileged", "securityContext.privileged"
    if document.get("runners.privileged") is True:
        yield "privileged", "runners.privileged"
    for key in _DEPRECATED:
        if document.get(key) not in (None, "", {}, []):
            yield "deprecated-key", key


def _grace(values: Document, config: Document) -> Iterator[Finding]:
    manager = values.get("terminationGracePeriodSeconds", 3600)  # the chart's default
    for runner in _runners(config.value):
        jobs = _table(runner, "kubernetes").get("pod_termination_grace_period_seconds", 0)
        if isinstance(manager, int) and isinstance(jobs, int) and manager < jobs:
            where = "terminationGracePeriodSeconds"
            yield _finding("short-grace", values.path, values.lines.of(where), where)


# config.toml ---------------------------------------------------------------------------------------------------


def _runners(config: Any) -> list[dict[str, Any]]:
    found = config.get("runners", []) if isinstance(config, dict) else []
    return [runner for runner in found if isinstance(runner, dict)] if isinstance(found, list) else []


def _table(parent: dict[str, Any], *keys: str) -> dict[str, Any]:
    """A table below; empty where there is none."""
    for key in keys:
        found = parent.get(key)
        parent = found if isinstance(found, dict) else {}
    return parent


def _tables(parent: dict[str, Any], key: str) -> list[dict[str, Any]]:
    found = parent.get(key)
    return [item for item in found if isinstance(item, dict)] if isinstance(found, list) else []


@dataclass(frozen=True)
class _Runner:
    """One `[[runners]]` of a configuration, at `where`."""

    where: str
    whole: dict[str, Any]
    name: str

    @property
    def kubernetes(self) -> dict[str, Any]:
        return _table(self.whole, "kubernetes")

    @property
    def patches(self) -> list[dict[str, Any]]:
        return _tables(self.kubernetes, "pod_spec")

    @property
    def tokens(self) -> list[tuple[str, dict[str, Any]]]:
        """The projected tokens of its pods, with the place of each."""
        found = []
        for index, patch in enumerate(self.patches):
            spec = _patched(patch)
            sources = [
                source
                for volume in _tables(spec, "volumes")
                for source in _tables(_table(volume, "projected"), "sources")
            ]
            where = f"{self.where}.kubernetes.pod_spec[{index}].patch"
            found += [
                (where, _table(source, "serviceAccountToken"))
                for source in sources
                if "serviceAccountToken" in source
            ]
        return found

    @property
    def is_unconfined(self) -> bool:
        contexts = [_table(self.kubernetes, name) for name in _CONTEXTS]
        types = [_table(context, "seccomp_profile").get("type") for context in contexts]
        return "Unconfined" in types or self.kubernetes.get("privileged") is True

    @property
    def has_vault(self) -> bool:
        variables = self.whole.get("environment")
        named = isinstance(variables, list) and any(
            str(item).startswith(("VAULT_", "BAO_")) for item in variables
        )
        return named or any(token.get("audience") for _, token in self.tokens)


def _patched(patch: dict[str, Any]) -> dict[str, Any]:
    """A pod-spec patch, which is YAML or JSON; empty where it cannot be read."""
    try:
        found = located.yaml(str(patch.get("patch", "")), "patch")
    except PipelineError:
        return {}
    return found[0].value if found and isinstance(found[0].value, dict) else {}


def _config(value: Any, name: str = "") -> Iterator[Sighting]:
    for index, whole in enumerate(_runners(value)):
        runner = _Runner(f"runners[{index}]", whole, str(whole.get("name") or name))
        for rules in (_secrets, _power, _overwrites, _projected, _images, _apply):
            yield from rules(runner)


_CONTEXTS = (
    "pod_security_context",
    "build_container_security_context",
    "helper_container_security_context",
    "service_container_security_context",
    "init_permissions_container_security_context",
)
_HELM = "template"  # what `located.toml` puts for an action of Helm's


def _secrets(runner: _Runner) -> Iterator[Sighting]:
    if runner.whole.get("registration_token"):
        yield "registration-token", f"{runner.where}.registration_token"
    if runner.whole.get("token") not in (None, "", _HELM):
        yield "plaintext-token", f"{runner.where}.token"
    if runner.kubernetes.get("bearer_token"):
        yield "plaintext-token", f"{runner.where}.kubernetes.bearer_token"
    cache = _table(runner.whole, "cache")
    for kind, keys in {"s3": ("SecretKey",), "azure": ("AccountKey",), "gcs": ("PrivateKey",)}.items():
        for key in keys:
            if _table(cache, kind).get(key):
                yield "plaintext-token", f"{runner.where}.cache.{kind}.{key}"
    if _table(cache, "gcs").get("CredentialsFile"):
        yield "json-key", f"{runner.where}.cache.gcs.CredentialsFile"


def _power(runner: _Runner) -> Iterator[Sighting]:
    """What makes a job the node's master."""
    where = f"{runner.where}.kubernetes"
    for key, table in (("kubernetes", runner.kubernetes), ("docker", _table(runner.whole, "docker"))):
        if table.get("privileged") is True:
            yield "privileged", f"{runner.where}.{key}.privileged"
    for name in _CONTEXTS:
        if _table(runner.kubernetes, name).get("privileged") is True:
            yield "privileged", f"{where}.{name}.privileged"
    for index, volume in enumerate(_tables(_table(runner.kubernetes, "volumes"), "host_path")):
        if _is_socket(json.dumps(volume)):
            yield "docker-socket", f"{where}.volumes.host_path[{index}]"
    for index, patch in enumerate(runner.patches):
        if _is_socket(str(patch.get("patch", ""))):
            yield "docker-socket", f"{where}.pod_spec[{index}].patch"
    if _is_socket(json.dumps(_table(runner.whole, "docker").get("volumes", []))):
        yield "docker-socket", f"{runner.where}.docker.volumes"


def _is_socket(text: str) -> bool:
    return re.search(r"(docker|containerd|crio|podman)\.sock", text) is not None


def _overwrites(runner: _Runner) -> Iterator[Sighting]:
    where = f"{runner.where}.kubernetes"
    for key in (
        "service_account_overwrite_allowed",
        "namespace_overwrite_allowed",
        "pod_annotations_overwrite_allowed",
        "node_selector_overwrite_allowed",
        "node_tolerations_overwrite_allowed",
    ):
        pattern = runner.kubernetes.get(key)
        if isinstance(pattern, str) and pattern:
            if not is_anchored(pattern):
                yield "unanchored-overwrite", f"{where}.{key}"
            elif _admits_all(pattern):
                yield "wildcard-overwrite", f"{where}.{key}"
    if runner.kubernetes.get("bearer_token_overwrite_allowed") is True:
        yield "bearer-token-overwrite", f"{where}.bearer_token_overwrite_allowed"
    if runner.kubernetes.get("terminationGracePeriodSeconds") is not None:
        yield "deprecated-key", f"{where}.terminationGracePeriodSeconds"


def is_anchored(pattern: str) -> bool:
    """Whether a pattern can only match from beginning to end: `^…$`, and no `|` outside brackets."""
    if (
        not (pattern.startswith("^") and pattern.endswith("$") and not pattern.endswith("\\$"))
        or "(?m" in pattern
    ):
        return False
    depth = 0
    for character in re.sub(r"\\.|\[\^?\]?[^\]]*\]", "", pattern):
        depth += {"(": 1, ")": -1}.get(character, 0)
        if character == "|" and depth == 0:
            return False
    return True


def _admits_all(pattern: str) -> bool:
    try:
        return all(re.search(pattern, name) for name in ("a", "kube-system", "prod-ci-job-admin", "x9-z"))
    except re.error:
        return False


def _projected(runner: _Runner) -> Iterator[Sighting]:
    """The pod-spec patches, and the tokens that they project."""
    where = f"{runner.where}.kubernetes"
    for index, patch in enumerate(runner.patches):
        if patch.get("patch_type") == "merge":
            yield "merge-patch", f"{where}.pod_spec[{index}].patch_type"
    if runner.patches and not _has_flag(runner.whole):
        yield "pod-spec-flag", f"{where}.pod_spec[0]"
    for place, token in runner.tokens:
        if not token.get("audience"):
            yield "missing-audience", place
    if runner.tokens and runner.kubernetes.get("automount_service_account_token") is not False:
        yield "automounted-token", f"{where}.automount_service_account_token"
    if runner.has_vault and runner.is_unconfined:
        yield "vault-in-build", where
    elif runner.has_vault and runner.kubernetes.get("allow_privilege_escalation") is not False:
        yield "escalation", f"{where}.allow_privilege_escalation"


def _has_flag(whole: dict[str, Any]) -> bool:
    name = "FF_USE_ADVANCED_POD_SPEC_CONFIGURATION"
    variables = whole.get("environment")
    given = variables if isinstance(variables, list) else []
    return _table(whole, "feature_flags").get(name) is True or f"{name}=true" in given or f"{name}=1" in given


def _images(runner: _Runner) -> Iterator[Sighting]:
    """Only for the Kubernetes executor, whose keys these are."""
    if not runner.kubernetes:
        return
    where, table = f"{runner.where}.kubernetes", runner.kubernetes
    allowed = table.get("allowed_images")
    if not isinstance(allowed, list) or not allowed or any(_is_wild(str(image)) for image in allowed):
        yield "wildcard-image", f"{where}.allowed_images"
    policies = table.get("allowed_pull_policies") or table.get("pull_policy")
    if (policies if isinstance(policies, list) else [policies]) != ["always"]:
        yield "pull-policy", f"{where}.allowed_pull_policies"
    if not (table.get("cpu_limit") and table.get("memory_limit")):
        yield "missing-limits", f"{where}.cpu_limit"


def _is_wild(image: str) -> bool:
    """Whether a pattern has a `*` in its host, or names no host."""
    return "*" in image.partition("/")[0]


def _apply(runner: _Runner) -> Iterator[Sighting]:
    """A runner for `terraform apply` is known by its name."""
    if not re.search(r"apply|terraform", runner.name):
        return
    where, table = f"{runner.where}.kubernetes", runner.kubernetes
    key = "cluster-autoscaler.kubernetes.io/safe-to-evict"
    if str(_table(table, "pod_annotations").get(key)).lower() != "false":
        yield "evictable-apply", f"{where}.pod_annotations"
    for name in ("node_selector", "node_tolerations"):
        if re.search(r"gke-(spot|preemptible)", json.dumps(_table(table, name))):
            yield "spot-apply", f"{where}.{name}"


# Kubernetes ----------------------------------------------------------------------------------------------------

_METADATA = (("169.254.169.252", {987, 988}), ("169.254.169.254", {80, 8080}))


def _kubernetes(document: Document) -> Iterator[Sighting]:
    kind = document.get("kind")
    if kind == "NetworkPolicy":
        rules = document.get("spec.egress")
        closes = "Egress" in str(document.get("spec.policyTypes")) or rules is not None
        if closes and not any(map(_opens, rules if isinstance(rules, list) else [])):
            yield "metadata-closed", "spec.egress" if rules is not None else "spec"
    text = json.dumps(document.value)
    if '"privileged": true' in text:
        yield "privileged", "spec"
    if _is_socket(text):
        yield "docker-socket", "spec"


def _opens(rule: Any) -> bool:
    """Whether an egress rule lets a pod reach the metadata server, where it is with either dataplane."""
    if not isinstance(rule, dict):
        return False
    ports = {number for port in _tables(rule, "ports") if isinstance(number := port.get("port"), int)}
    named = bool(rule.get("ports"))
    peers = _tables(rule, "to")
    return any(
        (not named or needed <= ports)
        and (not peers or any(_covers(_table(peer, "ipBlock"), address) for peer in peers))
        for address, needed in _METADATA
    )


def _covers(block: dict[str, Any], address: str) -> bool:
    def is_in(cidr: Any) -> bool:
        try:
            return ipaddress.ip_address(address) in ipaddress.ip_network(str(cidr))
        except ValueError:
            return False

    excepted = block.get("except")
    return is_in(block.get("cidr")) and not any(map(is_in, excepted if isinstance(excepted, list) else []))


# Vault ---------------------------------------------------------------------------------------------------------


def _role(document: Document) -> Iterator[Sighting]:
    role = document.value
    for key in ("token_ttl", "token_max_ttl"):
        if str(role.get(key, "0")) in {"0", "0s", ""}:
            yield "no-ttl", key
    for key in ("bound_service_account_names", "bound_service_account_namespaces", "bound_subject"):
        if "*" in json.dumps(role.get(key)):
            yield "wildcard-binding", key
    if not (role.get("audience") or role.get("bound_audiences")):
        yield "missing-audience", "bound_service_account_names"


_WIDE = re.compile(r"^\*|(^|/)\+(/|$)|^[^/]*/\*$|/(data|metadata)/\*$")
"""A glob at the beginning, a `+` segment, a whole mount, all of a KV version 2 mount."""


def _policy(text: str, path: str) -> Iterator[Finding]:
    """A policy's paths by line: nothing else of HCL is needed."""
    for number, line in enumerate(text.split("\n"), 1):
        found = re.match(r"\s*path\s+\"([^\"]*)\"", line)
        if found and _WIDE.search(found[1]):
            yield _finding("wildcard-policy", path, number, found[1])
