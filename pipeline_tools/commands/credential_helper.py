"""`docker-credential-pipeline-tools`: docker's credential helper protocol, for logins that are never written down.

`get` reads a registry's address and writes `{"ServerURL", "Username", "Secret"}`; `list` writes users by address; `store`
and `erase` are for helpers that keep something. A failure is words on stdout and exit 1
(github.com/docker/docker-credential-helpers, README and credentials/error.go).

A program that pipeline-tools started asks back over `PT_CREDENTIAL_SOCKET`. Named in somebody's config.json it
logs in by itself, as the same variables say, and answers for the hosts of PT_REPOSITORY and PT_CANDIDATE_REPOSITORY.
"""

import json
import os
import sys
from collections.abc import Callable
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click

from pipeline_tools.adapters import credential_agent
from pipeline_tools.adapters.docker_config import Logins, hostname
from pipeline_tools.commands.registry_access import OURS, Access
from pipeline_tools.commands.registry_options import RegistryAccess
from pipeline_tools.commands.session import Home, Session
from pipeline_tools.console import Console
from pipeline_tools.errors import PipelineError
from pipeline_tools.options import of
from pipeline_tools.text.credentials import Credential
from pipeline_tools.text.masks import Secret

NOT_FOUND = "credentials not found in native keychain"
"""The words by which clients tell "none" from a failure."""

Ask = Callable[[str], Credential | None]


def get(ask: Ask, text: str) -> str:
    """The login for the registry of which `text` is the address.

    Raises:
        PipelineError: there is none, in the protocol's words; or what getting it failed with.
    """
    address = text.strip()
    found = ask(hostname(address))
    if found is None:
        raise PipelineError(NOT_FOUND)
    return json.dumps({"ServerURL": address, "Username": found.user, "Secret": found.password.reveal()})


def users(ask: Ask, hosts: list[str]) -> str:
    """Users by address, of the hosts where we have a login."""
    return json.dumps({f"https://{host}": found.user for host in hosts if (found := ask(host))})


@click.command()
@click.argument("action", type=click.Choice(["get", "list", "store", "erase", "version"]))
@of(Home, RegistryAccess, also=OURS)
@click.pass_context
def helper(context: click.Context, /, action: str, **_: Any) -> None:
    """Give docker's clients the logins that pipeline-tools has."""
    if action == "version":
        click.echo(f"docker-credential-pipeline-tools {version('pipeline-tools')}")
    if action == "store":
        raise PipelineError("nothing is stored: pipeline-tools logs in by itself")
    if action not in {"get", "list"}:
        return  # nothing is kept, so there is nothing to erase
    with ExitStack() as closing:
        ask, hosts = _source(context, closing)
        click.echo(get(ask, sys.stdin.read()) if action == "get" else users(ask, hosts))


def _source(context: click.Context, closing: ExitStack) -> tuple[Ask, list[str]]:
    """Whom to ask for a login, and for which hosts there may be one."""
    path = os.environ.get(credential_agent.VARIABLE)
    if path:
        return lambda host: credential_agent.ask(Path(path), host), credential_agent.hosts(Path(path))
    # Without docker's own logins: they may name this very helper.
    known = Access(Session(context, closing), Logins(None, Secret(""), {}))
    return known, sorted(known.hosts)


def main() -> None:
    """The console script: every failure in the protocol's form."""
    console = Console(gitlab=False)
    try:
        helper(standalone_mode=False, obj=console)
    except PipelineError as error:
        words = f"{error.message}; {error.hint}" if error.hint else error.message
        sys.stdout.write(f"{console.mask.text(words)}\n")
        sys.exit(1)
    except click.ClickException as error:
        sys.stdout.write(f"{error.format_message()}\n")
        sys.exit(1)
