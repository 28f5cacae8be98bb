"""The real Terraform with the provider: drift, replacement, lock files, slow and failing calls."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sandbox.terraform_provider import PLATFORMS, SOURCE, Cloud
from tests.terraform_root import Terraform

ROOT = f"""\
terraform {{
  required_providers {{
    cloud = {{
      source  = "{SOURCE}"
      version = "~> 1.0"
    }}
  }}
}}
variable "name" {{
  default = "web"
}}
variable "size" {{
  default = 1
}}
resource "cloud_network" "net" {{
  name = "net"
}}
resource "cloud_server" "web" {{
  name   = var.name
  size   = var.size
  secret = "hush-hush"
  labels = {{
    network = cloud_network.net.id
  }}
}}
"""


@pytest.fixture
def terraform(cloud: Cloud, tmp_path: Path) -> Terraform:
    made = Terraform(tmp_path / "root", cloud.variables)
    made.write(ROOT)
    made.run("init")
    return made


def planned(terraform: Terraform, *words: str) -> Any:
    """A plan as `terraform show -json` has it."""
    terraform.run("plan", "-out=plan", *words)
    shown = ("terraform", "show", "-json", "plan")
    return json.loads(
        subprocess.run(
            shown, cwd=terraform.directory, env=terraform.environment, capture_output=True, check=True
        ).stdout
    )


def actions(plan: Any) -> dict[str, list[str]]:
    return {row["address"]: row["change"]["actions"] for row in plan["resource_changes"]}


def wait_for(true: Callable[[], bool], process: "subprocess.Popen[str]") -> None:
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.02)


def test_objects_are_made_and_unmade(cloud: Cloud, terraform: Terraform) -> None:
    terraform.apply()
    web, net = cloud.named("web"), cloud.named("net")
    assert (web["size"], web["labels"]) == (1, {"network": net["id"]})
    assert "No changes" in terraform.run("plan")
    terraform.run("destroy", "-auto-approve")
    assert cloud.objects == {}


def test_what_changes_behind_its_back_is_drift(cloud: Cloud, terraform: Terraform) -> None:
    terraform.apply()
    cloud.change("web", size=5)
    cloud.remove("net")
    plan = planned(terraform)
    drift = {row["address"]: row["change"]["actions"] for row in plan["resource_drift"]}
    assert drift == {"cloud_network.net": ["delete"], "cloud_server.web": ["update"]}
    assert actions(plan) == {"cloud_network.net": ["create"], "cloud_server.web": ["update"]}


def test_a_name_replaces_and_a_size_does_not(terraform: Terraform) -> None:
    terraform.apply()
    assert actions(planned(terraform, "-var=size=2"))["cloud_server.web"] == ["update"]
    plan = planned(terraform, "-var=name=www")
    (row,) = (row for row in plan["resource_changes"] if row["address"] == "cloud_server.web")
    assert (row["change"]["actions"], row["change"]["replace_paths"]) == (["delete", "create"], [["name"]])
    assert row["change"]["after_sensitive"]["secret"] is True


def test_the_lock_file_is_the_same_everywhere(terraform: Terraform, cloud: Cloud, tmp_path: Path) -> None:
    lock = terraform.directory / ".terraform.lock.hcl"
    first = lock.read_text()
    other = Cloud.make(tmp_path / "elsewhere")
    Terraform(terraform.directory, other.variables).run("init", "-lockfile=readonly")
    assert lock.read_text() == first
    assert 'version     = "1.1.0"' in first
    assert first.count("h1:") == 1
    platforms = [f"-platform={platform}" for platform in PLATFORMS]
    terraform.run("providers", "lock", f"-fs-mirror={cloud.mirror}", *platforms)
    assert lock.read_text().count("h1:") == len(PLATFORMS)


def test_another_program_than_the_locked_one_is_refused(terraform: Terraform, cloud: Cloud) -> None:
    for program in cloud.mirror.rglob("terraform-provider-cloud_*"):
        program.write_text(program.read_text() + "# tampered\n")
    assert "doesn't match any of the checksums" in " ".join(terraform.run("init", exit_code=1).split())


def test_a_call_that_fails_leaves_the_rest_in_the_state(cloud: Cloud, terraform: Terraform) -> None:
    cloud.fail("create")
    assert "quota exceeded" in terraform.apply(exit_code=1)
    cloud.heal("create")
    terraform.apply()
    cloud.fail("update")
    assert "the cloud refuses to update web" in terraform.apply("-var=size=3", exit_code=1)
    assert cloud.named("web")["size"] == 1
    cloud.heal("update")
    cloud.fail("read")
    assert "the cloud refuses to read" in terraform.run("plan", exit_code=1)


@pytest.mark.parametrize("whole_group", [False, True], ids=["terraform", "group"])
def test_an_interrupt_lets_the_call_under_way_end(
    cloud: Cloud, terraform: Terraform, whole_group: bool
) -> None:
    cloud.hold()
    process = terraform.start("apply", "-auto-approve", "-no-color")
    wait_for(lambda: cloud.begun == {"create-net"}, process)
    (os.killpg if whole_group else os.kill)(process.pid, signal.SIGINT)
    time.sleep(0.3)
    assert process.poll() is None
    cloud.release()
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "Interrupt received" in output
    assert [row["name"] for row in cloud.objects.values()] == ["net"]
    assert "cloud_network.net" in terraform.run("state", "list")
    terraform.apply()
    assert len(cloud.objects) == 2
