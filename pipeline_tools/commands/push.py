"""`push`."""

from typing import Any

import click

from pipeline_tools.commands import registry_access
from pipeline_tools.commands.registry_access import RegistryAccess
from pipeline_tools.commands.session import COMMON, Session, Source, opened
from pipeline_tools.options import of
from pipeline_tools.steps import push as step


def ports(run: Session) -> step.Ports:
    """The checkout, for its tags, and the registries."""
    run.required("repository")
    return step.Ports(run.checkout, registry_access.registries(run))


@click.command()
@of(step.Options, RegistryAccess, Source, also=("candidate_repository", *COMMON))
@click.pass_context
def push(context: click.Context, /, **_: Any) -> None:
    """Publish the candidate's digest under the release tag.

    The manifest's bytes stay as they are and no layer moves. Moving tags go along only if asked, and only forward.
    """
    with opened(context) as run:
        run.run(run.stage(step, ports))
