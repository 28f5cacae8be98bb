"""Where the env repository is, and what may be sent there."""

from dataclasses import dataclass
from pathlib import Path

from pipeline_tools.adapters.git import Remote
from pipeline_tools.commands.session import Session
from pipeline_tools.errors import Denied, PipelineError
from pipeline_tools.text import references
from pipeline_tools.text.credentials import Credential
from pipeline_tools.text.masks import Secret
from pipeline_tools.text.printing import printable


@dataclass(frozen=True)
class EnvAccess:
    """The options that say who we are there."""

    env_project: str
    env_token: Secret


@dataclass(frozen=True)
class Signing:
    """The key that signs the commit; an empty one signs nothing."""

    signing_key: Secret


@dataclass(frozen=True)
class Address:
    """The env repository: its git address, the GitLab instance it is on and its path there."""

    git: str
    gitlab: str
    path: str


def address(run: Session) -> Address:
    """Resolve `--env-project`, a path on this project's GitLab or an address of its own.

    Raises:
        click.UsageError: it is missing; PipelineError: neither path nor address, or with a password in it;
        Denied: only a file of the checkout names it, and on another host than the origin remote's.
    """
    text = run.required("env_project")
    if references.PROJECT.fullmatch(text):
        return Address(f"{run.gitlab_url}/{text}.git", run.gitlab_url, text)
    found = _spelled_out(run, text)
    if run.is_from_include("env_project") and references.origin(found.git) != references.origin(
        run.gitlab_url
    ):
        raise Denied(
            f"no credential goes to {references.origin(found.git) or found.git}: only .gitlab-ci.yml names it",
            hint="say that you mean that host with --env-project or PT_ENV_PROJECT",
        )
    return found


def _spelled_out(run: Session, text: str) -> Address:
    """An address with a host, or a folder of this machine."""
    if "://" not in text and text.startswith(("/", "./", "../")):
        folder = str(Path(text).resolve())
        return Address(folder, "", folder)
    plain, _, password = references.userless(text)
    run.console.mask.add_if_long_enough(Secret(password))
    if password or not references.origin(plain):
        raise PipelineError(
            f"{printable(plain)} is neither a project's path nor an address without a password",
            hint="write it like platform/env; the token belongs into PT_ENV_TOKEN",
        )
    if run.home.gitlab_url and plain.startswith(f"{run.gitlab_url}/"):  # an instance below a relative URL too
        return Address(
            plain, run.gitlab_url, plain.removeprefix(run.gitlab_url).strip("/").removesuffix(".git")
        )
    host = references.origin(plain)
    return Address(
        plain, host if host.startswith("http") else f"https://{host}", references.project_path(plain)
    )


def remote(run: Session) -> Remote:
    """The env repository, with `PT_ENV_TOKEN` as its credential; the same for all who ask."""
    return run.once(_remote)


def _remote(run: Session) -> Remote:
    token = run.options(EnvAccess).env_token
    return run.remote(
        address(run).git, lambda: Credential("pipeline-tools", token) if token.reveal() else None
    )


def foresee(run: Session) -> None:
    """Begin to fetch what a bump looks at first; but a merge request must be read before the branch that it may change."""
    branch, overlays = run.params["env_branch"], run.params["overlay"]
    paths = [references.folder(overlay) for overlay in overlays]
    if not run.params["via_merge_request"]:
        remote(run).foresee(references.branch(branch) if branch else None, paths)
