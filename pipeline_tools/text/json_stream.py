"""The parts of a large JSON object, one at a time, in one pass and in any order.

ijson's own `items` follows one path only, and keeps that path for each level of nesting, so a deep document exhausts the
memory (measured with ijson 3.6: 100 000 brackets, 24 GB). Here a part too deep raises RecursionError.
"""

from collections.abc import Iterator, Mapping
from decimal import MAX_EMAX, MIN_EMIN, Context, Decimal
from typing import Any, BinaryIO

import ijson  # type: ignore[import-untyped]

ERRORS = (ijson.JSONError, SystemError)
"""What a broken document raises; SystemError stands for an integer of more digits than Python reads (4 300)."""

_Events = Iterator[tuple[str, Any]]


def sections(
    stream: BinaryIO, *, lists: frozenset[str], whole: frozenset[str], inside: Mapping[str, tuple[str, ...]]
) -> Iterator[tuple[str, Any]]:
    """Each member of the object in `stream`, as name and value.

    Args:
        stream: the document.
        lists: members whose items come one by one, each under the member's name.
        whole: members that come as they are.
        inside: members of which only what is at this path comes (None where there is no such thing).

    Yields:
        These, and the name of any other member with None.

    Raises:
        ERRORS: no JSON, no UTF-8, or cut off.
        ValueError: no object.
        RecursionError: what is asked for is nested too deeply.
    """
    events = ijson.basic_parse(stream)
    if next(events)[0] != "start_map":
        raise ValueError("no object")
    for event, name in events:
        if event == "end_map":
            continue  # and on, so that what follows the object is found
        first = next(events)
        if name in lists and first[0] == "start_array":
            yield from ((name, _value(events, *item)) for item in _until("end_array", events))
        elif name in whole:
            yield name, _value(events, *first)
        else:
            yield name, _inside(events, first, inside[name]) if name in inside else _skip(events, first[0])


def _number(value: int | Decimal) -> int | float | str:
    """A number by its value: 1, 1.0 and 1e0 are one. What no float holds exactly is its digits, as a text."""
    exact = Decimal(value)
    if not exact:
        return 0
    if abs(exact.adjusted()) < 40 and exact == exact.to_integral_value():  # noqa: PLR2004 (wider than 128 bits)
        return int(exact)
    close = float(exact)
    if Decimal(repr(close)) == exact:
        return close
    return format(exact.normalize(Context(len(exact.as_tuple().digits), Emin=MIN_EMIN, Emax=MAX_EMAX)), "E")


def _until(end: str, events: _Events) -> _Events:
    for event, value in events:
        if event == end:
            return
        yield event, value


def _value(events: _Events, event: str, value: Any) -> Any:
    """The value that begins with this event."""
    if event == "start_map":
        return _object(events)
    if event == "start_array":
        return _array(events)
    return _number(value) if event == "number" else value


def _object(events: _Events) -> dict[str, Any]:
    made = {}
    for event, name in events:
        if event == "end_map":
            break
        event, value = next(events)  # noqa: PLW2901 (the member's value follows its name)
        made[name] = value if event == "string" else _value(events, event, value)
    return made


def _array(events: _Events) -> list[Any]:
    made = []
    for event, value in events:
        if event == "end_array":
            break
        made.append(value if event == "string" else _value(events, event, value))
    return made


def _inside(events: _Events, first: tuple[str, Any], names: tuple[str, ...]) -> Any:
    """The member of a member … that `names` lead to, or None; all around it is skipped."""
    if not names:
        return _value(events, *first)
    if first[0] != "start_map":
        return _skip(events, first[0])
    found = None
    for _, name in _until("end_map", events):
        begin = next(events)
        if name == names[0]:
            found = _inside(events, begin, names[1:])
        else:
            _skip(events, begin[0])
    return found


def _skip(events: _Events, first: str) -> Any:
    depth = int(first.startswith("start_"))
    while depth:
        event = next(events)[0]
        depth += event.startswith("start_")
        depth -= event.startswith("end_")
    return None
