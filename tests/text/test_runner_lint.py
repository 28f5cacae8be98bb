"""Every rule of the lint: it finds what it is for, at the line where it is, and nothing in what we render."""

import contextlib
import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline_tools.cli import cli
from pipeline_tools.errors import PipelineError
from pipeline_tools.text import located, runner_config, runner_lint, runner_objects
from pipeline_tools.text.runner_rules import RULES
from pipeline_tools.text.schema import Lines

ROOT = Path(__file__).parent.parent.parent

BAD = """\
gitlabUrl: https://gitlab.example.com
runnerRegistrationToken: GR1348941abc   # registration-token
runnerToken: glrt-abc   # plaintext-token
rbac:
  clusterWideAccess: true   # cluster-wide-access
  serviceAccountName: x   # deprecated-key
terminationGracePeriodSeconds: 60   # short-grace
securityContext: {privileged: true}   # privileged
runners:
  privileged: true   # deprecated-key privileged
  name: sw-dev-apply
  cache:
    secretName: google-application-credentials   # json-key
  config: |
    {{- if .Values.x }}
    [[runners]]
      token = "glrt-abc"   # plaintext-token
      registration_token = "x"   # registration-token
      environment = ["VAULT_ADDR=https://x"]
      [runners.kubernetes]   # automounted-token missing-limits pull-policy vault-in-build
        namespace = "{{.Release.Namespace}}"
        bearer_token = "eyJ"   # plaintext-token
        privileged = true   # privileged
        service_account_overwrite_allowed = "ci-job"   # unanchored-overwrite
        namespace_overwrite_allowed = "^.*$"   # wildcard-overwrite
        bearer_token_overwrite_allowed = true   # bearer-token-overwrite
        terminationGracePeriodSeconds = 30   # deprecated-key
        pod_termination_grace_period_seconds = 600
        allowed_images = ["*/*"]   # wildcard-image
        [[runners.kubernetes.pod_spec]]   # pod-spec-flag
          patch_type = "merge"   # merge-patch
          patch = '''   # missing-audience
            volumes:
              - name: t
                projected: {sources: [{serviceAccountToken: {path: token}}]}
          '''
        [[runners.kubernetes.pod_spec]]
          patch_type = "strategic"
          patch = "volumes: [{name: d, hostPath: {path: /var/run/docker.sock}}]"   # docker-socket
        [runners.kubernetes.pod_annotations]   # evictable-apply
          a = "b"
        [runners.kubernetes.node_selector]   # spot-apply
          "cloud.google.com/gke-spot" = "true"
        [runners.kubernetes.helper_container_security_context]
          privileged = true   # privileged
        [[runners.kubernetes.volumes.host_path]]   # docker-socket
          mount_path = "/var/run/containerd.sock"
      [runners.cache.gcs]
        CredentialsFile = "/key.json"   # json-key
      [runners.cache.s3]
        SecretKey = "x"   # plaintext-token
    {{- end }}
"""


def marked(text: str) -> set[tuple[int, str]]:
    """The rules that a text names in its comments, with their lines."""
    return {
        (number, rule)
        for number, line in enumerate(text.splitlines(), 1)
        if "   # " in line
        for rule in line.partition("   # ")[2].split()
    }


def found(text: str, name: str = "values.yaml") -> set[tuple[int, str]]:
    return {(finding.line, finding.rule) for finding in runner_lint.lint(text, name)}


def test_bad_values() -> None:
    # `#` begins no comment in a literal TOML string.
    text = BAD.replace("'''   # missing-audience", "'''")
    assert found(text) == marked(BAD)


def config(lines: str) -> str:
    """A config.toml that is sound but for `lines`."""
    return f"""\
[[runners]]
  name = "r"
  [runners.kubernetes]
    allowed_images = ["registry.example.com/tools/*"]
    allowed_pull_policies = ["always"]
    cpu_limit = "1"
    memory_limit = "1Gi"
{lines}"""


