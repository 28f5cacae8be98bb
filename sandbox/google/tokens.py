"""The access tokens that this Google has issued, and whose they are."""

from __future__ import annotations

import secrets
import threading
import time
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Issued:
    """One access token: `member` is who bears it, in IAM's words."""

    token: str = field(repr=False)
    member: str
    ends: float

    @property
    def seconds(self) -> int:
        """What is left of it."""
        return max(0, round(self.ends - time.time()))


class Tokens:
    """All of them; `lifetime` is for those to come."""

    def __init__(self, lifetime: float = 3600) -> None:
        self.lifetime = lifetime
        self._lock = threading.Lock()
        self._issued: dict[str, Issued] = {}

    @property
    def issued(self) -> list[Issued]:
        """Every one so far, oldest first, also those that have ended."""
        with self._lock:
            return list(self._issued.values())

    def issue(self, member: str, seconds: float | None = None) -> Issued:
        # As long as a real one, so that masks and headers meet the real size.
        token = f"ya29.{secrets.token_urlsafe(160)}"
        made = Issued(token, member, time.time() + (self.lifetime if seconds is None else seconds))
        with self._lock:
            self._issued[token] = made
        return made

    def find(self, token: str) -> Issued | None:
        """The token, if it is good."""
        with self._lock:
            found = self._issued.get(token)
        return found if found and time.time() < found.ends else None

    def revoke(self) -> None:
        """No token issued so far is good any longer."""
        with self._lock:
            self._issued = {token: Issued(token, row.member, 0.0) for token, row in self._issued.items()}
