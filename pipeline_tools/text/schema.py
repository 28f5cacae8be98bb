"""Reads YAML into frozen dataclasses and keeps the line of whatever is wrong.

A class describes itself: each field has metadata from `said` (its meaning and its kind). The reader collects every
problem rather than the first; the reference documentation is written from the same metadata.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields, replace
from typing import Any, Protocol, TypeVar

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from pipeline_tools.errors import PipelineError
from pipeline_tools.text import names
from pipeline_tools.text.names import Grammar
from pipeline_tools.text.printing import printable

T = TypeVar("T")


@dataclass(frozen=True, order=True)
class Problem:
    """What is wrong at a line of the file (the first is 1). `where` is the path to it: `environments.dev.vault`."""

    line: int
    where: str
    message: str

    def __str__(self) -> str:
        return f"{self.where}: {self.message}" if self.where else self.message


class Lines(dict[str, int]):
    """The line of each path that the file has; a path that it lacks is where the nearest one above it is."""

    def of(self, where: str) -> int:
        while where and where not in self:
            where = where.rpartition(".")[0]
        return self.get(where, 1)


@dataclass
class Reader:
    """What one reading has found."""

    problems: list[Problem] = field(default_factory=list)
    lines: Lines = field(default_factory=Lines)

    def wrong(self, node: Node, where: str, message: str) -> None:
        self.problems.append(Problem(node.start_mark.line + 1, where, message))

    def text(self, node: Node, where: str) -> str | None:
        """A scalar's text, whatever YAML would take it for."""
        if isinstance(node, ScalarNode) and not str(node.tag).endswith(":null"):
            return str(node.value)
        self.wrong(node, where, "is not a single value")
        return None

    def pairs(self, node: Node, where: str) -> Iterator[tuple[str, Node]]:
        """The members of a mapping; a key that occurs twice is a problem."""
        if not isinstance(node, MappingNode):
            self.wrong(node, where, "is not a mapping")
            return
        seen: set[str] = set()
        for key, value in node.value:
            name = str(key.value)
            if name in seen:
                self.wrong(key, where, f"{printable(name)} stands twice")
                continue
            seen.add(name)
            self.lines[f"{where}.{name}" if where else name] = key.start_mark.line + 1
            yield name, value


# Kinds of value ------------------------------------------------------------------------------------------------


class Kind(Protocol):
    """How a value is read. `says` names it in the documentation; `read` gives None where it is wrong."""

    @property
    def says(self) -> str: ...

    def read(self, reader: Reader, node: Node, where: str) -> Any: ...


@dataclass(frozen=True)
class Text(Kind):
    grammar: Grammar

    @property
    def says(self) -> str:
        return self.grammar.says

    def read(self, reader: Reader, node: Node, where: str) -> str | None:
        text = reader.text(node, where)
        if text is None or self.grammar.matches(text):
            return text
        reader.wrong(node, where, f"{printable(text)} is no {self.grammar.says}")
        return None


@dataclass(frozen=True)
class Choice(Kind):
    words: tuple[str, ...]

    @property
    def says(self) -> str:
        return " or ".join(f"`{word}`" for word in self.words)

    def read(self, reader: Reader, node: Node, where: str) -> str | None:
        text = reader.text(node, where)
        if text is None or text in self.words:
            return text
        reader.wrong(node, where, f"{printable(text)} is none of {', '.join(self.words)}")
        return None


@dataclass(frozen=True)
class Number(Kind):
    least: int
    most: int

    @property
    def says(self) -> str:
        return f"number, {self.least} to {self.most}"

    def read(self, reader: Reader, node: Node, where: str) -> int | None:
        text = reader.text(node, where)
        if text is None:
            return None
        if text.isascii() and text.isdigit() and len(text) < 19 and self.least <= int(text) <= self.most:  # noqa: PLR2004 (digits of a 64-bit number)
            return int(text)
        reader.wrong(node, where, f"{printable(text)} is not a whole number from {self.least} to {self.most}")
        return None


class Flag(Kind):
    @property
    def says(self) -> str:
        return "`true` or `false`"

    def read(self, reader: Reader, node: Node, where: str) -> bool | None:
        text = reader.text(node, where)
        if text in {"true", "false", None}:
            return None if text is None else text == "true"
        reader.wrong(node, where, f"{printable(str(text))} is neither true nor false")
        return None


@dataclass(frozen=True)
class Duration(Kind):
    """Seconds, from `90s`, `10m` or `1h`."""

    least: int
    most: int

    @property
    def says(self) -> str:
        return "duration (`90s`, `10m`, `1h`)"

    def read(self, reader: Reader, node: Node, where: str) -> int | None:
        text = Text(names.DURATION).read(reader, node, where)
        if text is None:
            return None
        if self.least <= names.seconds(text) <= self.most:
            return names.seconds(text)
        reader.wrong(node, where, f"{text} is not from {self.least} to {self.most} seconds")
        return None


