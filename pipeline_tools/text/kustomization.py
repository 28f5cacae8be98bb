"""Edits of `images:` in a kustomization file: text in, text out, every other byte kept.

Rules of the format: kubectl.docs.kubernetes.io, "kustomization > images". `kustomize edit set image` rewrites
the whole file; here the document is composed for its node positions and the new values are spliced in.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import lru_cache
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from pipeline_tools.errors import PipelineError
from pipeline_tools.text.printing import printable
from pipeline_tools.text.references import DIGEST, TAG
from pipeline_tools.text.splices import Pair, Splice, added, appended, child, line, removed, replaced, spliced

FILE_NAMES = ("kustomization.yaml", "kustomization.yml", "Kustomization")
"""The names under which kustomize looks for the file of a folder; more than one is an error there."""

_SAFE = re.compile(r"[A-Za-z0-9._/:-]+")
"""Names that mean themselves as the regular expression that kustomize makes of them (a dot means a dot too)."""

_FIELDS = {"name": "name", "newName": "new_name", "newTag": "tag", "digest": "digest"}


class Pin(StrEnum):
    """What an entry says of the image it deploys; with a digest, the tag is there for people."""

    TAG = "tag"
    DIGEST = "digest"
    BOTH = "both"


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

    def pinned(self, pin: Pin) -> "Image":
        """What is written of it: with one of tag and digest alone, the other is taken away.

        Raises:
            PipelineError: it has not what it is to be pinned to.
        """
        if pin is Pin.BOTH:
            return self
        if not getattr(self, pin):
            raise PipelineError(
                f"image {self} has no {pin}, which --pin {pin} is to write",
                hint="name it REPOSITORY:TAG@DIGEST",
            )
        return replace(self, digest="") if pin is Pin.TAG else replace(self, tag="")

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
    return tuple(_image(entry) for entry in _entries(_parsed(text, path)[0], path))


def set_image(text: str, image: Image, path: str) -> str:
    """`text` with the entry called `image.name` changed to `image`; where there is none, it is added.

    None in a field leaves it as it is, an empty text takes the key away. `newName` is written only where it says
    something: where it is another than `name`, or the entry has one.

    Raises:
        PipelineError: a tag or digest against its grammar, two entries of the name, an anchor or alias on a value to
            be written, a name that is not safe as the regular expression that kustomize makes of it; or the result
            would differ in more than the intended keys. The message names the line; nothing is written.
    """
    root, before = _parsed(text, path)
    entries = _entries(root, path)
    index = _index(entries, before.get("images") or [], image.name, path)
    _must_be_sound(image, path if index is None else f"{path}:{line(entries[index])}")
    if index is None:
        wanted = {"name": image.name} | {
            key: value for key, value in _wanted(image, image.name).items() if value
        }
        changed = spliced(text, [appended(text, root, "images", wanted)])
    else:
        wanted = _wanted(image, _image(entries[index]).repository)
        changed = _changed(text, entries[index], index, wanted, path)
    _prove(before, changed, index, wanted, path)
    return changed


def _changed(text: str, entry: MappingNode, index: int, wanted: dict[str, str], path: str) -> str:
    gone = [key for key, value in wanted.items() if not value]
    for key in gone:
        _without(text, index, key, path)  # what is refused is refused with the line in the file as it is
    changed = spliced(text, _splices(text, entry, wanted, path))
    for key in gone:
        changed = _without(changed, index, key, path)
    return changed


def _wanted(image: Image, repository: str) -> dict[str, str]:
    """Value by key, of those that `image` speaks of; `repository` is what the entry says."""
    values = {"newName": image.new_name, "newTag": image.tag, "digest": image.digest}
    return {
        key: value
        for key, value in values.items()
        if value is not None and not (key == "newName" and value == repository)
    }


def _must_be_sound(image: Image, where: str) -> None:
    name = printable(image.name)
    for what, value, grammar in (("tag", image.tag, TAG), ("digest", image.digest, DIGEST)):
        if value and not grammar.fullmatch(value):
            raise PipelineError(
                f"{where}: {what} {printable(value)} of image {name} is against its grammar",
                hint="see the OCI distribution spec, Pulling manifests",
            )
    if not (image.new_name or image.tag or image.digest):
        raise PipelineError(
            f"{where}: there is nothing to write for image {name}", hint="give a tag or a digest"
        )


@lru_cache(maxsize=64)
def _parsed(text: str, path: str) -> tuple[MappingNode, Any]:
    """The document as nodes, and as the value that they stand for; both are only read.

    An edit looks at its text eight times: for the entry, the edit, its proof, and the next entry. Parsing takes longest.
    """
    yaml = YAML(typ="safe", pure=True)
    try:
        root = yaml.compose(text)
        if not isinstance(root, MappingNode):
            raise PipelineError(
                f"{path}: not a kustomization: the document is not a mapping", hint="see kustomize's docs"
            )
        # Finds duplicate keys and unknown tags. It writes merged keys (`<<`) into the nodes, which are then not ours.
        value = yaml.constructor.construct_document(yaml.compose(text) if "<<" in text else root)
    except MarkedYAMLError as error:
        where = f"{path}:{error.problem_mark.line + 1}" if error.problem_mark else path
        raise PipelineError(
            f"{where}: {_problem(error)}", hint="the file must hold one YAML document"
        ) from None
    except (YAMLError, ValueError) as error:
        raise PipelineError(
            f"{path}: not YAML: {str(error).splitlines()[0]}", hint="is it a text file?"
        ) from None
    return root, value


def _problem(error: MarkedYAMLError) -> str:
    text = " ".join(str(error.problem or error.context or error).split())
    return "more than one document" if "another document" in text else f"malformed YAML: {text}"


def _entries(root: MappingNode, path: str) -> list[MappingNode]:
    found = child(root, "images")
    if found is None or (isinstance(found[1], ScalarNode) and found[1].value in {"", "null", "~"}):
        return []
    entries = found[1].value if isinstance(found[1], SequenceNode) else [found[1]]
    for entry in entries:
        if not isinstance(entry, MappingNode) or not isinstance(found[1], SequenceNode):
            raise PipelineError(
                f"{path}:{line(entry)}: images: is not a list of mappings", hint="see kustomize's docs"
            )
    return list(entries)


def _image(entry: MappingNode) -> Image:
    values = {field: child(entry, key) for key, field in _FIELDS.items()}
    texts = {field: _text(pair[1]) for field, pair in values.items() if pair}
    return Image(**{"name": "", **texts})


def _text(node: Node) -> str:
    return "" if str(node.tag).endswith(":null") else str(node.value)


def _index(entries: list[MappingNode], values: list[Any], name: str, path: str) -> int | None:
    """Which entry has the name, written out or by a merge key; None where there is none."""
    names = [_image(entry).name or value.get("name") for entry, value in zip(entries, values, strict=True)]
    found = [index for index, other in enumerate(names) if other == name]
    where = f"{path}:{line(entries[found[0]])}" if found else path
    if not _SAFE.fullmatch(name):
        raise PipelineError(
            f"{where}: image name {printable(name)} is not safe: kustomize uses it as a regular expression",
            hint="rename it",
        )
    if len(found) > 1:
        lines = ", ".join(str(line(entries[index])) for index in found)
        raise PipelineError(
            f"{where}: images: has {len(found)} entries {name!r} (lines {lines}): build applies the last of them, "
            "edit changes the first",
            hint="keep one",
        )
    return found[0] if found else None


def _splices(text: str, entry: MappingNode, wanted: dict[str, str], path: str) -> Iterator[Splice]:
    missing: dict[str, str] = {}
    for key, value in wanted.items():
        pair = child(entry, key)
        if value and pair is None:
            missing[key] = value
        elif value and pair and not _says(pair[1], value):
            yield replaced(text, pair, value, path)
    if missing:
        yield added(text, entry, _name(entry, path), missing)


def _without(text: str, index: int, key: str, path: str) -> str:
    """`text` without a key of an entry; an empty one is as good as none and stays."""
    entry = _entries(_parsed(text, path)[0], path)[index]
    pair = child(entry, key)
    return spliced(text, [removed(text, entry, pair, path)]) if pair and _text(pair[1]) else text


def _says(node: Node, value: str) -> bool:
    """Whether the value is written already, as text: YAML 1.1, which kustomize's parser is near to, and 1.2 agree."""
    if node.value != value or not isinstance(node, ScalarNode):
        return False
    return bool(node.style) or all(_is_text(value, version) for version in ("1.1", "1.2"))


