"""REST: pipelines, triggers, jobs and deployments."""

import json
from http import HTTPStatus
from typing import Any

from flask import jsonify, request

from sandbox.gitlab import ci, repository
from sandbox.gitlab.api_repository import user_json
from sandbox.gitlab.ci import RefusedError, Wish
from sandbox.gitlab.model import Access, Deployment, Project, Token
from sandbox.gitlab.pipelines import FINISHED, JobScript, Pipeline
from sandbox.gitlab.rules import may_run
from sandbox.gitlab.web import Api, ApiError, Call, instant, missing, page, refuse, stamp

FILTERS = ("ref", "sha", "status", "source")
SCOPES = {"running": {"running"}, "pending": {"pending"}, "finished": FINISHED}
ICONS = {"success": "passed"}


def register(api: Api) -> None:
    """Add the endpoints of the Pipelines, Pipeline trigger tokens, Jobs and Deployments APIs."""
    api.route("POST", "/pipeline")(create_pipeline)
    api.open("POST", "/projects/<enc:project_id>/trigger/pipeline")(trigger)
    api.open("POST", "/projects/<enc:project_id>/ref/<enc:ref>/trigger/pipeline")(trigger)
    api.route("GET", "/pipelines")(list_pipelines)
    api.route("GET", "/pipelines/latest")(latest_pipeline)
    api.route("GET", "/pipelines/<int:number>")(get_pipeline)
    api.route("GET", "/pipelines/<int:number>/jobs")(list_jobs)
    api.route("GET", "/pipelines/<int:number>/bridges")(list_bridges)
    api.route("GET", "/pipelines/<int:number>/variables")(list_variables)
    api.route("POST", "/pipelines/<int:number>/cancel")(cancel)
    api.route("POST", "/pipelines/<int:number>/retry")(retry)
    api.route("GET", "/deployments", job=True)(list_deployments)
    api.route("POST", "/deployments", job=True)(create_deployment)
    api.route("GET", "/deployments/<int:number>", job=True)(get_deployment)
    api.route("PUT", "/deployments/<int:number>", job=True)(update_deployment)


def _basic(project: Project, pipeline: Pipeline) -> dict[str, Any]:
    """Show a pipeline as lists do (docs: Pipelines API, "List project pipelines")."""
    return {
        "id": pipeline.id,
        "iid": pipeline.iid,
        "project_id": project.id,
        "status": pipeline.status,
        "source": pipeline.source,
        "ref": pipeline.ref,
        "sha": pipeline.sha,
        "name": None,
        "web_url": f"{project.web_url}/-/pipelines/{pipeline.id}",
        "created_at": stamp(pipeline.created),
        "updated_at": stamp(pipeline.updated),
    }


def _detailed(call: Call, project: Project, pipeline: Pipeline) -> dict[str, Any]:
    """Show a pipeline in full (docs: Pipelines API, "Get a single pipeline")."""
    started, finished, status = pipeline.started_at, pipeline.finished_at, pipeline.status
    label = ICONS.get(status, status)
    return _basic(project, pipeline) | {
        "before_sha": pipeline.before_sha,
        "tag": pipeline.tag,
        "yaml_errors": None,
        "user": user_json(call.state, pipeline.user),
        "started_at": stamp(started),
        "finished_at": stamp(finished),
        "committed_at": None,
        "duration": int(finished - started) if started and finished else None,
        "queued_duration": int(started - pipeline.created) if started else None,
        "coverage": None,
        "detailed_status": {
            "icon": f"status_{status}",
            "text": label,
            "label": label,
            "group": status,
            "tooltip": label,
            "has_details": False,
            "details_path": f"/{project.path}/-/pipelines/{pipeline.id}",
        },
    }


def create_pipeline(call: Call, project: Project) -> Any:
    """Create a pipeline for a branch or tag (docs: Pipelines API, "Create a new pipeline"); 403 below Developer."""
    ref = call.required("ref")
    call.need(project, Access.DEVELOPER)
    rows = call.params.get("variables") or []
    if not isinstance(rows, list) or not all(isinstance(row, dict) and "key" in row for row in rows):
        raise ApiError(HTTPStatus.BAD_REQUEST, {"error": "variables is invalid"})
    variables = tuple({name: str(value) for name, value in row.items()} for row in rows)
    return _started(call, project, Wish(ref, "api", call.user, variables, _inputs(call)))


def _inputs(call: Call) -> dict[str, Any]:
    inputs = call.params.get("inputs") or {}
    if not isinstance(inputs, dict):
        raise ApiError(HTTPStatus.BAD_REQUEST, {"error": "inputs is invalid"})
    return inputs


def _started(call: Call, project: Project, wish: Wish) -> Any:
    try:
        pipeline = ci.start(call.state, project, wish)
    except RefusedError as error:
        refuse(HTTPStatus.BAD_REQUEST, {"base": [str(error)]})
    return jsonify(_detailed(call, project, pipeline)), HTTPStatus.CREATED