def rules(text: str, name: str = "config.toml") -> set[str]:
    return {rule for _, rule in found(text, name)}


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ("", set()),
        ('service_account_overwrite_allowed = ""', set()),
        ('service_account_overwrite_allowed = "^ci-job$"', set()),
        ('service_account_overwrite_allowed = "^(a|b)$"', set()),
        ('service_account_overwrite_allowed = "^[a|b]$"', set()),
        ('service_account_overwrite_allowed = "^a|b$"', {"unanchored-overwrite"}),
        ('service_account_overwrite_allowed = "^a"', {"unanchored-overwrite"}),
        (r"service_account_overwrite_allowed = '^a\$'", {"unanchored-overwrite"}),
        ("service_account_overwrite_allowed = '(?m)^a$'", {"unanchored-overwrite"}),
        ('service_account_overwrite_allowed = "^[a-z0-9-]+$"', {"wildcard-overwrite"}),
        ('service_account_overwrite_allowed = "^($"', set()),
        ('pull_policy = "always"', set()),
        ("[runners.docker]\n  privileged = true", {"privileged"}),
        ('[runners.docker]\n  volumes = ["/var/run/docker.sock:/x"]', {"docker-socket"}),
    ],
)
def test_config(lines: str, expected: set[str]) -> None:
    assert rules(config(lines)) == expected


@pytest.mark.parametrize(
    ("old", "new", "rule"),
    [
        ('["registry.example.com/tools/*"]', "[]", "wildcard-image"),
        ('["registry.example.com/tools/*"]', '["**"]', "wildcard-image"),
        ('["always"]', '["always", "if-not-present"]', "pull-policy"),
        ('    cpu_limit = "1"\n', "", "missing-limits"),
    ],
)
def test_config_without(old: str, new: str, rule: str) -> None:
    assert rules(config("").replace(old, new)) == {rule}


TOKEN = """\
[[runners.kubernetes.pod_spec]]
  patch = '''
    volumes: [{name: t, projected: {sources: [{serviceAccountToken: {path: t, audience: vault}}]}}]
  '''
[runners.feature_flags]
  FF_USE_ADVANCED_POD_SPEC_CONFIGURATION = true
"""


def test_a_vault_token_wants_a_hardened_job() -> None:
    sound = "automount_service_account_token = false\nallow_privilege_escalation = false\n" + TOKEN
    assert rules(config(sound)) == set()
    assert rules(config(TOKEN)) == {"automounted-token", "escalation"}
    unconfined = '[runners.kubernetes.pod_security_context.seccomp_profile]\ntype = "Unconfined"\n'
    assert rules(config(sound + unconfined)) == {"vault-in-build"}


def policy(egress: str) -> str:
    return f"apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nspec:\n  podSelector: {{}}\n{egress}"


@pytest.mark.parametrize(
    ("egress", "is_closed"),
    [
        ("  policyTypes: [Ingress]\n", False),
        ("  policyTypes: [Egress]\n", True),
        ("  egress: []\n", True),
        ("  egress: [{}]\n", False),
        ("  egress: [{ports: [{port: 443}]}]\n", True),
        ("  egress: [{to: [{ipBlock: {cidr: 0.0.0.0/0}}]}]\n", False),
        ("  egress: [{to: [{ipBlock: {cidr: 0.0.0.0/0, except: [169.254.0.0/16]}}]}]\n", True),
        (
            "  egress: [{to: [{ipBlock: {cidr: 169.254.169.252/32}}], ports: [{port: 988}, {port: 987}]}]\n",
            False,
        ),
        ("  egress: [{to: [{ipBlock: {cidr: 169.254.169.254/32}}], ports: [{port: 80}]}]\n", True),
        ("  egress: [{to: [{ipBlock: {cidr: nonsense}}]}]\n", True),
        ("  egress: [1]\n", True),
    ],
)
def test_the_metadata_server(egress: str, is_closed: bool) -> None:
    assert rules(policy(egress), "p.yaml") == ({"metadata-closed"} if is_closed else set())


def test_kubernetes_objects() -> None:
    text = """\
apiVersion: v1
kind: Pod
spec:
  containers: [{securityContext: {privileged: true}}]
  volumes: [{hostPath: {path: /run/docker.sock}}]
"""
    assert rules(text, "pod.yaml") == {"privileged", "docker-socket"}


