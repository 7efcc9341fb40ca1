"""Runners: made by users, checked and removed by themselves with their token; and the jobs that they ask for."""

from __future__ import annotations

from typing import Any

from . import pipelines
from .access import admin, random_token
from .state import Row, State, age_s, digest, now
from .web import Answer, Problem, Request, Route, not_found, page

ONLINE_S = 2 * 3600.0
_KINDS = ("instance_type", "group_type", "project_type")
_LEVELS = ("not_protected", "ref_protected")


def runner_json(runner: Row, *, full: bool = False) -> Row:
    """A runner as the API shows it: without its token."""
    seen = age_s(runner["contacted_at"])
    status = "never_contacted" if runner["contacted_at"] is None else "online" if seen < ONLINE_S else "offline"
    found = {
        "id": runner["id"],
        "description": runner["description"],
        "ip_address": runner["ip_address"],
        "active": not runner["paused"],
        "paused": runner["paused"],
        "is_shared": runner["runner_type"] == "instance_type",
        "runner_type": runner["runner_type"],
        "name": runner["name"],
        "online": status == "online",
        "status": status,
        "created_at": runner["created_at"],
        "created_by": {"id": runner["user_id"]},
    }
    if full:
        names = ("tag_list", "run_untagged", "locked", "maximum_timeout", "access_level", "version", "revision", "platform")
        found |= {name: runner[name] for name in (*names, "architecture", "contacted_at", "maintenance_note")}
        found |= {"projects": [], "groups": []}
    return found


def _fields(request: Request, before: Row) -> Row:
    fields = {
        "description": request.value("description"),
        "maintenance_note": request.value("maintenance_note"),
        "access_level": request.value("access_level"),
        "maximum_timeout": request.value("maximum_timeout"),
    }
    row = {**before, **{name: value for name, value in fields.items() if value is not None}}
    for name in ("paused", "locked", "run_untagged"):
        row[name] = request.flag(name, bool(before[name]))
    if request.value("active") is not None:
        row["paused"] = not request.flag("active", True)
    if request.value("tag_list") is not None:
        row["tag_list"] = sorted(set(request.words("tag_list")))
    if row["access_level"] not in _LEVELS:
        raise Problem(400, {"error": "access_level does not have a valid value"})
    if not row["run_untagged"] and not row["tag_list"]:
        raise Problem(400, {"message": {"tags_list": ["can not be empty when runner is not allowed to pick untagged jobs"]}})
    if row["maximum_timeout"] is not None and int(row["maximum_timeout"]) < 600:
        raise Problem(400, {"message": {"maximum_timeout": ["needs to be at least 10 minutes"]}})
    return row


_NEW: Row = {
    "description": None,
    "maintenance_note": None,
    "access_level": "not_protected",
    "maximum_timeout": None,
    "paused": False,
    "locked": False,
    "run_untagged": True,
    "tag_list": [],
    "name": None,
    "version": None,
    "revision": None,
    "platform": None,
    "architecture": None,
    "ip_address": None,
    "contacted_at": None,
}


def _create(state: State, request: Request) -> Any:
    kind = request.value("runner_type")
    if not kind:
        raise Problem(400, {"error": "runner_type is missing, runner_type does not have a valid value"})
    if kind not in _KINDS:
        raise Problem(400, {"error": "runner_type does not have a valid value"})
    if kind == "instance_type":
        admin(request)
    else:
        request.required(kind.replace("_type", "_id"))
    row = _fields(request, _NEW)
    token = random_token("glrt-t1_" if kind == "instance_type" else "glrt-")
    made = state.insert("runners", {**row, "runner_type": kind, "user_id": request.user["id"], "digest": digest(token)})
    return Answer(201, {"id": made["id"], "token": token, "token_expires_at": None})


def _all(state: State, request: Request) -> Any:
    admin(request)
    return _listed(request, state.rows("runners"))


def _own(state: State, request: Request) -> Any:
    return _listed(request, [row for row in state.rows("runners") if row["runner_type"] != "instance_type"])


