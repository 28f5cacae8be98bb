"""What the Terraform commands share: which roots, their state, and what Vault lends to them."""

import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click

from pipeline_tools.adapters.configuration import Configuration
from pipeline_tools.adapters.gitlab import Project
from pipeline_tools.adapters.gitlab_records import Records
from pipeline_tools.adapters.terraform import Terraform
from pipeline_tools.adapters.terraform_inspector import Inspector
from pipeline_tools.commands import lending
from pipeline_tools.commands.lending import VaultAccess, Wanted
from pipeline_tools.commands.session import Home, Session
from pipeline_tools.errors import Interrupted, PipelineError
from pipeline_tools.steps.planning import Root, Workshop
from pipeline_tools.text import state_backend, terraform_files, terraform_roots
from pipeline_tools.text.masks import Secret
from pipeline_tools.text.passport import Made
from pipeline_tools.text.state_backend import StateBackend

log = logging.getLogger(__name__)

OURS = ("PT_PLAN_IDENTITY", "PT_PASSPORT_KEY")
"""What Vault may lend to us under these names, and the child does not get."""

BACKENDS = {"gitlab": "http", "gs": "gcs", "s3": "s3"}


@dataclass(frozen=True)
class Roots:
    """Which roots, and what they are given."""

    root: tuple[str, ...]
    changed_since: str | None


@dataclass(frozen=True)
class Tool:
    """The tool, its state and its variables."""

    state: str
    terraform_binary: str
    var_file: tuple[str, ...]
    grace: float
    passport_key: Secret


@dataclass(frozen=True)
class Here:
    """This job, as passports name it."""

    pipeline_url: str | None
    job_url: str | None
    ref: str | None
    merge_request: int | None


ACCESS = (Roots, Tool, VaultAccess, Wanted, Home)
"""The options of every command that talks to a state."""


