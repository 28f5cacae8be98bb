"""HCL and its JSON form as blocks whose every part knows its line.

Source: the HCL specification (github.com/hashicorp/hcl, hclsyntax/spec.md and json/spec.md). Only what is written
down as a plain value is read as one; all else is an `Expression`, which nobody here evaluates. Files come from
checkouts of strangers: size and depth have bounds, and what cannot be read is an error with its line.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import hcl2
from hcl2.utils import process_escape_sequences
from lark import Token, Tree
from lark.exceptions import LarkError, UnexpectedInput

from pipeline_tools.errors import PipelineError
from pipeline_tools.text import located

LARGEST = 256 * 1024
"""Characters of a file; the parser takes three seconds for so many, and files that people write have some thousands."""

DEEPEST = 40
"""Blocks and collections inside each other."""


@dataclass(frozen=True)
class Expression:
    """Something to be evaluated, as it is written."""

    text: str


@dataclass(frozen=True)
class Attribute:
    """A value: text, number, truth, None, list, dict, or `Expression` where it is no plain value."""

    value: Any
    line: int


@dataclass(frozen=True)
class Block:
    """A block with its labels; a file is a block without a type."""

    type: str
    labels: tuple[str, ...]
    line: int
    attributes: Mapping[str, Attribute] = field(default_factory=dict)
    blocks: tuple["Block", ...] = ()

    def of(self, *types: str) -> Iterator["Block"]:
        """The blocks of these types directly in it."""
        return (block for block in self.blocks if block.type in types)

    def below(self) -> Iterator["Block"]:
        """Every block in it, at any depth."""
        for block in self.blocks:
            yield block
            yield from block.below()

    def value(self, name: str) -> Any:
        """An attribute's value, or None."""
        found = self.attributes.get(name)
        return found.value if found else None

    def line_of(self, name: str) -> int:
        """An attribute's line, or the block's where there is none."""
        found = self.attributes.get(name)
        return found.line if found else self.line

    def label(self, index: int) -> str:
        """A label; empty where there are fewer."""
        return self.labels[index] if index < len(self.labels) else ""


class Malformed(PipelineError):  # noqa: N818 (read as a sentence)
    """A file that cannot be read, and the line where that shows (exit 1)."""

    def __init__(self, path: str, line: int, problem: str) -> None:
        super().__init__(f"{path}:{line}: {problem}", hint="mend it first")
        self.path, self.line, self.problem = path, line, problem


def read(text: str, path: str) -> Block:
    """A file's blocks; a name that ends in `.json` says that it is HCL's JSON.

    Raises:
        Malformed: it is not HCL, too large or nested too deep (exit 1).
    """
    if len(text) > LARGEST:
        raise Malformed(path, 1, f"more than {LARGEST} characters")
    return _json(text, path) if path.endswith(".json") else _native(text, path)


# Native syntax -------------------------------------------------------------------------------------------------


def _native(text: str, path: str) -> Block:
    try:
        tree = hcl2.parses_to_tree(text.removeprefix("\ufeff"))
    except UnexpectedInput as error:
        line = error.line if error.line > 0 else text.count("\n") + 1
        raise Malformed(path, line, "malformed HCL") from None
    except (LarkError, RecursionError, ValueError, RuntimeError):
        raise Malformed(path, 1, "malformed HCL") from None
    return _Native(text, path).body(tree.children[0], 0)


@dataclass(frozen=True)
class _Native:
    text: str
    path: str

    def body(
        self, tree: Any, depth: int, kind: str = "", labels: tuple[str, ...] = (), line: int = 1
    ) -> Block:
        self._bounded(depth, line)
        parts = [part for part in tree.children if isinstance(part, Tree)]
        pairs = [self._attribute(part, depth) for part in parts if part.data == "attribute"]
        blocks = tuple(self._block(part, depth + 1) for part in parts if part.data == "block")
        attributes = dict(pairs)
        if len(attributes) < len(pairs):
            raise Malformed(self.path, line, "an attribute is given twice")
        return Block(kind, labels, line, attributes, blocks)

    def _block(self, tree: Any, depth: int) -> Block:
        body = next(part for part in tree.children if isinstance(part, Tree) and part.data == "body")
        skipped = ("body", "new_line_or_comment")
        names = [part for part in tree.children if isinstance(part, Tree) and part.data not in skipped]
        kind, *labels = (str(self._name(part)) for part in names)
        return self.body(body, depth, kind, tuple(labels), _line(tree))

    def _name(self, tree: Any) -> Any:
        return self._string(tree) if tree.data == "string" else str(tree.children[0])

    def _attribute(self, tree: Any, depth: int) -> tuple[str, Attribute]:
        name, *_, value = tree.children
        return str(name.children[0]), Attribute(self._value(value, depth + 1), _line(tree))

    def _value(self, tree: Any, depth: int) -> Any:
        """A plain value, or the expression's text."""
        self._bounded(depth, _line(tree))
        inner = tree.children[0] if len(tree.children) == 1 else None
        if tree.data == "expr_term" and isinstance(inner, Tree):
            if inner.data in _SCALARS:
                return _SCALARS[str(inner.data)](str(inner.children[0]))
            if inner.data == "string":
                return self._string(inner)
            if inner.data == "tuple":
                return [self._value(item, depth + 1) for item in _parts(inner)]
            if inner.data == "object":
                return dict(self._element(item, depth + 1) for item in _parts(inner))
        return self._expression(tree)

    def _element(self, tree: Any, depth: int) -> tuple[str, Any]:
        name, value = tree.children[0].children[0], tree.children[-1]
        if isinstance(name, Tree) and name.data == "expr_term":
            name = name.children[0]
        if not isinstance(name, Tree) or name.data not in {"identifier", "keyword", "string"}:
            return self._expression(tree.children[0]).text, self._value(value, depth)
        found = self._name(name)
        return found.text if isinstance(found, Expression) else found, self._value(value, depth)

    def _string(self, tree: Any) -> Any:
        parts: list[Any] = [part.children[0] for part in tree.children if isinstance(part, Tree)]
        if not all(isinstance(part, Token) for part in parts):
            return self._expression(tree)
        return "".join(
            process_escape_sequences(str(part)) if part.type == "STRING_CHARS" else str(part)[1:]
            for part in parts
        )

    def _expression(self, tree: Any) -> Expression:
        return Expression(self.text[tree.meta.start_pos : tree.meta.end_pos])

    def _bounded(self, depth: int, line: int) -> None:
        if depth > DEEPEST:
            raise Malformed(self.path, line, f"nested more than {DEEPEST} deep")


