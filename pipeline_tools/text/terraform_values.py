"""Terraform's values as leaves that may be shown and compared: flat, canonical, bounded, without what is sensitive.

Format: developer.hashicorp.com/terraform/internals/json-format, "Change Representation". `after_unknown`,
`before_sensitive` and `after_sensitive` mirror the value's shape; `true` at any depth marks all that is below it.
"""

import hashlib
import hmac
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pipeline_tools.text.masks import SHORTEST

UNKNOWN = "(known after apply)"
SENSITIVE = "(sensitive value)"
SENSITIVE_UNKNOWN = "(sensitive value, known after apply)"
LONGEST = 400
"""Characters of a value that is shown as it is; a longer one is shown, and compared, by its digest."""


def canonical(value: Any) -> str:
    """`value` as compact JSON, the same for the same meaning: sorted keys, one spelling for a number."""
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def path(parts: list[Any] | tuple[Any, ...]) -> str:
    """An attribute path as Terraform writes it: `tags["a b"]`, `pool[0].size`."""
    return "".join(_step(part) for part in parts).removeprefix(".")


def _step(part: Any) -> str:
    if isinstance(part, str) and part.isidentifier():
        return f".{part}"
    return f"[{canonical(part)}]"


class Hiding:
    """What stands for a sensitive value: its HMAC under `key`, so that two plans can be compared; without one, nothing.

    `has_unkeyed` says that a value had to be hidden without a key.
    """

    def __init__(self, key: bytes) -> None:
        self._key = key
        self.has_unkeyed = False

    def __call__(self, value: Any) -> str:
        if not self._key:
            self.has_unkeyed = True
            return SENSITIVE
        return f"hmac-sha256:{hmac.new(self._key, canonical(value).encode(), hashlib.sha256).hexdigest()}"


@dataclass(frozen=True, slots=True)
class Attribute:
    """A value that changes. `path` is like `a.b[0]`; `before` and `after` are compact JSON, or None where there is none.

    What is sensitive stands as `hmac-sha256:…` or `(sensitive value)`, what is long as `sha256:… (n characters)`.
    """

    path: str
    before: str | None
    after: str | None
    is_sensitive: bool


def attributes(
    change: Mapping[str, Any], hide: Hiding, always: frozenset[str] = frozenset()
) -> list[Attribute]:
    """All that changes from `before` to `after`, in the order of the paths, and the members `always` in any case.

    What is marked sensitive on one side is so on the other: a mark taken away shows nothing. And a provider gives back
    what it was given without the mark (`terraform_data.output`, a connection string), so whatever holds a sensitive
    text of the same object is hidden too.
    """
    before, after, unknown = change.get("before"), change.get("after"), change.get("after_unknown")
    sensitive = _either(change.get("before_sensitive"), change.get("after_sensitive"))
    secrets = {text for side in (before, after) for text in _marked(side, sensitive) if len(text) >= SHORTEST}
    before, after = _without_the_same(before, after, _mapping(unknown), always)
    old = {leaf.path: leaf for leaf in _leaves(before, None, sensitive)}
    new = {leaf.path: leaf for leaf in _leaves(after, unknown, sensitive)}
    differing = [
        path for path in {**old, **new} if path in always or not _is_same(old.get(path), new.get(path))
    ]
    return [_attribute(path, old.get(path), new.get(path), secrets, hide) for path in differing]


def _without_the_same(
    before: Any, after: Any, unknown: Mapping[str, Any], always: frozenset[str]
) -> tuple[Any, Any]:
    """Both without the members that are equal: taking them apart is what costs."""
    if not isinstance(before, dict) or not isinstance(after, dict):
        return before, after
    same = {
        name
        for name in (before.keys() & after.keys()) - always
        if canonical(before[name]) == canonical(after[name]) and not _has_true(unknown.get(name))
    }
    return _without(before, same), _without(after, same)


def _without(side: dict[str, Any], names: set[str]) -> dict[str, Any] | None:
    rest = {name: value for name, value in side.items() if name not in names}
    return rest or (None if side else side)


def _is_same(one: "_Leaf | None", other: "_Leaf | None") -> bool:
    if one is None or other is None or one.is_unknown or other.is_unknown:
        return False
    # By their JSON: to Python, true and 1 are equal.
    return canonical(one.value) == canonical(other.value)


