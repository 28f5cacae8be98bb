"""The render step, and what it renders: golden, and valid for everyone who will read it."""

import io
import json
import re
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import hcl2
import kubernetes_validate
import pytest
from click.testing import CliRunner
from ruamel.yaml import YAML

from pipeline_tools.adapters.folder import Folder
from pipeline_tools.cli import cli
from pipeline_tools.steps import render as step
from pipeline_tools.steps.shape import Status
from pipeline_tools.text import binding_file, runner_files
from tests.steps.driving import run

ROOT = Path(__file__).parent.parent.parent
RUNNER = ROOT / "runner"
BINDING = binding_file.loads((RUNNER / "binding.yml").read_text(), "runner/binding.yml")
FILES = runner_files.render(BINDING)
KUBERNETES = "1.32"


def documents(text: str) -> list[Any]:
    return [found for found in YAML(typ="safe", pure=True).load_all(text) if found is not None]


def values(name: str) -> Any:
    return documents(FILES[name])[0]


def config(name: str) -> Any:
    """The one runner of a values file."""
    return tomllib.loads(values(name)["runners"]["config"])["runners"][0]


VALUES = [name for name in FILES if "/values-" in name]
HARDENED = [name for name in VALUES if "build" not in name]
OBJECTS = [name for name in FILES if name.endswith(".yaml") and name not in VALUES]


# Golden, and the step itself -----------------------------------------------------------------------------------


def test_the_example_is_rendered_afresh() -> None:
    there = {
        path.relative_to(RUNNER).as_posix(): path.read_text()
        for path in RUNNER.rglob("*")
        if path.is_file() and path.name != "binding.yml"
    }
    assert there == FILES, "run: pipeline-tools runner render"


def rendering(directory: Path, **changes: Any) -> Any:
    request = step.Request(replace(BINDING, **changes))
    return run(step.STEP, request, step.Ports(Folder(directory)))


def test_only_what_differs_is_written(tmp_path: Path) -> None:
    assert rendering(tmp_path).written == tuple(FILES)
    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    assert rendering(tmp_path).status is Status.UNCHANGED
    (tmp_path / "dev" / "iam.tf").write_text("mine")
    (tmp_path / "dev" / "mine.txt").write_text("mine")
    outcome = rendering(tmp_path)
    assert outcome.written == ("dev/iam.tf",)
    assert outcome.stale == ("dev/mine.txt",)
    assert (tmp_path / "dev" / "mine.txt").read_text() == "mine"
    changed = {path for path, stamp in stamps.items() if path.stat().st_mtime_ns != stamp}
    assert changed == {tmp_path / "dev" / "iam.tf"}


def test_an_environment_that_is_gone_is_named(tmp_path: Path) -> None:
    rendering(tmp_path)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "mine.txt").write_text("mine")
    outcome = rendering(tmp_path, environments=BINDING.environments[:1])
    assert outcome.stale
    assert {name.partition("/")[0] for name in outcome.stale} == {"prod", "shared"}


def test_dry_run_and_check(tmp_path: Path) -> None:
    words = ["runner", "render", "--binding", str(RUNNER / "binding.yml"), "--directory", str(tmp_path)]
    dry = CliRunner().invoke(cli, [*words, "--dry-run"])
    assert (dry.exit_code, list(tmp_path.iterdir())) == (0, [])
    assert "+ dev/iam.tf" in dry.stdout
    assert CliRunner().invoke(cli, [*words, "--check"]).exit_code == 6
    assert CliRunner().invoke(cli, words).exit_code == 0
    assert CliRunner().invoke(cli, [*words, "--check"]).exit_code == 0
    path = tmp_path / "prod" / "iam.tf"
    path.write_text(path.read_text().replace("sw-prod/", "sw-dev/"))
    found = CliRunner().invoke(cli, [*words, "--check", "--output", "json"])
    assert found.exit_code == 6
    document = json.loads(found.stdout)
    assert document["plan"]["files"] == ["prod/iam.tf"]
    assert document["errors"][0]["code"] == "differs"
    assert "prod/iam.tf" in document["errors"][0]["message"]
    text = CliRunner().invoke(cli, [*words, "--dry-run"]).stdout
    assert (
        '-  member             = "serviceAccount:demo-devops.svc.id.goog[sw-dev/ksa-sw-prod-deployer]"'
        in text
    )


