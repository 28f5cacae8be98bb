"""Where the env repository is, and what may be sent there."""

from dataclasses import dataclass

from pipeline_tools.adapters.git import Remote
from pipeline_tools.commands.session import Session
from pipeline_tools.errors import Denied, PipelineError
from pipeline_tools.text import references
from pipeline_tools.text.credentials import Credential
from pipeline_tools.text.masks import Secret


@dataclass(frozen=True)
class EnvAccess:
    """The options that say who we are there."""

    env_project: str
    env_token: Secret


@dataclass(frozen=True)
class Address:
    """The env repository: its git address, the GitLab instance it is on and its path there."""

    git: str
    gitlab: str
    path: str


def address(run: Session) -> Address:
    """Resolve `--env-project`, a path on this project's GitLab or an address of its own.

    Raises:
        click.UsageError: it is missing; PipelineError: neither path nor address;
        Denied: only a file of the checkout names it, and on another host than the origin remote's.
    """
    text = run.required("env_project")
    if references.PROJECT.fullmatch(text):
        return Address(f"{run.gitlab_url}/{text}.git", run.gitlab_url, text)
    if "://" not in text and not text.startswith(("/", "./", "../")) and ":" not in text:
        raise PipelineError(
            f"{text!r} is neither a project's path nor an address", hint="write it like platform/env"
        )
    plain, _, password = references.userless(text)
    run.console.mask.add(Secret(password))
    if run.is_from_include("env_project") and references.origin(plain) != references.origin(run.gitlab_url):
        raise Denied(
            f"no credential goes to {references.origin(plain) or plain}: only .gitlab-ci.yml names it",
            hint="say that you mean that host with --env-project or PT_ENV_PROJECT",
        )
    host = references.origin(plain)
    return Address(
        plain, host if host.startswith("http") else f"https://{host}", references.project_path(plain)
    )


def remote(run: Session, where: Address) -> Remote:
    """The env repository, with `PT_ENV_TOKEN` as its credential."""
    token = run.options(EnvAccess).env_token
    return run.remote(where.git, lambda: Credential("pipeline-tools", token) if token.reveal() else None)