def _attribute(
    path: str, old: "_Leaf | None", new: "_Leaf | None", secrets: set[str], hide: Hiding
) -> Attribute:
    is_sensitive = any(leaf is not None and _is_secret(leaf, secrets) for leaf in (old, new))
    before, after = (
        None if leaf is None else _text(leaf, is_sensitive=is_sensitive, hide=hide) for leaf in (old, new)
    )
    return Attribute(shortened(path), before, after, is_sensitive)


def _is_secret(leaf: "_Leaf", secrets: set[str]) -> bool:
    return leaf.is_sensitive or any(secret in text for text in _strings(leaf.value) for secret in secrets)


def _text(leaf: "_Leaf", *, is_sensitive: bool, hide: Hiding) -> str:
    if leaf.is_unknown:
        return SENSITIVE_UNKNOWN if is_sensitive else UNKNOWN
    return hide(leaf.value) if is_sensitive else shortened(canonical(leaf.value))


@dataclass(frozen=True, slots=True)
class _Leaf:
    """A value at a path that nothing below is shown of: `value` is any JSON that is no longer taken apart."""

    path: str
    value: Any
    is_sensitive: bool = False
    is_unknown: bool = False


def _leaves(value: Any, unknown: Any = None, sensitive: Any = None, at: str = "") -> Iterator[_Leaf]:
    """The leaves of `value` in the order of their paths.

    A null member of an object is left out: to Terraform that attribute is not set.
    """
    if not at and value is None and not _has_true(unknown):
        return
    if unknown is True:
        yield _Leaf(at, None, sensitive is True, is_unknown=True)
    elif sensitive is True:
        # What is not known yet stands in the value as null or not at all; where it does belongs to the value.
        yield _Leaf(at, [value, unknown] if _has_true(unknown) else value, is_sensitive=True)
    elif isinstance(value, dict) or isinstance(unknown, dict):
        yield from _members(value or {}, _mapping(unknown), _mapping(sensitive), at)
    elif isinstance(value, list) or isinstance(unknown, list):
        yield from _items(value or [], _sequence(unknown), _sequence(sensitive), at)
    else:
        yield _Leaf(at, value)


def _members(
    value: dict[str, Any], unknown: Mapping[str, Any], sensitive: Mapping[str, Any], at: str
) -> Iterator[_Leaf]:
    is_empty = True
    for name in sorted({*value, *unknown}):
        if value.get(name) is not None or _has_true(unknown.get(name)):
            is_empty = False
            below = path([name]) if not at else at + _step(name)
            yield from _leaves(value.get(name), unknown.get(name), sensitive.get(name), below)
    if is_empty and (at or not value):
        yield _Leaf(at, {})


def _items(value: list[Any], unknown: list[Any], sensitive: list[Any], at: str) -> Iterator[_Leaf]:
    for index in range(max(len(value), len(unknown))):
        yield from _leaves(_at(value, index), _at(unknown, index), _at(sensitive, index), f"{at}[{index}]")
    if not value and not unknown:
        yield _Leaf(at, [])


def shortened(text: str) -> str:
    """`text`, or its digest where it is long."""
    if len(text) <= LONGEST:
        return text
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()} ({len(text)} characters)"


def _either(one: Any, other: Any) -> Any:
    """Two marks as one: what either marks is marked. Of different shapes, a mark anywhere marks all."""
    if one is True or other is True:
        return True
    if isinstance(one, dict) and isinstance(other, dict):
        return {name: _either(one.get(name), other.get(name)) for name in {*one, *other}}
    if isinstance(one, list) and isinstance(other, list):
        return [_either(_at(one, index), _at(other, index)) for index in range(max(len(one), len(other)))]
    if one and other:
        return _has_true(one) or _has_true(other)
    return one or other


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, (dict, list)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _strings(item)


def _marked(value: Any, sensitive: Any) -> Iterator[str]:
    """The texts in `value` that are marked."""
    if sensitive is True:
        yield from _strings(value)
    elif isinstance(sensitive, dict):
        for name, mark in sensitive.items():
            yield from _marked(_mapping(value).get(name), mark)
    elif isinstance(sensitive, list):
        for item, mark in zip(_sequence(value), sensitive, strict=False):
            yield from _marked(item, mark)


def _has_true(mark: Any) -> bool:
    if isinstance(mark, (dict, list)):
        return any(_has_true(item) for item in (mark.values() if isinstance(mark, dict) else mark))
    return mark is True


def _mapping(mark: Any) -> Mapping[str, Any]:
    return mark if isinstance(mark, dict) else {}


def _sequence(mark: Any) -> list[Any]:
    return mark if isinstance(mark, list) else []


def _at(items: list[Any], index: int) -> Any:
    return items[index] if index < len(items) else None