def test_a_binding_that_is_wrong_is_exit_1(tmp_path: Path) -> None:
    (tmp_path / "b.yml").write_text("schema: 3\n")
    found = CliRunner().invoke(cli, ["runner", "render", "--binding", str(tmp_path / "b.yml")])
    assert found.exit_code == 1
    assert "b.yml:1: " in found.stderr
    assert CliRunner().invoke(cli, ["runner", "render", "--binding", "nowhere"]).exit_code == 1


# Kubernetes ----------------------------------------------------------------------------------------------------


def objects() -> Iterator[tuple[str, Any]]:
    outside = replace(
        BINDING,
        vault=replace(BINDING.vault, reviewer=replace(BINDING.vault.reviewer, kind="token-secret")),
        cluster=replace(BINDING.cluster, endpoint="https://10.0.0.2", ca=BINDING.vault.ca, dataplane="v1"),
    )
    for name, text in [*FILES.items(), *runner_files.render(outside).items()]:
        if name.endswith(".yaml") and "/values-" not in name:
            yield from ((name, document) for document in documents(text))


def test_every_object_is_valid() -> None:
    """Against Kubernetes' own schemas; a kind that has none would be an error here."""
    found = list(objects())
    for _, document in found:
        kubernetes_validate.validate(document, KUBERNETES, strict=True)
    assert {document["kind"] for _, document in found} == {
        "Namespace", "ServiceAccount", "Role", "RoleBinding", "NetworkPolicy", "ResourceQuota", "LimitRange",
        "ConfigMap", "Secret", "ClusterRoleBinding",
    }  # fmt: skip


def test_the_validator_does_refuse() -> None:
    namespace = next(document for _, document in objects())
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate({**namespace, "spec": {"colour": "red"}}, KUBERNETES, strict=True)


def kinds(name: str, kind: str, text: str | None = None) -> list[Any]:
    return [document for document in documents(text or FILES[name]) if document["kind"] == kind]


@pytest.mark.parametrize(
    ("dataplane", "cidr", "ports"),
    [("v1", "169.254.169.252/32", [987, 988]), ("v2", "169.254.169.254/32", [80, 8080])],
)
def test_the_metadata_server_is_left_open(dataplane: str, cidr: str, ports: list[int]) -> None:
    other = replace(BINDING, cluster=replace(BINDING.cluster, dataplane=dataplane))
    text = runner_files.render(other)["dev/kubernetes.yaml"]
    for policy in kinds("", "NetworkPolicy", text):
        assert policy["spec"]["policyTypes"] == ["Ingress", "Egress"]
        assert "ingress" not in policy["spec"]
        open_ports = [
            [port["port"] for port in rule["ports"]]
            for rule in policy["spec"]["egress"]
            if {"ipBlock": {"cidr": cidr}} in rule["to"]
        ]
        assert open_ports == [ports]


def test_a_build_shares_nothing_with_what_deploys() -> None:
    accounts = {
        (found["metadata"]["namespace"], found["metadata"]["name"])
        for found in kinds("dev/kubernetes.yaml", "ServiceAccount")
    }
    build = config("dev/values-build.yaml")["kubernetes"]
    assert (build["namespace"], build["service_account"]) == ("sw-dev-build", "ksa-sw-dev-builder")
    assert ("sw-dev-build", "ksa-sw-dev-deployer") not in accounts
    assert {found["metadata"]["namespace"] for found in kinds("dev/kubernetes.yaml", "ConfigMap")} == {
        "sw-dev"
    }
    text = FILES["dev/values-build.yaml"]
    assert "vault" not in text.lower()
    for binding_ in kinds("dev/kubernetes.yaml", "RoleBinding"):
        assert {subject["namespace"] for subject in binding_["subjects"]} == {
            binding_["metadata"]["namespace"]
        }


