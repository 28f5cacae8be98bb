"""Starting pipelines: what GitLab checks first, and what it records."""

import re
import time
from dataclasses import dataclass, field, replace
from typing import Any

from sandbox.gitlab import inputs, repository
from sandbox.gitlab.model import Access, Project, State, User
from sandbox.gitlab.pipelines import Pipeline, Script
from sandbox.gitlab.rules import ZERO, Change, Push, may_run, may_set_variables

CONFIG = ".gitlab-ci.yml"
PAYLOAD = "TRIGGER_PAYLOAD"
SKIP_MESSAGE = re.compile(r"\[(ci[ _-]skip|skip[ _-]ci)\]", re.IGNORECASE)


class RefusedError(Exception):
    """GitLab will not create the pipeline; the text is the one under `message.base`."""


@dataclass(frozen=True)
class Wish:
    """A pipeline somebody asks for. `ref` is a branch or tag by its short name."""

    ref: str
    source: str
    user: User
    variables: tuple[dict[str, str], ...] = ()
    inputs: dict[str, Any] = field(default_factory=dict)


def start(state: State, project: Project, wish: Wish) -> Pipeline:
    """Create a pipeline on a ref's tip, or raise RefusedError (texts and order: `lib/gitlab/ci/pipeline/chain`)."""
    if any(row["key"] != PAYLOAD for row in wish.variables) and not may_set_variables(project, wish.user):
        raise RefusedError("Insufficient permissions to set pipeline variables")
    if wish.user.access(project) < Access.DEVELOPER:
        raise RefusedError("Insufficient permissions to create a new pipeline")
    sha, is_tag = _tip(project, wish.ref)
    if not may_run(project, wish.user, wish.ref, tag=is_tag):
        raise RefusedError(
            f"You do not have sufficient permission to run a pipeline on '{wish.ref}'. "
            "Please select a different branch or contact your administrator for assistance."
        )
    _configured(project, sha, wish)
    return record(state, project, wish, sha, is_tag=is_tag)


def _configured(project: Project, sha: str, wish: Wish) -> None:
    file = repository.entry(project.repository, sha, CONFIG)
    if file is None:
        raise RefusedError("Missing CI config file")
    wrong = inputs.refusal(
        repository.blob(project.repository, file.blob).decode(errors="replace"), wish.inputs
    )
    if wrong:
        raise RefusedError(wrong)


def _tip(project: Project, ref: str) -> tuple[str, bool]:
    """Find a ref: a branch or a tag, never a commit (GitLab docs: Pipelines API, "Create a new pipeline")."""
    branch = repository.ref_sha(project.repository, f"refs/heads/{ref}")
    tag = repository.ref_sha(project.repository, f"refs/tags/{ref}")
    if branch and tag:
        raise RefusedError("Ref is ambiguous")
    found = branch or tag
    if found is None:
        raise RefusedError("Reference not found")
    return found, branch is None


def record(
    state: State,
    project: Project,
    wish: Wish,
    sha: str,
    *,
    is_tag: bool,
    before: str = ZERO,
    delay: float = 0.0,
    skip: bool = False,
) -> Pipeline:
    """Enter a pipeline; `delay` is how long the API does not show it yet."""
    script = Script(statuses=("skipped",), jobs=()) if skip else project.script
    now = time.time()
    with state.lock:
        pipeline = Pipeline(
            id=state.next_id("pipeline"),
            iid=len(project.pipelines) + 1,
            project_id=project.id,
            ref=wish.ref,
            sha=sha,
            before_sha=before,
            tag=is_tag,
            source=wish.source,
            user=wish.user,
            script=script,
            step=state.step,
            created=now,
            appears=now + delay,
            begun=now + delay,
            variables=[{"variable_type": "env_var", **row} for row in wish.variables],
            inputs=dict(wish.inputs),
            job_ids=tuple(state.next_id("job") for _ in script.jobs),
        )
        project.pipelines.append(pipeline)
    return pipeline


def pushed(state: State, push: Push) -> None:
    """Start the pipelines of a push: one for each branch and tag whose tree has a configuration file.

    They show up a step later, as GitLab creates them asynchronously. Push options: GitLab docs, Push options,
    "Push options for GitLab CI/CD"; a `ci.skip` or a `[ci skip]` in the message gives a skipped pipeline.
    """
    for change in push.changes:
        name = change.branch or change.tag
        if name is None or change.deletion:
            continue
        # A tag may be annotated; a branch is at the commit that was pushed.
        sha = change.new if change.branch else repository.ref_sha(push.project.repository, change.ref)
        if sha is None or repository.entry(push.project.repository, sha, CONFIG) is None:
            continue
        _pushed_ref(state, push, change, name, sha)


def _pushed_ref(state: State, push: Push, change: Change, name: str, sha: str) -> None:
    project, variables = push.project, _variables(push.options)
    if not may_run(project, push.user, name, tag=change.branch is None):
        return
    if variables and not may_set_variables(project, push.user):
        return
    skip = "ci.skip" in push.options or bool(
        SKIP_MESSAGE.search(repository.commit(project.repository, sha).message)
    )
    wish = replace(Wish(name, "push", push.user), variables=variables)
    record(
        state,
        project,
        wish,
        sha,
        is_tag=change.branch is None,
        before=change.old,
        delay=state.push_delay,
        skip=skip,
    )


def _variables(options: tuple[str, ...]) -> tuple[dict[str, str], ...]:
    pairs = [
        option.removeprefix("ci.variable=").strip('"').partition("=")
        for option in options
        if option.startswith("ci.variable=")
    ]
    return tuple({"key": key, "value": value} for key, _, value in pairs)
