"""`push`."""

from functools import partial
from typing import Any

import click

from pipeline_tools.adapters import artifact_registry
from pipeline_tools.adapters.registry import Registries
from pipeline_tools.commands import registry_access, releasing
from pipeline_tools.commands.registry_options import RegistryAccess
from pipeline_tools.commands.session import COMMON, Session, Source, opened
from pipeline_tools.options import of
from pipeline_tools.steps import push as step
from pipeline_tools.text.references import Repository


def ports(run: Session) -> step.Ports:
    """The checkout, the registries, the tags of the origin, and who knows whether tags are immutable."""
    run.required("repository")
    registries = registry_access.registries(run)
    return step.Ports(run.checkout, registries, partial(_git_tags, run), partial(_keeps_tags, registries))


def _keeps_tags(registries: Registries, repository: Repository) -> bool | None:
    return artifact_registry.keeps_tags(repository, registries.credential(repository))


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
        releasing.advance(run, releasing.stage(run, step, ports))
