"""`trigger`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import click

from pipeline_tools.adapters import gitlab
from pipeline_tools.adapters.git import Remote
from pipeline_tools.commands import env_repository, releasing
from pipeline_tools.commands.env_repository import Address, EnvAccess
from pipeline_tools.commands.session import COMMON, Session, Source, opened
from pipeline_tools.errors import Denied
from pipeline_tools.options import of
from pipeline_tools.steps import trigger as step
from pipeline_tools.text.masks import Secret

Start = Callable[[str, Mapping[str, str], Mapping[str, str]], "gitlab.Pipeline"]


@dataclass(frozen=True)
class TriggerAccess:
    """The tokens that start pipelines, the least first."""

    trigger_token: Secret
    job_token: Secret
    env_token: Secret


def ports(run: Session) -> step.Ports:
    """The env project: who reads its pipelines, and who starts one."""
    where, tokens = env_repository.address(run), run.options(TriggerAccess)
    reader = gitlab.Project(where.gitlab, where.path, tokens.env_token, variable="PT_ENV_TOKEN")
    return step.Ports(
        reader=reader if tokens.env_token.reveal() else None,
        start=_start(where, tokens, is_ours=where.gitlab == run.gitlab_url),
        default_branch=lambda: _default_branch(env_repository.remote(run)),
        patience=run.patience,
    )


def _default_branch(remote: Remote) -> str:
    try:
        return remote.head()
    except Denied as error:
        raise Denied(
            f"the env project's default branch cannot be read: {error}", hint="give --env-branch"
        ) from None


def _start(where: Address, tokens: TriggerAccess, *, is_ours: bool) -> Start:
    """With a trigger token, else (on this job's own GitLab) the job's token, else the env token."""
    job_token = tokens.job_token if is_ours else Secret("")
    for token, name in ((tokens.trigger_token, "PT_TRIGGER_TOKEN"), (job_token, "CI_JOB_TOKEN")):
        if token.reveal():
            project = gitlab.Project(where.gitlab, where.path, Secret(""), variable=name)
            return partial(_by_trigger, project, token)
    if tokens.env_token.reveal():
        return gitlab.Project(where.gitlab, where.path, tokens.env_token, variable="PT_ENV_TOKEN").start
    return _nobody


def _by_trigger(
    project: "gitlab.Project",
    token: Secret,
    branch: str,
    variables: Mapping[str, str],
    inputs: Mapping[str, str],
) -> "gitlab.Pipeline":
    return project.start_by_trigger(branch, token, variables, inputs)


def _nobody(_branch: str, _variables: Mapping[str, str], _inputs: Mapping[str, str]) -> "gitlab.Pipeline":
    raise Denied(
        "no token to start a pipeline with: PT_TRIGGER_TOKEN, CI_JOB_TOKEN and PT_ENV_TOKEN are empty",
        hint="set one of them; a protected variable is absent on an unprotected ref",
    )


@click.command()
@of(step.Options, TriggerAccess, EnvAccess, Source, also=COMMON)
@click.pass_context
def trigger(context: click.Context, /, **_: Any) -> None:
    """Start a pipeline of the env repository whose commit is, or contains, the bump.

    One that is there already is taken instead, if PT_ENV_TOKEN may read pipelines.
    """
    with opened(context) as run:
        releasing.advance(
            run, releasing.stage(run, step, ports, env_project=env_repository.address(run).path)
        )
