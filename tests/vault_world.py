"""A platform around a real OpenBao: a cluster and a GitLab whose tokens it trusts, roles, policies and secrets."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sandbox.kubernetes_tokens import Cluster, Issuer, gitlab_id_token

if TYPE_CHECKING:
    from pathlib import Path

    from sandbox.openbao import OpenBao

PASSWORD = "canary-Pa55w0rd/+with=signs"
SCALEWAY_KEY = "canary-11111111-2222-3333-4444-555555555555"
PEM = "-----BEGIN KEY-----\ncanary-line-one-of-it\ncanary-line-two-of-it\n-----END KEY-----\n"
COMMAND = (sys.executable, "-m", "pipeline_tools", "vault")

POLICY = """
path "{kv}/data/dev/*" {{ capabilities = ["read"] }}
path "{kv}/metadata/dev" {{ capabilities = ["list"] }}
path "{kv}/metadata/dev/*" {{ capabilities = ["read", "list"] }}
path "{kv}1/dev/*" {{ capabilities = ["read"] }}
path "scaleway/project/demo/data/*" {{ capabilities = ["read"] }}
path "{kv}-lease/*" {{ capabilities = ["read"] }}
"""


@dataclass(frozen=True)
class VaultWorld:
    """One test file's own mounts (`kv`, `kv1`) on the shared server; token files in `directory`."""

    bao: OpenBao
    cluster: Cluster
    gitlab: Issuer
    directory: Path
    id: str = field(default_factory=lambda: f"t{uuid.uuid4().hex[:8]}")

    @property
    def kv(self) -> str:
        return f"{self.id}-kv"

    def bind(self) -> None:
        """Mounts, auth methods, roles, policies and secrets, as `runner bind` makes them."""
        client, write = self.bao.client(), self.bao.write
        client.sys.enable_secrets_engine("kv", path=self.kv, options={"version": "2"})
        client.sys.enable_secrets_engine("kv", path=f"{self.kv}1", options={"version": "1"})
        client.sys.enable_secrets_engine("transit", path=f"{self.id}-transit")
        client.sys.enable_auth_method("kubernetes", path=f"{self.id}-k8s")
        client.sys.enable_auth_method("jwt", path=f"{self.id}-jwt")
        write(
            f"auth/{self.id}-k8s/config",
            kubernetes_host=self.cluster.url,
            kubernetes_ca_cert=self.cluster.ca_certificate,
            token_reviewer_jwt=self.cluster.reviewer_token,
            disable_local_ca_jwt=True,
        )
        write(
            f"auth/{self.id}-jwt/config",
            jwt_validation_pubkeys=[self.gitlab.public_key],
            bound_issuer=self.gitlab.url,
        )
        client.sys.create_or_update_policy(f"{self.id}-dev", POLICY.format(kv=self.kv))
        self.role("dev", [f"{self.id}-dev"])
        self.role("batch", [f"{self.id}-dev"], token_type="batch")
        self.jwt_role("dev", [f"{self.id}-dev"])
        self.put("dev/app", password=PASSWORD, region="fr-par", key=PEM)

    def role(self, name: str, policies: list[str], **changes: Any) -> None:
        data = {
            "bound_service_account_names": ["job-dev"],
            "bound_service_account_namespaces": ["ci-dev"],
            "audience": "vault",
            "token_policies": policies,
            "token_ttl": "10m",
            "alias_name_source": "serviceaccount_uid",
            **changes,
        }
        self.bao.write(f"auth/{self.id}-k8s/role/{name}", **data)

    def jwt_role(self, name: str, policies: list[str]) -> None:
        self.bao.write(
            f"auth/{self.id}-jwt/role/{name}",
            role_type="jwt",
            user_claim="sub",
            bound_audiences=["vault"],
            bound_claims={"project_id": "42", "ref_protected": "true"},
            token_policies=policies,
            token_ttl="10m",
        )

    def put(self, path: str, /, **fields: str) -> None:
        """A new version of a secret in the KV v2 mount."""
        self.bao.client().secrets.kv.v2.create_or_update_secret(path, fields, mount_point=self.kv)

    # Tokens ------------------------------------------------------------------------------------------------

    def token_file(self, namespace: str = "ci-dev", account: str = "job-dev", **settings: Any) -> Path:
        path = self.directory / f"token-{uuid.uuid4().hex}"
        path.write_text(self.cluster.token(namespace, account, **settings))
        return path

    @property
    def accessors(self) -> set[str]:
        """Every token that lives on the server."""
        return set(self.bao.client().auth.token.list_accessors()["data"]["keys"])

    # The command line --------------------------------------------------------------------------------------

    def variables(self, **changes: str | None) -> dict[str, str]:
        """The environment of a job as `dev`; `None` takes a variable away."""
        found = {
            **os.environ,
            "VAULT_ADDR": self.bao.url,
            "PT_VAULT_ROLE": "dev",
            "PT_VAULT_KUBERNETES_MOUNT": f"{self.id}-k8s",
            "PT_VAULT_JWT_MOUNT": f"{self.id}-jwt",
            "PT_KUBERNETES_TOKEN_FILE": str(self.token_file()),
            "PT_VAULT_TIMEOUT": "2",
            **changes,
        }
        return {name: value for name, value in found.items() if value is not None}

    def start(self, *words: str, **variables: str | None) -> subprocess.Popen[bytes]:
        """`vault WORDS` as a job runs it."""
        return subprocess.Popen(
            (*COMMAND, *words),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            env=self.variables(**variables),
            cwd=self.directory,
        )

    def run(self, *words: str, exit_code: int = 0, **variables: str | None) -> tuple[str, str]:
        """Its output and errors."""
        with self.start(*words, **variables) as process:
            out, err = process.communicate(timeout=60)
        assert process.returncode == exit_code, (words, process.returncode, out, err)
        return out.decode(), err.decode()

    def id_token(self, **changes: Any) -> str:
        return gitlab_id_token(self.gitlab, **changes)
