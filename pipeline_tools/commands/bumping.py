"""The bump step as commands run it: what it talks to. Apart from the command, which fetches while this is imported."""

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from pipeline_tools.adapters import gitlab
from pipeline_tools.adapters.kustomize import Kustomize
from pipeline_tools.adapters.signing import Signature, Signer
from pipeline_tools.commands import env_repository, registry_access, releasing
from pipeline_tools.commands.env_repository import Address, EnvAccess, Signing
from pipeline_tools.commands.session import Session
from pipeline_tools.steps import bump as step
from pipeline_tools.text.masks import Secret

if TYPE_CHECKING:
    from pipeline_tools.adapters.registry import Registries

KUSTOMIZE_VARIABLES = frozenset({"PATH", "HOME", "TMPDIR", "LANG"})
"""All that kustomize gets of the environment: a generator's `envs:` may name any variable, to print its value."""

LONGEST_WAIT = 60.0
"""Seconds to wait for the pipeline of a merge request, which GitLab makes after the push in its own time."""


def ports(run: Session) -> step.Ports:
    """The env repository, its GitLab, kustomize, the registries, and who commits."""
    where = env_repository.address(run)
    token, key = run.options(EnvAccess).env_token, run.options(Signing).signing_key
    lent = {name: value for name, value in run.environment.items() if name in KUSTOMIZE_VARIABLES}
    return step.Ports(
        remote=env_repository.remote(run),
        kustomize=Kustomize(lent),
        sign=Signature,
        project=partial(_project, where, token),
        registries=partial(_registries, run),
        patience=replace(run.patience, seconds=min(run.patience.seconds, LONGEST_WAIT)),
        signer=Signer(key, run.environment) if key.reveal() else None,
    )


def _project(where: Address, token: Secret) -> "gitlab.Project":
    return gitlab.Project(where.gitlab, where.path, token, variable="PT_ENV_TOKEN")


def _registries(run: Session) -> "Registries":
    # Not `partial(registry_access.registries, run)`: that would execute the module (`cli.LATE`) for every bump.
    return registry_access.registries(run)


def bump(run: Session) -> None:
    """The step on the receipt of the jobs before."""
    where = env_repository.address(run)
    stage = releasing.stage(run, step, ports, project=run.project, env_project=where.path)
    releasing.advance(run, stage)
