"""Pipeline inputs against the `spec:inputs` header of the configuration file.

Rules and wording: `lib/gitlab/ci/config/interpolation` (docs: CI/CD inputs, "Define input parameters").
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

NO_HEADER = "Given inputs not defined in the `spec` section of the included configuration file"
SHOWN = 3


def refusal(configuration: str, given: Mapping[str, Any]) -> str | None:
    """Say why GitLab refuses these inputs, or None; at most three errors, as GitLab joins them."""
    specs = _specs(configuration)
    if specs is None:
        return NO_HEADER if given else None
    return ", ".join([*_errors(specs, given)][:SHOWN]) or None


def _specs(configuration: str) -> dict[str, dict[str, Any]] | None:
    """Read the header's inputs; None without a header. What does not parse is left to others to complain of."""
    head, separator, _ = re.sub(r"\A---\s*\n", "", configuration).partition("\n---")
    try:
        header = YAML(typ="safe").load(head) if separator else None
    except YAMLError:
        return None
    if not isinstance(header, dict) or "spec" not in header:
        return None
    return {name: spec or {} for name, spec in ((header["spec"] or {}).get("inputs") or {}).items()}


def _errors(specs: Mapping[str, Mapping[str, Any]], given: Mapping[str, Any]) -> Iterator[str]:
    unknown = [name for name in given if name not in specs]
    if unknown:
        yield f"unknown input arguments: {', '.join(unknown)}"
    for name, spec in specs.items():
        error = _error(spec, given.get(name))
        if error:
            yield f"`{name}` input: {error}"


def _error(spec: Mapping[str, Any], value: Any) -> str | None:
    if value is None:
        return None if "default" in spec else "required value has not been provided"
    if "options" in spec and value not in spec["options"]:
        return f"`{value}` cannot be used because it is not in the list of allowed options"
    if "regex" in spec and not re.search(spec["regex"].strip("/"), str(value)):
        return "provided value does not match required RegEx pattern"
    return None
