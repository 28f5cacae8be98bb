"""What the stand-in knows: users, tokens, projects and their rules. State only; no HTTP and no git."""

import copy
import hashlib
import secrets
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from sandbox.gitlab.pipelines import FINISHED, Pipeline, Script

if TYPE_CHECKING:
    from collections.abc import Callable

    from sandbox.gitlab.rules import Push

    # A server-side hook: a message to refuse every push with; a callable that gives one, or None; an executable.
    Hook = str | Path | Callable[[Push], str | None]

TokenKind = Literal["access", "job", "trigger"]
Visibility = Literal["private", "public"]

ACCESS_DESCRIPTIONS = {0: "No one", 30: "Developers + Maintainers", 40: "Maintainers", 50: "Owners"}


class Access(IntEnum):
    """Roles and their numbers (GitLab docs: Members API, "Roles")."""

    NO_ACCESS = 0
    GUEST = 10
    REPORTER = 20
    DEVELOPER = 30
    MAINTAINER = 40
    OWNER = 50


@dataclass
class User:
    """A person, or the bot user behind a project access token; `memberships` is project id to role."""

    id: int
    username: str
    name: str
    email: str
    bot: bool = False
    memberships: dict[int, Access] = field(default_factory=dict)

    def access(self, project: "Project") -> Access:
        return self.memberships.get(project.id, Access.NO_ACCESS)


@dataclass
class Job:
    """A job that a test adds; those of pipelines follow their scripts instead."""

    id: int
    name: str
    stage: str
    status: str
    ref: str
    sha: str
    user: User
    created: float
    finished_at: float | None = None

    @property
    def finished(self) -> bool:
        return self.status in FINISHED

    def finish(self, status: str) -> None:
        """End the job; its token ends with it."""
        self.status, self.finished_at = status, time.time()


@dataclass(frozen=True)
class Token:
    """What a token stands for. The secret itself is kept nowhere, so nothing can print it."""

    name: str
    kind: TokenKind
    user: User
    scopes: frozenset[str] = frozenset()
    project_id: int | None = None
    expired: bool = False
    job: Job | None = None


@dataclass(frozen=True)
class Protection:
    """One protected branch or tag (GitLab docs: Protected branches API, Protected tags API).

    For tags `push_access` is the level that may create the tag.
    """

    id: int
    pattern: str
    push_access: Access
    merge_access: Access = Access.MAINTAINER
    allow_force_push: bool = False


@dataclass
class Release:
    tag: str
    name: str
    description: str
    created: float
    released: float
    author: User
    links: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class AutoMerge:
    """Who asked for the merge at this tip once its pipeline succeeds."""

    sha: str
    user: User


@dataclass
class MergeRequest:
    id: int
    iid: int
    source_branch: str
    target_branch: str
    title: str
    author: User
    created: float
    updated: float
    description: str = ""
    state: str = "opened"
    labels: list[str] = field(default_factory=list)
    remove_source_branch: bool = False
    merge_sha: str | None = None
    squash_sha: str | None = None
    merged_head: str | None = None
    """The source branch's tip when it was merged: the branch may be gone since."""
    reviewers: list[User] = field(default_factory=list)
    auto_merge: "AutoMerge | None" = None
    notes: list[dict[str, Any]] = field(default_factory=list)


@dataclass
class Issue:
    id: int
    iid: int
    title: str
    author: User
    created: float
    updated: float
    description: str = ""
    state: str = "opened"
    labels: list[str] = field(default_factory=list)
    closed: float | None = None
    notes: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class PackageFile:
    id: int
    name: str
    content: bytes = field(repr=False)
    created: float


@dataclass
class Package:
    """A generic package; of files with one name the newest counts."""

    id: int
    name: str
    version: str
    created: float
    files: list[PackageFile] = field(default_factory=list)


@dataclass(frozen=True)
class StateLock:
    """What GitLab keeps of a lock (`app/models/terraform/state.rb`): not the operation, nor the job."""

    id: str
    user: User
    created: float