ROLE = {
    "bound_service_account_names": ["a"],
    "bound_service_account_namespaces": ["b"],
    "audience": "vault",
    "token_ttl": "10m",
    "token_max_ttl": 900,
}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, set()),
        ({"token_ttl": 0}, {"no-ttl"}),
        ({"token_max_ttl": None}, set()),
        ({"bound_service_account_names": ["*"]}, {"wildcard-binding"}),
        ({"bound_service_account_namespaces": ["ci-*"]}, {"wildcard-binding"}),
        ({"audience": ""}, {"missing-audience"}),
    ],
)
def test_vault_roles(change: dict[str, object], expected: set[str]) -> None:
    role = {key: value for key, value in {**ROLE, **change}.items() if value is not None}
    assert rules(json.dumps(role), "role.json") == (
        expected or ({"no-ttl"} if None in change.values() else set())
    )


@pytest.mark.parametrize(
    ("path", "is_wide"),
    [
        ("secret/data/dev/*", False), ("auth/token/lookup-self", False), ("secret/data/a+b", False),
        ("*", True), ("secret/*", True), ("secret/data/*", True), ("secret/+/dev", True), ("+/x", True),
    ],
)  # fmt: skip
def test_vault_policies(path: str, is_wide: bool) -> None:
    text = f'# a\npath "{path}" {{\n  capabilities = ["read"]\n}}\n'
    assert found(text, "p.hcl") == ({(2, "wildcard-policy")} if is_wide else set())


def test_a_binding() -> None:
    text = (ROOT / "runner" / "binding.yml").read_text().replace("ttl: 10m", "ttl: 0", 1)
    (finding,) = runner_lint.lint(text, "b.yml")
    assert (finding.rule, finding.line) == ("binding", text[: text.index("ttl: 0")].count("\n") + 1)


@pytest.mark.parametrize("path", sorted((ROOT / "runner").rglob("*.*")), ids=lambda path: path.name)
def test_nothing_is_found_in_what_we_render(path: Path) -> None:
    if path.suffix in {".yml", ".yaml", ".json", ".hcl"}:
        assert runner_lint.lint(path.read_text(), path.name) == ()


@pytest.mark.parametrize("text", ["", "just text", "[]", "a: 1", "runners: 1", "runners: {config: ''}"])
def test_what_is_nothing_has_no_findings(text: str) -> None:
    assert found(text) == set()


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("v.yaml", "a: [", r"v\.yaml:2: malformed YAML|v\.yaml:1: malformed YAML"),
        ("v.yaml", "a: \x01", "not YAML|malformed"),
        ("c.toml", "a = \n", r"c\.toml:1: malformed TOML"),
        ("v.yaml", "x: 1\nrunners:\n  config: |\n    a = 1\n    b =\n", r"v\.yaml:5: malformed TOML"),
    ],
)
def test_malformed_files_are_named_with_their_line(name: str, text: str, message: str) -> None:
    with pytest.raises(PipelineError, match=message):
        runner_lint.lint(text, name)


KEYS = ("runners", "kubernetes", "pod_spec", "patch", "cache", "gcs", "config", "rbac", "spec", "egress", "policyTypes",
        "to", "ports", "port", "ipBlock", "cidr", "except", "apiVersion", "kind", "environments", "schema", "volumes",
        "host_path", "role_type", "token_ttl", "environment", "node_selector", "allowed_images", "pod_annotations",
        "bound_service_account_names", "terminationGracePeriodSeconds", "feature_flags", "docker", "audience",
        "namespace_overwrite_allowed", "allowed_pull_policies", "pod_security_context", "seccomp_profile")  # fmt: skip
LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.text(max_size=5),
    st.sampled_from(["NetworkPolicy", "[[runners]]", "Egress", "always", "volumes: [{}]", "0.0.0.0/0"]),
)  # fmt: skip
SHAPES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=6),
    max_leaves=25,
)


def some(*keys: str) -> st.SearchStrategy[dict[str, object]]:
    """Mappings that have most of these keys, with anything in them."""
    return st.fixed_dictionaries({}, optional=dict.fromkeys(keys, SHAPES))


