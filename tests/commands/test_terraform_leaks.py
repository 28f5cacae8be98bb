"""No secret is where people or other jobs read: not in plan, note, passport, package, log or child. Terraform is real."""

import json
from pathlib import Path

import pyrage
import pytest

from tests.infra_world import KEY, PASSWORD, InfraWorld
from tests.vault_world import PASSWORD as LENT
from tests.vault_world import VaultWorld

SENSITIVE = """
variable "lent" {
  type      = string
  sensitive = true
}

resource "terraform_data" "keeper" {
  input = var.lent
}
"""
OPEN = SENSITIVE.replace("  sensitive = true\n", "")
ENVIRONMENT = """
terraform {
  backend "http" {}
}

resource "terraform_data" "curious" {
  provisioner "local-exec" {
    command = "env > \\"$SEEN\\""
  }
}
"""


@pytest.fixture
def lending(infra: InfraWorld, vault: VaultWorld) -> InfraWorld:
    """A world whose jobs may log in to Vault, with plan identity and passport key in Vault too."""
    vault.put("dev/ours", identity=infra.identity, key=KEY)
    access = vault.variables()
    names = [name for name in access if name.startswith(("VAULT_", "PT_VAULT_", "PT_KUBERNETES_"))]
    infra.variables |= {name: access[name] for name in names}
    return infra


def secret(vault: VaultWorld, name: str, field: str = "password") -> tuple[str, str]:
    return "--secret", f"{name}={vault.kv}/dev/app#{field}"


def ours(vault: VaultWorld) -> tuple[str, ...]:
    """Vault lends what only we may have, under the names of its variables."""
    path = f"{vault.kv}/dev/ours"
    return (
        "--secret",
        f"PT_PLAN_IDENTITY={path}#identity",
        "--secret",
        f"PT_PASSPORT_KEY={path}#key",
    )


def published(infra: InfraWorld) -> str:
    """All that a plan has left for others: files of the checkout, packages, notes."""
    files = [
        path.read_bytes() for path in infra.checkout.rglob("*") if path.is_file() and ".git" not in path.parts
    ]
    packages = [file.content for package in infra.project.packages for file in package.files]
    notes = [note for request in infra.project.merge_requests for note in infra.notes(request.iid)]
    paths = [found.path for found in infra.gitlab.requests]
    return "\n".join([*(file.decode(errors="replace") for file in (*files, *packages)), *notes, *paths])


# The leak gate -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "leak",
    [
        OPEN,
        OPEN.replace("input = var.lent", 'input = "https://user:${urlencode(var.lent)}@host"'),
        OPEN.replace("input = var.lent", "input = base64encode(var.lent)"),
        OPEN.replace("input = var.lent", 'input = { deep = ["the key is ${var.lent}"] }'),
        SENSITIVE + 'output "lent" {\n  value = nonsensitive(var.lent)\n}\n',
    ],
    ids=["attribute", "url", "base64", "deep", "output"],
)
def test_a_secret_in_clear_withholds_the_plan(lending: InfraWorld, vault: VaultWorld, leak: str) -> None:
    lending.write("hello/leak.tf", leak)
    iid = lending.propose("leak")
    job = lending.job("plan", merge_request=iid)
    done = lending.run(
        "plan", *secret(vault, "TF_VAR_lent"), "--report", "terraform=widget.json", exit_code=3, job=job
    )
    assert "a secret value is in " in done.stderr
    assert "; the plan is withheld" in done.stderr
    assert "sensitive" in done.stderr
    assert not (lending.checkout / "plans").exists()
    assert not (lending.checkout / "widget.json").exists()
    assert lending.notes(iid) == []
    assert {found.method for found in lending.gitlab.requests if "/packages/" in found.path} <= {"GET"}
    assert "[MASKED]" in done.stdout
    assert LENT not in done.stdout + done.stderr


