"""Secrets, and the mask that every printed byte passes."""

import base64
import json
import sys
from collections.abc import Callable, Mapping
from typing import Literal
from urllib.parse import quote, quote_plus

from pipeline_tools.errors import PipelineError

MASKED = "[MASKED]"
"""What stands for a secret: GitLab's own word (docs.gitlab.com/ci/variables, "Mask a CI/CD variable")."""

SHORTEST = 4
"""Masking a shorter value would shred the log without hiding anything."""


class Secret:
    """A value whose `repr` and `str` say nothing; `reveal()` is the one way to it."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def __repr__(self) -> str:
        return f"Secret({MASKED})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)

    def reveal(self) -> str:
        return self._value


def variants(value: str) -> frozenset[str]:
    """Every form in which `value` may appear in a log.

    Raw, each line of a multi-line value, URL-encoded (RFC 3986 and form encoding), as JSON escapes it, and base64 at the three
    alignments it can have inside a longer encoded text, which is how `Authorization: Basic` carries it.
    """
    lines = {line.strip() for line in value.splitlines()}
    # Without the white space around it: a form that begins with a line's end would hold back every line.
    plain = {text for text in {value.strip(), *lines} if len(text) >= SHORTEST}
    encoded = {
        form
        for text in {value, *plain}
        for form in (*_base64_forms(text), quote(text, safe=""), quote_plus(text), json.dumps(text)[1:-1])
    }
    return frozenset(plain | {form for form in encoded if len(form) >= SHORTEST})


def _base64_forms(text: str) -> set[str]:
    raw = text.encode()
    forms = {base64.b64encode(raw).decode()}
    for offset in range(3):
        # The characters that hold only bits of `raw`: whole 6-bit groups between its first and last bit.
        padded = base64.b64encode(b"\0" * offset + raw).decode()
        first = -(-offset * 8 // 6)
        last = (offset + len(raw)) * 8 // 6
        forms.add(padded[first:last])
    urlsafe = {form.replace("+", "-").replace("/", "_") for form in forms}
    return {form for form in forms | urlsafe if len(form) > SHORTEST}


class Mask:
    """Replaces every form of the secrets it was told."""

    def __init__(self) -> None:
        self.hits = 0
        """How many secrets its streams have hidden."""
        self._forms: tuple[str, ...] = ()

    def add(self, secret: Secret) -> None:
        """Hide `secret` from now on. An empty one hides nothing.

        Raises:
            PipelineError: the secret is too short to be hidden (exit 1).
        """
        value = secret.reveal()
        if value and len(value.strip()) < SHORTEST:
            raise PipelineError(
                f"a secret has fewer than {SHORTEST} characters and cannot be masked",
                hint="is the variable set to the value you meant?",
            )
        # Longest first, so that a form inside another cannot leave a readable rest.
        self._forms = tuple(sorted({*self._forms, *variants(value)}, key=lambda form: (-len(form), form)))

    def add_if_long_enough(self, secret: Secret) -> None:
        """Hide `secret` from now on, unless it is too short to be one."""
        if len(secret.reveal().strip()) >= SHORTEST:
            self.add(secret)

    def text(self, text: str) -> str:
        for form in self._forms:
            if form in text:
                text = text.replace(form, MASKED)
        return text

    def finds(self, text: str) -> bool:
        """Whether a secret is in `text`, in any form."""
        return any(form in text for form in self._forms)

    def stream(self) -> "MaskedStream":
        return MaskedStream([form.encode() for form in self._forms], self._hit)

    def _hit(self, number: int) -> None:
        self.hits += number


class MaskedStream:
    """Masks a byte stream whose secrets may be split across writes.

    Only a tail that may be the beginning of a secret is held back, never a whole line.
    """

    def __init__(self, forms: list[bytes], hit: Callable[[int], None]) -> None:
        self._forms = forms
        self._hit = hit
        self._words = {size: _words(forms, size) for size in _FORMATS}
        self._tiny = [form for form in forms if len(form) < _MOST[min(_FORMATS)]]
        self._longest = max(map(len, forms), default=0)
        # Forms by their first bytes, and all that is shorter: so the end of each chunk is looked up, not searched.
        self._by_head: dict[bytes, list[bytes]] = {}
        for form in forms:
            self._by_head.setdefault(form[:_HEAD], []).append(form)
        self._short = frozenset(form[:size] for form in forms for size in range(1, min(_HEAD, len(form))))
        self._held = b""

    def feed(self, chunk: bytes) -> bytes:
        """Take `chunk`; return what can be printed now."""
        data = self._replace(self._held + chunk)
        end = len(data) - self._unsure(data)
        self._held = data[end:]
        return data[:end]

    def close(self) -> bytes:
        """What is left when the stream has ended."""
        rest, self._held = self._held, b""
        return rest

    def _replace(self, data: bytes) -> bytes:
        if not self._may_hold(data):
            return data
        for form in self._forms:
            if number := data.count(form):
                self._hit(number)
                data = data.replace(form, MASKED.encode())
        return data

    def _may_hold(self, data: bytes) -> bool:
        """Whether any form can be in `data`: one look at each of its aligned words, however many forms there are.

        A form of 15 bytes or more covers an aligned word of 8 wherever it stands, one of 7 or more a word of 4; which
        words these can be is known. Measured with 20 secrets (110 forms): 300 MB/s, where searching each takes 90.
        """
        view = memoryview(data)
        for size, words in self._words.items():
            if words and not words.isdisjoint(view[: len(view) // size * size].cast(_FORMATS[size])):
                return True
        return any(form in data for form in self._tiny)

    def _unsure(self, data: bytes) -> int:
        """Length of the longest end of `data` that is a proper beginning of a form."""
        tail = data[-self._longest + 1 :] if self._longest > 1 else b""
        for begin in range(len(tail) - _HEAD + 1):
            forms = self._by_head.get(tail[begin : begin + _HEAD])
            size = len(tail) - begin
            if forms and any(len(form) > size and form.startswith(tail[begin:]) for form in forms):
                return size
        return next(
            (size for size in range(min(_HEAD - 1, len(tail)), 0, -1) if tail[-size:] in self._short), 0
        )


_HEAD = 4
"""Bytes of a form that are looked up at once: as many as the shortest form has."""

_FORMATS: Mapping[int, Literal["I", "Q"]] = {8: "Q", 4: "I"}
"""The words that `memoryview.cast` knows, by their bytes."""

_MOST = {size: 2 * size - 1 for size in _FORMATS}
"""Bytes that cover one aligned word for certain."""


def _words(forms: list[bytes], size: int) -> frozenset[int]:
    """Every word that may be the first aligned one in a form; a form is looked up by its longest words."""
    longer = min((_MOST[other] for other in _FORMATS if other > size), default=None)
    fitting = [form for form in forms if len(form) >= _MOST[size] and (longer is None or len(form) < longer)]
    return frozenset(
        int.from_bytes(form[begin : begin + size], sys.byteorder) for form in fitting for begin in range(size)
    )
