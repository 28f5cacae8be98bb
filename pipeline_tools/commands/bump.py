"""`bump`."""

from dataclasses import dataclass
from typing import Any

import click

from pipeline_tools.commands import bumping, env_repository
from pipeline_tools.commands.env_repository import EnvAccess, Signing
from pipeline_tools.commands.registry_options import RegistryAccess
from pipeline_tools.commands.session import COMMON, Source, opened
from pipeline_tools.options import of
from pipeline_tools.steps.bump_options import Options


@dataclass(frozen=True)
class Published:
    """The repository that the login of --registry-user is for."""

    repository: str | None


@click.command()
@of(Options, EnvAccess, Signing, Published, RegistryAccess, Source, also=COMMON)
@click.pass_context
def bump(context: click.Context, /, **_: Any) -> None:
    """Write the published image into the env repository, in one commit.

    Only the entries' newName, newTag and digest change, every other byte stays. A newer version at the tip is
    never overwritten, and a race with others is found out and replayed.
    """
    with opened(context) as run:
        env_repository.foresee(run)
        bumping.bump(run)  # which is executed now, for the first time (`cli.LATE`): the tip is on its way