def trigger(call: Call, project_id: str, ref: str = "") -> Any:
    """Start a pipeline by trigger or job token (docs: Pipeline trigger tokens API, "Trigger a pipeline with a token").

    404 for a bad token, and for a job token whose project is not on the allowlist or whose user has no role.
    """
    call.params.setdefault("ref", ref or None)
    wanted, secret = call.required("ref"), call.required("token")
    variables = call.params.get("variables") or {}
    if not isinstance(variables, dict) or not all(isinstance(value, str) for value in variables.values()):
        refuse(HTTPStatus.BAD_REQUEST, "variables needs to be a map of key-valued strings")
    project, token = call.state.project(project_id), call.state.token(secret)
    if project is None or token is None or not _may_trigger(project, token):
        missing("")
    call.token = token
    request.environ["sandbox.actor"] = token.name
    rows = tuple({"key": key, "value": value} for key, value in variables.items())
    source = "pipeline" if token.kind == "job" else "trigger"
    return _started(call, project, Wish(wanted, source, token.user, (*rows, _payload(call)), _inputs(call)))


def _may_trigger(project: Project, token: Token) -> bool:
    if token.kind == "job":
        listed = token.project_id in {project.id, *project.job_tokens}
        return listed and token.user.access(project) is not Access.NO_ACCESS
    return token.kind == "trigger" and token.project_id == project.id and not token.expired


def _payload(call: Call) -> dict[str, str]:
    """Give the variable that carries the whole request (docs: Trigger pipelines with the API, "Use a webhook payload")."""
    kept = {name: value for name, value in call.params.items() if name != "token"}
    return {"key": ci.PAYLOAD, "value": json.dumps(kept), "variable_type": "file"}


def _shown(call: Call, project: Project) -> list[Pipeline]:
    call.need(project, Access.GUEST)
    with call.state.lock:
        return [pipeline for pipeline in project.pipelines if pipeline.appears <= pipeline.clock()]


def list_pipelines(call: Call, project: Project) -> Any:
    """List pipelines, the newest first (docs: Pipelines API, "List project pipelines")."""
    rows = [pipeline for pipeline in _shown(call, project) if _wanted(call, pipeline)]
    by = call.optional("order_by", "id")
    keys = {"updated_at": lambda row: row.updated, "user_id": lambda row: row.user.id}
    rows.sort(
        key=keys.get(by, lambda row: getattr(row, by, row.id)),
        reverse=call.optional("sort", "desc") == "desc",
    )
    return page(rows, lambda pipeline: _basic(project, pipeline))


def _wanted(call: Call, pipeline: Pipeline) -> bool:
    plain = all(
        call.optional(name, str(getattr(pipeline, name))) == getattr(pipeline, name) for name in FILTERS
    )
    named = call.optional("username", pipeline.user.username) == pipeline.user.username
    return plain and named and _in_time(call, pipeline) and _in_scope(call.optional("scope"), pipeline)


def _in_time(call: Call, pipeline: Pipeline) -> bool:
    for name, moment in (("updated", pipeline.updated), ("created", pipeline.created)):
        after, before = call.optional(f"{name}_after"), call.optional(f"{name}_before")
        if (after and moment <= instant(after)) or (before and moment >= instant(before)):
            return False
    return True


def _in_scope(scope: str, pipeline: Pipeline) -> bool:
    if scope in {"branches", "tags"}:
        return pipeline.tag is (scope == "tags")
    return not scope or pipeline.status in SCOPES.get(scope, set())


def _pipeline(call: Call, project: Project, number: int) -> Pipeline:
    found = next((row for row in _shown(call, project) if row.id == number), None)
    if found is None:
        missing("")
    return found


def get_pipeline(call: Call, project: Project, number: int) -> Any:
    return jsonify(_detailed(call, project, _pipeline(call, project, number)))


def latest_pipeline(call: Call, project: Project) -> Any:
    """Show the last pipeline of a ref's tip; 403 when there is none (docs: Pipelines API, "Get the latest pipeline")."""
    ref = call.optional("ref", project.default_branch)
    tip = repository.resolve(project.repository, ref)
    found = [row for row in _shown(call, project) if row.ref == ref and row.sha == tip]
    if not found:
        refuse(HTTPStatus.FORBIDDEN)
    return jsonify(_detailed(call, project, found[-1]))


def job_json(call: Call, project: Project, pipeline: Pipeline, number: int, job: JobScript) -> dict[str, Any]:
    """Show a job (docs: Jobs API, "List pipeline jobs")."""
    status = pipeline.job_status(job)
    return {
        "id": number,
        "name": job.name,
        "stage": job.stage,
        "status": status,
        "ref": pipeline.ref,
        "tag": pipeline.tag,
        "allow_failure": job.allow_failure,
        "failure_reason": (job.failure_reason or "script_failure") if status == "failed" else None,
        "created_at": stamp(pipeline.created),
        "started_at": stamp(pipeline.started_at),
        "finished_at": stamp(pipeline.finished_at),
        "duration": None,
        "queued_duration": None,
        "user": user_json(call.state, pipeline.user),
        "commit": {"id": pipeline.sha, "short_id": pipeline.sha[:8]},
        "pipeline": {
            "id": pipeline.id,
            "project_id": project.id,
            "ref": pipeline.ref,
            "sha": pipeline.sha,
            "status": pipeline.status,
        },
        "project": {"ci_job_token_scope_enabled": False},
        "web_url": f"{project.web_url}/-/jobs/{number}",
        "artifacts": [],
        "runner": None,
    }