POLICIES = st.fixed_dictionaries({}, optional={
    "policyTypes": SHAPES, "egress": SHAPES | st.lists(some("to", "ports") | st.fixed_dictionaries({
        "to": st.lists(st.fixed_dictionaries({"ipBlock": some("cidr", "except")})), "ports": st.lists(some("port")),
    })),
})  # fmt: skip
TABLES = st.fixed_dictionaries({}, optional={
    "pod_security_context": st.fixed_dictionaries({"seccomp_profile": some("type")}),
    "pod_spec": st.lists(some("patch", "patch_type")), **dict.fromkeys(KEYS, SHAPES),
})  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(POLICIES, TABLES)
def test_no_part_is_too_odd(policy: dict[str, object], table: dict[str, object]) -> None:
    document = located.Document("f.yaml", {"kind": "NetworkPolicy", "spec": policy}, Lines())
    list(runner_objects.kubernetes(document))
    list(runner_config.broken({"runners": [{"name": "apply", "kubernetes": table, **table}]}))
    list(runner_objects.role(located.Document("f.json", table, Lines())))


@settings(max_examples=300, deadline=None)
@given(SHAPES)
def test_no_shape_is_too_odd(shape: object) -> None:
    """Whatever stands in a file, there are findings or an error with its line; never a traceback."""
    with contextlib.suppress(PipelineError):
        runner_lint.lint(json.dumps(shape), "f.yaml")
    if isinstance(shape, dict):
        list(runner_config.broken(shape))
        list(runner_config.broken({"runners": [shape]}))
        list(runner_config.broken({"runners": [{"kubernetes": shape}]}))
        document = located.Document("f.yaml", {"kind": "NetworkPolicy", "spec": shape}, Lines())
        list(runner_objects.kubernetes(document))
        list(runner_objects.role(located.Document("f.json", shape, Lines())))


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=200), st.sampled_from(["f.yaml", "f.toml", "f.hcl"]))
def test_no_text_is_too_odd(text: str, name: str) -> None:
    with contextlib.suppress(PipelineError):
        runner_lint.lint(text, name)


def test_aliases_of_aliases_end() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    with pytest.raises(PipelineError, match=r"nodes|values"):
        located.yaml("\n".join(lines), "v.yaml")


def test_a_config_in_one_line_has_the_line_of_its_key() -> None:
    text = 'x: 1\nrunners:\n  config: "[[runners]]\\n  token = \\"a\\"\\n"\n'
    assert found(text) == {(3, "plaintext-token")}


def test_every_rule_is_tested_and_documented() -> None:
    text = Path(__file__).read_text()
    assert {rule for rule in RULES if not re.search(rf"[\" ]{rule}\b", text)} == set()


def test_the_command(tmp_path: Path) -> None:
    path = tmp_path / "values.yaml"
    path.write_text(BAD)
    report = tmp_path / "out" / "gl-code-quality-report.json"
    words = ["runner", "lint", str(path), "--report", f"codequality={report}"]
    answer = CliRunner().invoke(cli, words)
    assert answer.exit_code == 6
    assert f"{path}:2: blocker registration-token: " in answer.stdout
    entries = json.loads(report.read_text())
    assert {"description", "check_name", "fingerprint", "severity", "location"} == set(entries[0])
    assert len({entry["fingerprint"] for entry in entries}) == len(entries)
    document = json.loads(CliRunner().invoke(cli, [*words, "--output", "json"]).stdout)
    assert document["errors"][0]["code"] == "differs"
    assert document["result"]["findings"][0]["rule"] == "registration-token"
    assert CliRunner().invoke(cli, [*words[:3], "--report", "x=y"]).exit_code == 1


def test_the_command_reads_what_is_rendered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    answer = CliRunner().invoke(cli, ["runner", "lint"])
    assert answer.exit_code == 0, answer.output
    assert "0 findings in 2" in answer.stdout
    assert CliRunner().invoke(cli, ["runner", "lint", "runner/dev"]).exit_code == 0
