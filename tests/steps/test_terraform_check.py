"""`terraform check` with the real terraform: what it finds, and what it refuses to run."""

from pathlib import Path

import pytest

from pipeline_tools.errors import PipelineError
from pipeline_tools.steps import terraform_check
from pipeline_tools.steps.shape import Status
from pipeline_tools.steps.terraform_check import Ports, Report
from pipeline_tools.text import findings
from pipeline_tools.text.terraform_diagnostics import Ran
from sandbox import parts
from sandbox.pytest_parts import require
from tests.terraform_checkout import Checkout, Terraform

SOUND = """\
terraform {
  required_version = ">= 1.11"
  backend "http" {}
}

variable "x" {
  type    = string
  default = "a"
}

resource "terraform_data" "x" {
  input = var.x
}
"""


class World:
    """A checkout with one root, and the terraform that looks at it."""

    def __init__(self, path: Path) -> None:
        self.path, self.bundled = path / "checkout", ()
        self.terraform = Terraform(self.path, path / "data")

    def write(self, name: str, text: str) -> None:
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def check(self, root: str = "r", bundled: tuple[str, ...] = ()) -> Report:
        return terraform_check.check(root, Ports(Checkout(self.path, bundled), self.terraform))

    @property
    def programs(self) -> set[str]:
        return {name for name, _ in self.terraform.calls}


@pytest.fixture
def world(tmp_path: Path) -> World:
    require(parts.TERRAFORM)
    made = World(tmp_path)
    made.write("r/main.tf", SOUND)
    return made


def seen(report: Report) -> list[tuple[str, int, str]]:
    return [(item.path, item.line, item.rule) for item in report.findings]


def test_a_sound_root(world: World) -> None:
    report = world.check()
    assert (report.findings, report.not_run, report.status) == ((), (), Status.UNCHANGED)
    assert report.summary() == "0 findings in r"
    assert world.programs == {"fmt", "validate", "tflint"}  # nothing is needed: no init
    assert sorted(path.name for path in (world.path / "r").iterdir()) == ["main.tf"]


def test_findings_of_all_come_by_file_and_line(world: World) -> None:
    world.write("r/main.tf", SOUND.replace("  input = var.x", "  input   = var.y"))
    world.write("r/a.tf", 'data "http" "x" {}\n')
    world.terraform.linted = Ran(
        2, '{"issues": [{"rule": {"name": "t"}, "message": "m", "range": {"filename": "a.tf"}}]}'
    )
    found = seen(world.check())
    assert ("r/a.tf", 1, "http-data") in found
    assert ("r/a.tf", 1, "tflint:t") in found
    assert ("r/main.tf", 12, "fmt") in found
    assert found == sorted(found)


def test_validate_names_the_line(world: World) -> None:
    world.write("r/main.tf", SOUND.replace("var.x", "var.y"))
    assert seen(world.check()) == [("r/main.tf", 12, "validate")]


def test_a_module_elsewhere_is_formatted_and_validated_too(world: World) -> None:
    world.write("r/main.tf", SOUND + '\nmodule "m" {\n  source = "../m"\n}\n')
    world.write("m/main.tf", 'output "x" {\n  value =   local.nope\n}\n')
    assert seen(world.check()) == [("m/main.tf", 2, "fmt"), ("m/main.tf", 2, "validate")]


PROVIDER = """\
  required_providers {
    scaleway = {
      source  = "scaleway/scaleway"
      version = "~> 2.81"
    }
  }
}

variable"""


def test_a_provider_that_cannot_be_had_is_said_and_is_no_success(world: World) -> None:
    world.write("r/main.tf", SOUND.replace("}\n\nvariable", PROVIDER, 1))
    report = world.check()
    assert seen(report) == [("r/main.tf", 5, "lock-missing")]
    ((reason),) = report.not_run
    assert (reason.root, reason.part) == ("r", "validate")
    assert "Failed to query available provider packages" in reason.reason
    assert report.status is Status.PENDING
    assert "not run: 1 parts" in report.summary()
    assert "validate not run" in str(report.not_run[0])


@pytest.mark.parametrize(
    "text",
    [
        'module "m" {\n  source = "git::https://example.com/m.git?ref=v1.2.3"\n}\n',
        'module "m" {\n  source  = "a/b/c"\n  version = "1.2.3"\n}\n',
        'module "m" {\n  source = "../../outside"\n}\n',
        'resource "null_resource" "x" {}\n',
        'provider "evil" {} # pipeline-tools:ignore provider-not-allowed trust me\n',
        "broken = [\n",
    ],
)
def test_what_a_stranger_names_is_neither_fetched_nor_started(world: World, text: str) -> None:
    world.write("r/strange.tf", text)
    report = world.check()
    assert not world.programs & {"init", "validate"}
    (reason,) = report.not_run if "broken" not in text else report.not_run[-1:]
    assert reason.part == "validate"
    assert "strange.tf:" in reason.reason
    assert report.status is Status.PENDING


