"""`push`."""

from functools import partial
from typing import Any

import click

from pipeline_tools.commands import registry_access
from pipeline_tools.commands.registry_options import RegistryAccess
from pipeline_tools.commands.session import COMMON, Session, Source, opened
from pipeline_tools.options import of
from pipeline_tools.steps import push as step


def ports(run: Session) -> step.Ports:
    """The checkout, the registries, and the tags of the origin."""
    run.required("repository")
    return step.Ports(run.checkout, registry_access.registries(run), partial(_git_tags, run))


def _git_tags(run: Session) -> list[str]:
    """All tags of the origin, or of a checkout that has none."""
    if run.origin is None:
        return list(run.checkout.tags)
    return [ref.removeprefix("refs/tags/") for ref in run.origin.refs("refs/tags/*")]


@click.command()
@of(step.Options, RegistryAccess, Source, also=("candidate_repository", *COMMON))
@click.pass_context
def push(context: click.Context, /, **_: Any) -> None:
    """Publish the candidate's digest under the release tag.

    The manifest's bytes stay as they are and no layer moves. Moving tags go along only if asked, and only forward.
    """
    with opened(context) as run:
        run.run(run.stage(step, ports))
