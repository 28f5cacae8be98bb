"""`runner bind` against a real OpenBao: what it writes, what it leaves alone, and what jobs then can and cannot do."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import tomllib
import uuid
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hvac
import pytest
from click.testing import CliRunner
from ruamel.yaml import YAML

from pipeline_tools.adapters import vault as vaults
from pipeline_tools.adapters.vault_client import Server
from pipeline_tools.cli import cli
from pipeline_tools.errors import Denied, PipelineError, Refused
from pipeline_tools.steps import bind as step
from pipeline_tools.steps import prove
from pipeline_tools.steps.shape import Status
from pipeline_tools.text import binding_file, runner_files
from pipeline_tools.text.masks import Secret
from pipeline_tools.text.vault_login import Given
from sandbox.kubernetes_tokens import Cluster, Issuer, gitlab_id_token
from tests.steps.driving import Listener, run

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pipeline_tools.text.binding import Binding
    from sandbox.openbao import OpenBao

ROOT = Path(__file__).parent.parent.parent
EXAMPLE = (ROOT / "runner" / "binding.yml").read_text()
pytestmark = pytest.mark.servers


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster.start() as started:
        yield started


@pytest.fixture(scope="module")
def gitlab() -> Issuer:
    return Issuer.make("https://gitlab.example.com")


class World:
    """A binding with mounts of its own, in a server that others use too."""

    def __init__(self, bao: OpenBao, cluster: Cluster, gitlab: Issuer) -> None:
        self.bao, self.cluster, self.gitlab = bao, cluster, gitlab
        self.id = uuid.uuid4().hex[:8]
        self.text = self._text()
        self.binding = binding_file.loads(self.text, "binding.yml")
        self.root = vaults.Vault(Server(bao.url), Given(Secret(bao.token)), lambda _: None)
        self.root.login()

    def _text(self) -> str:
        """The example, with Vault outside the cluster, and GitLab's key written out."""
        mounts = {name: f"{name}-{self.id}" for name in ("kubernetes", "jwt", "transit")}
        vault = "".join(f"  {name}_mount: {mount}\n" for name, mount in mounts.items())
        key = self.gitlab.public_key.strip().replace("\n", "\n      ")
        ca = self.cluster.ca_certificate.strip().replace("\n", "\n    ")
        changes = {
            "    kind: in-cluster\n": f"    kind: token-secret\n{vault}",
            "  url: https://gitlab.example.com\n": f"  url: https://gitlab.example.com\n  public_keys:\n    - |\n      {key}\n",
            "  dataplane: v2\n": f"  dataplane: v2\n  endpoint: {self.cluster.url}\n  ca: |\n    {ca}\n",
            "scaleway/project/demo": f"scaleway-{self.id}/project/demo",
            "role: sw-": f"role: r{self.id}-",
            "policy: policy-sw-": f"policy: p{self.id}-",
        }
        text = EXAMPLE
        for old, new in changes.items():
            assert old in text
            text = text.replace(old, new)
        return text

    def request(
        self, changed: Binding | None = None, *, token: str | None = None, names: Any = None
    ) -> step.Request:
        reviewer = Secret(self.cluster.reviewer_token if token is None else token)
        return step.Request(changed or self.binding, names or ("dev", "prod"), reviewer)

    def bind(self, request: step.Request | None = None, **options: Any) -> Any:
        return run(step.STEP, request or self.request(), step.Ports(self.root), **options)

    def prove(self, changed: Binding | None = None) -> Any:
        request = prove.Request(changed or self.binding, ("dev", "prod"))
        return run(prove.STEP, request, prove.Ports(self.root))

    def mount(self, environment: str) -> str:
        return f"scaleway-{self.id}/project/demo-{environment}"

    def seed(self) -> None:
        """A secret a mount; prod's is ciphertext, as dual proof wants it."""
        self.bao.write(f"{self.mount('dev')}/data/credentials/secret", data={"key": "dev-secret"})
        plain = base64.b64encode(b"prod-secret").decode()
        key = f"transit-{self.id}/encrypt/r{self.id}-prod-deployer"
        cipher = self.bao.write(key, plaintext=plain)["data"]["ciphertext"]
        self.bao.write(f"{self.mount('prod')}/data/credentials/secret", data={"key": cipher})

    def job(self, environment: str, namespace: str | None = None) -> hvac.Client:
        """A client logged in as that environment's deploy job."""
        token = self.cluster.token(namespace or f"sw-{environment}", f"ksa-sw-{environment}-deployer")
        client = self.bao.client(token="")
        client.auth.kubernetes.login(
            f"r{self.id}-{environment}-deployer", token, mount_point=f"kubernetes-{self.id}"
        )
        return client

    def id_token(self, **changes: Any) -> hvac.Client:
        """A client logged in with a GitLab ID token of a prod job."""
        claims = {"audience": "https://vault.example.com:8200", "project_id": "101", "environment": "prod"}
        token = gitlab_id_token(self.gitlab, **{**claims, **changes})
        client = self.bao.client(token="")
        client.auth.jwt.jwt_login(f"r{self.id}-prod-deployer", token, path=f"jwt-{self.id}")
        return client

    def read(self, client: hvac.Client, environment: str) -> Any:
        return client.read(f"{self.mount(environment)}/data/credentials/secret")["data"]["data"]["key"]

    def read_own(self, client: hvac.Client) -> Any:
        return client.auth.token.lookup_self()["data"]["policies"]

    def decrypt(self, client: hvac.Client, cipher: str) -> bytes:
        path = f"transit-{self.id}/decrypt/r{self.id}-prod-deployer"
        return base64.b64decode(client.write_data(path, data={"ciphertext": cipher})["data"]["plaintext"])


