"""YAML and TOML as plain values, with the line of every key: `runners[0].kubernetes.privileged` → 12."""

import re
import tomllib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.constructor import SafeConstructor
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from pipeline_tools.errors import PipelineError
from pipeline_tools.text.schema import Lines

MOST_NODES = 100_000
"""More than any values file has; aliases of aliases would come to billions."""


@dataclass(frozen=True)
class Document:
    """One document: its value, and the lines of its keys in the file `path`."""

    path: str
    value: Any
    lines: Lines

    def get(self, where: str, default: Any = None) -> Any:
        """The value at a path of mappings (`rbac.create`)."""
        found = self.value
        for key in where.split("."):
            if not isinstance(found, dict) or key not in found:
                return default
            found = found[key]
        return found


# YAML ----------------------------------------------------------------------------------------------------------


def yaml(text: str, path: str) -> list[Document]:
    """The documents of a YAML file; empty ones are left out.

    Raises:
        PipelineError: it is malformed.
    """
    try:
        nodes = list(YAML(pure=True).compose_all(text))
    except MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        raise PipelineError(f"{path}{line}: malformed YAML", hint="mend it first") from None
    except (YAMLError, ValueError):
        raise PipelineError(f"{path}: not YAML", hint="is it a text file?") from None
    return [_document(node, path) for node in nodes if node is not None]


def _document(node: Node, path: str) -> Document:
    walker = _Walker(path)
    value = walker.value(node, "")
    return Document(path, value, walker.lines)


class _Walker:
    def __init__(self, path: str) -> None:
        self.path, self.lines, self.count = path, Lines(), 0

    def value(self, node: Node, where: str) -> Any:
        self.count += 1
        if self.count > MOST_NODES:
            raise PipelineError(f"{self.path}: more than {MOST_NODES} values", hint="does it nest aliases?")
        if where:
            self.lines.setdefault(where, node.start_mark.line + 1)
        if isinstance(node, MappingNode):
            return dict(self._pairs(node, where))
        if isinstance(node, SequenceNode):
            return [self.value(item, f"{where}[{index}]") for index, item in enumerate(node.value)]
        return _scalar(node) if isinstance(node, ScalarNode) else None

    def _pairs(self, node: MappingNode, where: str) -> Iterator[tuple[str, Any]]:
        for key, value in node.value:
            name = str(key.value)
            inner = f"{where}.{name}" if where else name
            self.lines[inner] = key.start_mark.line + 1
            yield name, self.value(value, inner)


def _scalar(node: ScalarNode) -> Any:
    tag = str(node.tag).rpartition(":")[2]
    if tag == "null":
        return None
    if tag == "bool":
        return SafeConstructor.bool_values.get(node.value.lower(), node.value)
    if tag == "int" and re.fullmatch(r"[-+]?[0-9]{1,18}", node.value):
        return int(node.value)
    return str(node.value)


# TOML ----------------------------------------------------------------------------------------------------------

_TABLE = re.compile(r"^\s*(\[\[?)\s*([^\[\]]+?)\s*\]\]?\s*(#.*)?$")
_KEY = re.compile(
    r"^\s*((?:\"[^\"]*\"|'[^']*'|[A-Za-z0-9_-]+)(?:\s*\.\s*(?:\"[^\"]*\"|'[^']*'|[A-Za-z0-9_-]+))*)\s*="
)
_WORD = re.compile(r"\"([^\"]*)\"|'([^']*)'|([A-Za-z0-9_-]+)")
_ACTION = re.compile(r"\{\{.*?\}\}")


def toml(text: str, path: str, before: int = 0) -> Document:
    """A TOML text that begins after the line `before` of the file; Helm's `{{…}}` in it stand for some text.

    Raises:
        PipelineError: it is malformed.
    """
    plain = "\n".join(_plain(line) for line in text.split("\n"))
    try:
        value = tomllib.loads(plain)
    except tomllib.TOMLDecodeError as error:
        found = re.search(r"at line (\d+)", str(error))
        line = before + (int(found[1]) if found else 1)
        raise PipelineError(f"{path}:{line}: malformed TOML", hint=f"mend it first: {error}") from None
    return Document(path, value, _toml_lines(plain, before))


def _plain(line: str) -> str:
    """A line without Helm's actions; one that is nothing else is empty."""
    return "" if not _ACTION.sub("", line).strip() and _ACTION.search(line) else _ACTION.sub("template", line)


def _toml_lines(text: str, before: int) -> Lines:
    lines, counts, table, inside = Lines(), Counter[str](), "", ""
    for number, line in enumerate(text.split("\n"), before + 1):
        if inside:
            inside = "" if inside in line else inside
            continue
        if header := _TABLE.match(line):
            table = _resolved(_words(header[2]), counts, is_new=header[1] == "[[")
            lines[table] = number
        elif key := _KEY.match(line):
            lines[".".join(filter(None, [table, *_words(key[1])]))] = number
        inside = next((quote for quote in ("'''", '"""') if line.count(quote) % 2), "")
    return lines


def _words(text: str) -> list[str]:
    return ["".join(found) for found in _WORD.findall(text)]


def _resolved(words: list[str], counts: Counter[str], *, is_new: bool) -> str:
    """The path of a table, with the index of each array of tables on the way."""
    path = ""
    for number, word in enumerate(words):
        path = f"{path}.{word}" if path else word
        if is_new and number == len(words) - 1:
            counts[path] += 1
        if counts[path]:
            path = f"{path}[{counts[path] - 1}]"
    return path