def test_the_job_has_its_google_account_and_no_kubernetes_token() -> None:
    account = next(
        found
        for found in kinds("dev/kubernetes.yaml", "ServiceAccount")
        if found["metadata"]["name"] == "ksa-sw-dev-deployer"
    )
    email = "gsa-dev-deployer@demo-devops.iam.gserviceaccount.com"
    assert account["metadata"]["annotations"] == {"iam.gke.io/gcp-service-account": email}
    assert account["automountServiceAccountToken"] is False


# Helm values and config.toml -----------------------------------------------------------------------------------

# The chart's values.yaml (gitlab.com/gitlab-org/charts/gitlab-runner, 0.64 and later) as /work's facts list it.
CHART_KEYS = {
    "gitlabUrl", "concurrent", "checkInterval", "shutdown_timeout", "terminationGracePeriodSeconds",
    "unregisterRunners", "replicas", "logFormat", "certsSecretName", "rbac", "serviceAccount", "runners", "metrics",
    "securityContext", "podSecurityContext", "resources", "strategy", "topologySpreadConstraints", "nodeSelector",
    "tolerations", "priorityClassName", "extraEnv", "extraEnvFrom", "volumes", "extraObjects",
}  # fmt: skip
CHART_PARTS = {
    "rbac": {"create", "rules", "clusterWideAccess"},
    "serviceAccount": {"create", "name", "annotations", "imagePullSecrets"},
    "runners": {"config", "configPath", "secret", "cache", "name"},
    "metrics": {"enabled", "port", "serviceMonitor"},
}
# `toml:"…"` of KubernetesConfig in gitlab-runner's common/config.go (August 2026), those that we write.
KUBERNETES_KEYS = {
    "namespace", "image", "service_account", "service_account_overwrite_allowed", "namespace_overwrite_allowed",
    "pod_annotations_overwrite_allowed", "pod_labels_overwrite_allowed", "bearer_token_overwrite_allowed",
    "automount_service_account_token", "privileged", "allow_privilege_escalation", "cap_drop", "allowed_images",
    "allowed_services", "pull_policy", "allowed_pull_policies", "cpu_request", "cpu_limit", "memory_request",
    "memory_limit", "ephemeral_storage_request", "ephemeral_storage_limit", "helper_cpu_request", "helper_cpu_limit",
    "helper_memory_request", "helper_memory_limit", "helper_ephemeral_storage_request",
    "helper_ephemeral_storage_limit", "service_cpu_request", "service_cpu_limit", "service_memory_request",
    "service_memory_limit", "service_ephemeral_storage_request", "service_ephemeral_storage_limit", "poll_timeout",
    "cleanup_resources_timeout", "pod_termination_grace_period_seconds", "cleanup_grace_period_seconds",
    "node_selector", "node_tolerations", "pod_annotations", "pod_security_context",
    "build_container_security_context", "volumes", "pod_spec",
}  # fmt: skip


@pytest.mark.parametrize("name", VALUES)
def test_only_keys_that_the_chart_has(name: str) -> None:
    found = values(name)
    assert set(found) <= CHART_KEYS
    for part, keys in CHART_PARTS.items():
        assert set(found[part]) <= keys
    assert found["rbac"]["clusterWideAccess"] is False


@pytest.mark.parametrize("name", VALUES)
def test_the_config_is_toml_that_helm_leaves_alone(name: str) -> None:
    assert "{{" not in values(name)["runners"]["config"]
    found = config(name)
    assert set(found["kubernetes"]) <= KUBERNETES_KEYS
    assert found["executor"] == "kubernetes"
    assert found["kubernetes"]["privileged"] is False
    assert found["kubernetes"]["service_account_overwrite_allowed"] == ""
    assert found["kubernetes"]["automount_service_account_token"] is False
    assert set(found) <= {"executor", "environment", "feature_flags", "kubernetes"}


