"""Rules that a runner's config.toml breaks (docs.gitlab.com/runner/executors/kubernetes, "Configuration settings")."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pipeline_tools.errors import PipelineError
from pipeline_tools.text import located
from pipeline_tools.text.runner_rules import Sighting


def runners_in(config: Any) -> list[dict[str, Any]]:
    """The `[[runners]]` of a configuration; none where it has another form."""
    found = config.get("runners", []) if isinstance(config, dict) else []
    return [runner for runner in found if isinstance(runner, dict)] if isinstance(found, list) else []


def table_in(parent: dict[str, Any], *keys: str) -> dict[str, Any]:
    """A table below; empty where there is none."""
    for key in keys:
        found = parent.get(key)
        parent = found if isinstance(found, dict) else {}
    return parent


def tables_in(parent: dict[str, Any], key: str) -> list[dict[str, Any]]:
    """The tables of an array; none where it is no array of tables."""
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
        return table_in(self.whole, "kubernetes")

    @property
    def patches(self) -> list[dict[str, Any]]:
        return tables_in(self.kubernetes, "pod_spec")

    @property
    def tokens(self) -> list[tuple[str, dict[str, Any]]]:
        """The projected tokens of its pods, with the place of each."""
        found = []
        for index, patch in enumerate(self.patches):
            spec = _patched(patch)
            sources = [
                source
                for volume in tables_in(spec, "volumes")
                for source in tables_in(table_in(volume, "projected"), "sources")
            ]
            where = f"{self.where}.kubernetes.pod_spec[{index}].patch"
            found += [
                (where, table_in(source, "serviceAccountToken"))
                for source in sources
                if "serviceAccountToken" in source
            ]
        return found

    @property
    def is_unconfined(self) -> bool:
        contexts = [table_in(self.kubernetes, name) for name in _CONTEXTS]
        types = [table_in(context, "seccomp_profile").get("type") for context in contexts]
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


def broken(value: Any, name: str = "") -> Iterator[Sighting]:
    """The rules that a configuration breaks; `name` is that of a runner that has none of its own."""
    for index, whole in enumerate(runners_in(value)):
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
    cache = table_in(runner.whole, "cache")
    for kind, keys in {"s3": ("SecretKey",), "azure": ("AccountKey",), "gcs": ("PrivateKey",)}.items():
        for key in keys:
            if table_in(cache, kind).get(key):
                yield "plaintext-token", f"{runner.where}.cache.{kind}.{key}"
    if table_in(cache, "gcs").get("CredentialsFile"):
        yield "json-key", f"{runner.where}.cache.gcs.CredentialsFile"


def _power(runner: _Runner) -> Iterator[Sighting]:
    """What makes a job the node's master."""
    where = f"{runner.where}.kubernetes"
    for key, table in (("kubernetes", runner.kubernetes), ("docker", table_in(runner.whole, "docker"))):
        if table.get("privileged") is True:
            yield "privileged", f"{runner.where}.{key}.privileged"
    for name in _CONTEXTS:
        if table_in(runner.kubernetes, name).get("privileged") is True:
            yield "privileged", f"{where}.{name}.privileged"
    for index, volume in enumerate(tables_in(table_in(runner.kubernetes, "volumes"), "host_path")):
        if is_socket(json.dumps(volume)):
            yield "docker-socket", f"{where}.volumes.host_path[{index}]"
    for index, patch in enumerate(runner.patches):
        if is_socket(str(patch.get("patch", ""))):
            yield "docker-socket", f"{where}.pod_spec[{index}].patch"
    if is_socket(json.dumps(table_in(runner.whole, "docker").get("volumes", []))):
        yield "docker-socket", f"{runner.where}.docker.volumes"


def is_socket(text: str) -> bool:
    """Whether a container engine's socket is named."""
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
    return (
        table_in(whole, "feature_flags").get(name) is True or f"{name}=true" in given or f"{name}=1" in given
    )


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
    if str(table_in(table, "pod_annotations").get(key)).lower() != "false":
        yield "evictable-apply", f"{where}.pod_annotations"
    for name in ("node_selector", "node_tolerations"):
        if re.search(r"gke-(spot|preemptible)", json.dumps(table_in(table, name))):
            yield "spot-apply", f"{where}.{name}"
