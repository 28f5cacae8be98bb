"""The example roots: as sound as can be known without their providers; `hello`, which needs none, for real."""

import re
import shutil
from pathlib import Path

import pytest

from pipeline_tools.steps import terraform_check
from pipeline_tools.steps.shape import Status
from pipeline_tools.steps.terraform_check import Ports, Report
from pipeline_tools.text import hcl, terraform_files
from sandbox import parts
from sandbox.pytest_parts import require
from tests.terraform_checkout import Checkout, Terraform

INFRA = Path(__file__).parent.parent.parent / "examples" / "infra"
ROOTS = sorted(
    str(path.parent.relative_to(INFRA)) for path in INFRA.rglob("main.tf") if "modules" not in path.parts
)
CLOUD = [root for root in ROOTS if root != "hello"]


class World:
    """A copy of the examples, and terraform there."""

    def __init__(self, path: Path) -> None:
        self.path = path / "infra"
        shutil.copytree(INFRA, self.path, ignore=shutil.ignore_patterns(".terraform"))
        self.terraform = Terraform(self.path, path / "data")

    def check(self, root: str) -> Report:
        return terraform_check.check(root, Ports(Checkout(self.path), self.terraform))


@pytest.fixture
def world(tmp_path: Path) -> World:
    require(parts.TERRAFORM)
    return World(tmp_path)


def test_all_roots_are_here() -> None:
    assert ROOTS == [
        "google/identity", "google/registry", "google/vpn", "hello", "scaleway/cluster", "scaleway/network",
        "scaleway/vpn",
    ]  # fmt: skip


def test_every_file_is_formatted(world: World) -> None:
    ran = world.terraform.fmt(".")
    assert (ran.exit_code, ran.stdout) == (0, "")


@pytest.mark.parametrize("root", ROOTS)
def test_every_file_is_read(root: str) -> None:
    folder = terraform_files.read(root, Checkout(INFRA).configuration(root))
    assert folder.problems == ()
    assert any(path.endswith(".tftest.hcl") for path in folder.parsed)


@pytest.mark.parametrize("root", CLOUD)
def test_only_the_lock_file_is_missing(world: World, root: str) -> None:
    """Its hashes are for whoever fetches the providers; and without them nothing is validated, which is said."""
    report = world.check(root)
    assert [(item.path, item.rule) for item in report.findings] == [(f"{root}/versions.tf", "lock-missing")]
    assert [item.part for item in report.not_run] == ["validate"]


def test_hello_is_valid(world: World) -> None:
    report = world.check("hello")
    assert (report.findings, report.not_run, report.status) == ((), (), Status.UNCHANGED)


def test_hello_passes_its_tests(world: World) -> None:
    assert world.terraform.init("hello").exit_code == 0
    ran = world.terraform.test("hello")
    assert ran.exit_code == 0, ran.stdout + ran.stderr
    assert "4 passed, 0 failed" in ran.stdout


@pytest.mark.parametrize("root", CLOUD)
def test_variables_refuse_what_the_tests_say(world: World, root: str) -> None:
    """The validations without the resources: the root's variables alone need no provider."""
    (script,) = (world.path / root / "tests").glob("*.tftest.hcl")
    text = script.read_text()
    runs = re.findall(r"(?ms)^run .*?^}\n", text)
    refused = [run for run in runs if "expect_failures" in run]
    (given,) = re.findall(r"(?ms)^variables .*?^}\n", text)
    for path in (world.path / root).glob("*.tf"):
        if path.name != "variables.tf":
            path.unlink()
    sound = 'run "sound" {\n  command = plan\n}\n'
    script.write_text("\n".join([given, sound, *refused]))
    assert world.terraform.init(root).exit_code == 0
    ran = world.terraform.test(root)
    assert ran.exit_code == 0, ran.stdout + ran.stderr
    assert f"{len(refused) + 1} passed, 0 failed" in ran.stdout
    assert len(refused) >= 2


@pytest.mark.parametrize("root", ROOTS)
def test_variables_and_outputs_are_described(root: str) -> None:
    for name in ("variables.tf", "outputs.tf"):
        for block in hcl.read((INFRA / root / name).read_text(), name).of("variable", "output"):
            assert block.value("description"), f"{root}: {block.labels}"


def test_no_kubeconfig_leaves_the_cluster() -> None:
    text = "".join(path.read_text() for path in (INFRA / "scaleway" / "cluster").glob("*.tf"))
    assert ".kubeconfig" not in text
    assert "delete_additional_resources = false" in text