def test_what_is_marked_as_sensitive_passes(lending: InfraWorld, vault: VaultWorld) -> None:
    lending.write("hello/more.tf", SENSITIVE)
    lending.commit("a secret")
    assert lending.json("plan", *secret(vault, "TF_VAR_lent"))["status"] == "done"


def test_a_plain_value_may_appear(lending: InfraWorld, vault: VaultWorld) -> None:
    lending.write("hello/more.tf", OPEN)
    lending.commit("a value")
    done = lending.run("plan", "--value", f"TF_VAR_lent={vault.kv}/dev/app#region")
    assert "fr-par" in done.stdout
    assert "fr-par" in (lending.checkout / "plans" / "hello" / "passport.json").read_text()


# Canaries ------------------------------------------------------------------------------------------------------


def test_secrets_are_in_the_state_and_in_the_encrypted_plan_only(
    lending: InfraWorld, vault: VaultWorld
) -> None:
    lending.write("hello/more.tf", SENSITIVE)
    iid = lending.propose("secrets")
    words = (*secret(vault, "TF_VAR_lent"), *ours(vault))
    said = []
    for command, number in (("plan", iid), ("plan", None), ("apply", None)):
        if (command, number) == ("plan", None):
            lending.merge(iid)
        job = lending.job(command, merge_request=number)
        job |= {"PT_PASSPORT_KEY": "", "PT_PLAN_IDENTITY": ""}
        done = lending.run(command, "-v", *words, job=job)
        said += [done.stdout, done.stderr]
        if command == "plan":
            encrypted = (lending.checkout / "plans" / "hello" / "plan.age").read_bytes()
            identity = pyrage.x25519.Identity.from_str(lending.identity)
            assert pyrage.decrypt(encrypted, [identity])
        for canary in (LENT, PASSWORD, lending.identity, KEY, job["CI_JOB_TOKEN"], lending.token):
            assert canary not in "\n".join(said)
            assert canary not in published(lending)
    everything = published(lending)  # and it is indeed where we looked
    assert all(
        everything.count(word) for word in ("hmac-sha256:", "### Terraform plan", "/terraform/state/hello")
    )
    assert {package.version.partition("-")[0] for package in lending.project.packages} == {
        "reviewed",
        "applying",
        "applied",
    }
    assert LENT in json.dumps(lending.state())
    assert "as reviewed" in lending.passport()["review"]["verdict"]


# The child's environment ---------------------------------------------------------------------------------------


def test_our_secrets_do_not_reach_what_terraform_runs(
    lending: InfraWorld, vault: VaultWorld, tmp_path: Path
) -> None:
    lending.root = "curious"
    lending.write("curious/main.tf", ENVIRONMENT)
    lending.commit("a provisioner that looks around")
    seen = tmp_path / "environment"
    words = (*ours(vault), *secret(vault, "LENT"))
    lending.run("plan", *words, PT_PASSPORT_KEY="")
    job = lending.job("apply") | {
        "PT_PASSPORT_KEY": "",
        "PT_PLAN_IDENTITY": "",
        "VAULT_TOKEN": "s.vault-token",
    }
    lending.run("apply", *words, job=job, SEEN=str(seen))
    found = dict(line.partition("=")[::2] for line in seen.read_text().splitlines() if "=" in line)
    assert found["LENT"] == LENT
    assert {
        "PT_PLAN_IDENTITY",
        "PT_PASSPORT_KEY",
        "PT_GITLAB_TOKEN",
        "CI_JOB_TOKEN",
        "VAULT_TOKEN",
    }.isdisjoint(found)
    # What the state's server asks for is Terraform's, and so everybody's that Terraform starts: the job's own token,
    # which ends with the job.
    holders = {name for name, value in found.items() if job["CI_JOB_TOKEN"] in value}
    assert holders == {"TF_HTTP_PASSWORD"}
    for ours_alone in (lending.identity, KEY, lending.token, "s.vault-token"):
        assert ours_alone not in seen.read_text()
