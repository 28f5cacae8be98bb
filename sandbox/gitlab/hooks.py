"""The server's side of git hooks: decide before a push is accepted, start pipelines after it."""

import re
import subprocess
from dataclasses import dataclass, replace
from http import HTTPStatus
from pathlib import Path
from typing import IO, TYPE_CHECKING

from sandbox.gitlab import ci, repository
from sandbox.gitlab.model import Project, State, Token
from sandbox.gitlab.rules import Change, Push, refusal

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

    from sandbox.gitlab.model import Hook

CLIENT = Path(__file__).with_name("hook_client.sh")
EVENTS = ("pre-receive", "post-receive")


@dataclass(frozen=True)
class Answer:
    """What a hook prints to the pusher, and whether it lets the push through."""

    allowed: bool = True
    output: str = ""


@dataclass(frozen=True)
class Pusher:
    """Who pushes where; looked up by the key that one push's hooks carry."""

    project: Project
    token: Token


def install(directory: Path) -> Path:
    """Write the hooks that every push runs and return their folder (for `core.hooksPath`)."""
    folder = directory / ".hooks"
    folder.mkdir(parents=True, exist_ok=True)
    for event in EVENTS:
        (folder / event).symlink_to(CLIENT)
    return folder


class Hooks:
    """Answers the hook client. A WSGI application; the push's key is the only way in."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.pushers: dict[str, Pusher] = {}

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> list[bytes]:
        source: IO[bytes] = environ["wsgi.input"]
        body = source.read(int(environ.get("CONTENT_LENGTH") or 0)).decode("utf-8", "surrogateescape")
        pusher = self.pushers.get(environ.get("HTTP_X_PUSH", ""))
        answer = Answer(allowed=False) if pusher is None else self._answer(environ["PATH_INFO"], pusher, body)
        output = answer.output.encode()
        start_response(
            f"{HTTPStatus.OK.value} OK",
            [
                ("Content-Type", "text/plain"),
                ("Content-Length", str(len(output))),
                ("X-Allowed", "yes" if answer.allowed else "no"),
            ],
        )
        return [output]

    def _answer(self, path: str, pusher: Pusher, body: str) -> Answer:
        push = _push(pusher, body)
        if path.endswith("/pre-receive"):
            return check(replace(push, changes=tuple(_seen(push, change) for change in push.changes)))
        if pusher.token.kind != "job":
            # A push with the job token starts no pipeline (GitLab docs: CI/CD job token, "Allow Git push requests").
            ci.pushed(self.state, push)
        return Answer(output=_invitation(push))


def _push(pusher: Pusher, body: str) -> Push:
    """What the hook client says, a line each: `update OLD NEW REF`, `option TEXT`, `environment NAME=VALUE`."""
    rows = [line.partition(" ")[::2] for line in body.split("\n")]
    extra = dict(text.split("=", 1) for kind, text in rows if kind == "environment")
    updates = [text.split(" ", 2) for kind, text in rows if kind == "update"]
    changes = tuple(Change(old, new, ref) for old, new, ref in updates)
    options = tuple(text for kind, text in rows if kind == "option")
    return Push(pusher.project, pusher.token.user, changes, options, extra)


def _seen(push: Push, change: Change) -> Change:
    if change.creation or change.deletion:
        return change
    repo = push.project.repository
    return replace(change, forced=not repository.is_ancestor(repo, change.old, change.new, push.environment))


def check(push: Push) -> Answer:
    """Check a push as GitLab's pre-receive does: its own rules, then the project's server hooks."""
    for change in push.changes:
        message = refusal(push.project, push.user, change)
        if message:
            return Answer(allowed=False, output=f"GitLab: {message}\n")
    for hook in tuple(push.project.hooks.values()):
        answer = _run(hook, push)
        if not answer.allowed:
            return answer
    return Answer()


def _run(hook: "Hook", push: Push) -> Answer:
    """Run one server hook.

    A refusal's text carries the prefix of GitLab docs: Git server hooks, "Create a server hook with custom error
    messages"; an executable prints its own.
    """
    if isinstance(hook, Path):
        return _run_script(hook, push)
    message = hook if isinstance(hook, str) else hook(push)
    return Answer() if message is None else Answer(allowed=False, output=f"GL-HOOK-ERR: {message}\n")


def _run_script(script: Path, push: Push) -> Answer:
    """Run an executable with git's lines on its input and the GL_ variables of GitLab docs: Git server hooks, "Environment variables"."""
    lines = "".join(f"{change.old} {change.new} {change.ref}\n" for change in push.changes)
    facts = {
        "GL_ID": f"user-{push.user.id}",
        "GL_USERNAME": push.user.username,
        "GL_PROJECT_PATH": push.project.path,
        "GL_REPOSITORY": f"project-{push.project.id}",
        "GL_PROTOCOL": "http",
        "GIT_DIR": str(push.project.repository),
    }
    done = subprocess.run(
        [str(script)],
        input=lines,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=push.project.repository,
        env=repository.environment(facts | push.environment),
        check=False,
    )
    return Answer(done.returncode == 0, done.stdout)


def _invitation(push: Push) -> str:
    """Offer a merge request for each new branch, as GitLab's post-receive does."""
    names = [
        change.branch
        for change in push.changes
        if change.creation and change.branch not in {None, push.project.default_branch}
    ]
    address = f"{push.project.web_url}/-/merge_requests/new?merge_request%5Bsource_branch%5D="
    return "".join(
        f"\nTo create a merge request for {name}, visit:\n  {address}{re.sub('/', '%2F', str(name))}\n\n"
        for name in names
    )
