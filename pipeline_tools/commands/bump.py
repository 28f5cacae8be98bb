"""`bump`."""

from typing import Any

import click

from pipeline_tools.adapters.kustomize import Kustomize
from pipeline_tools.commands import env_repository
from pipeline_tools.commands.env_repository import EnvAccess
from pipeline_tools.commands.session import COMMON, Session, Source, opened
from pipeline_tools.options import of
from pipeline_tools.steps import bump as step

KUSTOMIZE_VARIABLES = frozenset({"PATH", "HOME", "TMPDIR", "LANG"})
"""All that kustomize gets of the environment: a generator's `envs:` may name any variable, to print its value."""


def ports(run: Session) -> step.Ports:
    """The env repository and kustomize."""
    remote = env_repository.remote(run, env_repository.address(run))
    lent = {name: value for name, value in run.environment.items() if name in KUSTOMIZE_VARIABLES}
    return step.Ports(remote, Kustomize(lent))


@click.command()
@of(step.Options, EnvAccess, Source, also=COMMON)
@click.pass_context
def bump(context: click.Context, /, **_: Any) -> None:
    """Write the published image into the env repository, in one commit.

    Only the entries' newName, newTag and digest change, every other byte stays. A newer version at the tip is
    never overwritten, and a race with others is found out and replayed.
    """
    with opened(context) as run:
        where = env_repository.address(run)
        run.run(run.stage(step, ports, project=run.project, env_project=where.path))