@dataclass(frozen=True)
class StateVersion:
    """One state that Terraform wrote; `user` is who held the lock then."""

    serial: int
    content: bytes = field(repr=False)
    user: User | None
    job: Job | None


@dataclass
class TerraformState:
    name: str
    versions: list[StateVersion] = field(default_factory=list)
    lock: StateLock | None = None

    @property
    def latest(self) -> StateVersion | None:
        """The version with the highest serial, whatever came last."""
        return max(self.versions, key=lambda version: version.serial, default=None)


@dataclass
class Deployment:
    id: int
    iid: int
    environment: str
    environment_id: int
    ref: str
    sha: str
    tag: bool
    status: str
    user: User
    created: float
    updated: float


@dataclass
class Project:
    """A project and its bare repository.

    `variables_role` is `ci_pipeline_variables_minimum_override_role`; its default on self-managed instances is
    `maintainer` (GitLab docs: CI/CD variables, "Restrict pipeline variables").
    """

    id: int
    path: str
    repository: Path
    http_url: str
    web_url: str
    default_branch: str
    visibility: Visibility = "private"
    variables_role: str = "maintainer"
    job_tokens: set[int] = field(default_factory=set)
    job_token_push: bool = False
    branches: list[Protection] = field(default_factory=list)
    tags: list[Protection] = field(default_factory=list)
    hooks: "dict[str, Hook]" = field(default_factory=dict)
    script: Script = field(default_factory=Script)
    pipelines: list[Pipeline] = field(default_factory=list)
    releases: dict[str, Release] = field(default_factory=dict)
    merge_requests: list[MergeRequest] = field(default_factory=list)
    issues: list[Issue] = field(default_factory=list)
    jobs: list[Job] = field(default_factory=list)
    packages: list[Package] = field(default_factory=list)
    terraform_states: dict[str, TerraformState] = field(default_factory=dict)
    deployments: list[Deployment] = field(default_factory=list)
    environments: dict[str, int] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.path.rsplit("/", 1)[-1]

    @property
    def namespace(self) -> str:
        return self.path.rsplit("/", 1)[0]


class State:
    """Everything behind one server. Hold `lock` for each change; never while git runs."""

    def __init__(self, step: float | None, push_delay: float) -> None:
        self.lock = threading.RLock()
        self.step = step
        self.push_delay = push_delay
        self.url = ""
        self.projects: dict[int, Project] = {}
        self.users: dict[str, User] = {}
        self._tokens: dict[str, Token] = {}
        self._ids: Counter[str] = Counter()

    def next_id(self, kind: str) -> int:
        with self.lock:
            self._ids[kind] += 1
            return self._ids[kind]

    def add_token(self, prefix: str, token: Token) -> str:
        """Register a token and hand out its secret, once."""
        secret = prefix + secrets.token_urlsafe(20)
        with self.lock:
            self._tokens[_digest(secret)] = token
        return secret

    def snapshot(self) -> "Callable[[], None]":
        """Remember everything; what is returned brings it back, as often as it is called."""
        with self.lock:
            kept = copy.deepcopy({name: value for name, value in vars(self).items() if name != "lock"})

        def restore() -> None:
            with self.lock:
                vars(self).update(copy.deepcopy(kept))

        return restore

    def token(self, secret: str) -> Token | None:
        return self._tokens.get(_digest(secret))

    def project(self, key: str | int) -> Project | None:
        """Find a project by id or path (GitLab docs: REST API, "Namespaced paths")."""
        with self.lock:
            if isinstance(key, int) or key.isdecimal():
                return self.projects.get(int(key))
            return next((found for found in self.projects.values() if found.path == key), None)

    def add_user(self, username: str, name: str, email: str, *, bot: bool = False) -> User:
        with self.lock:
            user = User(self.next_id("user"), username, name, email, bot)
            self.users[username] = user
            return user


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
