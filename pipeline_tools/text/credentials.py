"""User and password for one host."""

from dataclasses import dataclass

from pipeline_tools.text.masks import Secret


@dataclass(frozen=True)
class Credential:
    """User and password (or a token) for one git host or one registry."""

    user: str
    password: Secret
