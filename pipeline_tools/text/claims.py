"""What a token says about itself, read here and never verified: for messages that name what Vault refused."""

import base64
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any


@dataclass(frozen=True)
class Claims:
    """The claims of a JWT (RFC 7519); Kubernetes' own stand under `kubernetes.io`."""

    all: dict[str, Any] = field(repr=False)

    @classmethod
    def of(cls, token: str) -> "Claims | None":
        """The claims of `token`; None where it is no JWT."""
        parts = token.split(".")
        if len(parts) != 3:  # noqa: PLR2004 (header, claims, signature: RFC 7515)
            return None
        try:
            found = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
        except ValueError:
            return None
        return cls(found) if isinstance(found, dict) else None

    @property
    def issuer(self) -> str:
        return str(self.all.get("iss", ""))

    @property
    def audience(self) -> tuple[str, ...]:
        found = self.all.get("aud", [])
        return tuple(found) if isinstance(found, list) else (str(found),)

    @property
    def namespace(self) -> str:
        """The namespace of the service account; empty for a token that Kubernetes did not issue."""
        return str(self._kubernetes.get("namespace", ""))

    @property
    def account(self) -> str:
        found = self._kubernetes.get("serviceaccount")
        return str(found.get("name", "")) if isinstance(found, dict) else ""

    @property
    def _kubernetes(self) -> dict[str, Any]:
        found = self.all.get("kubernetes.io")
        return found if isinstance(found, dict) else {}

    def problem(self, now: float) -> str:
        """What is wrong with the token's times at `now` (seconds since 1970); empty when nothing is."""
        expires, begins = self.all.get("exp"), self.all.get("nbf")
        if isinstance(expires, (int, float)) and expires <= now:
            return f"the token expired at {_time(expires)}, {now - expires:.0f} s ago by this machine's clock"
        if isinstance(begins, (int, float)) and begins > now:
            return f"the token begins at {_time(begins)}, {begins - now:.0f} s ahead of this machine's clock"
        return ""

    def summary(self) -> str:
        """Whom the token names, in one line, without the token."""
        who = (
            f"account {self.namespace}/{self.account}"
            if self.account
            else f"subject {self.all.get('sub', '?')}"
        )
        return f"{who}, audience {', '.join(self.audience) or 'none'}, issuer {self.issuer or 'none'}"


def _time(seconds: float) -> str:
    try:
        return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    except (OverflowError, OSError, ValueError):
        return str(seconds)
