"""The demo's Vault chapter: a job proves who it is and is lent Scaleway's credentials, and no others.

Real: OpenBao. A stand-in: the cluster that signs and reviews service-account tokens.
"""

import tomllib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ruamel.yaml import YAML

from pipeline_tools.text import binding_file, runner_files
from sandbox import parts
from sandbox.kubernetes_tokens import Cluster, Issuer
from sandbox.openbao import OpenBao

NEEDED = parts.OPENBAO
JOB = "sw-dev", "ksa-sw-dev-deployer"
OF_THE_POD = {"VAULT_CACERT", "PT_KUBERNETES_TOKEN_FILE"}
"""What the rendered runner says of its pods' files, which are elsewhere on this machine."""


@dataclass(frozen=True)
class Vault:
    """A server, a cluster, and the example's binding file with their addresses in it."""

    bao: OpenBao
    cluster: Cluster
    file: Path
    token_file: Path

    @property
    def administrator(self) -> dict[str, str]:
        """The variables of who binds."""
        return {
            "VAULT_ADDR": self.bao.url,
            "VAULT_TOKEN": self.bao.token,
            "PT_REVIEWER_TOKEN": self.cluster.reviewer_token,
        }

    @property
    def job(self) -> dict[str, str]:
        """The variables that the rendered runner gives dev's deploy jobs, and the token in their pods."""
        rendered = runner_files.render(binding_file.loads(self.file.read_text(), self.file.name))
        values = YAML(typ="safe", pure=True).load(rendered["dev/values-deploy.yaml"])
        runner = tomllib.loads(values["runners"]["config"])["runners"][0]
        given = dict(line.split("=", 1) for line in runner["environment"])
        self.token_file.write_text(self.cluster.token(*JOB))
        kept = {name: value for name, value in given.items() if name not in OF_THE_POD}
        return {**kept, "VAULT_ADDR": self.bao.url, "PT_KUBERNETES_TOKEN_FILE": str(self.token_file)}

    def proves(self, namespace: str, account: str, role: str) -> dict[str, str]:
        """The variables of a job that asks for another role as this service account."""
        token_file = self.token_file.with_name(f"{account}.token")
        token_file.write_text(self.cluster.token(namespace, account))
        return {**self.job, "PT_VAULT_ROLE": role, "PT_KUBERNETES_TOKEN_FILE": str(token_file)}

    def admit(self, namespace: str, account: str, role: str, paths: Iterable[str]) -> None:
        """A role for this service account, which reads these API paths."""
        own = {"auth/token/lookup-self": "read", "auth/token/revoke-self": "update"}
        rules = {**dict.fromkeys(paths, "read"), **own}
        policy = "".join(f'path "{path}" {{ capabilities = ["{may}"] }}\n' for path, may in rules.items())
        self.bao.write(f"sys/policies/acl/{role}", policy=policy)
        self.bao.write(
            f"auth/kubernetes/role/{role}",
            bound_service_account_names=[account],
            bound_service_account_namespaces=[namespace],
            audience="vault",
            token_policies=[role],
            token_ttl="10m",
        )

    def store(self, project: str) -> None:
        """Scaleway's credentials of a project, at the platform's three paths."""
        secrets = {
            "credentials/access": {"key": "SCWDEMOACCESSKEY0000"},
            "credentials/secret": {"key": f"secret-key-of-{project}"},
            "config": {"id": "00000000-0000-4000-8000-000000000000"},
        }
        for path, fields in secrets.items():
            self.bao.write(f"scaleway/project/{project}/data/{path}", data=fields)


@contextmanager
def opened(workspace: Path) -> Iterator[Vault]:
    """Start both, with their data in the workspace; stop them at the end."""
    with OpenBao.start(workspace / "vault") as bao, Cluster.start() as cluster:
        file = workspace / "binding.yml"
        file.write_text(_binding(cluster))
        yield Vault(bao, cluster, file, workspace / "vault" / "service-account-token")


def _binding(cluster: Cluster) -> str:
    """The example's binding, for a Vault outside of this cluster and a GitLab that nobody can ask for its keys."""
    key = Issuer.make("https://gitlab.example.com").public_key.strip().replace("\n", "\n      ")
    authority = cluster.ca_certificate.strip().replace("\n", "\n    ")
    changes = {
        "    kind: in-cluster\n": "    kind: token-secret\n",
        "  url: https://gitlab.example.com\n": f"  url: https://gitlab.example.com\n  public_keys:\n    - |\n      {key}\n",
        "  dataplane: v2\n": f"  dataplane: v2\n  endpoint: {cluster.url}\n  ca: |\n    {authority}\n",
    }
    text = (parts.ROOT / "runner" / "binding.yml").read_text()
    for old, new in changes.items():
        text = text.replace(old, new)
    return text
