"""REST: one job, by its id or by its own token."""

from typing import Any

from flask import jsonify

from sandbox.gitlab.api_ci import job_json
from sandbox.gitlab.api_repository import user_json
from sandbox.gitlab.model import Access, Job, Project
from sandbox.gitlab.web import Api, Call, missing, stamp


def register(api: Api) -> None:
    """Add endpoints of the Jobs API; of them a job token may use `GET /job` (docs: CI/CD job token, "Job token access")."""
    api.plain("GET", "/job", job=True)(current_job)
    api.route("GET", "/jobs/<int:number>", login=True)(get_job)


def current_job(call: Call) -> Any:
    """Show the job of a job token; 404 for other tokens (docs: Jobs API, "Get job token's job")."""
    token = call.token
    if token is None or token.job is None or token.project_id is None:
        missing("Job")
    return jsonify(_own_json(call, call.state.projects[token.project_id], token.job))


def get_job(call: Call, project: Project, number: int) -> Any:
    """Show a job (docs: Jobs API, "Get a single job")."""
    call.need(project, Access.REPORTER)
    own = next((job for job in project.jobs if job.id == number), None)
    return jsonify(_own_json(call, project, own) if own else _pipeline_job(call, project, number))


def _pipeline_job(call: Call, project: Project, number: int) -> dict[str, Any]:
    rows = [
        (pipeline, *row)
        for pipeline in project.pipelines
        for row in zip(pipeline.job_ids, pipeline.script.jobs, strict=True)
        if row[0] == number
    ]
    if not rows:
        missing("")
    return job_json(call, project, *rows[0])


def _own_json(call: Call, project: Project, job: Job) -> dict[str, Any]:
    return {
        "id": job.id,
        "name": job.name,
        "stage": job.stage,
        "status": job.status,
        "ref": job.ref,
        "tag": False,
        "allow_failure": False,
        "created_at": stamp(job.created),
        "started_at": stamp(job.created),
        "finished_at": stamp(job.finished_at),
        "user": user_json(call.state, job.user),
        "commit": {"id": job.sha, "short_id": job.sha[:8]},
        "project": {"ci_job_token_scope_enabled": False},
        "web_url": f"{project.web_url}/-/jobs/{job.id}",
        "artifacts": [],
        "runner": None,
    }
