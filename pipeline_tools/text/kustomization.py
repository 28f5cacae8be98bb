"""Edits of `images:` in a kustomization file: text in, text out, every other byte kept.

Rules of the format: kubectl.docs.kubernetes.io, "kustomization > images". `kustomize edit set image` rewrites
the whole file; here the document is composed for its node positions and the new values are spliced in.
"""

import re
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from pipeline_tools.errors import PipelineError

FILE_NAMES = ("kustomization.yaml", "kustomization.yml", "Kustomization")
"""The names under which kustomize looks for the file of a folder; more than one is an error there."""

_FIELDS = {"name": "name", "newName": "new_name", "newTag": "tag", "digest": "digest"}


@dataclass(frozen=True)
class Image:
    """One entry of `images:`. `name` is what the manifests say, the others what it is replaced by."""

    name: str
    new_name: str | None = None
    tag: str | None = None
    digest: str | None = None

    @property
    def repository(self) -> str:
        """What the cluster pulls from: `newName`, else `name`."""
        return self.new_name or self.name

    def __str__(self) -> str:
        return (
            self.repository
            + (f":{self.tag}" if self.tag else "")
            + (f"@{self.digest}" if self.digest else "")
        )


def images(text: str, path: str) -> tuple[Image, ...]:
    """The entries of `images:` in file order.

    Args:
        text: the file's content.
        path: its name, for messages.

    Raises:
        PipelineError: malformed YAML, several documents, or an `images:` that is not a list of mappings;
            the message names the line.
    """
    return tuple(_image(entry) for entry in _entries(_compose(text, path), path))


def set_image(text: str, image: Image, path: str) -> str:
    """`text` with the entry called `image.name` changed to `image`; `None` in a field leaves it as it is.

    Values are written double-quoted: bare ones such as `1e10` or `0123` change their type.

    Raises:
        PipelineError: no such entry, two of them, an anchor or alias on a value to be written, a name that is
            not safe as the regular expression that kustomize makes of it; or the result would differ in more
            than the intended keys. Nothing is written in any of these.
    """
    entries = _entries(_compose(text, path), path)
    index = _index(tuple(_image(entry) for entry in entries), image.name, path)
    wanted = {key: getattr(image, field) for key, field in _FIELDS.items() if key != "name"}
    splices = list(_splices(text, entries[index], {k: v for k, v in wanted.items() if v is not None}, path))
    changed = _spliced(text, splices)
    _prove(text, changed, index, wanted, path)
    return changed


@dataclass(frozen=True)
class _Splice:
    start: int
    end: int
    text: str


def _compose(text: str, path: str) -> MappingNode:
    try:
        document = YAML(pure=True).compose(text)
        YAML(typ="safe", pure=True).load(text)  # constructs too: duplicate keys, unknown tags
    except MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        raise PipelineError(
            f"{path}{line}: {_problem(error)}", hint="the file must hold one YAML document"
        ) from None
    except (YAMLError, ValueError) as error:
        raise PipelineError(
            f"{path}: not YAML: {str(error).splitlines()[0]}", hint="is it a text file?"
        ) from None
    if not isinstance(document, MappingNode):
        raise PipelineError(
            f"{path}: not a kustomization: the document is not a mapping", hint="see kustomize's docs"
        )
    return document


def _problem(error: MarkedYAMLError) -> str:
    text = " ".join(str(error.problem or error.context or error).split())
    return "more than one document" if "another document" in text else f"malformed YAML: {text}"


def _child(mapping: MappingNode, key: str) -> tuple[Node, Node] | None:
    pairs: list[tuple[Node, Node]] = mapping.value
    return next((pair for pair in pairs if pair[0].value == key), None)


def _entries(document: MappingNode, path: str) -> list[MappingNode]:
    found = _child(document, "images")
    if found is None or (isinstance(found[1], ScalarNode) and found[1].value in {"", "null", "~"}):
        return []
    entries = found[1].value if isinstance(found[1], SequenceNode) else [found[1]]
    for entry in entries:
        if not isinstance(entry, MappingNode) or not isinstance(found[1], SequenceNode):
            raise PipelineError(
                f"{path}:{_line(entry)}: images: is not a list of mappings", hint="see kustomize's docs"
            )
    return list(entries)


def _image(entry: MappingNode) -> Image:
    values = {field: _child(entry, key) for key, field in _FIELDS.items()}
    texts = {field: str(pair[1].value) for field, pair in values.items() if pair}
    return Image(**{"name": "", **texts})


def _line(node: Node) -> int:
    return int(node.start_mark.line) + 1


