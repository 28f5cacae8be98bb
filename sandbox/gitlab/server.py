"""The server and the handle that tests and the demo hold."""

import re
import secrets
import shutil
import socketserver
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flask import Flask
from werkzeug.serving import ThreadedWSGIServer, WSGIRequestHandler

from sandbox.gitlab import (
    api_ci,
    api_issues,
    api_jobs,
    api_merge_requests,
    api_packages,
    api_releases,
    api_repository,
    api_terraform,
    hooks,
    repository,
)
from sandbox.gitlab.faults import Faults, Faulty, ResetError, reset_connection
from sandbox.gitlab.git import ROUTE, Git, kill
from sandbox.gitlab.model import Access, Job, Project, Protection, State, Token, User, Visibility
from sandbox.gitlab.pipelines import JobScript, Pipeline, Script
from sandbox.gitlab.web import Api, encoded_paths

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

    from sandbox.gitlab.model import Hook

HOST = "127.0.0.1"
SCOPES = frozenset({"api", "read_api", "read_repository", "write_repository"})
SEGMENT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")


@dataclass(frozen=True)
class Request:
    """One request of the log. `status` None: the connection was reset. `actor` is the token's name, never the token."""

    method: str
    path: str
    status: int | None
    actor: str | None


class _Handler(WSGIRequestHandler):
    """Says nothing on stderr; what happened stands in `Gitlab.requests`."""

    def connection_dropped(self, error: BaseException, environ: "WSGIEnvironment | None" = None) -> None:  # noqa: ARG002
        self.close_connection = True

    def log(self, type: str, message: str, *args: Any) -> None:  # noqa: A002 - werkzeug's own name
        pass


class _Server(ThreadedWSGIServer):
    """Werkzeug's threaded server without its name look-up and its log."""

    daemon_threads = True

    def server_bind(self) -> None:
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = HOST, self.server_address[1]

    def log(self, type: str, message: str, *args: Any) -> None:  # noqa: A002 - werkzeug's own name
        pass


class _Journal:
    """The outermost WSGI application: logs each request before its answer goes out, and counts those under way."""

    def __init__(self, app: "WSGIApplication") -> None:
        self.app = app
        self.idle = threading.Condition()
        self.under_way = 0
        self.entries: list[Request] = []

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterator[bytes]:
        def note(status: str, headers: list[tuple[str, str]], *more: Any) -> Any:
            self._log(environ, int(status.split(" ", 1)[0]))
            return start_response(status, headers, *more)

        self._count(1)
        try:
            answer = self.app(environ, note)
        except BaseException as error:
            if isinstance(error, ResetError):
                self._log(environ, None)
                reset_connection(environ)
            self._count(-1)
            raise
        return self._pass_on(answer)

    def _pass_on(self, answer: Iterable[bytes]) -> Iterator[bytes]:
        try:
            yield from answer
        finally:
            getattr(answer, "close", lambda: None)()
            self._count(-1)

    def _log(self, environ: "WSGIEnvironment", status: int | None) -> None:
        path = environ["RAW_URI"].partition("?")[0]
        with self.idle:
            self.entries.append(
                Request(environ["REQUEST_METHOD"], path, status, environ.get("sandbox.actor"))
            )

    def _count(self, change: int) -> None:
        with self.idle:
            self.under_way += change
            self.idle.notify_all()

    def wait(self, seconds: float) -> bool:
        with self.idle:
            return self.idle.wait_for(lambda: self.under_way == 0, seconds)


class _Front:
    """Sends each address to where it is answered; the hooks' own endpoint is neither logged nor faulty."""

    def __init__(self, git: Git, api: "WSGIApplication") -> None:
        self.git = git
        self.api = api

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        path = environ["RAW_URI"].partition("?")[0]
        if ROUTE.match(path) and not path.startswith("/api/"):
            return self.git(environ, start_response)
        encoded_paths(environ)
        return self.api(environ, start_response)


