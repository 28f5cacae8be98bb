"""`tag check`, `tag next`, `tag create`."""

from dataclasses import replace
from typing import Any

import click

from pipeline_tools.adapters import gitlab
from pipeline_tools.commands import releasing
from pipeline_tools.commands.session import COMMON, Session, Source, opened
from pipeline_tools.options import of
from pipeline_tools.steps import tag as step
from pipeline_tools.steps.shape import Stage


@click.group()
def tag() -> None:
    """Check, choose or create a release tag."""


def ports(run: Session) -> step.Ports:
    """The checkout, its origin, and GitLab where there is a token for it."""
    token = run.home.gitlab_token
    project = (
        gitlab.Project(run.gitlab_url, run.project or "", token, variable="PT_GITLAB_TOKEN")
        if token.reveal()
        else None
    )
    return step.Ports(run.checkout, run.origin, project)


def _stage(run: Session, tag_name: str | None, **changes: Any) -> Stage:
    """The tag step on NAME, with some fields of its request changed.

    A job's commit (CI_COMMIT_SHA) says nothing about a tag that NAME names.
    """
    changed = (
        {"tag": tag_name, **({} if run.is_from_command_line("commit") else {"commit": None})}
        if tag_name
        else {}
    )
    plain = releasing.stage(run, step, ports, **changed)
    return replace(plain, request=lambda receipt: replace(plain.request(receipt), **changes))


@tag.command()
@click.argument("name", required=False)
@of(step.Options, Source, also=COMMON)
@click.pass_context
def check(context: click.Context, /, name: str | None, **_: Any) -> None:
    """Check that a tag is sound: SemVer, usable in OCI, on a line that may be released from.

    NAME is the tag. Default: --tag, else the version tag at HEAD.
    """
    with opened(context) as run:
        releasing.advance(run, _stage(run, name))


@tag.command("next")
@of(step.Options, Source, also=("pre", *COMMON))
@click.pass_context
def next_(context: click.Context, /, **params: Any) -> None:
    """Say which version comes next, from the Conventional Commits since the highest release.

    The name of its tag stands alone on stdout, how it was found on stderr. Nothing new: the last release.
    """
    with opened(context) as run:
        run.is_dry_run = run.console.is_answer = True
        found = releasing.advance(run, _stage(run, None, name=None, is_next=True, pre=params["pre"])).tag
        run.console.answer(found.name if found else "")


@tag.command()
@click.argument("name", required=False)
@of(step.Options, Source, also=("pre", "message", *COMMON))
@click.pass_context
def create(context: click.Context, /, name: str | None, **params: Any) -> None:
    """Create a tag and its GitLab Release, with the list of changes.

    NAME is the tag. Default: the next version.
    """
    with opened(context) as run:
        releasing.advance(run, _stage(run, name, creates=True, pre=params["pre"], message=params["message"]))
