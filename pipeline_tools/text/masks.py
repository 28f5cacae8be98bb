"""Secrets, and the mask that every printed byte passes."""

import base64
import json
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
    plain = {text for text in {value, value.strip(), *lines} if len(text) >= SHORTEST}
    encoded = {
        form
        for text in plain
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

    def stream(self) -> "MaskedStream":
        return MaskedStream([form.encode() for form in self._forms])


class MaskedStream:
    """Masks a byte stream whose secrets may be split across writes.

    Only a tail that may be the beginning of a secret is held back, never a whole line.
    """

    def __init__(self, forms: list[bytes]) -> None:
        self._forms = forms
        self._held = b""

    def feed(self, chunk: bytes) -> bytes:
        """Take `chunk`; return what can be printed now."""
        data = self._replace(self._held + chunk)
        keep = max((_overlap(data, form) for form in self._forms), default=0)
        self._held = data[len(data) - keep :]
        return data[: len(data) - keep]

    def close(self) -> bytes:
        """What is left when the stream has ended."""
        rest, self._held = self._held, b""
        return rest

    def _replace(self, data: bytes) -> bytes:
        for form in self._forms:
            if form in data:
                data = data.replace(form, MASKED.encode())
        return data


def _overlap(data: bytes, form: bytes) -> int:
    """Length of the longest end of `data` that is a proper beginning of `form`."""
    longest = min(len(data), len(form) - 1)
    return next((size for size in range(longest, 0, -1) if data.endswith(form[:size])), 0)