class Gitlab:
    """A running stand-in. Make it with `Gitlab.start`."""

    def __init__(
        self, directory: Path, *, step: float | None = 0.05, push_delay: float | None = None
    ) -> None:
        self.directory = directory.resolve()
        self.faults = Faults()
        self._state = State(step, (step or 0.0) if push_delay is None else push_delay)
        self._stopping = threading.Event()
        self._hooks = hooks.Hooks(self._state)
        self._git = Git(self._state, self._hooks, hooks.install(self.directory))
        self._journal = _Journal(Faulty(_Front(self._git, _api(self._state)), self.faults, self._stopping))
        self._server = _Server(HOST, 0, self._route, _Handler)
        self.url = self._state.url = f"http://{HOST}:{self._server.server_port}"

    @classmethod
    @contextmanager
    def start(
        cls, directory: Path, *, step: float | None = 0.05, push_delay: float | None = None
    ) -> Iterator["Gitlab"]:
        """Serve from a directory until the block ends.

        `step` is how many seconds each state of a pipeline lasts; None: only `advance` moves pipelines. `push_delay`
        is how many seconds the API takes to show the pipeline of a push; None: one step.
        """
        gitlab = cls(directory, step=step, push_delay=push_delay)
        thread = threading.Thread(target=gitlab._server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield gitlab
        finally:
            gitlab._stop(thread)

    def _stop(self, thread: threading.Thread) -> None:
        self._stopping.set()
        self._server.shutdown()
        if not self._journal.wait(2):
            for process in list(self._git.running):
                kill(process)
            self._journal.wait(2)
        self._server.server_close()
        thread.join()

    def _route(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        inner = environ["RAW_URI"].startswith("/-/hooks/")
        return (self._hooks if inner else self._journal)(environ, start_response)

    @property
    def requests(self) -> tuple[Request, ...]:
        """All requests so far, oldest first; each is there before its answer is."""
        with self._journal.idle:
            return tuple(self._journal.entries)

    def snapshot(self, directory: Path) -> Callable[[], None]:
        """Remember everything, the repositories in the new folder `directory`; what is returned brings it back.

        Faults end then, the log of requests goes on. Objects that were got before stand for nothing any more.
        """
        self._journal.wait(2)
        shutil.copytree(self.directory, directory, symlinks=True)
        remembered = self._state.snapshot()

        def restore() -> None:
            self.faults.clear()
            self._journal.wait(2)
            shutil.rmtree(self.directory)
            shutil.copytree(directory, self.directory, symlinks=True)
            remembered()

        return restore

    def create_project(
        self,
        path: str,
        *,
        source: Path | None = None,
        default_branch: str = "main",
        message: str = "Initial commit",
        visibility: Visibility = "private",
    ) -> Project:
        """Create a project; its groups are implied. The files of `source` become the first commit."""
        if "/" not in path or not all(SEGMENT.fullmatch(part) for part in path.split("/")):
            raise ValueError(f"not a project path: {path}")
        if self._state.project(path) is not None:
            raise ValueError(f"there is a project {path} already")
        bare = self.directory / f"{path}.git"
        repository.create(bare, default_branch)
        if source is not None:
            repository.import_tree(
                bare, source, default_branch, message, ("Administrator", "admin@example.com")
            )
        address = f"{self.url}/{path}"
        project = Project(
            self._state.next_id("project"), path, bare, f"{address}.git", address, default_branch, visibility
        )
        with self._state.lock:
            self._state.projects[project.id] = project
        return project

    def create_user(self, username: str, *, name: str | None = None, email: str | None = None) -> User:
        return self._state.add_user(username, name or username.title(), email or f"{username}@example.com")

    def add_member(self, project: Project, user: User, access: Access) -> None:
        """Give a user a role in a project."""
        user.memberships[project.id] = access

    def create_token(
        self,
        project: Project,
        name: str,
        *,
        access_level: Access = Access.DEVELOPER,
        scopes: Iterable[str] = ("api",),
        expired: bool = False,
    ) -> str:
        """Create a project access token with a bot user of its own and return its secret (docs: Project access tokens, "Bot users for projects")."""
        unknown = set(scopes) - SCOPES
        if unknown:
            raise ValueError(f"unknown scopes: {sorted(unknown)}")
        username = f"project_{project.id}_bot_{secrets.token_hex(4)}"
        bot = self._state.add_user(username, name, f"{username}@noreply.example.com", bot=True)
        self.add_member(project, bot, access_level)
        return self._state.add_token(
            "glpat-", Token(name, "access", bot, frozenset(scopes), project.id, expired)
        )

    def personal_token(
        self, user: User, name: str, *, scopes: Iterable[str] = ("api",), expired: bool = False
    ) -> str:
        """Create a personal access token; it reaches what the user's memberships reach."""
        return self._state.add_token("glpat-", Token(name, "access", user, frozenset(scopes), None, expired))

    def job_token(
        self,
        project: Project,
        *,
        user_access: Mapping[str, Access] | None = None,
        user: User | None = None,
        job: Job | None = None,
        name: str = "CI_JOB_TOKEN",
    ) -> str:
        """Create the CI_JOB_TOKEN of a job in `project`, started by a user with these roles (by project path).

        Without `user` or `job` a new user is made, with the Developer role in the job's own project unless said
        otherwise. With `job` the token ends when that job does.
        """
        if job is not None:
            user = job.user
        if user is None:
            user = self.create_user(f"job-user-{self._state.next_id('job-user')}")
            self.add_member(project, user, Access.DEVELOPER)
        for path, access in (user_access or {}).items():
            self.add_member(self.project(path), user, access)
        return self._state.add_token("glcbt-", Token(name, "job", user, frozenset(), project.id, job=job))

    def create_job(self, project: Project, name: str, user: User, *, status: str = "running") -> Job:
        """Add a job at the tip of the default branch, outside any pipeline; `Job.finish` ends it."""
        branch = project.default_branch
        sha = repository.resolve(project.repository, branch) or ""
        job = Job(self._state.next_id("job"), name, "deploy", status, branch, sha, user, time.time())
        with self._state.lock:
            project.jobs.append(job)
        return job

    def allow_job_token(self, target: Project, from_project: Project) -> None:
        """Put a project on the target's job token allowlist."""
        target.job_tokens.add(from_project.id)

    def trigger_token(self, project: Project, *, name: str = "trigger", owner: User | None = None) -> str:
        """Create a pipeline trigger token; it acts as its owner, by default a new Maintainer."""
        if owner is None:
            owner = self.create_user(f"trigger-owner-{self._state.next_id('trigger-owner')}")
            self.add_member(project, owner, Access.MAINTAINER)
        return self._state.add_token("glptt-", Token(name, "trigger", owner, frozenset(), project.id))

    def project(self, path: str) -> Project:
        """Find a project by path; KeyError when there is none."""
        found = self._state.project(path)
        if found is None:
            raise KeyError(path)
        return found

    def protect_branch(
        self,
        project: Project,
        pattern: str,
        *,
        push_access: Access = Access.MAINTAINER,
        merge_access: Access = Access.MAINTAINER,
        allow_force_push: bool = False,
    ) -> None:
        """Protect branches; a rule of the same pattern is replaced."""
        self.unprotect_branch(project, pattern)
        number = self._state.next_id("protection")
        project.branches.append(Protection(number, pattern, push_access, merge_access, allow_force_push))

    def unprotect_branch(self, project: Project, pattern: str) -> None:
        project.branches[:] = [rule for rule in project.branches if rule.pattern != pattern]

    def protect_tag(
        self, project: Project, pattern: str, *, create_access: Access = Access.MAINTAINER
    ) -> None:
        """Protect tags; a rule of the same pattern is replaced."""
        self.unprotect_tag(project, pattern)
        project.tags.append(Protection(self._state.next_id("protection"), pattern, create_access))

    def unprotect_tag(self, project: Project, pattern: str) -> None:
        project.tags[:] = [rule for rule in project.tags if rule.pattern != pattern]

    def restrict_variables(self, project: Project, role: str) -> None:
        """Set `ci_pipeline_variables_minimum_override_role`: no_one_allowed, owner, maintainer or developer."""
        if role not in {"no_one_allowed", "owner", "maintainer", "developer"}:
            raise ValueError(f"unknown role: {role}")
        project.variables_role = role

    def pipeline_script(
        self,
        project: Project,
        statuses: Sequence[str],
        *,
        jobs: Sequence[JobScript] | None = None,
        retried: str = "success",
    ) -> None:
        """Say how this project's future pipelines run: their states, the last one final, and their jobs."""
        project.script = Script(tuple(statuses), Script().jobs if jobs is None else tuple(jobs), retried)

    def pipelines(self, project: Project) -> tuple[Pipeline, ...]:
        """All pipelines, oldest first, those that the API does not show yet too."""
        with self._state.lock:
            return tuple(project.pipelines)

    def advance(self, pipeline: Pipeline | int) -> str:
        """Move a pipeline one state on and return the state it is in."""
        with self._state.lock:
            found = pipeline if isinstance(pipeline, Pipeline) else self._pipeline(pipeline)
            return found.advance()

    def _pipeline(self, number: int) -> Pipeline:
        return next(
            row for project in self._state.projects.values() for row in project.pipelines if row.id == number
        )

    def push_hook(self, project: Project, name: str, refuse: "Hook | None") -> None:
        """Add a server-side pre-receive hook, or take it away with None.

        A text refuses every push; a callable gets the `Push` and returns a refusal or None; a path is an executable.
        """
        if refuse is None:
            project.hooks.pop(name, None)
        else:
            project.hooks[name] = refuse


def _api(state: State) -> "WSGIApplication":
    app = Flask("sandbox.gitlab", static_folder=None)
    api = Api(app, state)
    for module in (
        api_repository,
        api_ci,
        api_jobs,
        api_releases,
        api_merge_requests,
        api_issues,
        api_packages,
        api_terraform,
    ):
        module.register(api)
    return app


__all__ = ["Gitlab", "Request"]
