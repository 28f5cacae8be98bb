"""`build`."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import click

from pipeline_tools.adapters.buildah import Buildah
from pipeline_tools.adapters.buildkit import Buildkit
from pipeline_tools.adapters.context import Contexts
from pipeline_tools.adapters.docker import Docker
from pipeline_tools.commands import registry_access, releasing
from pipeline_tools.commands.registry_options import RegistryAccess
from pipeline_tools.commands.session import COMMON, Session, Source, opened
from pipeline_tools.errors import PipelineError
from pipeline_tools.options import of
from pipeline_tools.steps import build as step
from pipeline_tools.steps import build_request
from pipeline_tools.steps.builders import Builder
from pipeline_tools.text.masks import Secret
from pipeline_tools.text.recipes import BuildSecret


@dataclass(frozen=True)
class Engine:
    """The options that say what builds, and where it is."""

    builder: str
    docker_host: str | None
    docker_cert_path: Path | None
    storage_driver: str


def ports(run: Session) -> step.Ports:
    """The checkout, the registries and what may build."""
    run.required("repository")
    for secret in build_request.secrets(run.params["build_secret"]):
        run.console.mask.add(Secret(_value(run, secret)))
    contexts = run.closing.enter_context(Contexts(run.checkout.root, run.environment))
    return step.Ports(run.checkout, contexts, registry_access.registries(run), _builders(run))


def _builders(run: Session) -> tuple[Builder, ...]:
    """The one that is named, or all of them, an engine first: it keeps layers from build to build."""
    engine = run.options(Engine)
    logins, lent = partial(registry_access.base_logins, run), partial(registry_access.lent, run)
    docker = run.closing.enter_context(Docker(engine.docker_host, engine.docker_cert_path, logins))
    known: tuple[Builder, ...] = (
        docker,
        Buildah(run.environment, lent, engine.storage_driver),
        Buildkit(run.environment, lent),
    )
    return tuple(builder for builder in known if engine.builder in {"auto", builder.name})


def _value(run: Session, secret: BuildSecret) -> str:
    """What the mask must know before a builder can say it.

    Raises:
        PipelineError: there is no such file or variable; a token of ours is no longer in the environment.
    """
    if not secret.variable:
        try:
            return Path(secret.path).read_text()
        except (OSError, ValueError):
            raise PipelineError(
                f"--build-secret {secret.name}: {secret.path} cannot be read as text",
                hint="NAME=FILE, or NAME=env:VARIABLE",
            ) from None
    if secret.variable not in run.environment:
        raise PipelineError(
            f"--build-secret {secret.name}: there is no variable {secret.variable}",
            hint="a protected variable is absent on an unprotected ref; our own tokens are never lent",
        )
    return run.environment[secret.variable]


@click.command()
@of(step.Options, Engine, RegistryAccess, Source, also=COMMON)
@click.pass_context
def build(context: click.Context, /, **_: Any) -> None:
    """Build an image of this commit and push it once, as a candidate.

    A candidate of the same commit and build inputs is taken as it is.
    """
    with opened(context) as run:
        releasing.advance(run, releasing.stage(run, step, ports))
