"""A template as GitLab reads it: a header with typed inputs, and a body that they are filled into."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
from ruamel.yaml import YAML

from pipeline_tools.options import CATALOGUE

FOLDER = Path(__file__).parent.parent.parent / "ci_templates"
EXAMPLES = FOLDER.parent / "examples"
BLOCK = re.compile(r"\$\[\[ inputs\.(\w+) \]\]")


def load(name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The inputs' specification and the body, not filled in."""
    header, body = YAML(typ="safe", pure=True).load_all((FOLDER / name).read_text())
    return header["spec"]["inputs"], body


def example_inputs(path: Path) -> dict[str, Any]:
    """What an example's one include says."""
    (include,) = YAML(typ="safe", pure=True).load(path.read_text())["include"]
    inputs: dict[str, Any] = include["inputs"]
    return inputs


def fill(node: Any, values: dict[str, Any]) -> Any:
    """Fill inputs in as GitLab does, node by node.

    A block that is all of a node is replaced by the value, type and all; inside a longer text by the value as
    text. Source: gitlab-org/gitlab, lib/gitlab/ci/config/interpolation/template.rb, `get_block_value!`.
    """
    if isinstance(node, dict):
        return {fill(key, values): fill(value, values) for key, value in node.items()}
    if isinstance(node, list):
        return [fill(item, values) for item in node]
    if not isinstance(node, str):
        return node
    whole = BLOCK.fullmatch(node)
    return values[whole[1]] if whole else BLOCK.sub(lambda block: as_text(values[block[1]]), node)


def as_text(value: Any) -> str:
    """Ruby's `to_s` of an input's value; an array of texts looks like JSON, but a `#` before `{`, `$` or `@` is escaped."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"[{', '.join(inspected(item) for item in value)}]"
    return str(value)


def inspected(item: str) -> str:
    """Ruby's `String#inspect` (docs.ruby-lang.org) for printable text."""
    text = item.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return '"' + re.sub(r"#(?=[{$@])", r"\\#", text) + '"'


def defaults(spec: dict[str, Any]) -> dict[str, Any]:
    return {name: entry["default"] for name, entry in spec.items() if "default" in entry}


def resolved(body: dict[str, Any]) -> dict[str, Any]:
    """The jobs with what they extend merged in: mappings deeply, all else replaced (GitLab docs, `extends`)."""
    return {name: _job(body, name) for name in body if not name.startswith(".")}


def _job(body: dict[str, Any], name: str) -> dict[str, Any]:
    """One job; of several that it extends the later win."""
    job = dict(body[name])
    bases = job.pop("extends", [])
    found: dict[str, Any] = {}
    for base in [bases] if isinstance(bases, str) else bases:
        found = merged(found, _job(body, base))
    return merged(found, job)


def merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    both = {
        key: merged(base[key], value) if isinstance(value, dict) and key in base else value
        for key, value in over.items()
    }
    return {**base, **both}


# Inputs and options --------------------------------------------------------------------------------------------


def option(name: str) -> click.Option:
    function = CATALOGUE[name](lambda: None)
    (param,) = function.__click_params__
    assert isinstance(param, click.Option)
    return param


def default(name: str) -> Any:
    """What the command line takes without option and variable, as YAML says it."""
    param = option(name)
    command = click.Command("probe", params=[param])
    with click.Context(command) as context:
        command.parse_args(context, [])
    value = context.params[name]
    return list(value) if isinstance(value, tuple) else "" if value is None else value


def kind(name: str) -> str:
    param = option(name)
    if param.multiple:
        return "array"
    if param.is_flag:
        return "boolean"
    return "number" if isinstance(param.type, (click.FloatRange, click.IntRange)) else "string"


def schema_says(tmp_path: Path, document: object) -> str:
    """GitLab's own CI schema on a document; empty when it is valid."""
    path = tmp_path / "ci.yml"
    with path.open("w") as file:
        YAML().dump(document, file)
    argv = ["--builtin-schema", "vendor.gitlab-ci", "--data-transform", "gitlab-ci", str(path)]
    done = subprocess.run(
        [sys.executable, "-m", "check_jsonschema", *argv], capture_output=True, text=True, check=False
    )
    return "" if done.returncode == 0 else done.stdout + done.stderr
