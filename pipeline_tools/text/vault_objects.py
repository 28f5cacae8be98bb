"""What a binding wants in Vault: mounts, auth configuration, policies, roles and keys, as API paths and fields.

Rendering writes these down and `runner bind` makes Vault be so; both from the same values. Vault and OpenBao alike.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from pipeline_tools.text.binding import ISSUER, TOKEN_SECRET, Binding, Environment
from pipeline_tools.text.quoting import hcl


class Kind(StrEnum):
    """What an object is, in the order in which it must be made."""

    SECRETS_MOUNT = "secrets mount"
    AUTH_MOUNT = "auth mount"
    AUTH_CONFIG = "auth config"
    KEY = "transit key"
    POLICY = "policy"
    ROLE = "role"


@dataclass(frozen=True)
class Managed:
    """One object: the API path that is read and written, and the fields that must be so; other fields are not ours.

    `environment` is None for what all share.
    """

    kind: Kind
    path: str
    fields: Mapping[str, Any] = field(default_factory=dict)
    environment: str | None = None


@dataclass(frozen=True)
class Rule:
    """One `path` block of a policy."""

    path: str
    capabilities: tuple[str, ...]


# The token lines are needed because roles set token_no_default_policy.
OWN_TOKEN = (
    Rule("auth/token/lookup-self", ("read",)),
    Rule("auth/token/revoke-self", ("update",)),
    Rule(
        "sys/capabilities-self", ("update",)
    ),  # so that `vault doctor` and a refusal can say what is missing
)


def shared(binding: Binding) -> Iterator[Managed]:
    """Auth mounts with their configuration, and the mount of the transit keys."""
    vault = binding.vault
    kubernetes = f"auth/{vault.kubernetes_mount}"
    yield Managed(Kind.AUTH_MOUNT, f"sys/{kubernetes}", {"type": _kubernetes_type(binding)})
    yield Managed(Kind.AUTH_CONFIG, f"{kubernetes}/config", _kubernetes_config(binding))
    if any(environment.vault.has_jwt for environment in binding.environments):
        yield Managed(Kind.AUTH_MOUNT, f"sys/auth/{vault.jwt_mount}", {"type": "jwt"})
        yield Managed(Kind.AUTH_CONFIG, f"auth/{vault.jwt_mount}/config", _gitlab_config(binding))
    if any(environment.vault.is_dual for environment in binding.environments):
        yield Managed(Kind.SECRETS_MOUNT, f"sys/mounts/{vault.transit_mount}", {"type": "transit"})


def of(binding: Binding, environment: Environment) -> Iterator[Managed]:
    """What one environment has of its own."""
    lease, name = environment.vault, environment.name
    for secrets in lease.secrets:
        yield Managed(Kind.SECRETS_MOUNT, f"sys/mounts/{secrets.mount}", KV2, name)
    if lease.is_dual:
        yield Managed(Kind.KEY, key(binding, environment), KEY, name)
    for policy, rules in policies(binding, environment).items():
        yield Managed(Kind.POLICY, f"sys/policies/acl/{policy}", {"policy": policy_text(rules)}, name)
    if lease.has_kubernetes:
        path = f"auth/{binding.vault.kubernetes_mount}/role/{lease.role}"
        yield Managed(Kind.ROLE, path, account_role(binding, environment), name)
    if lease.has_jwt:
        path = f"auth/{binding.vault.jwt_mount}/role/{lease.role}"
        yield Managed(Kind.ROLE, path, gitlab_role(binding, environment), name)


KV2 = {"type": "kv", "options": {"version": "2"}}
KEY = {"type": "aes256-gcm96", "exportable": False, "allow_plaintext_backup": False}
"""The default key type of transit, which never leaves Vault (vault/api-docs/secret/transit, "Create key")."""


def key(binding: Binding, environment: Environment) -> str:
    """The transit key of an environment with dual proof; it has its role's name."""
    return f"{binding.vault.transit_mount}/keys/{environment.vault.role}"


# Policies ------------------------------------------------------------------------------------------------------


def policies(binding: Binding, environment: Environment) -> dict[str, tuple[Rule, ...]]:
    """The policies by name.

    With dual proof the ID token reads what is only ciphertext, and the service account only decrypts.
    """
    lease = environment.vault
    reading = tuple(_reading(environment))
    if not lease.is_dual:
        return {lease.policy: (*reading, *OWN_TOKEN)}
    decrypting = Rule(f"{binding.vault.transit_mount}/decrypt/{lease.role}", ("update",))
    return {lease.policy: (decrypting, *OWN_TOKEN), lease.jwt_policy: (*reading, *OWN_TOKEN)}