@pytest.fixture
def world(bao: OpenBao, cluster: Cluster, gitlab: Issuer) -> World:
    return World(bao, cluster, gitlab)


def test_bound_once_then_unchanged(world: World) -> None:
    outcome = world.bind()
    assert outcome.status is Status.DONE
    assert len(outcome.written) == 14
    again = world.bind(world.request(token=""))
    assert (again.status, again.written) == (Status.UNCHANGED, ())


def test_a_dry_run_writes_nothing(world: World) -> None:
    before = world.bao.client().sys.list_auth_methods()["data"].keys()
    listener = Listener()
    outcome = world.bind(dry_run=True, listener=listener)
    assert (outcome.status, len(outcome.written)) == (Status.PLANNED, 14)
    assert world.bao.client().sys.list_auth_methods()["data"].keys() == before
    lines = "\n".join(listener.plans[0].lines())
    assert f"+ role auth/kubernetes-{world.id}/role/r{world.id}-dev-deployer" in lines
    assert world.cluster.reviewer_token not in lines
    assert world.cluster.reviewer_token not in repr(listener.plans[0])


def test_what_jobs_can_and_cannot_do(world: World) -> None:
    world.bind()
    world.seed()
    dev, prod, token = world.job("dev"), world.job("prod"), world.id_token()
    assert world.read(dev, "dev") == "dev-secret"
    for client in (dev, prod):
        with pytest.raises(hvac.exceptions.Forbidden):
            world.read(client, "prod")
    cipher = world.read(token, "prod")
    assert cipher.startswith("vault:v1:")
    for client in (dev, token):
        with pytest.raises(hvac.exceptions.Forbidden):
            world.decrypt(client, cipher)
    assert world.decrypt(prod, cipher) == b"prod-secret"
    found = dev.auth.token.lookup_self()["data"]
    assert (found["ttl"] <= 600, found["policies"]) == (True, [f"p{world.id}-dev-deployer"])
    dev.auth.token.revoke_self()


