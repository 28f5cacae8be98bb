"""Renders a binding into the files of a runner: Helm values, Kubernetes objects, Vault's objects, IAM.

Templates are in `pipeline_tools/data/runner`. They print only what a filter of `quoting` has made (`_only_quoted`),
so a value can be forgotten to be quoted, but not be printed so.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from jinja2 import Environment as Jinja
from jinja2 import PackageLoader, StrictUndefined

from pipeline_tools.text import quoting, vault_objects
from pipeline_tools.text.binding import (
    APPLY,
    BUILD,
    SHARED,
    TOKEN_SECRET,
    Binding,
    Environment,
    NodePool,
    Runner,
)
from pipeline_tools.text.quoting import Quoted
from pipeline_tools.text.vault_objects import Kind, Managed

METADATA = {
    "v1": {"cidr": "169.254.169.252/32", "ports": (987, 988)},
    "v2": {"cidr": "169.254.169.254/32", "ports": (80, 8080)},
}
"""Where GKE's metadata server is for a NetworkPolicy, without and with Dataplane V2
(cloud.google.com/kubernetes-engine/docs/how-to/workload-identity, "Network policy")."""

HEADER = "# Rendered by `pipeline-tools runner render`"
"""How the files that can hold a comment begin; it marks a folder as ours."""

TOKEN_DIRECTORY = "/var/run/secrets/vault"  # noqa: S105 (a folder)
CA_DIRECTORY = "/var/run/vault-ca"
HTTPS_PORT = 443


@dataclass(frozen=True)
class Space:
    """A namespace: the account of its jobs, and the classes whose runners are there."""

    namespace: str
    is_build: bool
    service_account: str
    google_account: str
    runners: tuple[str, ...]


def render(binding: Binding) -> dict[str, str]:
    """Every file by its path below the directory, in order."""
    files = dict(_shared(binding))
    for environment in binding.environments:
        files |= {f"{environment.name}/{name}": text for name, text in _environment(binding, environment)}
    return files


def _shared(binding: Binding) -> Iterator[tuple[str, str]]:
    for managed in vault_objects.shared(binding):
        yield f"{SHARED}/vault/{_file(managed)}", _json(managed)
    if binding.vault.reviewer.kind == TOKEN_SECRET:
        yield f"{SHARED}/reviewer.yaml", _template("reviewer.yaml", reviewer=binding.vault.reviewer)


def _environment(binding: Binding, environment: Environment) -> Iterator[tuple[str, str]]:
    yield "kubernetes.yaml", _kubernetes(binding, environment)
    for kind, runner in environment.classes:
        yield f"values-{kind}.yaml", _values(binding, environment, kind, runner)
    for managed in vault_objects.of(binding, environment):
        text = managed.fields["policy"] if managed.kind is Kind.POLICY else _json(managed)
        yield f"vault/{_file(managed)}", text
    accounts = _accounts(binding, environment)
    for name in ("iam.tf", "iam.sh"):
        yield name, _template(name, project=binding.cluster.project, accounts=accounts)
    yield "runners.sh", _runners(binding, environment)


def _file(managed: Managed) -> str:
    """A name from the API path: `auth-kubernetes-role-sw-dev-deployer.json`; a policy's is its own, in HCL."""
    if managed.kind is Kind.POLICY:
        return f"{managed.path.rpartition('/')[2]}.hcl"
    return f"{managed.path.removeprefix('sys/').replace('/', '-')}.json"


def _json(managed: Managed) -> str:
    """The fields as `vault write PATH @FILE` takes them."""
    return quoting.tojson(dict(managed.fields)) + "\n"


# Kubernetes ----------------------------------------------------------------------------------------------------


def _kubernetes(binding: Binding, environment: Environment) -> str:
    return _template(
        "kubernetes.yaml",
        spaces=tuple(_spaces(binding, environment)),
        quota=environment.quota,
        vault=binding.vault,
        metadata=METADATA[binding.cluster.dataplane],
        ports=sorted({HTTPS_PORT, vault_port(binding), *environment.egress_ports}),
    )


def _spaces(binding: Binding, environment: Environment) -> Iterator[Space]:
    classes = [kind for kind, _ in environment.classes]
    jobs, build = tuple(kind for kind in classes if kind != BUILD), environment.classes.build
    if jobs:
        google = email(binding, environment.google_service_account)
        yield Space(environment.namespace, False, environment.service_account, google, jobs)
    if build:
        google = email(binding, build.google_service_account)
        yield Space(environment.namespace_of(BUILD), True, build.service_account, google, (BUILD,))


def vault_port(binding: Binding) -> int:
    """The port of Vault's address; 443 where it has none."""
    found = re.search(r":([0-9]+)$", binding.vault.address)
    return int(found[1]) if found else HTTPS_PORT


# Helm values ---------------------------------------------------------------------------------------------------


