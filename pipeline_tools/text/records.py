"""Frozen dataclasses from JSON, by their own type hints and strictly: nothing is converted, unknown or left over."""

import types
from dataclasses import MISSING, fields, is_dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


def record(cls: type[T], data: Any, where: str = "") -> T:
    """`data`, as `json.loads` gives it, as a `cls`: of str, int, bool, None, tuples, dicts of text, and such classes.

    Raises:
        ValueError: a member is missing, unknown or of another type; the message names the path to it.
    """
    if not isinstance(data, dict):
        raise ValueError(f"{where or 'it'} is no object")  # noqa: TRY004 (one error for all that a file may hold)
    hints = get_type_hints(cls)
    known = {field.name: field for field in fields(cast("Any", cls))}
    for name in data:
        if name not in known:
            raise ValueError(f"{_below(where, name)} is unknown")
    for name, field in known.items():
        if name not in data and field.default is MISSING and field.default_factory is MISSING:
            raise ValueError(f"{_below(where, name)} is missing")
    return cls(**{name: _value(hints[name], data[name], _below(where, name)) for name in data})


def _below(where: str, name: str) -> str:
    return f"{where}.{name:.60}" if where else f"{name:.60}"


def _value(kind: Any, data: Any, where: str) -> Any:
    origin = get_origin(kind)
    readers: dict[Any, Callable[[Any, Any, str], Any]] = {
        types.UnionType: _union,
        Union: _union,
        tuple: _items,
        dict: _members,
        Literal: _literal,
    }
    if origin in readers:
        return readers[origin](kind, data, where)
    if is_dataclass(kind):
        return record(cast("type[Any]", kind), data, where)
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        return kind(_literal(Literal[tuple(kind)], data, where))
    # `type`, because True is an int.
    if type(data) is not kind:
        raise ValueError(f"{where} is no {kind.__name__}")
    return data


def _union(kind: Any, data: Any, where: str) -> Any:
    """X | None."""
    if data is None:
        return None
    (other,) = (each for each in get_args(kind) if each is not type(None))
    return _value(other, data, where)


def _items(kind: Any, data: Any, where: str) -> Any:
    if not isinstance(data, list):
        raise ValueError(f"{where} is no list")  # noqa: TRY004 (see `record`)
    return tuple(_value(get_args(kind)[0], item, f"{where}[{index}]") for index, item in enumerate(data))


def _members(kind: Any, data: Any, where: str) -> Any:
    if not isinstance(data, dict):
        raise ValueError(f"{where} is no object")  # noqa: TRY004 (see `record`)
    return {name: _value(get_args(kind)[1], value, _below(where, name)) for name, value in data.items()}


def _literal(kind: Any, data: Any, where: str) -> Any:
    if not isinstance(data, str) or data not in get_args(kind):
        raise ValueError(f"{where} is none of {', '.join(get_args(kind))}")
    return data