@pytest.mark.parametrize("name", HARDENED)
def test_deploy_and_apply_are_hardened(name: str) -> None:
    found = config(name)["kubernetes"]
    assert found["allow_privilege_escalation"] is False
    assert found["cap_drop"] == ["ALL"]
    assert found["pod_security_context"]["run_as_non_root"] is True
    assert found["pod_security_context"]["seccomp_profile"]["type"] == "RuntimeDefault"


@pytest.mark.parametrize("name", HARDENED)
def test_the_vault_token_comes_by_a_strategic_patch(name: str) -> None:
    found = config(name)
    assert found["feature_flags"] == {"FF_USE_ADVANCED_POD_SPEC_CONFIGURATION": True}
    (patch,) = found["kubernetes"]["pod_spec"]
    assert patch["patch_type"] == "strategic"
    spec = YAML(typ="safe", pure=True).load(patch["patch"])
    token = spec["volumes"][0]["projected"]["sources"][0]["serviceAccountToken"]
    assert token == {"path": "token", "audience": "vault", "expirationSeconds": 600}
    (container,) = spec["containers"]
    assert container["name"] == "build"
    whole = {**container, "image": "i"}
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "p"},
        "spec": {**spec, "containers": [whole]},
    }
    kubernetes_validate.validate(pod, KUBERNETES, strict=True)


def test_a_build_is_unconfined_and_not_privileged() -> None:
    found = config("dev/values-build.yaml")["kubernetes"]
    context = found["build_container_security_context"]
    assert context["seccomp_profile"]["type"] == context["app_armor_profile"]["type"] == "Unconfined"
    assert "cap_drop" not in found
    assert "pod_spec" not in found


def test_an_apply_is_not_cut_off() -> None:
    for name in ("dev/values-apply.yaml", "prod/values-apply.yaml"):
        found = config(name)["kubernetes"]
        apply = BINDING.environment(name.partition("/")[0]).classes.apply
        assert apply
        assert found["pod_annotations"] == {"cluster-autoscaler.kubernetes.io/safe-to-evict": "false"}
        assert "node_tolerations" not in found
        assert found["pod_termination_grace_period_seconds"] > apply.longest
        assert found["cleanup_grace_period_seconds"] > apply.longest
        assert values(name)["terminationGracePeriodSeconds"] > apply.longest
        assert values(name)["shutdown_timeout"] > apply.longest


def test_spot_nodes_are_tolerated_where_they_are_named() -> None:
    found = config("dev/values-deploy.yaml")["kubernetes"]
    assert found["node_tolerations"] == {"cloud.google.com/gke-spot=true": "NoSchedule"}
    assert values("dev/values-deploy.yaml")["nodeSelector"] == {"cloud.google.com/gke-nodepool": "jobs"}


def test_only_spot_nodes_carry_the_manager_too() -> None:
    pools = tuple(pool for pool in BINDING.cluster.node_pools if pool.spot)
    dev = replace(BINDING.environments[0], classes=replace(BINDING.environments[0].classes, apply=None))
    other = replace(BINDING, cluster=replace(BINDING.cluster, node_pools=pools), environments=(dev,))
    found = documents(runner_files.render(other)["dev/values-deploy.yaml"])[0]
    assert found["tolerations"] == [
        {"key": "cloud.google.com/gke-spot", "operator": "Equal", "value": "true", "effect": "NoSchedule"}
    ]


# Vault, Google Cloud, shell ------------------------------------------------------------------------------------


