"""Who may change which ref, and what may start a pipeline: pure decisions with GitLab's own wording."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from sandbox.gitlab.model import Access, Project, Protection, User

ZERO = "0" * 40
SHA_NAME = re.compile(r"[0-9a-f]{40}(-|/|$)")
ROLES = {"developer": Access.DEVELOPER, "maintainer": Access.MAINTAINER, "owner": Access.OWNER}


@dataclass(frozen=True)
class Change:
    """One ref of a push, as git gives it to hooks; `forced` when the new commit does not contain the old one."""

    old: str
    new: str
    ref: str
    forced: bool = False

    @property
    def branch(self) -> str | None:
        return self.ref.removeprefix("refs/heads/") if self.ref.startswith("refs/heads/") else None

    @property
    def tag(self) -> str | None:
        return self.ref.removeprefix("refs/tags/") if self.ref.startswith("refs/tags/") else None

    @property
    def creation(self) -> bool:
        return set(self.old) == {"0"}

    @property
    def deletion(self) -> bool:
        return set(self.new) == {"0"}


@dataclass(frozen=True)
class Push:
    """What a server-side hook sees. `environment` lets git find the objects still in quarantine."""

    project: Project
    user: User
    changes: tuple[Change, ...]
    options: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)


def matching(protections: Sequence[Protection], name: str) -> list[Protection]:
    """List the rules for a name; `*` matches anything (GitLab docs: Protected branches, "Protect multiple branches with wildcard rules")."""
    return [rule for rule in protections if re.fullmatch(re.escape(rule.pattern).replace(r"\*", ".*"), name)]


def may_push(project: Project, user: User, branch: str) -> bool:
    """Of several matching rules the most permissive counts (GitLab docs: Protected branches, "When a branch matches multiple rules")."""
    rules = matching(project.branches, branch)
    return _reaches(user.access(project), [rule.push_access for rule in rules])


def may_merge(project: Project, user: User, branch: str) -> bool:
    rules = matching(project.branches, branch)
    return _reaches(user.access(project), [rule.merge_access for rule in rules])


def may_create_tag(project: Project, user: User, tag: str) -> bool:
    """Apply the rules of GitLab docs: Protected tags, "Configure protected tags"."""
    return _reaches(user.access(project), [rule.push_access for rule in matching(project.tags, tag)])


def may_run(project: Project, user: User, ref: str, *, tag: bool) -> bool:
    """Tell whether a user may start a pipeline on a ref (GitLab docs: Pipelines, "Pipeline security on protected branches")."""
    if tag:
        return may_create_tag(project, user, ref)
    return may_push(project, user, ref) or may_merge(project, user, ref)


def may_set_variables(project: Project, user: User) -> bool:
    """Apply `ci_pipeline_variables_minimum_override_role` (GitLab docs: CI/CD variables, "Restrict pipeline variables")."""
    role = ROLES.get(project.variables_role)
    return role is not None and user.access(project) >= role


def _reaches(access: Access, levels: Sequence[Access]) -> bool:
    if not levels:
        return access >= Access.DEVELOPER
    return any(level is not Access.NO_ACCESS and access >= level for level in levels)


def refusal(project: Project, user: User, change: Change) -> str | None:
    """Say why GitLab's pre-receive checks refuse a change over git, or None (wording: `lib/gitlab/checks`)."""
    if user.access(project) < Access.DEVELOPER:
        return "You are not allowed to push code to this project."
    if change.branch is not None:
        return _branch_refusal(project, user, change, change.branch)
    if change.tag is not None:
        return _tag_refusal(project, user, change, change.tag)
    return None


def _branch_refusal(project: Project, user: User, change: Change, branch: str) -> str | None:
    if change.deletion and branch == project.default_branch:
        return "The default branch of a project cannot be deleted."
    if not change.deletion and SHA_NAME.match(branch):
        return "You cannot create a branch with a 40-character hexadecimal branch name."
    rules = matching(project.branches, branch)
    return (
        _protected_branch_refusal(rules, change, allowed=may_push(project, user, branch)) if rules else None
    )


def _protected_branch_refusal(rules: list[Protection], change: Change, *, allowed: bool) -> str | None:
    if change.deletion:
        return "You can only delete protected branches using the web interface."
    if change.forced and not any(rule.allow_force_push for rule in rules):
        return "You are not allowed to force push code to a protected branch on this project."
    if allowed:
        return None
    if change.creation:
        return "You are not allowed to create protected branches on this project."
    return "You are not allowed to push code to protected branches on this project."


def _tag_refusal(project: Project, user: User, change: Change, tag: str) -> str | None:
    if change.creation and tag == project.default_branch:
        return "You cannot use default branch name to create a tag"
    if not change.creation and user.access(project) < Access.MAINTAINER and not change.deletion:
        return "You are not allowed to change existing tags on this project."
    if not matching(project.tags, tag):
        return None
    if change.deletion:
        return "You can only delete protected tags using the web interface."
    if not change.creation:
        return "Protected tags cannot be updated."
    return (
        None
        if may_create_tag(project, user, tag)
        else "You are not allowed to create this tag as it is protected."
    )
