"""Pipelines and their jobs: made by users or trigger tokens, run by runners, with GitLab's statuses.

There is no repository here, so a pipeline has one job, `standin`. What becomes of it, variables of the pipeline say:
`STANDIN_RESULT` (`success` where nothing is said, `failed`, `manual`, `skipped`) and `STANDIN_SECONDS`, how long a runner works
on it.
"""

from __future__ import annotations

from typing import Any

from .access import random_token, user_json
from .projects import find_project, the_project
from .state import Row, State, digest, now
from .web import Answer, Problem, Request, Route, not_found, page

ENDED = ("success", "failed", "canceled", "skipped")
ACTIVE = ("created", "waiting_for_resource", "preparing", "pending", "running", "scheduled")


def pipeline_json(state: State, row: Row, *, full: bool = False) -> Row:
    """A pipeline as the API shows it."""
    project = find_project(state, str(row["project_id"])) or {}
    names = ("id", "iid", "project_id", "sha", "ref", "status", "source", "created_at", "updated_at", "name")
    found = {name: row[name] for name in names}
    found["web_url"] = f"{state.data.get('external_url', '')}/{project.get('path_with_namespace')}/-/pipelines/{row['id']}"
    if full:
        user = state.find("users", id=row["user_id"])
        found |= {name: row[name] for name in ("started_at", "finished_at")}
        found |= {"user": user_json(user) if user else None, "tag": False, "yaml_errors": None, "duration": None}
    return found


def job_json(state: State, row: Row) -> Row:
    """A job as the API shows it."""
    pipeline = state.find("pipelines", id=row["pipeline_id"]) or {}
    names = ("id", "name", "stage", "status", "created_at", "started_at", "finished_at", "tag_list", "failure_reason", "ref")
    shown = {name: row[name] for name in names}
    return {
        **shown,
        "allow_failure": False,
        "duration": None,
        "pipeline": {name: pipeline.get(name) for name in ("id", "project_id", "ref", "sha", "status")},
        "runner": {"id": row["runner_id"]} if row["runner_id"] else None,
        "tag": False,
    }


def _make(state: State, request: Request, project: Row, user_id: int, source: str) -> Row:
    (ref,) = request.required("ref")
    if ref != (project["default_branch"] or "main"):
        raise Problem(400, {"message": {"base": ["Reference not found"]}})
    variables = request.value("variables") or {}
    if isinstance(variables, list):
        variables = {str(one.get("key")): str(one.get("value")) for one in variables}
    inputs = {str(name): value for name, value in (request.value("inputs") or {}).items()}
    count = len(state.where("pipelines", project_id=project["id"])) + 1
    result = variables.get("STANDIN_RESULT", "success")
    status = result if result in ("manual", "skipped") else "created"
    moment = now()
    pipeline = state.insert(
        "pipelines",
        {
            "iid": count,
            "project_id": project["id"],
            "user_id": user_id,
            "ref": ref,
            "sha": digest(f"{project['id']} {ref}")[:40],
            "source": source,
            "status": status,
            "name": None,
            "updated_at": moment,
            "started_at": None,
            "finished_at": moment if status == "skipped" else None,
            "sealed_variables": {name: state.seal(str(value)) for name, value in variables.items()},
            "sealed_inputs": {name: state.seal(str(value)) for name, value in inputs.items()},
        },
    )
    _make_job(state, pipeline, "manual" if status == "manual" else "skipped" if status == "skipped" else "pending")
    return pipeline


def _make_job(state: State, pipeline: Row, status: str) -> Row:
    row = {
        "name": "standin",
        "stage": "test",
        "status": status,
        "project_id": pipeline["project_id"],
        "pipeline_id": pipeline["id"],
        "ref": pipeline["ref"],
        "tag_list": [],
        "runner_id": None,
        "started_at": None,
        "finished_at": None,
        "failure_reason": None,
        "digest": None,
    }
    return state.insert("jobs", row)


def _follow(state: State, job: Row) -> None:
    """The pipeline takes the status of its job."""
    pipeline = state.find("pipelines", id=job["pipeline_id"])
    if pipeline is not None:
        moment = now()
        pipeline.update({"status": job["status"], "updated_at": moment, "started_at": job["started_at"]})
        pipeline["finished_at"] = moment if job["status"] in ENDED else None


# --- for runners


def next_job(state: State, runner: Row) -> Row | None:
    """The oldest job that this runner may take."""
    for job in state.where("jobs", status="pending"):
        tags = set(job["tag_list"])
        if (tags or runner["run_untagged"]) and tags <= set(runner["tag_list"]):
            return job
    return None


def start_job(state: State, job: Row, runner: Row) -> Row:
    """Hands a job to a runner."""
    token = random_token("glcbt-")
    job.update({"status": "running", "started_at": now(), "runner_id": runner["id"], "digest": digest(token)})
    _follow(state, job)
    pipeline = state.find("pipelines", id=job["pipeline_id"]) or {}
    variables = [{"key": name, "value": state.unseal(value)} for name, value in pipeline["sealed_variables"].items()]
    info = {"id": job["id"], "name": job["name"], "stage": job["stage"], "project_id": job["project_id"]}
    return {"id": job["id"], "token": token, "job_info": info, "variables": variables, "steps": []}


def job_of_token(state: State, request: Request) -> Row:
    """The job whose own token was shown.

    Raises:
        Problem: 403, it is another's, or the job runs no longer.
    """
    token = request.value("token") or request.headers.get("job-token") or ""
    job = state.numbered("jobs", request.parts["job"])
    if job is None or not job["digest"] or job["digest"] != digest(str(token)):
        raise Problem(403, {"message": "403 Forbidden"})
    if job["status"] != "running":
        raise Problem(403, {"message": "403 Forbidden  - Job is not running"})
    return job


