"""Changes of a YAML text at the positions of its nodes: every byte outside the splices stays as it is.

Positions are ruamel.yaml's marks: offsets in characters, `end` exclusive. An empty value has the mark of the token
after it, and a block collection ends where the next token begins, so ends are taken from what is written out.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from pipeline_tools.errors import PipelineError

Pair = tuple[Node, Node]
_NEWLINE = re.compile(r"\r\n|\n|\r")
_REST_OF_LINE = re.compile(r"[ \t]*(?:[ \t]#[^\r\n]*)?(?:\r\n|\n|\r|\Z)")


@dataclass(frozen=True)
class Splice:
    """`text` in place of what stands from `start` to `end`."""

    start: int
    end: int
    text: str


def spliced(text: str, splices: Iterable[Splice]) -> str:
    """`text` with all splices, which must not overlap."""
    for splice in sorted(splices, key=lambda splice: splice.start, reverse=True):
        text = text[: splice.start] + splice.text + text[splice.end :]
    return text


def child(mapping: MappingNode, key: str) -> Pair | None:
    """The pair of `key`, or None."""
    pairs: list[Pair] = mapping.value
    return next((pair for pair in pairs if pair[0].value == key), None)


def line(node: Node) -> int:
    """Where `node` begins, counted from 1."""
    return int(node.start_mark.line) + 1


def quoted(value: str) -> str:
    """`value` as a double-quoted scalar: bare ones such as `1e10` or `0123` would change their type."""
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def replaced(text: str, pair: Pair, value: str, path: str) -> Splice:
    """The value of `pair` becomes `value`.

    Raises:
        PipelineError: an anchor or alias shares it with another place.
    """
    key, node = pair
    _must_stand_alone(pair, path)
    if _is_empty(node):
        colon = text.index(":", key.end_mark.index) + 1
        return Splice(colon, colon, f" {quoted(value)}")
    return Splice(node.start_mark.index, node.end_mark.index, quoted(value))


def removed(text: str, mapping: MappingNode, pair: Pair, path: str) -> Splice:
    """`pair` goes, with a comment behind it on its line.

    Raises:
        PipelineError: its value is shared, or a comment that is about something else would go with it.
    """
    _must_stand_alone(pair, path)
    number = mapping.value.index(pair)
    if number == 0:
        start, end = pair[0].start_mark.index, mapping.value[1][0].start_mark.index
        others = text[_end(pair) if mapping.flow_style else _end_of_line(text, pair) : end]
    elif mapping.flow_style:
        start, end = _end(mapping.value[number - 1]), _end(pair)
        others = text[start : pair[0].start_mark.index]
    else:
        return _removed_lines(text, pair)
    if "#" in others:
        raise PipelineError(
            f"{path}:{line(pair[0])}: {pair[0].value} cannot be taken away without a comment next to it",
            hint="take it away by hand",
        )
    return Splice(start, end, "")


def _removed_lines(text: str, pair: Pair) -> Splice:
    start = pair[0].start_mark.index - pair[0].start_mark.column
    end = _end_of_line(text, pair)
    if not text[:end].endswith(("\n", "\r")):  # the last line has no end: nor has the new last one
        start -= len(_newline_before(text, start))
    return Splice(start, end, "")


def _end_of_line(text: str, pair: Pair) -> int:
    """Behind the pair, the comment on its line and the line's end."""
    rest = _REST_OF_LINE.match(text, _end(pair))
    return rest.end() if rest else _end(pair)


def _newline_before(text: str, index: int) -> str:
    return "\r\n" if text[:index].endswith("\r\n") else text[index - 1 : index]


def added(text: str, mapping: MappingNode, after: Pair, values: Mapping[str, str]) -> Splice:
    """New keys of `mapping`, right after the pair `after`."""
    items = [f"{key}: {quoted(value)}" for key, value in values.items()]
    if mapping.flow_style:
        return Splice(_end(after), _end(after), "".join(f", {item}" for item in items))
    return _lines(text, _end(after), after[0].start_mark.column, items)


def appended(text: str, root: MappingNode, key: str, values: Mapping[str, str]) -> Splice:
    """A new mapping of `values` at the end of the list `key` of `root`, in the style the list has.

    An absent list is made at the end of the document, an empty one (`key:`, `key: ~`) where it stands.
    """
    pair = child(root, key)
    flow = "{" + ", ".join(f"{name}: {quoted(value)}" for name, value in values.items()) + "}"
    if pair is None:
        return _new_list(text, root, key, values, flow)
    node = pair[1]
    if isinstance(node, SequenceNode) and node.flow_style:
        at = node.value[-1].end_mark.index if node.value else node.start_mark.index + 1
        return Splice(at, at, f", {flow}" if node.value else flow)
    if isinstance(node, SequenceNode):
        column = node.start_mark.column
        return _lines(text, _end_of(node), column, _item(values, node.value[0].start_mark.column - column))
    if _is_empty(node) and not root.flow_style:
        return _lines(text, pair[0].end_mark.index, root.start_mark.column, _item(values))
    if _is_empty(node):
        colon = text.index(":", pair[0].end_mark.index) + 1
        return Splice(colon, colon, f" [{flow}]")
    return Splice(node.start_mark.index, node.end_mark.index, f"[{flow}]")


def _new_list(text: str, root: MappingNode, key: str, values: Mapping[str, str], flow: str) -> Splice:
    if root.flow_style:
        at = _end(root.value[-1]) if root.value else root.start_mark.index + 1
        return Splice(at, at, f", {key}: [{flow}]" if root.value else f"{key}: [{flow}]")
    return _block(text, len(text), root.start_mark.column, [f"{key}:", *_item(values)])


def _item(values: Mapping[str, str], width: int = 2) -> list[str]:
    """The lines of a block sequence's entry; `width` is what its dash and the blanks after it take."""
    return [
        f"{' ' * width if number else '-'.ljust(width)}{key}: {quoted(value)}"
        for number, (key, value) in enumerate(values.items())
    ]


def _lines(text: str, after: int, column: int, lines: list[str]) -> Splice:
    """Whole lines behind the line that the position `after` is on."""
    found = _NEWLINE.search(text, after)
    return _block(text, found.end() if found else len(text), column, lines)


def _block(text: str, at: int, column: int, lines: list[str]) -> Splice:
    found = _NEWLINE.search(text)
    newline = found[0] if found else "\n"
    block = newline.join(" " * column + line for line in lines)
    # A file without a final newline keeps that, too.
    return Splice(at, at, block + newline if text[:at].endswith(("\n", "\r")) else newline + block)


def _must_stand_alone(pair: Pair, path: str) -> None:
    key, node = pair
    is_alias = not _is_empty(node) and node.start_mark.index < key.end_mark.index
    if is_alias or node.anchor or not isinstance(node, ScalarNode):
        raise PipelineError(
            f"{path}:{line(key)}: {key.value} is shared by an anchor or alias, so other places would change with it",
            hint="write the value out",
        )


def _is_empty(node: Node) -> bool:
    return isinstance(node, ScalarNode) and node.start_mark.index == node.end_mark.index


def _end(pair: Pair) -> int:
    """Where the last written character of a pair ends."""
    key, node = pair
    return int(key.end_mark.index) + 1 if _is_empty(node) else max(_end_of(node), int(key.end_mark.index))


def _end_of(node: Node) -> int:
    if isinstance(node, MappingNode) and not node.flow_style and node.value:
        return _end(node.value[-1])
    if isinstance(node, SequenceNode) and not node.flow_style and node.value:
        return _end_of(node.value[-1])
    return int(node.end_mark.index)