@dataclass(frozen=True)
class Many(Kind):
    """A list, none of its values twice."""

    kind: Kind
    least: int = 0

    @property
    def says(self) -> str:
        return f"list of: {self.kind.says}"

    def read(self, reader: Reader, node: Node, where: str) -> tuple[Any, ...]:
        if not isinstance(node, SequenceNode):
            reader.wrong(node, where, "is not a list")
            return ()
        values = tuple(
            self.kind.read(reader, item, f"{where}[{index}]") for index, item in enumerate(node.value)
        )
        for index, value in enumerate(values):
            if value is not None and value in values[:index]:
                reader.wrong(node.value[index], f"{where}[{index}]", f"{printable(str(value))} stands twice")
        if len(values) < self.least:
            reader.wrong(node, where, f"needs at least {self.least}")
        return values


@dataclass(frozen=True)
class Part(Kind):
    """A mapping that is a dataclass of its own."""

    cls: type[Any]

    @property
    def says(self) -> str:
        return "mapping, below"

    def read(self, reader: Reader, node: Node, where: str) -> Any:
        return read(self.cls, reader, node, where)


@dataclass(frozen=True)
class Parts(Kind):
    """A mapping of names to one dataclass, which takes its own name as the field `name`; as a tuple, in file order."""

    cls: type[Any]
    grammar: Grammar

    @property
    def says(self) -> str:
        return "mapping of names to mappings, below"

    def read(self, reader: Reader, node: Node, where: str) -> tuple[Any, ...]:
        found = []
        for name, value in reader.pairs(node, where):
            if not self.grammar.matches(name):
                reader.wrong(value, f"{where}.{name}", f"the name is no {self.grammar.says}")
            part = read(self.cls, reader, value, f"{where}.{name}")
            found.append(replace(part, name=name) if part is not None else None)
        if not found:
            reader.wrong(node, where, "needs at least one")
        return tuple(found)


# Classes -------------------------------------------------------------------------------------------------------


def said(kind: Kind, doc: str, default: Any = MISSING) -> Any:
    """A field with its meaning; required where it has no default."""
    return field(default=default, metadata={"kind": kind, "doc": doc})


def described(cls: type[Any]) -> Iterator[tuple[Field[Any], Kind]]:
    """The fields that a file may give."""
    for item in fields(cls):
        if "kind" in item.metadata:
            yield item, item.metadata["kind"]


def read(cls: type[T], reader: Reader, node: Node, where: str) -> T | None:
    """An instance of `cls`, or None where a problem was found in it."""
    before = len(reader.problems)
    kinds = {item.name: kind for item, kind in described(cls)}
    values: dict[str, Any] = {}
    for name, value in reader.pairs(node, where):
        if name in kinds:
            values[name] = kinds[name].read(reader, value, f"{where}.{name}" if where else name)
        else:
            reader.wrong(value, where, _unknown(name, cls, kinds))
    for item, _ in described(cls):
        if item.default is MISSING and item.name not in values:
            reader.wrong(node, where, f"lacks {item.name}: {item.metadata['doc']}")
    return cls(**values) if len(reader.problems) == before else None


def _unknown(name: str, cls: type[Any], kinds: Mapping[str, Kind]) -> str:
    refusals: Mapping[str, str] = getattr(cls, "REFUSED", {})
    if name in refusals:
        return f"{name}: {refusals[name]}"
    return f"knows no {printable(name)} (it has: {', '.join(kinds)})"


def load(cls: type[T], text: str) -> tuple[T | None, Reader]:
    """The one document of a file as `cls`, and what the reading found."""
    reader = Reader()
    try:
        node = YAML(pure=True).compose(text)
    except MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        problem = " ".join(str(error.problem or error.context or error).split())
        reader.problems.append(Problem(line, "", f"malformed YAML: {problem}"))
        return None, reader
    except (YAMLError, ValueError) as error:
        reader.problems.append(Problem(1, "", f"not YAML: {str(error).splitlines()[0]}"))
        return None, reader
    if node is None:
        reader.problems.append(Problem(1, "", "the file is empty"))
        return None, reader
    return read(cls, reader, node, ""), reader


def accepted(found: T | None, problems: Sequence[Problem], path: str, page: str) -> T:
    """What was read of the file `path`, which is all right; `page` is its reference in the docs.

    Raises:
        PipelineError: it is not; the message names the first line of that, the hint the others.
    """
    if found is not None:
        return found
    others = "; ".join(f"line {problem.line}: {problem}" for problem in problems[1:6])
    raise PipelineError(
        f"{path}:{problems[0].line}: {problems[0]}", hint=f"also {others}" if others else f"see {page}"
    )
