"""User and password for one host, and how long they are good for."""

from collections.abc import Callable
from dataclasses import dataclass, field

from pipeline_tools.text.masks import Secret

ACCESS_TOKEN = "oauth2accesstoken"  # noqa: S105 (a user's name)
"""The user whose password is a Google access token (cloud.google.com/artifact-registry/docs/docker/authentication)."""


@dataclass(frozen=True)
class Credential:
    """User and password (or a token) for one git host or one registry.

    What gives credentials is asked each time one is needed, and never gives one that has ended: ask again rather
    than keep one. `expires` is when this one ends, in seconds since the epoch (None: not by itself), and
    `principal` who that is in the words of Google's IAM, for messages. Where `renew` is there, it tells the source
    that a host did not take this one: what it gives next is fresh.
    """

    user: str
    password: Secret
    expires: float | None = None
    principal: str = ""
    renew: Callable[[], None] | None = field(default=None, compare=False, repr=False)

    @property
    def is_access_token(self) -> bool:
        """Whether the password is an OAuth access token, which Google's registries take as a bearer's."""
        return self.user == ACCESS_TOKEN