def _number(text: str) -> int | float:
    return float(text) if re.search(r"[.eE]", text) or len(text) > 18 else int(text)  # noqa: PLR2004 (int64)


_SCALARS: Mapping[str, Any] = {
    "int_lit": _number,
    "float_lit": float,
    "literal_value": {"true": True, "false": False, "null": None}.get,
}


def _parts(tree: Any) -> Iterator[Any]:
    return (part for part in tree.children if isinstance(part, Tree) and part.data != "new_line_or_comment")


def _line(tree: Any) -> int:
    return int(getattr(tree.meta, "line", 1))


# JSON ----------------------------------------------------------------------------------------------------------

_LABELS: Mapping[str, Mapping[str, int]] = {
    "": {
        "terraform": 0, "provider": 1, "module": 1, "data": 2, "resource": 2, "ephemeral": 2, "action": 2, "check": 1,
        "run": 1, "mock_provider": 1,
    },
    "terraform": {"backend": 1, "cloud": 0, "required_providers": 0},
    "resource": {"provisioner": 1},
    "provider": {"exec": 0, "kubernetes": 0},
    "kubernetes": {"exec": 0},
    "check": {"data": 2},
    "run": {"module": 0},
}  # fmt: skip
"""What is a block in each block of Terraform's JSON, and how many labels it has; all else is read as an attribute."""


def _json(text: str, path: str) -> Block:
    try:
        value = json.loads(text, object_pairs_hook=_unique)
        (document,) = located.yaml(text.replace("\t", " "), path)
        lines = document.lines
    except json.JSONDecodeError as error:
        raise Malformed(path, error.lineno, "malformed JSON") from None
    except (ValueError, RecursionError, PipelineError):
        raise Malformed(path, 1, "malformed JSON: nested too deep, or a name given twice") from None
    if not isinstance(value, dict):
        raise Malformed(path, 1, "no JSON object")
    return _Json(path, lines).block("", (), value, "", 0)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object. Terraform reads both of two members with one name, `json` only the last: neither is read here."""
    if len(dict(pairs)) < len(pairs):
        raise ValueError
    return dict(pairs)


@dataclass(frozen=True)
class _Kind:
    """A type of block and how many labels it has."""

    name: str
    labels: int


@dataclass(frozen=True)
class _Json:
    path: str
    lines: Any

    def block(
        self, kind: str, labels: tuple[str, ...], value: dict[str, Any], where: str, depth: int
    ) -> Block:
        line = self.lines.of(where) if where else 1
        if depth > DEEPEST:
            raise Malformed(self.path, line, f"nested more than {DEEPEST} deep")
        attributes, blocks = {}, []
        for name, inner in value.items():
            place = f"{where}.{name}" if where else name
            if name in (count := _LABELS.get(kind, {})) and isinstance(inner, dict | list):
                blocks += list(self._blocks(_Kind(name, count[name]), (), inner, place, depth + 1))
            elif name != "//":
                attributes[name] = Attribute(_plain(inner), self.lines.of(place))
        return Block(kind, labels, line, attributes, tuple(blocks))

    def _blocks(
        self, kind: _Kind, labels: tuple[str, ...], value: Any, where: str, depth: int
    ) -> Iterator[Block]:
        """The blocks of a kind: a list may stand wherever an object does, each label is a level."""
        if isinstance(value, list):
            for index, item in enumerate(value):
                yield from self._blocks(kind, labels, item, f"{where}[{index}]", depth)
        elif isinstance(value, dict) and len(labels) < kind.labels:
            for label, inner in value.items():
                yield from self._blocks(kind, (*labels, label), inner, f"{where}.{label}", depth)
        elif isinstance(value, dict):
            yield self.block(kind.name, labels, value, where, depth)


def _plain(value: Any) -> Any:
    """A value; texts with `${` or `%{` in them are templates."""
    if isinstance(value, str) and re.search(r"[$%]\{", value):
        return Expression(value)
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return {key: _plain(item) for key, item in value.items()} if isinstance(value, dict) else value
