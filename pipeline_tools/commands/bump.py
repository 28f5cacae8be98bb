"""`bump`."""

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from pipeline_tools.adapters.kustomize import Kustomize
from pipeline_tools.adapters.signing import Signature, Signer
from pipeline_tools.commands import env_repository
from pipeline_tools.commands.env_repository import Address, EnvAccess
from pipeline_tools.commands.registry_options import RegistryAccess
from pipeline_tools.commands.session import COMMON, Session, Source, opened
from pipeline_tools.options import of
from pipeline_tools.steps import bump as step
from pipeline_tools.text.masks import Secret

if TYPE_CHECKING:
    from pipeline_tools.adapters.gitlab import Project
    from pipeline_tools.adapters.registry import Registries

KUSTOMIZE_VARIABLES = frozenset({"PATH", "HOME", "TMPDIR", "LANG"})
"""All that kustomize gets of the environment: a generator's `envs:` may name any variable, to print its value."""

LONGEST_WAIT = 60.0
"""Seconds to wait for the pipeline of a merge request, which GitLab makes after the push in its own time."""


@dataclass(frozen=True)
class Published:
    """The repository that the login of --registry-user is for."""

    repository: str | None


@dataclass(frozen=True)
class Signing:
    """The key that signs the commit; an empty one signs nothing."""

    signing_key: Secret


def ports(run: Session) -> step.Ports:
    """The env repository, its GitLab, kustomize, the registries, and who commits."""
    where = env_repository.address(run)
    token, key = run.options(EnvAccess).env_token, run.options(Signing).signing_key
    lent = {name: value for name, value in run.environment.items() if name in KUSTOMIZE_VARIABLES}
    return step.Ports(
        remote=env_repository.remote(run, where),
        kustomize=Kustomize(lent),
        sign=Signature,
        project=partial(_project, where, token),
        registries=partial(_registries, run),
        patience=replace(run.patience, seconds=min(run.patience.seconds, LONGEST_WAIT)),
        signer=Signer(key, run.environment) if key.reveal() else None,
    )


def _project(where: Address, token: Secret) -> "Project":
    from pipeline_tools.adapters.gitlab import Project  # noqa: PLC0415 (a bump by push does without it)

    return Project(where.gitlab, where.path, token, variable="PT_ENV_TOKEN")


def _registries(run: Session) -> "Registries":
    from pipeline_tools.commands import registry_access  # noqa: PLC0415 (only --check-image asks registries)

    return registry_access.registries(run)


@click.command()
@of(step.Options, EnvAccess, Signing, Published, RegistryAccess, Source, also=COMMON)
@click.pass_context
def bump(context: click.Context, /, **_: Any) -> None:
    """Write the published image into the env repository, in one commit.

    Only the entries' newName, newTag and digest change, every other byte stays. A newer version at the tip is
    never overwritten, and a race with others is found out and replayed.
    """
    with opened(context) as run:
        where = env_repository.address(run)
        run.run(run.stage(step, ports, project=run.project, env_project=where.path))
