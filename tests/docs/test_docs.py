"""The documentation says what the code does: generated parts are fresh, examples are real, tables are complete."""

import json
import re
import tomllib
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from docs import generate
from pipeline_tools import console
from pipeline_tools.cli import COMMANDS
from pipeline_tools.errors import Denied, Differs, PipelineError, Refused, Unavailable
from pipeline_tools.text import receipt
from tests.world import World

ROOT = Path(__file__).parent.parent.parent
PAGES = sorted((ROOT / "docs").rglob("*.md"))
LINK = re.compile(r"\]\((?!https?://)([^)#]*)(#[^)]*)?\)")
CELL_END = re.compile(r"(?<!\\)\|")
FENCED = re.compile(r"```.*?```", re.DOTALL)


def text(name: str) -> str:
    return (ROOT / "docs" / name).read_text()


def rows(name: str) -> list[list[str]]:
    """The cells of a page's tables, without heads."""
    lines = [line for line in text(name).splitlines() if line.startswith("| ") and "---" not in line]
    return [[cell.strip() for cell in CELL_END.split(line)[1:-1]] for line in lines]


def example(name: str, mark: str) -> Any:
    found = re.search(rf"<!-- tested: {mark} -->\n```json\n(.*?)```", text(name), re.DOTALL)
    assert found
    return json.loads(found[1])


def shape(value: Any) -> Any:
    """What a value is made of: names and types."""
    if isinstance(value, dict):
        return {name: shape(item) for name, item in value.items()}
    return type(value).__name__


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_a_page_is_generated_afresh(path: Path) -> None:
    assert generate.page(path.read_text()) == path.read_text(), "run make docs"


def test_every_command_is_documented() -> None:
    headings = re.findall(r"^### (.*)$", text("reference/cli.md"), re.MULTILINE)
    assert {heading.split()[0] for heading in headings} == set(COMMANDS)
    assert {
        "tag check",
        "tag next",
        "tag create",
        "release",
        "runner render",
        "runner lint",
        "runner bind",
    } <= set(headings)


@pytest.mark.parametrize("path", [*PAGES, *ROOT.glob("examples/*/README.md"), ROOT / "README.md"], ids=str)
def test_a_link_leads_somewhere(path: Path) -> None:
    prose = FENCED.sub("", path.read_text())
    for target, anchor in LINK.findall(prose):
        page = (path.parent / target).resolve() if target else path
        assert page.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
            assert anchor[1:] in {heading.lower().replace(" ", "-") for heading in headings}


def test_every_page_is_in_the_index() -> None:
    linked = {target for target, _ in LINK.findall(text("index.md"))}
    assert linked == {str(path.relative_to(ROOT / "docs")) for path in PAGES} - {"index.md"}


def test_exit_codes_are_those_of_the_code() -> None:
    known = {
        (str(error.exit_code), f"`{error.code}`")
        for error in (PipelineError, Refused, Denied, Unavailable, Differs)
    }
    other = {
        console.EXIT_BUG: "bug",
        console.EXIT_INTERRUPTED: "interrupted",
        console.EXIT_TERMINATED: "terminated",
    }
    known |= {(str(number), f"`{code}`") for number, code in other.items()} | {("0", ""), ("2", "`usage`")}
    assert {(row[0], row[1]) for row in rows("reference/exit-codes.md")[1:]} == known


def test_the_receipt_is_one() -> None:
    shown = example("reference/receipt.md", "receipt")
    assert json.loads(receipt.dumps(receipt.loads(json.dumps(shown).encode(), "release.json"))) == shown
    for name, fields_text in rows("reference/receipt.md")[1:]:
        section = receipt._SECTIONS[name.strip("`")]
        assert all(f"`{field.name}`" in fields_text for field in fields(section)), name


@pytest.mark.servers
def test_json_examples_are_what_is_written(world: World) -> None:
    world.tag("v1.0.0")
    assert shape(world.json("tag", "check")) == shape(example("reference/json.md", "done"))
    refused = world.json("tag", "check", "v1.0.0+build", exit_code=3)
    assert refused == example("reference/json.md", "refused")


def test_json_members_are_described() -> None:
    described = [row[0].strip("`") for row in rows("reference/json.md")[1:]]
    assert described == list(example("reference/json.md", "done"))


def declared() -> set[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = (ROOT / "requirements" / "dev.in").read_text().splitlines()
    wanted = [*project["dependencies"], *(line for line in lines if line and not line.startswith("#"))]
    return {re.split(r"[^A-Za-z0-9._-]", line)[0] for line in wanted}


def test_every_dependency_has_its_reason() -> None:
    names = [row[0] for row in rows("explanation/dependencies.md") if row[0] != "package"]
    assert sorted(names) == sorted(declared())


@pytest.mark.parametrize(
    ("package", "module"),
    [("hypothesis", "hypothesis"), ("flask", "flask"), ("cronsim", "cronsim"), ("google-auth", "google.auth"), ("hvac", "hvac"), ("ijson", "ijson"), ("jinja2", "jinja2"),
     ("pyrage", "pyrage"), ("python-hcl2", "hcl2"), ("docker", "docker"), ("semver", "semver"), ("rich", "rich")],
)  # fmt: skip
def test_later_means_not_used_yet(package: str, module: str) -> None:
    folders = ("pipeline_tools", "sandbox", "tests", "benchmarks")
    sources = "".join(path.read_text() for folder in folders for path in (ROOT / folder).rglob("*.py"))
    is_used = re.search(rf"^\s*(from|import) {re.escape(module)}\b", sources, re.MULTILINE) is not None
    reason = next(row[1] for row in rows("explanation/dependencies.md") if row[0] == package)
    assert reason.startswith("later: ") != is_used


def test_every_token_variable_is_an_option() -> None:
    variables = set(re.findall(r"`(PT_\w+|DOCKER_\w+|CI_\w+)`", text("reference/tokens.md")))
    assert variables <= set(re.findall(r"`([A-Z_]+)`", text("reference/cli.md")))