def test_a_test_file_that_names_a_module_bars_too(world: World) -> None:
    world.write("r/tests/x.tftest.hcl", 'run "a" {\n  module {\n    source = "a/b/c"\n  }\n}\n')
    assert [item.part for item in world.check().not_run] == ["validate"]
    assert "init" not in world.programs


HIDDEN = """\
locals {
  x = <<A
${
A
}
/*
A
}
%s
# */
"""


def test_what_only_terraform_reads_is_found_before_it_is_fetched(world: World) -> None:
    """Within `${` terraform reads past the heredoc's marker; a parser that does not sees a comment instead."""
    world.write("r/hidden.tf", HIDDEN % 'module "evil" {\n  source = "git::https://example.com/x.git"\n}')
    report = world.check()
    assert ("r/hidden.tf", 9, "unreadable") in seen(report)
    assert not world.programs & {"init", "get"}
    assert [item.part for item in report.not_run] == ["validate"]


def test_a_provider_that_only_terraform_reads_is_not_fetched(world: World) -> None:
    world.write("r/hidden.tf", HIDDEN % 'resource "null_resource" "n" {}')
    report = world.check()
    assert "init" not in world.programs
    assert [item.reason for item in report.not_run if "hashicorp/null" in item.reason]


def test_a_module_that_hides_another_is_not_asked_for_it(world: World) -> None:
    world.write("r/main.tf", SOUND + '\nmodule "m" {\n  source = "../m"\n}\n')
    world.write("m/main.tf", HIDDEN % 'module "evil" {\n  source = "a/b/c"\n}')
    assert ("m/main.tf", 9, "unreadable") in seen(world.check())
    assert not world.programs & {"init", "get"}


def test_modules_in_json_are_known(world: World) -> None:
    world.write("r/more.tf.json", '{\n  "module": {\n    "m": {\n      "source": "../m"\n    }\n  }\n}\n')
    world.write("m/main.tf", 'output "x" {\n  value = local.nope\n}\n')
    assert seen(world.check()) == [("m/main.tf", 2, "validate")]


def test_a_module_that_is_not_there_is_said(world: World) -> None:
    world.write("r/main.tf", SOUND + '\nmodule "m" {\n  source = "../nowhere"\n}\n')
    ((item),) = world.check().not_run
    assert "Unreadable module directory" in item.reason


def test_programs_in_the_checkout_are_not_run(world: World) -> None:
    report = world.check(bundled=("r/terraform.d/plugins/x",))
    assert seen(report) == [("r/terraform.d/plugins/x", 1, "bundled-code")]
    assert world.programs == {"fmt"}


def test_what_terraform_cannot_format_is_said(world: World) -> None:
    world.write("r/broken.tf", "x = [\n")
    report = world.check()
    assert ("r/broken.tf", 2, "unreadable") in seen(report)
    assert [item.part for item in report.not_run] == ["fmt", "validate"]


def test_a_list_of_providers_of_ones_own(world: World) -> None:
    world.write("r/main.tf", SOUND.replace("}\n\nvariable", PROVIDER, 1))
    ports = Ports(Checkout(world.path), world.terraform)
    report = terraform_check.check("r", ports, allowed=frozenset({"acme/x"}))
    assert "provider-not-allowed" in {item.rule for item in report.findings}


def test_an_empty_folder_is_an_error(world: World) -> None:
    with pytest.raises(PipelineError, match="holds no Terraform files"):
        world.check("nowhere")


def test_reports_of_several_roots_are_one(world: World) -> None:
    call = '\nmodule "m" {\n  source = "../m"\n}\n'
    for root in ("r", "s"):
        world.write(f"{root}/main.tf", SOUND + call)
    world.write("m/main.tf", 'data "http" "x" {\n}\n')
    report = terraform_check.joined([world.check("r"), world.check("s")])
    assert report.roots == ("r", "s")
    assert [rule for path, _, rule in seen(report) if path == "m/main.tf"].count("http-data") == 1
    assert {item.root for item in report.not_run} == {"r", "s"}
    assert "http-data" in findings.code_quality(report.findings)