def _values(binding: Binding, environment: Environment, kind: str, runner: Runner) -> str:
    pool, build = binding.pool(runner.node_pool), environment.classes.build
    is_build = kind == BUILD and build is not None
    return _template(
        "values.yaml",
        gitlab=binding.gitlab,
        vault=binding.vault,
        runner=runner,
        kind=kind,
        name=f"{environment.namespace}-{kind}",
        secret=_secret(environment, kind),
        namespace=environment.namespace_of(kind),
        service_account=build.service_account if build and is_build else environment.service_account,
        is_build=is_build,
        is_apply=kind == APPLY,
        has_vault=not is_build,
        variables=tuple(_variables(binding, environment)),
        token_directory=TOKEN_DIRECTORY,
        ca_directory=CA_DIRECTORY,
        pool=pool,
        manager_pool=_manager_pool(binding, pool),
    )


def _secret(environment: Environment, kind: str) -> str:
    return f"gitlab-runner-{environment.namespace}-{kind}"


def _manager_pool(binding: Binding, pool: NodePool) -> NodePool:
    """A manager that is taken away loses its jobs, so it is not on spot nodes where there are others."""
    steady = (other for other in binding.cluster.node_pools if not other.spot)
    return next(steady, pool) if pool.spot else pool


def _variables(binding: Binding, environment: Environment) -> Iterator[str]:
    """What a job needs to know to log in to Vault with `vault exec`; none of it is secret."""
    vault, lease = binding.vault, environment.vault
    yield f"VAULT_ADDR={vault.address}"
    if vault.ca:
        yield f"VAULT_CACERT={CA_DIRECTORY}/ca.crt"
    yield f"PT_VAULT_AUTH={lease.auth}"
    yield f"PT_VAULT_ROLE={lease.role}"
    if lease.has_kubernetes:
        yield f"PT_VAULT_KUBERNETES_MOUNT={vault.kubernetes_mount}"
        yield f"PT_KUBERNETES_TOKEN_FILE={TOKEN_DIRECTORY}/token"
    if lease.has_jwt:
        yield f"PT_VAULT_JWT_MOUNT={vault.jwt_mount}"
    if lease.is_dual:
        yield f"PT_VAULT_TRANSIT_KEY={vault.transit_mount}/{lease.role}"


# Google Cloud and GitLab ---------------------------------------------------------------------------------------


def email(binding: Binding, account: str) -> str:
    """The address of a Google service account of the cluster's project."""
    return f"{account}@{binding.cluster.project}.iam.gserviceaccount.com"


def _accounts(binding: Binding, environment: Environment) -> tuple[dict[str, Any], ...]:
    build = environment.classes.build
    found = [
        (environment.google_service_account, environment.namespace, environment.service_account, ()),
        *(
            [
                (
                    build.google_service_account,
                    environment.namespace_of(BUILD),
                    build.service_account,
                    build.artifact_registry,
                )
            ]
            if build
            else []
        ),
    ]
    return tuple(
        {
            "google": google,
            "email": email(binding, google),
            "member": f"serviceAccount:{binding.cluster.pool}[{namespace}/{account}]",
            "repositories": repositories,
        }
        for google, namespace, account, repositories in found
    )


def _runners(binding: Binding, environment: Environment) -> str:
    runners = [
        {
            "name": f"{environment.namespace}-{kind}",
            "tags": runner.tags,
            "secret": _secret(environment, kind),
            "namespace": environment.namespace_of(kind),
        }
        for kind, runner in environment.classes
    ]
    return _template(
        "runners.sh",
        runners=runners,
        hostname=binding.gitlab.url.removeprefix("https://"),
        project_id=environment.gitlab.project_ids[0],
        access_level="ref_protected" if environment.gitlab.ref_protected else "not_protected",
    )


# Jinja2 --------------------------------------------------------------------------------------------------------


def _template(name: str, /, **values: Any) -> str:
    return jinja().get_template(f"{name}.j2").render(values)


@cache
def jinja() -> Jinja:
    """The environment of the templates: an undefined name is an error, and so is a value that no filter quoted."""
    found = Jinja(
        loader=PackageLoader("pipeline_tools", "data/runner"),
        undefined=StrictUndefined,
        finalize=_only_quoted,
        autoescape=False,  # noqa: S701 (no HTML; `finalize` does what autoescape would)
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    found.filters.update(FILTERS)
    return found


def _only_quoted(value: object) -> object:
    if isinstance(value, Quoted):
        return value
    raise TypeError(f"a template prints {type(value).__name__} without quoting it")


def _identifier(value: str) -> Quoted:
    """A bare name of Terraform's (developer.hashicorp.com/terraform/language/syntax/configuration, "Identifiers")."""
    if not re.fullmatch(r"[a-z][a-z0-9-]*", value):
        raise ValueError("not an identifier")
    return Quoted(value)


def _part(index: int) -> Callable[[str], str]:
    """A part of a taint KEY=VALUE:EFFECT."""
    return lambda taint: re.split(r"[=:]", taint)[index]


FILTERS: Mapping[str, Callable[..., Any]] = {
    "yaml": quoting.yaml,
    "toml": quoting.toml,
    "hcl": quoting.hcl,
    "tojson": quoting.tojson,
    "shell": quoting.shell,
    "block": quoting.block,
    "identifier": _identifier,
    "text": str,
    "manager": lambda kind: f"gitlab-runner-{kind}",
    "taint_name": lambda taint: taint.rpartition(":")[0],
    "taint_key": _part(0),
    "taint_value": _part(1),
    "taint_effect": _part(2),
}
