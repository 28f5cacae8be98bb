"""What a release reads and makes in GitLab: tags, releases, pipelines and jobs."""

from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from gitlab.exceptions import GitlabError

from pipeline_tools.adapters.gitlab_client import Client
from pipeline_tools.errors import PipelineError, Stale
from pipeline_tools.text.masks import Secret
from pipeline_tools.text.proposals import Draft


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
class MergeRequest:
    """A merge request in GitLab's words; `sha` is the tip of its source branch.

    `merged_as` is the commit that it became on the target branch, once it is merged; `merges_itself` whether auto-merge
    is set; `pipeline` its newest pipeline, where it was asked for alone.
    """

    iid: int
    state: str
    url: str
    sha: str | None
    description: str
    merged_as: str | None
    has_conflicts: bool
    merges_itself: bool
    pipeline: Pipeline | None


ENDED = frozenset({"success", "failed", "canceled", "skipped"})
"""The states that no job leaves by itself (docs: Jobs API, "List project jobs", `scope`)."""


@dataclass(frozen=True)
class Job:
    """A job: its `id`, name, `status` (GitLab's words) and page, when it began and ended, and whose it is (a user name)."""

    id: int
    name: str
    status: str
    url: str
    finished_at: str | None = None
    started_at: str | None = None
    user: str = ""

    @property
    def has_ended(self) -> bool:
        return self.status in ENDED


class Project(Client):
    """The release's half of a project."""

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
            return [_job(job) for job in jobs if _broke(job)]

    def job(self, number: int) -> Job | None:
        """A job by its id, or None; a job token may not ask (docs: CI/CD job token, "Job token access")."""
        with self._errors(f"read job {number}"):
            found = self._maybe(self._project.jobs.get, number)
            return _job(found) if found else None

    # Merge requests (docs: Merge requests API) -----------------------------------------------------------------

    def merge_request(self, iid: int) -> MergeRequest:
        """One by its number, with its newest pipeline."""
        with self._errors(f"read !{iid}", "Reporter"):
            return _merge_request(self._project.mergerequests.get(iid))

    def merge_requests(self, source_branch: str, target_branch: str) -> list[MergeRequest]:
        """All from one branch into another, whatever their state, the newest first."""
        with self._errors("list merge requests", "Reporter"):
            rows = self._project.mergerequests.list(
                source_branch=source_branch,
                target_branch=target_branch,
                state="all",
                order_by="created_at",
                sort="desc",
                per_page=20,
                get_all=False,
            )
            return [_merge_request(row) for row in rows]

    def open_merge_request(self, draft: Draft) -> MergeRequest:
        """Open one; its source branch goes when it is merged.

        Raises:
            PipelineError: a reviewer is nobody; Stale: there is an open one from this branch by now.
        """
        ends = {"source_branch": draft.source_branch, "target_branch": draft.target_branch}
        with self._errors(f"open a merge request from {draft.source_branch}", "Developer"):
            body = {**ends, "remove_source_branch": True, **self._texts(draft)}
            try:
                return _merge_request(self._project.mergerequests.create(body))
            except GitlabError as error:
                if error.response_code == HTTPStatus.CONFLICT:
                    raise Stale(str(error.error_message)) from None
                raise

    def update_merge_request(self, iid: int, draft: Draft) -> None:
        """Give it these texts, and these labels and reviewers besides those it has."""
        with self._errors(f"update !{iid}", "Developer"):
            found = self._project.mergerequests.get(iid)
            body = self._texts(draft)
            body["add_labels"] = body.pop("labels")
            body["reviewer_ids"] += [row["id"] for row in found.attributes.get("reviewers") or []]
            if not draft.reviewers:
                del body["reviewer_ids"]
            self._project.mergerequests.update(iid, body)

    def _texts(self, draft: Draft) -> dict[str, Any]:
        return {
            "title": draft.title,
            "description": draft.description,
            "labels": ",".join(draft.labels),
            "reviewer_ids": [self._user_id(name) for name in draft.reviewers],
        }

    def _user_id(self, name: str) -> int:
        found: Any = self._client.http_get("/users", {"username": name.removeprefix("@")})
        if not found:
            raise PipelineError(
                f"there is no user {name!r} to review", hint="--reviewer takes the user name, as in @anna"
            )
        return int(found[0]["id"])

    def merge_when_ready(self, iid: int, sha: str) -> MergeRequest:
        """Let GitLab merge it once its pipeline succeeds, if its tip still is `sha` ("Merge a merge request").

        Older GitLab than 17.11 knows `merge_when_pipeline_succeeds` only, and each leaves out what it does not know.

        Raises:
            Stale: its tip is another one; Denied: the token may not merge; PipelineError: it cannot be merged.
        """
        body = {"sha": sha, "auto_merge": True, "merge_when_pipeline_succeeds": True}
        with self._errors(
            f"set !{iid} to merge by itself", "Developer, or whoever may merge into the branch"
        ):
            try:
                self._client.http_put(
                    f"/projects/{self._project.encoded_id}/merge_requests/{iid}/merge", post_data=body
                )
            except GitlabError as error:
                if error.response_code == HTTPStatus.CONFLICT:
                    raise Stale(f"!{iid} has another tip than {sha[:8]}") from None
                raise
        return self.merge_request(iid)


def _pipeline(found: Any) -> Pipeline:
    return Pipeline(found.id, found.status, found.sha, found.web_url, found.source)


def _job(found: Any) -> Job:
    more = found.attributes
    return Job(
        found.id,
        found.name,
        found.status,
        found.web_url,
        more.get("finished_at"),
        more.get("started_at"),
        (more.get("user") or {}).get("username", ""),
    )


def _broke(job: Any) -> bool:
    return job.status in {"failed", "canceled"} and not job.attributes.get("allow_failure")


def _merge_request(row: Any) -> MergeRequest:
    """One as the lists and the single view show it (docs: Merge requests API); only the latter has its pipeline."""
    found = row.attributes.get("head_pipeline")
    pipeline = found and Pipeline(
        found["id"], found["status"], found["sha"], found.get("web_url", ""), found.get("source", "")
    )
    return MergeRequest(
        iid=row.iid,
        state=row.state,
        url=row.web_url,
        sha=row.sha,
        description=row.description or "",
        merged_as=row.attributes.get("merge_commit_sha")
        or row.attributes.get("squash_commit_sha")
        or row.sha,
        has_conflicts=bool(row.attributes.get("has_conflicts")),
        merges_itself=bool(row.attributes.get("merge_when_pipeline_succeeds")),
        pipeline=pipeline or None,
    )
