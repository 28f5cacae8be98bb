"""What all commands share: the parameters, the checkout and its GitLab; opened once, closed at the end."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.core import ParameterSource

from pipeline_tools import options
from pipeline_tools.adapters.git import Remote
from pipeline_tools.console import Console
from pipeline_tools.errors import PipelineError
from pipeline_tools.steps.shape import Patience
from pipeline_tools.text import references
from pipeline_tools.text.credentials import Credential
from pipeline_tools.text.masks import Secret

if TYPE_CHECKING:
    from pipeline_tools.adapters.checkout import Checkout

T = TypeVar("T")


@dataclass(frozen=True)
class Home:
    """The options of every command that works on a checkout: where it is, and its own GitLab."""

    checkout: Path
    project: str | None
    gitlab_url: str | None
    gitlab_token: Secret
    job_token: Secret


@dataclass(frozen=True)
class Source(Home):
    """The options of every step of a release: where it comes from."""

    tag: str | None
    commit: str | None
    tag_pattern: str


COMMON = ("receipt", "report", "timeout", "dry_run")
"""The other options that every step's command has."""


class Session:
    """One run of a command. `params` are its parameters, `sources` says where each came from."""

    def __init__(self, context: click.Context, closing: ExitStack) -> None:
        self.console: Console = context.obj
        self.params: dict[str, Any] = context.params
        self.closing = closing
        self.home = options.pick(Home, self.params)
        self.is_dry_run: bool = self.params.get("dry_run", False)
        self.patience = Patience(self.params.get("timeout", 3000.0), base=0.5)
        self._context = context
        self._shared: dict[Callable[..., Any], Any] = {}
        _take_out_of_the_environment(self.console)

    # Parameters --------------------------------------------------------------------------------------------

    def options(self, cls: type[T]) -> T:
        """The parameters that `cls` names, as one."""
        return options.pick(cls, self.params)

    def once(self, make: Callable[["Session"], T]) -> T:
        """What `make` makes of this session: the same for all who ask."""
        if make not in self._shared:
            self._shared[make] = make(self)
        made: T = self._shared[make]
        return made

    def required(self, name: str) -> str:
        """A parameter that this run cannot do without.

        Raises:
            click.UsageError: neither option, variable nor include gives it (exit 2).
        """
        value = self.params[name]
        if not value:
            raise click.MissingParameter(ctx=self._context, param=self._parameter(name))
        return str(value)

    def is_from_include(self, name: str) -> bool:
        """Whether only the checkout's `.gitlab-ci.yml` gives this parameter: no credential goes to a host it names."""
        return self._context.get_parameter_source(name) is ParameterSource.DEFAULT_MAP

    def is_from_command_line(self, name: str) -> bool:
        """Whether the person who typed the command gave this parameter."""
        return self._context.get_parameter_source(name) is ParameterSource.COMMANDLINE

    def _parameter(self, name: str) -> click.Parameter:
        return next(param for param in self._context.command.params if param.name == name)

    @cached_property
    def environment(self) -> Mapping[str, str]:
        """The environment for children: ours, from which the secrets are gone."""
        return dict(os.environ)

    # The application repository ----------------------------------------------------------------------------

    @cached_property
    def checkout(self) -> "Checkout":
        # GitPython runs git when it is imported: not before the secrets are out of the environment.
        from pipeline_tools.adapters.checkout import Checkout  # noqa: PLC0415 (see above)

        return Checkout(self.home.checkout)

    @cached_property
    def _origin(self) -> tuple[str, str, str]:
        """Address, user and password of the origin remote; the password is masked from now on."""
        url, user, password = references.userless(self.checkout.origin or "")
        self.console.mask.add(Secret(password))
        return url, user, password

    @cached_property
    def gitlab_url(self) -> str:
        """The GitLab instance: as named, or the origin remote's host.

        Raises:
            PipelineError: neither is there.
        """
        if self.home.gitlab_url:
            return references.web(self.home.gitlab_url)
        origin = references.origin(self._origin[0])
        if not origin:
            raise PipelineError("which GitLab? the checkout has no origin remote", hint="give --gitlab-url")
        return origin if origin.startswith("http") else f"https://{origin.partition(':')[0]}"

    @cached_property
    def project(self) -> str | None:
        """This project's path: as named, or the origin remote's."""
        if self.home.project:
            return self.home.project
        return references.project_path(self._origin[0]) if references.origin(self._origin[0]) else None

    @cached_property
    def origin(self) -> Remote | None:
        """The origin remote, with the credential that this job or person has for it."""
        url = self._origin[0]
        return self.remote(url, self._origin_credential) if url else None

    def _origin_credential(self) -> Credential | None:
        url, user, password = self._origin
        if password:
            return Credential(user, Secret(password))
        if references.origin(url) != references.origin(self.gitlab_url):
            return self._stored_credential
        if self.home.gitlab_token.reveal():
            return Credential("oauth2", self.home.gitlab_token)
        if self.home.job_token.reveal():
            return Credential("gitlab-ci-token", self.home.job_token)
        return self._stored_credential

    @cached_property
    def _stored_credential(self) -> Credential | None:
        """What git on this machine has stored for the origin: the scratch repository does not see the checkout's helpers."""
        url = self._origin[0]
        found = self.checkout.credential(url, self.environment) if url.startswith("http") else None
        if found:
            self.console.mask.add_if_long_enough(found.password)
        return found

    def remote(self, url: str, credential: Callable[[], Credential | None]) -> Remote:
        """A remote that is closed with this session."""
        return self.closing.enter_context(Remote(url, self.environment, credential))


GIT_VARIABLES = frozenset(
    {
        "GIT_ALTERNATE_OBJECT_DIRECTORIES",
        "GIT_COMMON_DIR",
        "GIT_DIR",
        "GIT_GRAFT_FILE",
        "GIT_IMPLICIT_WORK_TREE",
        "GIT_INDEX_FILE",
        "GIT_INTERNAL_SUPER_PREFIX",
        "GIT_NO_REPLACE_OBJECTS",
        "GIT_OBJECT_DIRECTORY",
        "GIT_PREFIX",
        "GIT_REPLACE_REF_BASE",
        "GIT_SHALLOW_FILE",
        "GIT_WORK_TREE",
    }
)
"""What ties git to one repository (`git rev-parse --local-env-vars`), and would tie our scratch ones to it too."""


def _take_out_of_the_environment(console: Console) -> None:
    """Secrets have been read, and git's own variables are for another repository: no child inherits either.

    A library's children too (GitPython's git, docker's credential helpers), so the process forgets them. What
    this command does not use is masked all the same: a job has the secrets of every step.
    """
    for name in options.SECRET_VARIABLES:
        console.mask.add_if_long_enough(Secret(os.environ.pop(name, "")))
    for name in GIT_VARIABLES:
        os.environ.pop(name, None)


@contextmanager
def opened(context: click.Context) -> Iterator[Session]:
    """A session, and everything it opened closed at the end."""
    with ExitStack() as closing:
        yield Session(context, closing)