def end_job(state: State, request: Request) -> None:
    """A runner tells how a job stands."""
    job = job_of_token(state, request)
    told = request.value("state")
    if told in ("success", "failed"):
        reason = (request.value("failure_reason") or "script_failure") if told == "failed" else None
        job.update({"status": told, "finished_at": now(), "failure_reason": reason, "digest": None})
        _follow(state, job)


# --- for users


def _triggered(state: State, request: Request) -> Any:
    project = the_project(state, request)
    token, _ref = request.required("token", "ref")
    trigger = next(
        (row for row in state.where("triggers", project_id=project["id"]) if state.unseal(row["sealed"]) == token), None
    )
    if trigger is None:
        raise Problem(404, {"message": "404 Not Found"})
    trigger["last_used"] = now()
    return Answer(201, pipeline_json(state, _make(state, request, project, trigger["owner_id"], "trigger"), full=True))


def _made(state: State, request: Request) -> Any:
    project = the_project(state, request)
    return Answer(201, pipeline_json(state, _make(state, request, project, request.user["id"], "api"), full=True))


def _list(state: State, request: Request) -> Any:
    rows = state.where("pipelines", project_id=the_project(state, request)["id"])
    wanted = {name: request.query[name] for name in ("status", "ref", "source", "sha") if name in request.query}
    rows = [row for row in rows if all(row[name] == value for name, value in wanted.items())]
    return page(request, [pipeline_json(state, row) for row in reversed(rows)])


def _one(state: State, request: Request) -> Row:
    project, wanted = the_project(state, request), request.parts["pipeline"]
    if wanted == "latest":
        rows = state.where("pipelines", project_id=project["id"])
        found = rows[-1] if rows else None
    else:
        found = state.numbered("pipelines", wanted, project_id=project["id"])
    if found is None:
        raise not_found("Pipeline")
    return found


def _show(state: State, request: Request) -> Any:
    return pipeline_json(state, _one(state, request), full=True)


def _variables(state: State, request: Request) -> Any:
    found = _one(state, request)["sealed_variables"]
    return page(
        request, [{"key": k, "value": state.unseal(v), "variable_type": "env_var", "raw": False} for k, v in found.items()]
    )


def _pipeline_jobs(state: State, request: Request) -> Any:
    rows = state.where("jobs", pipeline_id=_one(state, request)["id"])
    return page(request, [job_json(state, row) for row in rows])


def _cancel_jobs(state: State, jobs: list[Row]) -> None:
    for job in jobs:
        if job["status"] in ACTIVE or job["status"] == "manual":
            job.update({"status": "canceled", "finished_at": now(), "digest": None})
            _follow(state, job)


def _cancel(state: State, request: Request) -> Any:
    pipeline = _one(state, request)
    _cancel_jobs(state, state.where("jobs", pipeline_id=pipeline["id"]))
    return Answer(201, pipeline_json(state, pipeline, full=True))


def _retry(state: State, request: Request) -> Any:
    pipeline = _one(state, request)
    last = state.where("jobs", pipeline_id=pipeline["id"])[-1]
    if last["status"] in ("failed", "canceled"):
        _follow(state, _make_job(state, pipeline, "pending"))
    return Answer(201, pipeline_json(state, pipeline, full=True))


def _remove(state: State, request: Request) -> Any:
    pipeline = _one(state, request)
    for job in state.where("jobs", pipeline_id=pipeline["id"]):
        state.delete("jobs", job)
    state.delete("pipelines", pipeline)
    return Answer(204)


def _jobs(state: State, request: Request) -> Any:
    rows = state.where("jobs", project_id=the_project(state, request)["id"])
    return page(request, [job_json(state, row) for row in reversed(rows)])


def _the_job(state: State, request: Request) -> Row:
    project, wanted = the_project(state, request), request.parts["job"]
    found = state.numbered("jobs", wanted, project_id=project["id"])
    if found is None:
        raise Problem(404, {"message": "404 Not found"})
    return found


def _job(state: State, request: Request) -> Any:
    return job_json(state, _the_job(state, request))


def _cancel_job(state: State, request: Request) -> Any:
    job = _the_job(state, request)
    _cancel_jobs(state, [job])
    return Answer(201, job_json(state, job))


def _play(state: State, request: Request) -> Any:
    job = _the_job(state, request)
    if job["status"] != "manual":
        raise Problem(400, {"message": "400 Bad request - Unplayable Job"})
    job["status"] = "pending"
    _follow(state, job)
    return job_json(state, job)


TRIGGER_ROUTES: tuple[Route, ...] = (("POST", "/projects/:project/trigger/pipeline", _triggered),)
"""What a trigger token opens."""

ROUTES: tuple[Route, ...] = (
    ("GET", "/projects/:project/pipelines", _list),
    ("POST", "/projects/:project/pipeline", _made),
    ("GET", "/projects/:project/pipelines/:pipeline", _show),
    ("DELETE", "/projects/:project/pipelines/:pipeline", _remove),
    ("GET", "/projects/:project/pipelines/:pipeline/variables", _variables),
    ("GET", "/projects/:project/pipelines/:pipeline/jobs", _pipeline_jobs),
    ("POST", "/projects/:project/pipelines/:pipeline/cancel", _cancel),
    ("POST", "/projects/:project/pipelines/:pipeline/retry", _retry),
    ("GET", "/projects/:project/jobs", _jobs),
    ("GET", "/projects/:project/jobs/:job", _job),
    ("POST", "/projects/:project/jobs/:job/cancel", _cancel_job),
    ("POST", "/projects/:project/jobs/:job/play", _play),
)
