"""`build`."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import click

from pipeline_tools.adapters.docker import Docker
from pipeline_tools.commands import registry_access
from pipeline_tools.commands.registry_options import RegistryAccess
from pipeline_tools.commands.session import COMMON, Session, Source, opened
from pipeline_tools.options import of
from pipeline_tools.steps import build as step


@dataclass(frozen=True)
class Engine:
    """The options that say where the docker engine is."""

    docker_host: str | None
    docker_cert_path: Path | None


def ports(run: Session) -> step.Ports:
    """The checkout, the registries and the docker engine."""
    run.required("repository")
    engine = run.options(Engine)
    logins = partial(registry_access.base_logins, run)
    docker = run.closing.enter_context(Docker(engine.docker_host, engine.docker_cert_path, logins))
    return step.Ports(run.checkout, registry_access.registries(run), docker)


@click.command()
@of(step.Options, Engine, RegistryAccess, Source, also=COMMON)
@click.pass_context
def build(context: click.Context, /, **_: Any) -> None:
    """Build an image of this commit and push it once, as a candidate.

    A candidate of the same commit and build inputs is taken as it is.
    """
    with opened(context) as run:
        run.run(run.stage(step, ports))
