"""The binding file: what is taken, what is refused, and at which line it says so."""

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline_tools.errors import PipelineError
from pipeline_tools.text import binding_file
from pipeline_tools.text.binding import Binding
from pipeline_tools.text.schema import Problem

EXAMPLE = (Path(__file__).parent.parent.parent / "runner" / "binding.yml").read_text()


def changed(old: str, new: str, count: int = 1) -> str:
    assert old in EXAMPLE
    return EXAMPLE.replace(old, new, count)


def problems(text: str) -> tuple[Problem, ...]:
    found, wrong = binding_file.read(text)
    assert (found is None) == bool(wrong)
    return wrong


def line_of(text: str, part: str) -> int:
    return text[: text.index(part)].count("\n") + 1


def test_the_example_is_one() -> None:
    found = binding_file.loads(EXAMPLE, "runner/binding.yml")
    assert isinstance(found, Binding)
    dev, prod = found.environments
    assert (dev.name, dev.namespace, dev.vault.ttl) == ("dev", "sw-dev", 600)
    assert prod.vault.is_dual
    assert [kind for kind, _ in dev.classes] == ["deploy", "build", "apply"]
    assert found.cluster.issuer.endswith("/projects/demo-devops/locations/europe-west1/clusters/devops")
    assert found.environment("prod") is prod
    with pytest.raises(PipelineError, match="no environment 'qa'"):
        found.environment("qa")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("schema: 1", "schema: 2", "is not a whole number from 1 to 1"),
        ("namespace: sw-dev", "namespace: SW_dev", "is no name"),
        ("namespace: sw-dev", "namespace: '*'", "is no name"),
        ("service_account: ksa-sw-dev-deployer", "service_account: '*'", "is no DNS label"),
        (
            "google_service_account: gsa-dev-deployer",
            "google_service_account: gsa",
            "Google service account id",
        ),
        ("project: demo-devops", "project: Demo", "Google Cloud project id"),
        ("location: europe-west1", "location: mars", "region or zone"),
        ("role: sw-dev-deployer", "role: '*'", "Vault name"),
        ("policy: policy-sw-dev-deployer", "policy: root", "Vault name"),
        ("mount: scaleway/project/demo-dev", "mount: sys/x", "mount path"),
        ("mount: scaleway/project/demo-dev", "mount: a/", "mount path"),
        ("paths: [credentials/access,", "paths: ['*',", "path below a mount"),
        ("paths: [credentials/access,", "paths: [+/access,", "path below a mount"),
        ("paths: [credentials/access,", "paths: ['{{identity.entity.id}}',", "path below a mount"),
        ("paths: [credentials/access, credentials/secret, config]", "paths: []", "needs at least 1"),
        ("ttl: 10m", "ttl: 0", "is no duration"),
        ("ttl: 10m", "ttl: 5h", "is not from 60 to 3600 seconds"),
        ("ttl: 10m", "ttl:", "is not a single value"),
        ("max_ttl: 15m", "max_ttl: 5m", "is shorter than ttl"),
        ("project_ids: [101, 102]", "project_ids: ['*']", "is not a whole number"),
        ("project_ids: [101, 102]", "project_ids: [101, 101]", "stands twice"),
        ("tags: [sw-dev-deploy]", "tags: [sw-dev-deploy]\n        vault: {}", "a build has none"),
        (
            "tags: [sw-dev-deploy]",
            "tags: [sw-dev-deploy]\n        privileged: true",
            "no class is privileged",
        ),
        (
            "tags: [sw-dev-deploy]",
            "tags: [sw-dev-deploy]\n        service_account_overwrite: ksa-.*",
            "does not choose its account",
        ),
        ("tags: [sw-dev-deploy]", "tags: [sw-dev-deploy]\n        colour: red", "knows no 'colour'"),
        (
            'allowed_images: ["europe-west1-docker.pkg.dev/demo-devops/tools/*"]',
            'allowed_images: ["*"]',
            "image pattern",
        ),
        (
            'allowed_images: ["europe-west1-docker.pkg.dev/demo-devops/tools/*"]',
            'allowed_images: ["docker.io/*"]',
            "image pattern",
        ),
        ("tools/pipeline-tools:0.1.0", "tools/pipeline-tools:latest", "is no image"),
        ("tools/pipeline-tools:0.1.0", "other/pipeline-tools:0.1.0", "is no image|matches none"),
        ("node_pool: jobs-spot", "node_pool: gpu", "is none of cluster.node_pools"),
        ("node_pool: jobs\n", "node_pool: jobs-spot\n", "spot nodes: an apply would be cut off"),
        ("grace: 45m", "grace: 30m", "not longer than the longest apply"),
        ("grace: 45m", "grace: 2h", "is not from 10 to 3600"),
        ("service_account: ksa-sw-dev-builder", "service_account: ksa-sw-dev-deployer", "is the environment's"),
        ("        service_account: ksa-sw-dev-builder\n", "", "lacks service_account"),
        ("namespace: sw-prod", "namespace: sw-dev", "nothing would keep the two apart"),
        ("namespace: sw-prod", "namespace: sw-dev-build", "another environment's namespace"),
        ("role: sw-prod-deployer", "role: sw-dev-deployer", "nothing would keep the two apart"),
        ("policy: policy-sw-dev-deployer", "policy: policy-sw-prod-deployer-jwt", "another environment's policy"),
        ("mount: scaleway/project/demo-prod", "mount: scaleway/project/demo-dev", "is also read by dev"),
        ("mount: scaleway/project/demo-dev", "mount: transit", "is also vault.transit_mount"),
        ("kind: in-cluster", "kind: token-secret", "needs cluster.endpoint and cluster.ca"),
        ("kind: in-cluster", "kind: magic", "is none of in-cluster"),
        ("  dev:\n", "  shared:\n", "kept for what all environments share"),
        ("  dev:\n", "  dev:\n    namespace: x\n", "'namespace' stands twice"),
        ("environments:", "environment:", "knows no 'environment'"),
        ("url: https://gitlab.example.com", "url: http://gitlab.example.com", "https://"),
        ("-----BEGIN CERTIFICATE-----", "-----BEGIN NOTHING-----", "PEM certificate"),
        ("schema: 1", "schema: [", "malformed YAML"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said(old: str, new: str, message: str) -> None:
    found = problems(changed(old, new))
    assert found
    assert any(re.search(message, str(problem)) for problem in found), found


@pytest.mark.parametrize(
    ("old", "new", "at"),
    [
        ("ttl: 10m", "ttl: 5h", "ttl: 5h"),
        ("node_pool: jobs\n", "node_pool: jobs-spot\n", "node_pool: jobs-spot\n        longest"),
        ("namespace: sw-prod", "namespace: sw-dev", "namespace: sw-dev\n    service_account: ksa-sw-prod"),
        ("max_ttl: 15m", "max_ttl: 5m", "max_ttl: 5m"),
    ],
)
def test_the_line_is_that_of_the_fault(old: str, new: str, at: str) -> None:
    text = changed(old, new)
    assert line_of(text, at) in {problem.line for problem in problems(text)}


def test_every_problem_is_found_at_once() -> None:
    text = changed("ttl: 10m", "ttl: 5h", 2).replace("dataplane: v2", "dataplane: v3")
    found = problems(text)
    assert [problem.where for problem in found] == [
        "cluster.dataplane",
        "environments.dev.vault.ttl",
        "environments.prod.vault.ttl",
    ]
    with pytest.raises(
        PipelineError, match=r"^b\.yml:\d+: cluster\.dataplane: 'v3' is none of v1, v2"
    ) as error:
        binding_file.loads(text, "b.yml")
    assert "environments.prod.vault.ttl" in error.value.hint


@pytest.mark.parametrize(
    "text", ["", "[]", "text", "- a", "\x01", "a: b: c", "%YAML 9.9", "environments: {}"]
)
def test_what_is_no_binding(text: str) -> None:
    assert problems(text)


@pytest.mark.parametrize(
    ("pattern", "image", "expected"),
    [
        ("r.io/t/*", "r.io/t/a:1", True), ("r.io/t/*", "r.io/t/a/b:1", False), ("r.io/t/**", "r.io/t/a/b:1", True),
        ("r.io/t/a:1.*", "r.io/t/a:1.2", True), ("r.io/t/a", "r.io/t/a:1", False), ("r.io/t.x/*", "r.io/t-x/a", False),
    ],
)  # fmt: skip
def test_images_are_matched_as_the_runner_does(pattern: str, image: str, expected: bool) -> None:
    assert binding_file.admits(pattern, image) is expected


@settings(max_examples=200, deadline=None)
@given(st.integers(0, len(EXAMPLE)), st.integers(0, 40), st.text(max_size=8))
def test_no_mutation_is_too_odd(start: int, length: int, text: str) -> None:
    """A file that someone broke is read, or said to be wrong; never a traceback."""
    binding_file.read(EXAMPLE[:start] + text + EXAMPLE[start + length :])


@pytest.mark.parametrize(
    ("path", "other", "expected"),
    [
        ("a", "a", True), ("a", "b", False), ("a/*", "a/b", True), ("a/*", "a/b/*", True), ("a/*", "ab", False),
        ("a/*", "b/*", False), ("a/b/c", "a/*", True), ("a/bc/*", "a/b", False), ("config", "c/*", False),
    ],
)  # fmt: skip
def test_paths_that_overlap(path: str, other: str, expected: bool) -> None:
    assert binding_file._overlap(path, other) is binding_file._overlap(other, path) is expected
