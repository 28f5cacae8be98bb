"""What all commands share: the parameters, the receipt, the checkout and its GitLab; opened once, closed at the end."""

import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import click
from click.core import ParameterSource

from pipeline_tools import options
from pipeline_tools.adapters.git import Remote
from pipeline_tools.console import Console
from pipeline_tools.errors import PipelineError
from pipeline_tools.flows import release
from pipeline_tools.steps import shape
from pipeline_tools.steps.shape import Patience, Stage
from pipeline_tools.text import pairs, receipt, references, reports, versions
from pipeline_tools.text.credentials import Credential
from pipeline_tools.text.masks import Secret
from pipeline_tools.text.receipt import Receipt, Tagged

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


class StepModule(Protocol):
    """What a step module offers (see `steps.shape`)."""

    Options: Any
    STEP: Any
    request: Any
    record: Any


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


class ReleaseSession(Session):
    """A session of a release's step: with the receipt of the steps before, and the reports."""

    def __init__(self, context: click.Context, closing: ExitStack) -> None:
        super().__init__(context, closing)
        self.source = options.pick(Source, self.params)
        self._reports = _reports(self.params.get("report", ()))

    # Running -----------------------------------------------------------------------------------------------

    def stage(self, module: StepModule, ports: Callable[["ReleaseSession"], Any], **changes: object) -> Stage:
        """`module`'s step on this session's parameters, some of them changed."""
        picked = options.pick(module.Options, {**self.params, **changes})
        return Stage(
            step=module.STEP,
            request=lambda receipt: module.request(picked, receipt),
            ports=lambda: ports(self),
            record=module.record,
        )

    def run(self, stage: Stage) -> Receipt:
        """One step on the receipt of the jobs before."""
        before = self._read_receipt()
        return shape.advance(
            stage, before, self.console, self._write, dry_run=self.is_dry_run, patience=self.patience
        )

    def run_flow(self, stages: Iterable[Stage]) -> Receipt:
        """All steps of a release."""
        self.console.is_flow = True
        return release.run(stages, self.console, self._write, dry_run=self.is_dry_run, patience=self.patience)

    # The receipt and the reports ---------------------------------------------------------------------------

    def _read_receipt(self) -> Receipt:
        """The receipt of the jobs before, if it is of this release; else one that begins with the tag at HEAD."""
        path: Path = self.params["receipt"]
        found = receipt.loads(path.read_bytes(), str(path)) if path.is_file() else Receipt()
        here = self._tagged()
        return found if found.tag == here else Receipt(tag=here)

    def _tagged(self) -> Tagged | None:
        commit = self.source.commit or self.checkout.tags.get(self.source.tag or "") or self.checkout.head
        names = [self.source.tag] if self.source.tag else self.checkout.tags_at(commit)
        known = versions.releases(names, self.source.tag_pattern)
        return Tagged(known[max(known)], str(max(known)), commit) if known else None

    def _write(self, after: Receipt) -> None:
        if self.is_dry_run:
            return
        _replace(self.params["receipt"], receipt.dumps(after))
        for kind, path in self._reports.items():
            _replace(Path(path), reports.render(kind, after))


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


def _reports(words: Iterable[str]) -> dict[str, str]:
    """Path by kind of report, known to be good before anything is done."""
    found = pairs.parse("--report", words)
    for kind in found:
        reports.render(kind, Receipt())
    return found


def _replace(path: Path, text: str) -> None:
    """Write a file whole or not at all, readable for the jobs after this one, whoever they run as.

    Raises:
        PipelineError: it cannot be written there.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            file.write(text)
        Path(file.name).chmod(0o644)
        Path(file.name).replace(path)
    except OSError as error:
        raise PipelineError(
            f"{path} cannot be written: {error.strerror}", hint="see --receipt and --report"
        ) from None


@contextmanager
def opened(context: click.Context) -> Iterator[ReleaseSession]:
    """A release's session, and everything it opened closed at the end."""
    with ExitStack() as closing:
        yield ReleaseSession(context, closing)