def _index(entries: tuple[Image, ...], name: str, path: str) -> int:
    if re.search(r"[^A-Za-z0-9._/:-]", name):
        raise PipelineError(
            f"image name {name!r} is not safe: kustomize uses it as a regular expression", hint="rename it"
        )
    found = [index for index, entry in enumerate(entries) if entry.name == name]
    if not found:
        names = ", ".join(entry.name for entry in entries) or "none"
        raise PipelineError(
            f"{path}: images: has no entry {name!r} (it has: {names})",
            hint="add the entry once by hand, or name one that exists with --image",
        )
    if len(found) > 1:
        raise PipelineError(
            f"{path}: images: has {len(found)} entries {name!r}: build applies the last of them, edit changes the first",
            hint="keep one",
        )
    return found[0]


def _splices(text: str, entry: MappingNode, wanted: dict[str, str], path: str) -> Iterator[_Splice]:
    missing = {}
    for key, value in wanted.items():
        pair = _child(entry, key)
        if pair is None:
            missing[key] = value
        elif pair[1].value != value or not str(pair[1].tag).endswith(":str"):
            yield _replacement(text, *pair, value, path)
    if missing:
        yield _insertion(text, entry, missing, path)


def _replacement(text: str, key: Node, node: Node, value: str, path: str) -> _Splice:
    is_alias = node.start_mark.index < key.end_mark.index
    if is_alias or node.anchor or not isinstance(node, ScalarNode):
        raise PipelineError(
            f"{path}:{_line(key)}: {key.value} is shared by an anchor or alias, so other places would change with it",
            hint="write the value out",
        )
    if node.start_mark.index == node.end_mark.index:  # `newTag:` and nothing: its mark is at the next token
        colon = text.index(":", key.end_mark.index) + 1
        return _Splice(colon, colon, f" {_quoted(value)}")
    return _Splice(node.start_mark.index, node.end_mark.index, _quoted(value))


def _insertion(text: str, entry: MappingNode, missing: dict[str, str], path: str) -> _Splice:
    pair = _child(entry, "name")
    if pair is None or pair[1].start_mark.index < pair[0].end_mark.index:
        raise PipelineError(
            f"{path}:{_line(entry)}: an entry of images: has no plain name", hint="write it out"
        )
    end = pair[1].end_mark.index
    lines = [f"{key}: {_quoted(value)}" for key, value in missing.items()]
    if entry.flow_style:
        return _Splice(end, end, "".join(f", {line}" for line in lines))
    return _inserted_lines(text, end, pair[0].start_mark.column, lines)


def _inserted_lines(text: str, after: int, column: int, lines: list[str]) -> _Splice:
    found = re.compile(r"\r\n|\n|\r").search(text, after)
    newline = found[0] if found else _newline(text)
    block = newline.join(" " * column + line for line in lines)
    if found:
        return _Splice(found.end(), found.end(), block + newline)
    return _Splice(len(text), len(text), newline + block)


def _newline(text: str) -> str:
    found = re.search(r"\r\n|\n|\r", text)
    return found[0] if found else "\n"


def _quoted(value: str) -> str:
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _spliced(text: str, splices: list[_Splice]) -> str:
    for splice in sorted(splices, key=lambda splice: splice.start, reverse=True):
        text = text[: splice.start] + splice.text + text[splice.end :]
    return text


def _prove(before: str, after: str, index: int, wanted: dict[str, Any], path: str) -> None:
    """Only the intended keys differ, or nothing may be written."""
    expected = deepcopy(_load(before))
    expected["images"][index].update({key: value for key, value in wanted.items() if value is not None})
    try:
        actual = _load(after)
    except YAMLError:
        actual = None
    if actual != expected:
        raise PipelineError(
            f"{path}: the edit would change more than the image entry; nothing was written",
            hint="simplify the entry (no merge keys, one key a line) and report this file to us",
        )


def _load(text: str) -> Any:
    return YAML(typ="safe", pure=True).load(text)


_LISTS = ("resources", "bases", "components", "transformers", "generators", "validators")


def folders(text: str, path: str) -> tuple[str, ...]:
    """What the lists of other kustomizations (`resources`, `components`, …) name that may be a folder.

    Addresses (`https://…`, `git@…`, `github.com/…?ref=…`) are left out. kustomize reads no other file outside a
    kustomization's own folder (its load restrictor, `LoadRestrictionsRootOnly`).
    """
    _compose(text, path)
    content = _load(text)
    lists = [content.get(key) or [] for key in _LISTS]
    return tuple(item for items in lists for item in items if isinstance(item, str) and not _is_remote(item))


def _is_remote(item: str) -> bool:
    return "://" in item or "?" in item or item.startswith(("git@", "github.com", "git::"))
