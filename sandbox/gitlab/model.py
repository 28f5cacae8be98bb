"""What the stand-in knows: users, tokens, projects and their rules. State only; no HTTP and no git."""

import hashlib
import secrets
import threading
from dataclasses import dataclass, field
from enum import IntEnum
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from sandbox.gitlab.pipelines import Pipeline, Script

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


@dataclass(frozen=True)
class Token:
    """What a token stands for. The secret itself is kept nowhere, so nothing can print it."""

    name: str
    kind: TokenKind
    user: User
    scopes: frozenset[str] = frozenset()
    project_id: int | None = None
    expired: bool = False


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
    notes: list[dict[str, Any]] = field(default_factory=list)


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
        self._ids: dict[str, count[int]] = {}

    def next_id(self, kind: str) -> int:
        with self.lock:
            return next(self._ids.setdefault(kind, count(1)))

    def add_token(self, prefix: str, token: Token) -> str:
        """Register a token and hand out its secret, once."""
        secret = prefix + secrets.token_urlsafe(20)
        with self.lock:
            self._tokens[_digest(secret)] = token
        return secret

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