def list_jobs(call: Call, project: Project, number: int) -> Any:
    pipeline = _pipeline(call, project, number)
    scope = call.params.get("scope") or []
    wanted = [scope] if isinstance(scope, str) else scope
    rows = [
        job_json(call, project, pipeline, *row)
        for row in zip(pipeline.job_ids, pipeline.script.jobs, strict=True)
    ]
    return page([row for row in rows if not wanted or row["status"] in wanted], lambda row: row)


def list_bridges(call: Call, project: Project, number: int) -> Any:
    _pipeline(call, project, number)
    return page([], lambda row: row)


def list_variables(call: Call, project: Project, number: int) -> Any:
    """List variables, for Maintainers and for whoever started the pipeline (`app/policies/ci/pipeline_policy.rb`)."""
    pipeline = _pipeline(call, project, number)
    own = pipeline.user is call.user
    call.need(project, Access.DEVELOPER if own else Access.MAINTAINER)
    return page(pipeline.variables, lambda row: row)


def _changeable(call: Call, project: Project, number: int) -> Pipeline:
    """Find a pipeline that the user may change: Developer, and allowed on the ref when it is protected."""
    pipeline = _pipeline(call, project, number)
    call.need(project, Access.DEVELOPER)
    if not may_run(project, call.user, pipeline.ref, tag=pipeline.tag):
        refuse(HTTPStatus.FORBIDDEN)
    return pipeline


def cancel(call: Call, project: Project, number: int) -> Any:
    """Cancel a pipeline's jobs; 200 whatever its state (docs: Pipelines API, "Cancel all jobs for a pipeline")."""
    pipeline = _changeable(call, project, number)
    with call.state.lock:
        pipeline.cancel()
    return jsonify(_detailed(call, project, pipeline))


def retry(call: Call, project: Project, number: int) -> Any:
    """Retry failed and canceled jobs; 201 (docs: Pipelines API, "Retry jobs in a pipeline")."""
    pipeline = _changeable(call, project, number)
    with call.state.lock:
        pipeline.retry()
    return jsonify(_detailed(call, project, pipeline)), HTTPStatus.CREATED


def _deployment_json(call: Call, deployment: Deployment) -> dict[str, Any]:
    """Show a deployment (docs: Deployments API)."""
    return {
        "id": deployment.id,
        "iid": deployment.iid,
        "ref": deployment.ref,
        "sha": deployment.sha,
        "status": deployment.status,
        "created_at": stamp(deployment.created),
        "updated_at": stamp(deployment.updated),
        "user": user_json(call.state, deployment.user),
        "environment": {
            "id": deployment.environment_id,
            "name": deployment.environment,
            "external_url": None,
        },
        "deployable": None,
    }


def list_deployments(call: Call, project: Project) -> Any:
    """List deployments by environment, status and sort (docs: Deployments API, "List project deployments")."""
    call.need(project, Access.REPORTER)
    rows = [
        row
        for row in project.deployments
        if call.optional("environment", row.environment) == row.environment
        and call.optional("status", row.status) == row.status
    ]
    return page(
        rows[::-1] if call.optional("sort", "asc") == "desc" else rows,
        lambda row: _deployment_json(call, row),
    )


def create_deployment(call: Call, project: Project) -> Any:
    """Record a deployment (docs: Deployments API, "Create a deployment")."""
    call.need(project, Access.DEVELOPER)
    environment, sha, ref, status = (call.required(name) for name in ("environment", "sha", "ref", "status"))
    tag = call.flag("tag")
    if "tag" not in call.params:
        call.required("tag")
    if repository.resolve(project.repository, sha) is None:
        refuse(HTTPStatus.BAD_REQUEST, {"ref": ["The branch or tag does not exist"]})
    now = Pipeline.clock()
    with call.state.lock:
        place = project.environments.setdefault(environment, len(project.environments) + 1)
        iid = len(project.deployments) + 1
        row = Deployment(
            call.state.next_id("deployment"),
            iid,
            environment,
            place,
            ref,
            sha,
            tag,
            status,
            call.user,
            now,
            now,
        )
        project.deployments.append(row)
    return jsonify(_deployment_json(call, row)), HTTPStatus.CREATED


def _deployment(call: Call, project: Project, number: int) -> Deployment:
    call.need(project, Access.REPORTER)
    found = next((row for row in project.deployments if row.id == number), None)
    if found is None:
        missing("Deployment")
    return found


def get_deployment(call: Call, project: Project, number: int) -> Any:
    return jsonify(_deployment_json(call, _deployment(call, project, number)))


def update_deployment(call: Call, project: Project, number: int) -> Any:
    """Change a deployment's status (docs: Deployments API, "Update a deployment")."""
    row = _deployment(call, project, number)
    call.need(project, Access.DEVELOPER)
    with call.state.lock:
        row.status, row.updated = call.required("status"), Pipeline.clock()
    return jsonify(_deployment_json(call, row))
