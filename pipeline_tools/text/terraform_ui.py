"""Terraform's machine-readable output (`apply -json`), told to people, and what it says was done.

Format: developer.hashicorp.com/terraform/internals/machine-readable-ui (ui 1.2): a JSON object on each line, with
`@message`, `type` and by the type `hook`, `diagnostic` or `changes`.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pipeline_tools.text.printing import printed

LONGEST = 1024 * 1024
"""Bytes of a line; what is longer is no message and is cut."""
_MOST_ERRORS = 100


@dataclass(frozen=True)
class Applied:
    """The numbers of Terraform's own last line (`change_summary` of an apply or destroy)."""

    add: int
    change: int
    remove: int
    import_: int = 0


class Told:
    """A filter (see `adapters.stream.Filter`) that turns messages into lines, and remembers what was done.

    Lines that are no message pass through. Control characters are escaped and broken UTF-8 is replaced.
    `applied` and `errored` hold "address: action" in the order in which they ended, `errors` the summaries of errors.
    `summary` is None when Terraform did not get that far.
    """

    def __init__(self) -> None:
        self.applied: list[str] = []
        self.errored: list[str] = []
        self.errors: list[str] = []
        self.summary: Applied | None = None
        self._started: dict[str, None] = {}
        self._held = b""
        self._is_cut = False

    @property
    def unfinished(self) -> list[str]:
        """What was started and did not end: nobody knows how it stands."""
        return list(self._started)

    def feed(self, chunk: bytes) -> bytes:
        """Take `chunk`; return the lines that are whole."""
        *lines, rest = (self._held + chunk).split(b"\n")
        out = b"".join(self._line(line) for line in lines)
        self._held = rest[:LONGEST] if not self._is_cut else b""
        self._is_cut = self._is_cut or len(rest) > LONGEST
        return out

    def close(self) -> bytes:
        """What is left when the stream has ended."""
        rest, self._held = self._held, b""
        return self._line(rest) if rest or self._is_cut else b""

    def _line(self, line: bytes) -> bytes:
        if self._is_cut or len(line) > LONGEST:
            self._is_cut = False
            return b"(a line of more than %d bytes is left out)\n" % LONGEST
        message = _message(line)
        if message is None:
            return printed(line.decode(errors="replace")).encode(errors="replace") + b"\n"
        self._remember(message)
        return "".join(f"{printed(text)}\n" for text in _lines(message)).encode(errors="replace")

    def _remember(self, message: dict[str, Any]) -> None:
        kind = message.get("type")
        if kind in {"apply_start", "apply_complete", "apply_errored"}:
            self._hook(str(kind), message)
        elif kind == "change_summary":
            self._summarised(_part(message, "changes"))
        elif kind == "diagnostic" and _part(message, "diagnostic").get("severity") == "error":
            del self.errors[_MOST_ERRORS - 1 :]
            self.errors.append(_text(_part(message, "diagnostic"), "summary"))

    def _hook(self, kind: str, message: dict[str, Any]) -> None:
        hook = _part(message, "hook")
        what = f"{_text(_part(hook, 'resource'), 'addr')}: {_text(hook, 'action')}"
        if kind == "apply_start":
            self._started[what] = None
            return
        self._started.pop(what, None)
        (self.applied if kind == "apply_complete" else self.errored).append(what)

    def _summarised(self, changes: dict[str, Any]) -> None:
        if changes.get("operation") in {"apply", "destroy"}:
            numbers = (changes.get(name) for name in ("add", "change", "remove", "import"))
            self.summary = Applied(*(number if isinstance(number, int) else 0 for number in numbers))


def _message(line: bytes) -> dict[str, Any] | None:
    """The message on a line, or None where it is none."""
    if not line.startswith(b"{"):
        return None
    try:
        data = json.loads(line.decode(errors="replace"))
    except (ValueError, RecursionError):
        return None
    return data if isinstance(data, dict) and isinstance(data.get("@message"), str) else None


def _lines(message: dict[str, Any]) -> Iterator[str]:
    if message.get("type") != "diagnostic":
        yield message["@message"].strip("\n")
        return
    diagnostic = _part(message, "diagnostic")
    yield message["@message"]
    if _text(diagnostic, "address"):
        yield f"  with {_text(diagnostic, 'address')}"
    place = _part(diagnostic, "range")
    if _text(place, "filename"):
        yield f"  at {_text(place, 'filename')}:{_part(place, 'start').get('line')}"
    for line in _text(diagnostic, "detail").splitlines():
        yield f"  {line}".rstrip()


def _part(message: dict[str, Any], name: str) -> dict[str, Any]:
    part = message.get(name)
    return part if isinstance(part, dict) else {}


def _text(part: dict[str, Any], name: str) -> str:
    return str(part.get(name) or "")
