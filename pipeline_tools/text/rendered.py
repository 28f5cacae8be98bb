"""What kustomize renders, as objects and the images in them; and what differs between two renderings.

kustomize prints one document an object, in block style with `---` between them, so a text is taken apart at those
lines, and only objects that speak of images or that differ are parsed.
"""

import difflib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from pipeline_tools.errors import PipelineError
from pipeline_tools.text import markdown

_BETWEEN = re.compile(r"^---[ \t]*\n", re.MULTILINE)
_SPEAKS_OF_IMAGES = re.compile(r"^[ -]*image: *\S", re.MULTILINE)
_NO_WORKLOADS = {"ConfigMap", "Secret", "CustomResourceDefinition"}
"""Kinds whose `image` is text for somebody else: kustomize's image transformer passes over it."""


@dataclass(frozen=True, order=True)
class Owner:
    """An object of the cluster. `namespace` is empty where the manifest names none."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return "/".join(part for part in (self.namespace, self.kind, self.name) if part)


@dataclass(frozen=True, order=True)
class Use:
    """An image that `container` of `owner` runs; `path` is where it stands, and the name of one that has none."""

    owner: Owner
    container: str
    image: str
    path: str

    def __str__(self) -> str:
        return f"{self.image} ({self.owner}, {self.container})"


@dataclass(frozen=True, order=True)
class Move:
    """A container of an object in the rendering of `folder` gets another image; "" where it has none."""

    folder: str
    kind: str
    namespace: str
    name: str
    container: str
    before: str
    after: str

    def __str__(self) -> str:
        owner = Owner(self.kind, self.namespace, self.name)
        return f"{owner} {self.container}: {self.before or '(none)'} -> {self.after or '(none)'}"


def uses(text: str) -> tuple[Use, ...]:
    """Every image in the manifests, sorted.

    Raises:
        PipelineError: the text is not the YAML that kustomize prints.
    """
    documents = [document for document in _documents(text) if _SPEAKS_OF_IMAGES.search(document)]
    return tuple(sorted(use for document in documents for use in _parsed(document)[1]))


def moves(folder: str, before: str, after: str) -> tuple[Move, ...]:
    """Which containers get another image between two renderings of `folder`."""
    old, new = _by_place(before, after), _by_place(after, before)
    return tuple(
        Move(folder, owner.kind, owner.namespace, owner.name, container, *images)
        for owner, path, container in sorted(old.keys() | new.keys())
        for images in [[side.get((owner, path, container), "") for side in (old, new)]]
        if images[0] != images[1]
    )


def difference(folder: str, before: str, after: str) -> str:
    """A unified difference, object by object; of a Secret only that it differs.

    Object by object, so that no line of another object stands around a change as its context.
    """
    old, new = _by_owner(before, after), _by_owner(after, before)
    lines = (
        line
        for owner in sorted(old.keys() | new.keys())
        for line in _unified(folder, owner, old.get(owner, ""), new.get(owner, ""))
    )
    return "".join(lines)


def table(moved: Iterable[Move]) -> str:
    """The moves as a list in GitLab's Markdown, for a note; whatever a manifest says stays data."""
    return "".join(
        f"- {markdown.code(move.folder)}: {markdown.code(str(Owner(move.kind, move.namespace, move.name)))} "
        f"{markdown.code(move.container)}: {markdown.code(move.before or 'none')} → "
        f"{markdown.code(move.after or 'none')}\n"
        for move in moved
    )


def _unified(folder: str, owner: Owner, before: str, after: str) -> Iterator[str]:
    if owner.kind == "Secret":
        yield f"{folder} {owner} differs\n"
        return
    yield from difflib.unified_diff(
        before.splitlines(keepends=True),
        after.splitlines(keepends=True),
        f"{folder} {owner} (now)",
        f"{folder} {owner} (bumped)",
    )


def _documents(text: str) -> list[str]:
    ended = text if text.endswith("\n") or not text else f"{text}\n"
    return [document for document in _BETWEEN.split(ended) if document.strip()]


def _differing(text: str, other: str) -> list[str]:
    """The documents of `text` that are not in `other` as they are."""
    same = set(_documents(other))
    return [document for document in _documents(text) if document not in same]


def _by_owner(text: str, other: str) -> dict[Owner, str]:
    return {_parsed(document)[0]: document for document in _differing(text, other)}


def _by_place(text: str, other: str) -> dict[tuple[Owner, str, str], str]:
    documents = _differing(text, other)
    return {(use.owner, use.path, use.container): use.image for doc in documents for use in _parsed(doc)[1]}


@lru_cache(maxsize=4096)  # overlays of one base have most of their objects in common
def _parsed(document: str) -> tuple[Owner, tuple[Use, ...]]:
    try:
        value = YAML(typ="safe", pure=True).load(document)
    except YAMLError:
        raise PipelineError(
            "kustomize printed what is not YAML", hint="run kustomize build by hand and report this to us"
        ) from None
    owner = _owner(value)
    return owner, () if owner.kind in _NO_WORKLOADS else tuple(_walk(value, owner, ""))


def _walk(value: Any, owner: Owner, path: str) -> Iterator[Use]:
    if isinstance(value, list):
        for number, item in enumerate(value):
            yield from _walk(item, owner, f"{path}[{number}]")
    if not isinstance(value, dict):
        return
    if isinstance(value.get("image"), str):
        name = value.get("name")
        yield Use(owner, name if isinstance(name, str) else path, value["image"], path)
    for key, inner in value.items():
        yield from _walk(inner, owner, f"{path}.{key}" if path else str(key))


def _owner(value: Any) -> Owner:
    manifest = value if isinstance(value, dict) else {}
    metadata = manifest.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    return Owner(
        str(manifest.get("kind", "")), str(metadata.get("namespace", "")), str(metadata.get("name", ""))
    )