class Infrastructure(Session):
    """One run of a Terraform command on a checkout."""

    def __init__(self, context: click.Context, closing: ExitStack) -> None:
        super().__init__(context, closing)
        self.console.is_streaming = True
        self.has_several = False

    # Roots ---------------------------------------------------------------------------------------------------

    @cached_property
    def configuration(self) -> Configuration:
        return Configuration(self.checkout.root, frozenset(self.checkout.files()))

    @cached_property
    def roots(self) -> tuple[str, ...]:
        """The roots that were asked for, or all; of these the ones that changed, if that was asked for.

        Raises:
            PipelineError: there is none.
        """
        asked = self.options(Roots)
        patterns = asked.root or self._with_backend()
        found = terraform_roots.expand(patterns, self.configuration.folders()) if patterns else ()
        if not found:
            raise PipelineError(
                "no root: no folder of the checkout has a backend block",
                hint='give --root DIR, or write terraform { backend "http" {} } into it',
            )
        return self._changed(found, asked.changed_since) if asked.changed_since else found

    def _with_backend(self) -> tuple[str, ...]:
        folders = self.configuration.folders()
        return tuple(folder for folder in folders if self._folder(folder).backends)

    def _folder(self, path: str) -> terraform_files.Folder:
        return terraform_files.read(path, self.configuration.configuration(path))

    def modules(self, root: str) -> tuple[str, ...]:
        """The folders of a root's local modules, and what links in all of them lead to."""
        found = terraform_roots.local_modules(root, self.configuration.configuration)
        linked = {path for folder in (root, *found) for path in self.configuration.linked(folder)}
        return tuple(sorted({*found, *linked} - {root}))

    def _changed(self, roots: tuple[str, ...], base: str) -> tuple[str, ...]:
        paths = self.checkout.changed_between(base, self.checkout.head)
        if paths is None:
            log.warning("commit %s is not in this checkout (GIT_DEPTH?): all roots are taken", base[:12])
            return roots
        owned = {root: (*self.modules(root), *self.params.get("var_file", ())) for root in roots}
        touched, gone = terraform_roots.changed(roots, owned, paths)
        for folder in sorted({*gone} - {*self.configuration.folders()}):
            log.warning(
                "%s is gone from the checkout; if it was a root, its state still holds resources", folder
            )
        return touched

    # State and credentials -----------------------------------------------------------------------------------

    @cached_property
    def api(self) -> str:
        """The project's API address; empty where the project is not known."""
        return f"{self.gitlab_url}/api/v4/projects/{quote(self.project, safe='')}" if self.project else ""

    def backends(self, roots: Iterable[str]) -> dict[str, StateBackend]:
        """Each root's backend, which its own block must name.

        Raises:
            PipelineError: a root has no backend block, or one of another type; another root has its name.
        """
        place = self.options(Tool).state
        # With the roots that are not asked for: theirs are the states and the passports that would be taken.
        state_backend.own_names(roots, {*roots, *self._with_backend()})
        if place.startswith("gitlab") and not self.api:
            raise PipelineError(
                "which GitLab project keeps the state?", hint="give --project, or --state configured"
            )
        found = state_backend.distinct(place, roots, self.api)
        for root, backend in found.items():
            self._fits(root, backend)
        return found

    def _fits(self, root: str, backend: StateBackend) -> None:
        types = {item.type for item in self._folder(root).backends}
        wanted = backend.type or next(iter(types - {"local"}), "http")
        if wanted not in types:
            named = f"its backend is {', '.join(sorted(types))}" if types else "it has no backend"
            raise PipelineError(
                f"{root}: {named}, and the state would be lost with the job",
                hint=f'write terraform {{ backend "{wanted}" {{}} }} into it, and no credentials; see --state',
            )

    @cached_property
    def loaned(self) -> Mapping[str, str]:
        """What Vault lends for as long as this command runs."""
        wanted = self.options(Wanted)
        if not any((wanted.secret, wanted.value, wanted.secrets_below, wanted.scaleway)):
            return {}
        if wanted.scaleway and self.options(Tool).state.startswith("s3:"):
            wanted = replace(wanted, s3_backend=True)
        loan = lending.loan(self.options(VaultAccess), wanted)
        return self.closing.enter_context(lending.lent(loan, self.console.mask.add))

    def ours(self, variable: str, given: Secret) -> Secret:
        """A secret of ours: given, or lent by Vault under its variable's name."""
        return given if given.reveal() else Secret(self.loaned.get(variable, ""))

    @cached_property
    def _environment(self) -> dict[str, str]:
        """The child's environment: no secret of ours, what Vault lends, and what the state's server asks for.

        Raises:
            PipelineError: a workspace is chosen, which would be another state than the one we look at.
        """
        workspace = os.environ.get("TF_WORKSPACE", "default")
        if workspace != "default":
            raise PipelineError(
                f"TF_WORKSPACE is {workspace}: workspaces are not used here",
                hint="give each a root or a --state of its own",
            )
        lent = {name: value for name, value in self.loaned.items() if name not in OURS}
        ours = lending.environment(self.params, lent)
        return {**ours, **self._state_login()}

    def _state_login(self) -> dict[str, str]:
        """GitLab's state API wants a login (docs.gitlab.com/user/infrastructure/iac/terraform_state)."""
        if not self.options(Tool).state.startswith("gitlab"):
            return {}
        if self.home.job_token.reveal():
            return {"TF_HTTP_USERNAME": "gitlab-ci-token", "TF_HTTP_PASSWORD": self.home.job_token.reveal()}
        if self.notes is None:
            raise PipelineError(
                "no login for the state in GitLab",
                hint="set PT_GITLAB_TOKEN (in a job CI_JOB_TOKEN is there)",
            )
        return {"TF_HTTP_USERNAME": self.notes.username, "TF_HTTP_PASSWORD": self.home.gitlab_token.reveal()}

    # What the steps are given --------------------------------------------------------------------------------

    def terraform(self, root: str) -> Terraform:
        """The tool in one root, its output masked, on stdout or, in JSON, on stderr."""
        tool = self.options(Tool)
        return Terraform(
            tool.terraform_binary,
            self.checkout.inside(root),
            self._environment,
            self.console.mask.stream,
            stdout=2 if self.console.output == "json" else 1,
            grace=tool.grace,
            has_colours=self.console.has_colours,
        )

    def root(self, path: str, backend: StateBackend) -> Root:
        tool = self.options(Tool)
        key = self.ours("PT_PASSPORT_KEY", tool.passport_key).reveal().encode()
        files = tuple(terraform_roots.clean(file) for file in tool.var_file)
        return Root(path, backend, files, key)

    def shop(self, root: str) -> Workshop:
        plans = self.params.get("plans", Path("plans")).as_posix()
        return Workshop(
            self.terraform(root), self.checkout, self.modules, self.scratch, self.console.mask, plans
        )

    @cached_property
    def scratch(self) -> Path:
        """A folder that only this user reads, gone at the end: plan files hold secrets."""
        folder = Path(tempfile.mkdtemp(prefix="pipeline-tools-"))
        self.closing.callback(shutil.rmtree, folder, ignore_errors=True)
        return folder

    @property
    def made(self) -> Made:
        here = self.options(Here)
        return Made(
            here.pipeline_url or "",
            here.job_url or "",
            self.checkout.head,
            here.ref or "",
            here.merge_request,
        )

    @cached_property
    def registry(self) -> Records | None:
        """This project for its packages: as this job, else as whoever `PT_GITLAB_TOKEN` is."""
        if self.home.job_token.reveal() and self.project:
            return Records(
                self.gitlab_url, self.project, self.home.job_token, variable="CI_JOB_TOKEN", kind="job_token"
            )
        return self.notes

    @cached_property
    def notes(self) -> Records | None:
        """This project for what a job's token may not: notes, issues, merge requests."""
        if not self.home.gitlab_token.reveal() or not self.project:
            return None
        return Records(self.gitlab_url, self.project, self.home.gitlab_token, variable="PT_GITLAB_TOKEN")

    @cached_property
    def jobs(self) -> Project | None:
        """This project for its jobs."""
        if not self.home.gitlab_token.reveal() or not self.project:
            return None
        return Project(self.gitlab_url, self.project, self.home.gitlab_token, variable="PT_GITLAB_TOKEN")

    @cached_property
    def inspector(self) -> Inspector:
        """The tools that look at a configuration, without any credential."""
        binary = self.params["terraform_binary"]
        return Inspector(binary, self.checkout.root, self.environment, self.scratch)

    # Several roots -------------------------------------------------------------------------------------------

    def each(self, run: Callable[[Root], Any], past: tuple[type[PipelineError], ...] = ()) -> None:
        """Run for every root; a failure of one of the kinds in `past` is raised only when the others are done, too.

        Raises:
            PipelineError: the first failure.
        """
        backends = self.backends(self.roots)
        if not backends:
            log.info("no root has changed")
        self.has_several = self.console.is_flow = len(backends) != 1
        failures: list[PipelineError] = []
        for path, backend in backends.items():
            try:
                run(self.root(path, backend))
            except PipelineError as error:
                failures.append(error)
                # Who was told to end begins no other root.
                if not isinstance(error, past) or isinstance(error, Interrupted) or len(backends) == 1:
                    raise
                self.console.failure(error)
        if failures:
            raise failures[0]


@contextmanager
def opened(context: click.Context) -> Iterator[Infrastructure]:
    """A session on the infra repository, and everything it opened closed at the end."""
    with ExitStack() as closing:
        yield Infrastructure(context, closing)