def _listed(request: Request, rows: list[Row]) -> Answer:
    wanted = request.query
    shown = []
    for row in rows:
        found = runner_json(row)
        if "type" in wanted and wanted["type"] != row["runner_type"]:
            continue
        if "status" in wanted and wanted["status"] not in (found["status"], "paused" if row["paused"] else "active"):
            continue
        if "paused" in wanted and request.flag("paused", False) != row["paused"]:
            continue
        if set(request.words("tag_list")) - set(row["tag_list"]):
            continue
        shown.append(found)
    return page(request, sorted(shown, key=lambda found: -found["id"]))


def _one(state: State, request: Request) -> Row:
    found = state.numbered("runners", request.parts["runner"])
    if found is None:
        raise not_found("Runner")
    admin(request)
    return found


def _show(state: State, request: Request) -> Any:
    return runner_json(_one(state, request), full=True)


def _change(state: State, request: Request) -> Any:
    runner = _one(state, request)
    runner.update(_fields(request, runner))
    return runner_json(runner, full=True)


def _remove(state: State, request: Request) -> Any:
    state.delete("runners", _one(state, request))
    return Answer(204)


def _jobs(state: State, request: Request) -> Any:
    rows = state.where("jobs", runner_id=_one(state, request)["id"])
    return page(request, [pipelines.job_json(state, row) for row in rows])


def _reset(state: State, request: Request) -> Any:
    runner = _one(state, request)
    token = random_token("glrt-t1_")
    runner["digest"] = digest(token)
    return Answer(201, {"token": token, "token_expires_at": None})


# --- what runners themselves ask, with their own token


def _myself(state: State, request: Request) -> Row:
    (token,) = request.required("token")
    runner = state.find("runners", digest=digest(str(token)))
    if runner is None:
        raise Problem(403, {"message": "403 Forbidden"})
    info = request.value("info")
    told = (
        {name: value for name, value in info.items() if name in ("name", "version", "revision", "platform", "architecture")}
        if isinstance(info, dict)
        else {}
    )
    runner.update({**told, "contacted_at": now(), "ip_address": request.client})
    return runner


def _verify(state: State, request: Request) -> Any:
    runner = _myself(state, request)
    return {"id": runner["id"], "token": request.value("token"), "token_expires_at": None}


def _unregister(state: State, request: Request) -> Any:
    state.delete("runners", _myself(state, request))
    return Answer(204)


def _old_way(_state: State, request: Request) -> Any:
    request.required("token")
    # Registration tokens are off by default and go away in 20.0.
    raise Problem(403, {"message": "403 Forbidden"})


def _ask(state: State, request: Request) -> Any:
    runner = _myself(state, request)
    job = None if runner["paused"] else pipelines.next_job(state, runner)
    return Answer(204) if job is None else Answer(201, pipelines.start_job(state, job, runner))


def _tell(state: State, request: Request) -> Any:
    pipelines.end_job(state, request)
    return Answer(200, "200", content_type="text/plain")


def _trace(state: State, request: Request) -> Any:
    pipelines.job_of_token(state, request)
    return Answer(202, "202", {"Job-Status": "running"}, content_type="text/plain")


ROUTES: tuple[Route, ...] = (
    ("POST", "/user/runners", _create),
    ("GET", "/runners", _own),
    ("GET", "/runners/all", _all),
    ("GET", "/runners/:runner", _show),
    ("PUT", "/runners/:runner", _change),
    ("DELETE", "/runners/:runner", _remove),
    ("GET", "/runners/:runner/jobs", _jobs),
    ("POST", "/runners/:runner/reset_authentication_token", _reset),
)
RUNNER_ROUTES: tuple[Route, ...] = (
    ("POST", "/runners", _old_way),
    ("DELETE", "/runners", _unregister),
    ("POST", "/runners/verify", _verify),
    ("POST", "/jobs/request", _ask),
    ("PUT", "/jobs/:job", _tell),
    ("PATCH", "/jobs/:job/trace", _trace),
)
"""Those that a user's token does not open."""
