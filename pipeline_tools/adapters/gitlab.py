"""GitLab's REST API through python-gitlab, in the toolkit's words."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import gitlab
from gitlab.exceptions import GitlabError

from pipeline_tools.adapters import http
from pipeline_tools.errors import Denied, PipelineError, Refused, Unavailable
from pipeline_tools.text.masks import Secret


@dataclass(frozen=True)
class Tag:
    """A tag of a project and the commit it points to."""

    name: str
    commit: str


@dataclass(frozen=True)
class Pipeline:
    """A pipeline: its `id`, `status` and `source` (GitLab's words), the commit `sha` it runs on, and its page."""

    id: int
    status: str
    sha: str
    url: str
    source: str


@dataclass(frozen=True)
class Job:
    """A job of a pipeline."""

    name: str
    status: str
    url: str


class Project:
    """One project of a GitLab instance, with one token.

    `url` is the instance, `path` the project's path with namespace or its id. `variable` is the variable
    the token comes from: it is what a refusal tells people to look at.
    """

    def __init__(self, url: str, path: str, token: Secret, *, variable: str) -> None:
        self.path, self.variable = path, variable
        credentials = {"private_token": token.reveal()} if token.reveal() else {}
        self._client = gitlab.Gitlab(url, session=http.session(stays=True), timeout=http.READ, **credentials)  # type: ignore[arg-type]
        self._project = self._client.projects.get(path, lazy=True)

    # Tags and releases -------------------------------------------------------------------------------------

    def protected_branches(self) -> list[str]:
        """Names of the branches that GitLab marks as protected."""
        with self._errors("read branches"):
            branches = self._project.branches.list(iterator=True)
            return [branch.name for branch in branches if branch.attributes.get("protected")]

    def tag(self, name: str) -> Tag | None:
        """A tag by its name, or None."""
        with self._errors("read tags"):
            found = self._maybe(self._project.tags.get, name)
            return Tag(found.name, found.commit["id"]) if found else None

    def create_tag(self, name: str, commit: str, message: str) -> None:
        with self._errors(f"create tag {name}"):
            self._project.tags.create({"tag_name": name, "ref": commit, "message": message})

    def has_release(self, tag: str) -> bool:
        with self._errors("read releases"):
            return self._maybe(self._project.releases.get, tag) is not None

    def create_release(self, tag: str, notes: str) -> None:
        with self._errors(f"create release {tag}"):
            self._project.releases.create({"tag_name": tag, "name": tag, "description": notes})

    # Pipelines ---------------------------------------------------------------------------------------------

    def pipelines(self, branch: str, most: int) -> list[Pipeline]:
        """The newest pipelines of a branch, newest first."""
        with self._errors("list pipelines"):
            found = self._project.pipelines.list(
                ref=branch, order_by="id", sort="desc", per_page=most, get_all=False
            )
            return [_pipeline(pipeline) for pipeline in found]

    def contains(self, sha: str, commit: str) -> bool:
        """Whether `commit` is `sha` or an ancestor of it (docs: Repositories API, "Merge Base").

        GitLab answers 400 for a commit it does not know and 404 for two without a common ancestor.
        """
        if sha == commit:
            return True
        with self._errors("compare commits"):
            base: Any = self._maybe(self._project.repository_merge_base, [sha, commit])
            return bool(base and base["id"] == commit)

    def start_by_trigger(
        self, branch: str, token: Secret, variables: Mapping[str, str], inputs: Mapping[str, str]
    ) -> Pipeline:
        """Start a pipeline with a trigger token or a job token (docs: Pipeline trigger tokens API)."""
        body: dict[str, Any] = {"ref": branch, "token": token.reveal(), "variables": dict(variables)}
        path = f"/projects/{self._project.encoded_id}/trigger/pipeline"
        return self._start(path, body | ({"inputs": dict(inputs)} if inputs else {}))

    def start(self, branch: str, variables: Mapping[str, str], inputs: Mapping[str, str]) -> Pipeline:
        """Start a pipeline with an access token (docs: Pipelines API, "Create a new pipeline")."""
        body: dict[str, Any] = {"ref": branch}
        if variables:
            body["variables"] = [{"key": key, "value": value} for key, value in variables.items()]
        return self._start(
            f"/projects/{self._project.encoded_id}/pipeline",
            body | ({"inputs": dict(inputs)} if inputs else {}),
        )

    def _start(self, path: str, body: dict[str, Any]) -> Pipeline:
        with self._errors("start a pipeline"):
            made: Any = self._client.http_post(path, post_data=body)
            return Pipeline(
                made["id"], made["status"], made["sha"], made.get("web_url", ""), made.get("source", "api")
            )

    def pipeline(self, number: int) -> Pipeline:
        with self._errors(f"read pipeline {number}"):
            return _pipeline(self._project.pipelines.get(number))

    def failed_jobs(self, number: int) -> list[Job]:
        with self._errors(f"read jobs of pipeline {number}"):
            jobs = self._project.pipelines.get(number, lazy=True).jobs.list(iterator=True)
            return [Job(job.name, job.status, job.web_url) for job in jobs if _broke(job)]

    # How ---------------------------------------------------------------------------------------------------

    def _maybe(self, get: Any, key: Any) -> Any:
        """What `get` finds, or None where GitLab says that there is no such thing."""
        try:
            return get(key)
        except GitlabError as error:
            unknown = error.response_code == 400 and "Could not find ref" in str(error.error_message)  # noqa: PLR2004 (Bad Request)
            if unknown or error.response_code == 404:  # noqa: PLR2004 (Not Found)
                return None
            raise

    @contextmanager
    def _errors(self, doing: str) -> Iterator[None]:
        try:
            with http.errors(self._client.url):
                yield
        except GitlabError as error:
            raise _said(error, doing, self.path, self.variable) from None


def _pipeline(found: Any) -> Pipeline:
    return Pipeline(found.id, found.status, found.sha, found.web_url, found.source)


def _broke(job: Any) -> bool:
    return job.status in {"failed", "canceled"} and not job.attributes.get("allow_failure")


def _said(error: GitlabError, doing: str, path: str, token: str) -> PipelineError:
    """GitLab's status code in our words (docs: REST API, "Status codes"); 404 stands for missing rights too."""
    code, message = error.response_code, f"GitLab refuses to {doing} in {path}: {error.error_message}"
    if code in {401, 403}:
        return Denied(
            message, hint=f"is {token} valid, with the right scope and role? Empty on an unprotected ref?"
        )
    if code == 404:  # noqa: PLR2004 (Not Found)
        return Denied(
            f"{message} (404)",
            hint=f"wrong project path, or {token} may not see it; for a job token: the project's job token "
            "allowlist, and the user's role there",
        )
    if code is not None and (code == 429 or code >= 500):  # noqa: PLR2004 (Too Many Requests, server errors)
        return Unavailable(message, hint="run it again")
    if code == 400 and "protected" in str(error.error_message):  # noqa: PLR2004 (so does lib/api/tags.rb answer)
        return Denied(
            message, hint=f"let the owner of {token} create it: Settings > Repository > Protected tags"
        )
    if code == 400 and "variables" in str(error.error_message):  # noqa: PLR2004 (Bad Request)
        return Denied(
            message, hint="allow pipeline variables in the project's CI/CD settings, or pass --input instead"
        )
    kind = Refused if code == 422 else PipelineError  # noqa: PLR2004 (Unprocessable)
    return kind(message, hint=f"GitLab's own words; its status code was {code}")