@pytest.mark.parametrize(
    "changes",
    [{"is_protected": False}, {"project_id": "999"}, {"environment": "dev"}, {"audience": "somebody"}],
    ids=str,
)
def test_an_id_token_of_somebody_else_is_refused(world: World, changes: dict[str, Any]) -> None:
    world.bind()
    world.id_token()
    with pytest.raises(hvac.exceptions.VaultError):
        world.id_token(**changes)


def test_an_account_of_another_namespace_is_refused(world: World) -> None:
    world.bind()
    with pytest.raises(hvac.exceptions.VaultError):
        world.job("prod", namespace="sw-dev")
    with pytest.raises(hvac.exceptions.VaultError):
        world.job("dev", namespace="sw-dev-build")


def test_drift_is_found_and_mended_and_the_rest_is_left(world: World) -> None:
    world.bind()
    role = f"auth/kubernetes-{world.id}/role/r{world.id}-dev-deployer"
    world.bao.write(role, token_ttl="14m", token_bound_cidrs=["127.0.0.0/8"])
    world.bao.write(
        f"sys/policies/acl/p{world.id}-dev-deployer", policy='path "*" { capabilities = ["read"] }'
    )
    world.bao.write(f"sys/policies/acl/other-{world.id}", policy='path "a" { capabilities = ["read"] }')
    world.bao.write(f"auth/kubernetes-{world.id}/role/other", **_somebody(world))
    with pytest.raises(PipelineError, match="reaches "):
        world.prove()
    listener = Listener()
    outcome = world.bind(world.request(token=""), listener=listener)
    assert outcome.written == (f"sys/policies/acl/p{world.id}-dev-deployer", role)
    lines = "\n".join(listener.plans[0].lines())
    assert "token_ttl: 840 → 600" in lines
    assert '-path "*" { capabilities = ["read"] }' in lines
    client = world.bao.client()
    assert client.read(role)["data"]["token_ttl"] == 600
    assert client.read(role)["data"]["token_bound_cidrs"]
    assert client.read(f"sys/policies/acl/other-{world.id}")
    assert client.read(f"auth/kubernetes-{world.id}/role/other")
    assert world.prove().status is Status.DONE


def _somebody(world: World) -> dict[str, Any]:
    return {
        "bound_service_account_names": "a", "bound_service_account_namespaces": "b", "audience": "vault",
        "token_policies": f"other-{world.id}", "token_ttl": "1m",
    }  # fmt: skip


def test_only_the_environments_that_are_named(world: World) -> None:
    outcome = world.bind(world.request(names=("dev",)))
    assert not any("prod" in path for path in outcome.written)
    assert any("dev" in path for path in outcome.written)


def test_the_proof_counts_what_is_refused(world: World) -> None:
    world.bind()
    outcome = world.prove()
    counts = dict(outcome.refused)
    assert counts == {
        f"p{world.id}-dev-deployer": 7,
        f"p{world.id}-prod-deployer": 12,
        f"p{world.id}-prod-deployer-jwt": 7,
    }
    assert "refused" in outcome.summary()


def test_the_proof_finds_what_is_lacking(world: World) -> None:
    world.bind()
    world.bao.write(
        f"sys/policies/acl/p{world.id}-dev-deployer", policy='path "a" { capabilities = ["read"] }'
    )
    with pytest.raises(PipelineError, match="does not reach"):
        world.prove()


def test_what_cannot_be_changed_is_refused(world: World) -> None:
    world.bao.client().sys.enable_secrets_engine("kv", path=world.mount("dev"), options={"version": "1"})
    with pytest.raises(Refused, match="cannot become"):
        world.bind()


def test_the_reviewers_token(world: World) -> None:
    with pytest.raises(PipelineError, match="reviewer's token was not given"):
        world.bind(world.request(token=""))
    world.bind()
    listener = Listener()
    outcome = world.bind(listener=listener)
    assert outcome.written == (f"auth/kubernetes-{world.id}/config",)
    assert "given anew" in "\n".join(listener.plans[0].lines())
    world.job("dev")


