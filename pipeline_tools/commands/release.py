"""`release`."""

from typing import Any

import click

from pipeline_tools.commands import build as build_command
from pipeline_tools.commands import bumping, env_repository, releasing
from pipeline_tools.commands import push as push_command
from pipeline_tools.commands import tag as tag_command
from pipeline_tools.commands import trigger as trigger_command
from pipeline_tools.commands.build import Engine
from pipeline_tools.commands.env_repository import EnvAccess, Signing
from pipeline_tools.commands.registry_options import RegistryAccess
from pipeline_tools.commands.session import COMMON, Session, Source, opened
from pipeline_tools.commands.trigger import TriggerAccess
from pipeline_tools.options import of
from pipeline_tools.steps import build, bump, push, shape, tag, trigger
from pipeline_tools.steps.entries import UNKNOWN_DIGEST
from pipeline_tools.steps.shape import Stage
from pipeline_tools.text.receipt import Built, Bumped, Pushed, Receipt, Tagged

_STEPS = (tag.Options, build.Options, push.Options, bump.Options, trigger.Options)
_ACCESS = (Engine, RegistryAccess, EnvAccess, Signing, TriggerAccess, Source)


_ANY = Receipt(
    Tagged("v0.0.0", "0.0.0", "0" * 40),
    Built("registry.example/any", "sha-0", UNKNOWN_DIGEST),
    Pushed("registry.example/any", "0.0.0", UNKNOWN_DIGEST),
    Bumped("any", "main", "0" * 40),
)
"""A receipt that makes every step's request possible: what is wrong with an option shows before anything is done."""


def _stages(run: Session) -> list[Stage]:
    """The five, in order. Nothing is opened before its turn, but what is missing is said before anything is done."""
    run.required("repository")
    env_project = env_repository.address(run).path
    stages = [
        releasing.stage(run, tag, tag_command.ports),
        releasing.stage(run, build, build_command.ports),
        releasing.stage(run, push, push_command.ports),
        # A trigger follows, so the push itself need not start a pipeline.
        releasing.stage(run, bump, bumping.ports, project=run.project, env_project=env_project, skip_ci=True),
        releasing.stage(run, trigger, trigger_command.ports, env_project=env_project),
    ]
    for stage in stages:
        stage.request(_ANY)
    return stages


@click.command()
@of(*_STEPS, *_ACCESS, also=COMMON, without=("env_commit", "skip_ci", "source"))
@click.pass_context
def release(context: click.Context, /, **_: Any) -> None:
    """Tag check, build, push, bump and trigger, in one go.

    Kill it anywhere and run it again: what is done is found and not done twice.
    """
    with opened(context) as run:
        stages = _stages(run)
        if not run.is_dry_run:
            shape.look(stages[3], _ANY)
        releasing.flow(run, stages)
