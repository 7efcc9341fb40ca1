"""Merge requests and their notes, without the code that they are about: there are no repositories here."""

from __future__ import annotations

from typing import Any

from .access import user_json
from .projects import the_project
from .state import Row, State, now
from .web import Answer, Problem, Request, Route, not_found, page

LONGEST = 1_000_000
"""How many characters a note may have. Source: GitLab, "Application limits", size of comments."""

_EVENTS = {"close": "closed", "reopen": "opened"}
_ORDERS = ("created_at", "updated_at")


def _json(state: State, project: Row, row: Row) -> Row:
    names = ("id", "iid", "title", "description", "state", "created_at", "updated_at", "source_branch", "target_branch")
    author = state.find("users", id=row["author_id"]) or {"id": 0, "username": "ghost", "name": "Ghost User"}
    where = f"{project['path_with_namespace']}!{row['iid']}"
    return {
        **{name: row[name] for name in names},
        "project_id": project["id"],
        "source_project_id": project["id"],
        "target_project_id": project["id"],
        "author": user_json(author),
        "draft": str(row["title"]).lower().startswith("draft:"),
        "discussion_locked": None,
        "user_notes_count": len(_notes_of(state, row)),
        "references": {"short": f"!{row['iid']}", "relative": f"!{row['iid']}", "full": where},
        "web_url": f"{state.data.get('external_url', '')}/{project['path_with_namespace']}/-/merge_requests/{row['iid']}",
    }


def _make(state: State, request: Request) -> Any:
    project = the_project(state, request)
    source, target, title = request.required("source_branch", "target_branch", "title")
    if source == target:
        raise Problem(422, {"error": "You can't use same project/branch for source and target"})
    others = state.where("merge_requests", project_id=project["id"])
    open_one = next(
        (o for o in others if (o["source_branch"], o["target_branch"], o["state"]) == (source, target, "opened")), None
    )
    if open_one:
        said = f"Another open merge request already exists for this source branch: !{open_one['iid']}"
        raise Problem(409, {"message": [said]})
    row = {
        "project_id": project["id"],
        "iid": 1 + max((other["iid"] for other in others), default=0),
        "author_id": request.user["id"],
        "title": str(title),
        "description": request.value("description"),
        "state": "opened",
        "source_branch": str(source),
        "target_branch": str(target),
        "updated_at": now(),
    }
    return Answer(201, _json(state, project, state.insert("merge_requests", row)))


def _one(state: State, request: Request) -> tuple[Row, Row]:
    project, iid = the_project(state, request), request.parts["merge_request"]
    if not iid.isdigit():
        raise Problem(400, {"error": "merge_request_iid is invalid"})
    found = state.find("merge_requests", project_id=project["id"], iid=int(iid))
    if found is None:
        raise Problem(404, {"message": "404 Not found"})
    return project, found


def _all(state: State, request: Request) -> Any:
    project = the_project(state, request)
    wanted = str(request.query.get("state") or "all")
    rows = state.where("merge_requests", project_id=project["id"], **({} if wanted == "all" else {"state": wanted}))
    return page(request, [_json(state, project, row) for row in reversed(rows)])


def _show(state: State, request: Request) -> Any:
    return _json(state, *_one(state, request))


def _change(state: State, request: Request) -> Any:
    project, row = _one(state, request)
    for name in ("title", "description", "target_branch"):
        if request.value(name) is not None:
            row[name] = request.value(name)
    event = request.value("state_event")
    if event is not None:
        if event not in _EVENTS:
            raise Problem(400, {"error": "state_event does not have a valid value"})
        if row["state"] != "merged":
            row["state"] = _EVENTS[event]
    row["updated_at"] = now()
    return _json(state, project, row)


def _merge(state: State, request: Request) -> Any:
    project, row = _one(state, request)
    if row["state"] != "opened":
        raise Problem(405, {"message": "405 Method Not Allowed"})
    row["state"], row["updated_at"] = "merged", now()
    return _json(state, project, row)


# --- notes


def _notes_of(state: State, row: Row) -> list[Row]:
    return state.where("merge_request_notes", merge_request_id=row["id"])


def _note_json(state: State, row: Row, note: Row) -> Row:
    author = state.find("users", id=note["author_id"]) or {"id": 0, "username": "ghost", "name": "Ghost User"}
    return {
        **{name: note[name] for name in ("id", "body", "created_at", "updated_at")},
        "type": None,
        "attachment": None,
        "author": user_json(author),
        "system": False,
        "noteable_id": row["id"],
        "noteable_type": "MergeRequest",
        "noteable_iid": row["iid"],
        "project_id": row["project_id"],
        "resolvable": False,
        "confidential": False,
        "internal": False,
    }


def _body(request: Request) -> str:
    (body,) = request.required("body")
    text = str(body)
    if not text.strip():
        raise Problem(400, {"message": "400 Bad request - Note can't be blank"})
    if len(text) > LONGEST:
        said = f"Note is too long (maximum is {LONGEST} characters)"
        raise Problem(400, {"message": {"note": [said.removeprefix("Note ")]}})
    return text


def _notes(state: State, request: Request) -> Any:
    _project, row = _one(state, request)
    order, sort = request.query.get("order_by") or "created_at", request.query.get("sort") or "desc"
    if order not in _ORDERS or sort not in ("asc", "desc"):
        raise Problem(400, {"error": f"{'sort' if order in _ORDERS else 'order_by'} does not have a valid value"})
    found = sorted(_notes_of(state, row), key=lambda note: (note[order], note["id"]), reverse=sort == "desc")
    return page(request, [_note_json(state, row, note) for note in found])


def _make_note(state: State, request: Request) -> Any:
    _project, row = _one(state, request)
    kept = {"merge_request_id": row["id"], "author_id": request.user["id"], "body": _body(request), "updated_at": now()}
    return Answer(201, _note_json(state, row, state.insert("merge_request_notes", kept)))


def _the_note(state: State, request: Request) -> tuple[Row, Row]:
    _project, row = _one(state, request)
    found = state.numbered("merge_request_notes", request.parts["note"], merge_request_id=row["id"])
    if found is None:
        raise not_found("Note")
    return row, found


def _show_note(state: State, request: Request) -> Any:
    return _note_json(state, *_the_note(state, request))


def _change_note(state: State, request: Request) -> Any:
    row, note = _the_note(state, request)
    if note["author_id"] != request.user["id"] and not request.user.get("admin"):
        raise Problem(403, {"message": "403 Forbidden"})
    note["body"], note["updated_at"] = _body(request), now()
    return _note_json(state, row, note)


def _remove_note(state: State, request: Request) -> Any:
    _row, note = _the_note(state, request)
    state.delete("merge_request_notes", note)
    return Answer(204)


_ALL = "/projects/:project/merge_requests"
_NOTES = f"{_ALL}/:merge_request/notes"

ROUTES: tuple[Route, ...] = (
    ("GET", _ALL, _all),
    ("POST", _ALL, _make),
    ("GET", f"{_ALL}/:merge_request", _show),
    ("PUT", f"{_ALL}/:merge_request", _change),
    ("PUT", f"{_ALL}/:merge_request/merge", _merge),
    ("GET", _NOTES, _notes),
    ("POST", _NOTES, _make_note),
    ("GET", f"{_NOTES}/:note", _show_note),
    ("PUT", f"{_NOTES}/:note", _change_note),
    ("DELETE", f"{_NOTES}/:note", _remove_note),
)
