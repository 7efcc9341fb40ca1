"""Issues of a project and the notes below them."""

from __future__ import annotations

from typing import Any

from .access import user_json
from .projects import the_project
from .state import Row, State, now
from .web import Answer, Problem, Request, Route, invalid, not_found, page

_TITLE, _TEXT = 255, 1_048_576
_CHANGES = ("title", "description", "labels", "add_labels", "remove_labels", "state_event", "confidential", "due_date")


def _author(state: State, row: Row) -> Row:
    return user_json(
        state.find("users", id=row["author_id"]) or {"id": row["author_id"], "username": "ghost", "name": "Ghost User"}
    )


def _json(state: State, project: Row, row: Row) -> Row:
    full, number = project["path_with_namespace"], row["iid"]
    external = state.data.get("external_url", "")
    api = f"{external}/api/v4/projects/{project['id']}"
    names = ("id", "iid", "project_id", "title", "description", "state", "created_at", "updated_at", "closed_at", "labels")
    notes = state.where("issue_notes", issue_id=row["id"])
    return {
        **{name: row[name] for name in names},
        "closed_by": user_json(state.find("users", id=row["closed_by_id"]) or {}) if row["closed_by_id"] else None,
        "milestone": None,
        "assignees": [],
        "assignee": None,
        "author": _author(state, row),
        "type": "ISSUE",
        "issue_type": "issue",
        "user_notes_count": len(notes),
        "merge_requests_count": 0,
        "upvotes": 0,
        "downvotes": 0,
        "due_date": row["due_date"],
        "confidential": row["confidential"],
        "discussion_locked": None,
        "moved_to_id": None,
        "severity": "UNKNOWN",
        "web_url": f"{external}/{full}/-/issues/{number}",
        "time_stats": {"time_estimate": 0, "total_time_spent": 0, "human_time_estimate": None, "human_total_time_spent": None},
        "task_completion_status": {"count": 0, "completed_count": 0},
        "has_tasks": False,
        "references": {"short": f"#{number}", "relative": f"#{number}", "full": f"{full}#{number}"},
        "_links": {"self": f"{api}/issues/{number}", "notes": f"{api}/issues/{number}/notes", "project": api},
    }


def _all(state: State, request: Request) -> Any:
    project = the_project(state, request)
    wanted = str(request.query.get("state") or "all")
    if wanted not in ("opened", "closed", "all"):
        raise Problem(400, {"error": "state does not have a valid value"})
    labels, search = request.words("labels"), str(request.query.get("search") or "").lower()
    found = [
        row
        for row in state.where("issues", project_id=project["id"])
        if wanted in ("all", row["state"])
        and _has_labels(row["labels"], labels)
        and (not search or search in f"{row['title']}\n{row['description'] or ''}".lower())
    ]
    order = request.query.get("order_by") or "created_at"
    if order not in ("created_at", "updated_at", "title"):
        raise Problem(400, {"error": "order_by does not have a valid value"})
    found.sort(key=lambda row: (row[order], row["id"]), reverse=request.query.get("sort", "desc") != "asc")
    return page(request, [_json(state, project, row) for row in found])


def _has_labels(labels: list[str], wanted: list[str]) -> bool:
    """All of the wanted; `Any` and `None` are words of the API."""
    if [word.lower() for word in wanted] == ["none"]:
        return not labels
    if [word.lower() for word in wanted] == ["any"]:
        return bool(labels)
    return set(wanted) <= set(labels)


def _checked(request: Request) -> None:
    title, description = request.value("title"), request.value("description")
    if title is not None and not str(title).strip():
        raise invalid(title="can't be blank")
    if title is not None and len(str(title)) > _TITLE:
        raise invalid(title=f"is too long (maximum is {_TITLE} characters)")
    if description is not None and len(str(description)) > _TEXT:
        raise invalid(description=f"is too long (maximum is {_TEXT} characters)")


