"""A template as GitLab reads it: a header with typed inputs, and a body that they are filled into."""

import re
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

FOLDER = Path(__file__).parent.parent.parent / "ci_templates"
EXAMPLE = FOLDER.parent / "examples" / "app" / ".gitlab-ci.yml"
BLOCK = re.compile(r"\$\[\[ inputs\.(\w+) \]\]")


def load(name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The inputs' specification and the body, not filled in."""
    header, body = YAML(typ="safe", pure=True).load_all((FOLDER / name).read_text())
    return header["spec"]["inputs"], body


def example_inputs() -> dict[str, Any]:
    """What `examples/app` says."""
    (include,) = YAML(typ="safe", pure=True).load(EXAMPLE.read_text())["include"]
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
    return {
        name: merged(body[job["extends"]], {key: value for key, value in job.items() if key != "extends"})
        for name, job in body.items()
        if "extends" in job
    }


def merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    both = {
        key: merged(base[key], value) if isinstance(value, dict) and key in base else value
        for key, value in over.items()
    }
    return {**base, **both}
