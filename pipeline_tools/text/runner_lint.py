"""Findings about a runner: in a binding file, in Helm values, in a config.toml, in what is rendered for Kubernetes and Vault."""

import re
from collections.abc import Iterator

from pipeline_tools.text import binding_file, located, runner_objects
from pipeline_tools.text.findings import Finding
from pipeline_tools.text.located import Document
from pipeline_tools.text.runner_config import broken, runners_in, table_in
from pipeline_tools.text.runner_rules import RULES, Sighting


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
        yield from _found(document, broken(document.value))
    else:
        for document in located.yaml(text, path):
            yield from _document(document, text)


def _document(document: Document, text: str) -> Iterator[Finding]:
    keys = set(document.value) if isinstance(document.value, dict) else set()
    if "environments" in keys or ("schema" in keys and "cluster" in keys):
        yield from _binding(text, document.path)
    elif {"apiVersion", "kind"} <= keys:
        yield from _found(document, runner_objects.kubernetes(document))
    elif keys & {"bound_service_account_names", "role_type", "bound_claims"}:
        yield from _found(document, runner_objects.role(document))
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
    for problem in binding_file.read(text)[1]:
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
    yield from _found(inner, broken(inner.value, name=str(document.get("runners.name", ""))))
    yield from _grace(document, inner)
    if document.get("runners.cache.secretName") and any(
        table_in(r, "cache", "gcs") for r in runners_in(inner.value)
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
    for runner in runners_in(config.value):
        jobs = table_in(runner, "kubernetes").get("pod_termination_grace_period_seconds", 0)
        if isinstance(manager, int) and isinstance(jobs, int) and manager < jobs:
            where = "terminationGracePeriodSeconds"
            yield _finding("short-grace", values.path, values.lines.of(where), where)


# Vault's policies ----------------------------------------------------------------------------------------------

_WIDE = re.compile(r"^\*|(^|/)\+(/|$)|^[^/]*/\*$|/(data|metadata)/\*$")
"""A glob at the beginning, a `+` segment, a whole mount, all of a KV version 2 mount."""


def _policy(text: str, path: str) -> Iterator[Finding]:
    """A policy's paths by line: nothing else of HCL is needed."""
    for number, line in enumerate(text.split("\n"), 1):
        found = re.match(r"\s*path\s+\"([^\"]*)\"", line)
        if found and _WIDE.search(found[1]):
            yield _finding("wildcard-policy", path, number, found[1])