def test_the_clusters_issuer(world: World) -> None:
    """Vault outside, without TokenReview: the mount is of type jwt, and checks signatures."""
    vault, key = world.binding.vault, world.cluster.issuer.public_key
    issuer = replace(vault.reviewer, kind="jwt-issuer", public_keys=(key,))
    changed = replace(world.binding, vault=replace(vault, reviewer=issuer))
    world.bind(world.request(changed, token=""))
    path = f"auth/kubernetes-{world.id}"
    # The stand-in signs as another issuer than a GKE cluster of that name would.
    world.bao.write(f"{path}/config", jwt_validation_pubkeys=[key], bound_issuer=world.cluster.issuer.url)
    role, client = f"r{world.id}-dev-deployer", world.bao.client(token="")
    # `vault exec --vault-auth kubernetes` works with it: the request is the same.
    assert world.read_own(world.job("dev"))
    for token in (
        world.cluster.token("sw-dev", "default"),
        world.cluster.token("sw-dev", "ksa-sw-dev-deployer", audience="somebody"),
    ):
        with pytest.raises(hvac.exceptions.VaultError):
            client.auth.jwt.jwt_login(role, token, path=f"kubernetes-{world.id}")


def limited(world: World, policy: str) -> vaults.Vault:
    name = f"limited-{world.id}"
    world.bao.write(f"sys/policies/acl/{name}", policy=policy)
    token = world.bao.client().auth.token.create(policies=[name])["auth"]["client_token"]
    found = vaults.Vault(Server(world.bao.url), Given(Secret(token)), lambda _: None)
    found.login()
    return found


def test_a_token_that_may_not_is_exit_4(world: World) -> None:
    weak = step.Ports(limited(world, 'path "a" { capabilities = ["read"] }'))
    with pytest.raises(Denied):
        run(step.STEP, world.request(), weak)
    assert run(step.STEP, world.request(), weak, dry_run=True).status is Status.PLANNED
    with pytest.raises(Denied):
        run(step.STEP, replace(world.request(), is_strict=True), weak, dry_run=True)
    with pytest.raises(Denied, match="bound, but not proved"):
        run(prove.STEP, prove.Request(world.binding, ("dev",)), prove.Ports(weak.vault))


def test_what_was_written_before_a_failure_is_said(world: World) -> None:
    half = 'path "*" { capabilities = ["read"] }\npath "sys/mounts/*" { capabilities = ["read", "create", "update"] }'
    with pytest.raises(PipelineError) as error:
        run(step.STEP, world.request(), step.Ports(limited(world, half)))
    assert isinstance(error.value.done, step.Outcome)
    assert error.value.done.written[0].startswith("sys/mounts/")


def test_the_command(world: World, tmp_path: Path) -> None:
    path, token = tmp_path / "binding.yml", tmp_path / "reviewer"
    path.write_text(world.text)
    token.write_text(world.cluster.reviewer_token)
    variables = {"VAULT_ADDR": world.bao.url, "VAULT_TOKEN": world.bao.token}
    words = ["runner", "bind", "--binding", str(path), "--reviewer-token-file", str(token)]
    assert CliRunner().invoke(cli, [*words, "--check"], env=variables).exit_code == 6
    answer = CliRunner().invoke(cli, [*words, "--output", "json"], env=variables)
    assert answer.exit_code == 0, answer.output
    document = json.loads(answer.stdout)
    assert len(document["result"]["bind"]["written"]) == 14
    assert document["result"]["prove"]["status"] == "done"
    assert world.cluster.reviewer_token not in answer.output
    assert world.bao.token not in answer.output
    words = ["runner", "bind", "--binding", str(path)]
    assert CliRunner().invoke(cli, [*words, "--check"], env=variables).exit_code == 0
    assert CliRunner().invoke(cli, [*words, "--environment", "qa"], env=variables).exit_code == 1
    text = CliRunner().invoke(cli, [*words, "--environment", "dev"], env=variables).stdout
    assert "paths of others refused" in text


