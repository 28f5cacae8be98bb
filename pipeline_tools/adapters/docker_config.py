"""Logins that people and runners have for registries: docker's config.json, or `DOCKER_AUTH_CONFIG` in its format.

Read through the SDK's `docker.auth`, which knows the format and asks credential helpers (docs.docker.com,
"docker login", "Configuration properties" and "Credential helper protocol").
"""

import json
import logging
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import docker.errors
from docker.auth import INDEX_NAME, AuthConfig
from docker.credentials import Store
from docker.credentials.errors import StoreError

from pipeline_tools.errors import PipelineError
from pipeline_tools.text.credentials import Credential
from pipeline_tools.text.masks import Secret
from pipeline_tools.text.references import HUB

log = logging.getLogger(__name__)

HINT = "run docker login again, or set PT_REGISTRY_USER and PT_REGISTRY_PASSWORD"


class Logins:
    """The logins of `text` (the variable's content), and after them those of `directory`'s config.json."""

    def __init__(self, directory: Path | None, text: Secret, environment: Mapping[str, str]) -> None:
        """Read them.

        Raises:
            PipelineError: one of the two is not in the format.
        """
        path = directory / "config.json" if directory else None
        sources = [("DOCKER_AUTH_CONFIG", text.reveal())]
        if path and path.is_file():
            sources.append((str(path), path.read_text(errors="replace")))
        self._environment = environment
        self._configs = [_parse(name, content, environment) for name, content in sources if content]

    def credential(self, host: str) -> Credential | None:
        """The login for one registry's `host[:port]`; a credential helper is asked where one is named for it.

        Raises:
            PipelineError: the helper fails, or the login is of a kind that only docker itself can use.
        """
        return next((found for config in self._configs if (found := _resolve(config, host))), None)

    def hosts(self) -> frozenset[str]:
        """Every host that a login is written down for, that a helper is named for, or that the credentials store lists."""
        return frozenset(
            hostname(host)
            for config in self._configs
            for host in (*config.auths, *config.cred_helpers, *self._stored(config))
            if host
        )

    def _stored(self, config: AuthConfig) -> list[str]:
        if not config.creds_store:
            return []
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # a missing helper is warned of, and then raised
                listed = Store(config.creds_store, dict(self._environment)).list()  # type: ignore[no-untyped-call]
                return [str(host) for host in listed]
        except (StoreError, ValueError, TypeError) as error:
            log.info("docker's credentials store %s lists nothing: %s", config.creds_store, error)
            return []


def hostname(address: str) -> str:
    """The `host[:port]` of a registry's address as docker writes it: bare, or like `https://index.docker.io/v1/`."""
    return str(docker.auth.convert_to_hostname(address))


def _parse(name: str, content: str, environment: Mapping[str, str]) -> AuthConfig:
    try:
        return AuthConfig.load_config(None, _config(json.loads(content)), dict(environment))
    except (ValueError, TypeError, AttributeError, docker.errors.DockerException):
        # Not the exception's own words: they may quote the content.
        raise PipelineError(f"{name} is not in the format of docker's config.json", hint=HINT) from None


def _config(data: dict[str, Any]) -> dict[str, Any]:
    """`data` as the SDK reads it without looking for files by itself, which it does where there is nothing."""
    keys = {"auths": dict, "credsStore": str, "credHelpers": dict}
    kinds = [isinstance(data[key], kind) for key, kind in keys.items() if data.get(key)]
    if not all((*kinds, *(isinstance(name, str) for name in data.get("credHelpers", {}).values()))):
        raise TypeError
    return {key: data[key] for key in keys if data.get(key)} or {"auths": {"": {}}}


def _resolve(config: AuthConfig, host: str) -> Credential | None:
    try:
        with warnings.catch_warnings():
            # A missing helper is warned of, and then raised.
            warnings.simplefilter("ignore")
            row = config.resolve_authconfig(INDEX_NAME if host in HUB else host)
    except (docker.errors.DockerException, ValueError, LookupError) as error:
        raise PipelineError(f"no login for {host}: {error}"[:300], hint=HINT) from None
    row = {key.lower(): value for key, value in (row or {}).items()}
    if row.get("identitytoken"):
        raise PipelineError(f"the login for {host} is an identity token, which is not supported", hint=HINT)
    return _credential(row) if row.get("password") else None


def _credential(row: Mapping[str, Any]) -> Credential:
    return Credential(str(row["username"]), Secret(str(row["password"])))