def test_policies_are_hcl_and_dual_proof_is_split() -> None:
    found = {name: hcl2.load(io.StringIO(text)) for name, text in FILES.items() if name.endswith(".hcl")}
    paths = {
        name: {key.strip('"') for block in policy["path"] for key in block} for name, policy in found.items()
    }
    own = {"auth/token/lookup-self", "auth/token/revoke-self", "sys/capabilities-self"}
    assert paths["prod/vault/policy-sw-prod-deployer.hcl"] == {"transit/decrypt/sw-prod-deployer", *own}
    secret = "scaleway/project/demo-prod/data/credentials/secret"
    assert secret in paths["prod/vault/policy-sw-prod-deployer-jwt.hcl"]
    assert not any("transit" in path for path in paths["prod/vault/policy-sw-prod-deployer-jwt.hcl"])
    assert not any("prod" in path for path in paths["dev/vault/policy-sw-dev-deployer.hcl"])


def test_roles_end_and_are_bound() -> None:
    roles = {name: json.loads(text) for name, text in FILES.items() if re.search(r"-role-.*\.json$", name)}
    assert len(roles) == 3
    for role in roles.values():
        assert 0 < role["token_ttl"] <= role["token_max_ttl"]
        assert role["token_no_default_policy"] is True
        assert role.get("audience") == "vault" or role["bound_audiences"] == [BINDING.vault.address]
        assert "*" not in json.dumps(role)
    jwt = roles["prod/vault/auth-jwt-role-sw-prod-deployer.json"]
    assert jwt["bound_claims"] == {
        "project_id": ["101", "102"],
        "ref_protected": "true",
        "environment": "prod",
    }


@pytest.mark.parametrize("name", [name for name in FILES if name.endswith(".tf")])
def test_terraform_is_hcl(name: str) -> None:
    assert hcl2.load(io.StringIO(FILES[name]))["resource"]


def test_terraform_is_formatted(tmp_path: Path) -> None:
    terraform = shutil.which("terraform")
    if not terraform:
        pytest.skip("terraform is not on PATH")
    rendering(tmp_path)
    answer = subprocess.run(
        (terraform, "fmt", "-check", "-diff", "-recursive", str(tmp_path)), capture_output=True, check=False
    )
    assert answer.returncode == 0, answer.stdout.decode()


def test_shell_is_sound(tmp_path: Path) -> None:
    rendering(tmp_path)
    shellcheck = ROOT / ".venv" / "bin" / "shellcheck"
    for path in sorted(tmp_path.rglob("*.sh")):
        answer = subprocess.run((str(shellcheck), str(path)), capture_output=True, check=False)
        assert answer.returncode == 0, answer.stdout.decode()


@pytest.mark.parametrize(
    ("kind", "mount_type", "config_keys"),
    [
        ("in-cluster", "kubernetes", {"kubernetes_host", "disable_local_ca_jwt"}),
        ("token-secret", "kubernetes", {"kubernetes_host", "kubernetes_ca_cert", "disable_local_ca_jwt"}),
        ("jwt-issuer", "jwt", {"oidc_discovery_url", "bound_issuer"}),
    ],
)
def test_how_vault_proves_a_token(kind: str, mount_type: str, config_keys: set[str]) -> None:
    other = replace(
        BINDING,
        vault=replace(BINDING.vault, reviewer=replace(BINDING.vault.reviewer, kind=kind)),
        cluster=replace(BINDING.cluster, endpoint="https://10.0.0.2", ca=BINDING.vault.ca),
    )
    files = runner_files.render(other)
    assert json.loads(files["shared/vault/auth-kubernetes.json"]) == {"type": mount_type}
    assert set(json.loads(files["shared/vault/auth-kubernetes-config.json"])) == config_keys
    assert ("shared/reviewer.yaml" in files) is (kind == "token-secret")
    role = json.loads(files["dev/vault/auth-kubernetes-role-sw-dev-deployer.json"])
    subject = role.get("bound_subject")
    assert subject == ("system:serviceaccount:sw-dev:ksa-sw-dev-deployer" if kind == "jwt-issuer" else None)