def test_the_address_is_not_taken_from_the_file() -> None:
    for variables in ({}, {"VAULT_ADDR": "http://127.0.0.1:9"}):
        words = ["runner", "bind", "--binding", str(ROOT / "runner" / "binding.yml")]
        assert CliRunner().invoke(cli, words, env=variables).exit_code == 2


def variables(world: World, environment: str) -> dict[str, str]:
    """What the rendered runner gives its jobs, without what is of another machine."""
    text = runner_files.render(world.binding)[f"{environment}/values-deploy.yaml"]
    config = YAML(typ="safe", pure=True).load(text)["runners"]["config"]
    given = dict(line.split("=", 1) for line in tomllib.loads(config)["runners"][0]["environment"])
    assert given.pop("VAULT_CACERT") == "/var/run/vault-ca/ca.crt"
    assert given.pop("PT_KUBERNETES_TOKEN_FILE") == "/var/run/secrets/vault/token"
    return {**given, "VAULT_ADDR": world.bao.url}


@pytest.mark.parametrize(("job", "expected"), [("dev", "dev-secret"), ("prod", "prod-secret")])
def test_a_job_of_the_rendered_runner_gets_its_secret(
    world: World, tmp_path: Path, job: str, expected: str
) -> None:
    """Rendered, bound, and read by `vault exec` with what the runner gives and the tokens of a job; dev's not on prod."""
    world.bind()
    world.seed()
    token = tmp_path / "token"
    token.write_text(world.cluster.token(f"sw-{job}", f"ksa-sw-{job}-deployer"))
    claims: dict[str, Any] = {
        "audience": "https://vault.example.com:8200",
        "project_id": "101",
        "environment": job,
    }
    given = {**variables(world, job), "PT_KUBERNETES_TOKEN_FILE": str(token)}
    identity = {**os.environ, **given, "VAULT_ID_TOKEN": gitlab_id_token(world.gitlab, **claims)}

    def read(environment: str) -> subprocess.CompletedProcess[str]:
        secret = f"KEY={world.mount(environment)}/credentials/secret#key"
        check = f'test "$KEY" = {expected} && echo same'
        words = ("-m", "pipeline_tools", "vault", "exec", "--secret", secret, "--", "sh", "-c", check)
        return subprocess.run(
            (sys.executable, *words), env=identity, capture_output=True, text=True, check=False
        )

    own, other = read(job), read("prod" if job == "dev" else "dev")
    assert (own.returncode, own.stdout) == (0, "same\n"), own.stderr
    assert (other.returncode, other.stdout) == (4, ""), other.stderr


def test_a_refusal_on_anothers_path_names_the_policies(world: World, tmp_path: Path) -> None:
    """The bound policies do not let a token ask for its capabilities; the hint does without."""
    world.bind()
    token = tmp_path / "token"
    token.write_text(world.cluster.token("sw-dev", "ksa-sw-dev-deployer"))
    given = {**variables(world, "dev"), "PT_KUBERNETES_TOKEN_FILE": str(token)}
    secret = f"KEY={world.mount('prod')}/credentials/secret#key"
    result = CliRunner().invoke(cli, ["vault", "exec", "--secret", secret, "--", "true"], env=given)
    assert result.exit_code == 4
    assert f"the policies of this token (p{world.id}-dev-deployer) reach nothing there" in result.stderr


def test_doctor_works_for_a_job_of_the_rendered_runner(world: World, tmp_path: Path) -> None:
    """The bound policy lets a job ask what it may do, though it has no default policy."""
    world.bind()
    world.seed()
    token = tmp_path / "token"
    token.write_text(world.cluster.token("sw-dev", "ksa-sw-dev-deployer"))
    given = {**variables(world, "dev"), "PT_KUBERNETES_TOKEN_FILE": str(token)}
    secret = f"KEY={world.mount('dev')}/credentials/secret#key"
    result = CliRunner().invoke(cli, ["vault", "doctor", "--secret", secret], env=given)
    assert (result.exit_code, "no findings" in result.stdout) == (0, True), result.output