def _make(state: State, request: Request) -> Any:
    project = the_project(state, request)
    (title,) = request.required("title")
    _checked(request)
    number = 1 + max((row["iid"] for row in state.where("issues", project_id=project["id"])), default=0)
    row = {
        "iid": number,
        "project_id": project["id"],
        "title": str(title).strip(),
        "description": request.value("description"),
        "state": "opened",
        "labels": sorted(set(request.words("labels"))),
        "author_id": request.user["id"],
        "closed_by_id": None,
        "closed_at": None,
        "due_date": request.value("due_date"),
        "confidential": request.flag("confidential", False),
        "updated_at": now(),
    }
    return Answer(201, _json(state, project, state.insert("issues", row)))


def _one(state: State, request: Request) -> tuple[Row, Row]:
    project, wanted = the_project(state, request), request.parts["issue"]
    if not wanted.isdigit():
        raise Problem(400, {"error": "issue_iid is invalid"})
    found = state.find("issues", project_id=project["id"], iid=int(wanted))
    if found is None:
        raise not_found("Issue")
    return project, found


def _show(state: State, request: Request) -> Any:
    return _json(state, *_one(state, request))


def _change(state: State, request: Request) -> Any:
    project, row = _one(state, request)
    if all(request.value(name) is None for name in _CHANGES):
        raise Problem(400, {"error": f"{', '.join(_CHANGES)} are missing, at least one parameter must be provided"})
    event = request.value("state_event")
    if event not in (None, "close", "reopen"):
        raise Problem(400, {"error": "state_event does not have a valid value"})
    _checked(request)
    for name in ("title", "description", "due_date"):
        if request.value(name) is not None:
            row[name] = request.value(name)
    if request.value("labels") is not None:
        row["labels"] = sorted(set(request.words("labels")))
    row["labels"] = sorted((set(row["labels"]) | set(request.words("add_labels"))) - set(request.words("remove_labels")))
    # An event that changes nothing is let pass.
    if event == "close" and row["state"] == "opened":
        row |= {"state": "closed", "closed_at": now(), "closed_by_id": request.user["id"]}
    elif event == "reopen" and row["state"] == "closed":
        row |= {"state": "opened", "closed_at": None, "closed_by_id": None}
    row["updated_at"] = now()
    return _json(state, project, row)


def _remove(state: State, request: Request) -> Any:
    _project, row = _one(state, request)
    for note in state.where("issue_notes", issue_id=row["id"]):
        state.delete("issue_notes", note)
    state.delete("issues", row)
    return Answer(204)


# --- notes


def _note_json(state: State, issue: Row, row: Row) -> Row:
    return {
        **{name: row[name] for name in ("id", "body", "created_at", "updated_at", "project_id")},
        "type": None,
        "attachment": None,
        "author": _author(state, row),
        "system": False,
        "noteable_id": issue["id"],
        "noteable_type": "Issue",
        "noteable_iid": issue["iid"],
        "resolvable": False,
        "confidential": False,
        "internal": False,
        "imported": False,
        "imported_from": "none",
        "commands_changes": {},
    }


def _notes(state: State, request: Request) -> Any:
    _project, issue = _one(state, request)
    found = state.where("issue_notes", issue_id=issue["id"])
    if request.query.get("sort", "desc") != "asc":
        found = found[::-1]
    return page(request, [_note_json(state, issue, row) for row in found])


def _make_note(state: State, request: Request) -> Any:
    project, issue = _one(state, request)
    (body,) = request.required("body")
    if len(str(body)) > _TEXT:
        raise Problem(400, {"message": f"Note is too long (maximum is {_TEXT} characters)"})
    issue["updated_at"] = now()
    row = {"issue_id": issue["id"], "project_id": project["id"], "body": str(body), "author_id": request.user["id"]}
    return Answer(201, _note_json(state, issue, state.insert("issue_notes", {**row, "updated_at": now()})))


ROUTES: tuple[Route, ...] = (
    ("GET", "/projects/:project/issues", _all),
    ("POST", "/projects/:project/issues", _make),
    ("GET", "/projects/:project/issues/:issue", _show),
    ("PUT", "/projects/:project/issues/:issue", _change),
    ("DELETE", "/projects/:project/issues/:issue", _remove),
    ("GET", "/projects/:project/issues/:issue/notes", _notes),
    ("POST", "/projects/:project/issues/:issue/notes", _make_note),
)