def _reading(environment: Environment) -> Iterator[Rule]:
    """KV version 2 has its values below data/ and its versions below metadata/ (vault/docs/secrets/kv/kv-v2)."""
    for secrets in environment.vault.secrets:
        for path in secrets.paths:
            yield Rule(f"{secrets.mount}/data/{path}", ("read",))
            is_folder = path.endswith("*")
            yield Rule(f"{secrets.mount}/metadata/{path}", ("read", "list") if is_folder else ("read",))


def policy_text(rules: tuple[Rule, ...]) -> str:
    """A policy in HCL (vault/docs/concepts/policies, "Policy syntax")."""
    return "\n".join(
        f"path {hcl(rule.path)} {{\n  capabilities = [{', '.join(hcl(word) for word in rule.capabilities)}]\n}}\n"
        for rule in rules
    )


# Roles ---------------------------------------------------------------------------------------------------------


def _token(lease_policy: str, environment: Environment) -> dict[str, Any]:
    """What any login's token is: it ends, it is not renewed for ever, and it has no policy but its own."""
    return {
        "token_policies": [lease_policy],
        "token_ttl": environment.vault.ttl,
        "token_max_ttl": environment.vault.max_ttl,
        "token_no_default_policy": True,
        "token_type": "service",
    }


def account_role(binding: Binding, environment: Environment) -> dict[str, Any]:
    """The role that the service account logs in with (vault/api-docs/auth/kubernetes, "Create/Update role").

    Where Vault checks the cluster's issuer itself, the mount is of type jwt (vault/api-docs/auth/jwt).
    """
    audience = binding.vault.audience
    if binding.vault.reviewer.kind == ISSUER:
        subject = f"system:serviceaccount:{environment.namespace}:{environment.service_account}"
        own: dict[str, Any] = {
            "role_type": "jwt",
            "user_claim": "sub",
            "bound_subject": subject,
            "bound_audiences": [audience],
        }
    else:
        own = {
            "bound_service_account_names": [environment.service_account],
            "bound_service_account_namespaces": [environment.namespace],
            "audience": audience,
            "alias_name_source": "serviceaccount_uid",
        }
    return {**own, **_token(environment.vault.policy, environment)}


def gitlab_role(binding: Binding, environment: Environment) -> dict[str, Any]:
    """The role that a GitLab ID token logs in with (vault/api-docs/auth/jwt; claims are text in GitLab's tokens)."""
    claims = environment.gitlab
    bound: dict[str, Any] = {"project_id": [str(number) for number in claims.project_ids]}
    if claims.ref_protected:
        bound["ref_protected"] = "true"
    if claims.environment:
        bound["environment"] = claims.environment
    return {
        "role_type": "jwt",
        "user_claim": "project_id",
        "bound_audiences": [binding.vault.address],
        "bound_claims_type": "string",
        "bound_claims": bound,
        **_token(environment.vault.jwt_policy, environment),
    }


# Auth configuration --------------------------------------------------------------------------------------------


def _kubernetes_type(binding: Binding) -> str:
    return "jwt" if binding.vault.reviewer.kind == ISSUER else "kubernetes"


def _kubernetes_config(binding: Binding) -> dict[str, Any]:
    """How service-account tokens are proved (vault/docs/auth/kubernetes, "How to work with short-lived tokens").

    `token_reviewer_jwt` is a secret and stands in no file: `runner bind` is given it.
    """
    reviewer, cluster = binding.vault.reviewer, binding.cluster
    if reviewer.kind == ISSUER:
        return _issuer(cluster.issuer, reviewer.public_keys)
    if reviewer.kind == TOKEN_SECRET:
        return {
            "kubernetes_host": cluster.endpoint,
            "kubernetes_ca_cert": (cluster.ca or "").strip(),
            "disable_local_ca_jwt": True,
        }
    return {"kubernetes_host": "https://kubernetes.default.svc", "disable_local_ca_jwt": False}


def _gitlab_config(binding: Binding) -> dict[str, Any]:
    """docs.gitlab.com/ci/secrets/hashicorp_vault: the instance's address is issuer and discovery address."""
    return _issuer(binding.gitlab.url, binding.gitlab.public_keys)


def _issuer(issuer: str, public_keys: tuple[str, ...]) -> dict[str, Any]:
    if public_keys:
        return {"jwt_validation_pubkeys": [key.strip() for key in public_keys], "bound_issuer": issuer}
    return {"oidc_discovery_url": issuer, "bound_issuer": issuer}