def _is_text(value: str, version: str) -> bool:
    yaml = YAML(typ="safe", pure=True)
    yaml.version = version
    return str(yaml.compose(value).tag).endswith(":str")


def _name(entry: MappingNode, path: str) -> Pair:
    pair = child(entry, "name")
    if pair is None or pair[1].start_mark.index < pair[0].end_mark.index:
        raise PipelineError(
            f"{path}:{line(entry)}: an entry of images: has no plain name", hint="write it out"
        )
    return pair


def _prove(before: Any, changed: str, index: int | None, wanted: Mapping[str, str], path: str) -> None:
    """Only the intended keys differ, or nothing may be written."""
    entries = list(before.get("images") or [])
    entry = entries[index] if index is not None else {}
    kept = {key: value for key, value in entry.items() if wanted.get(key) != "" or not value}
    new = kept | {key: value for key, value in wanted.items() if value}
    at = len(entries) if index is None else index
    expected = {**before, "images": [*entries[:at], new, *entries[at + 1 :]]}
    try:
        actual = _parsed(changed, path)[1]
    except PipelineError:
        actual = None
    if actual != expected:
        raise PipelineError(
            f"{path}: the edit would change more than the image entry; nothing was written",
            hint="simplify the entry (no merge keys, one key a line) and report this file to us",
        )


_LISTS = ("resources", "bases", "components", "transformers", "generators", "validators")


def folders(text: str, path: str) -> tuple[str, ...]:
    """What the lists of other kustomizations (`resources`, `components`, …) name that may be a folder.

    Addresses (`https://…`, `git@…`, `github.com/…?ref=…`) are left out. kustomize reads no other file outside a
    kustomization's own folder (its load restrictor, `LoadRestrictionsRootOnly`).

    Raises:
        PipelineError: malformed YAML, or several documents.
    """
    content = _parsed(text, path)[1]
    lists = [content.get(key) or [] for key in _LISTS]
    return tuple(item for items in lists for item in items if isinstance(item, str) and not _is_remote(item))


def is_component(text: str, path: str) -> bool:
    """Whether it is a `kind: Component`, which renders in what includes it and not on its own.

    Raises:
        PipelineError: malformed YAML, or several documents.
    """
    return bool(_parsed(text, path)[1].get("kind") == "Component")


def _is_remote(item: str) -> bool:
    return "://" in item or "?" in item or item.startswith(("git@", "github.com", "git::"))
