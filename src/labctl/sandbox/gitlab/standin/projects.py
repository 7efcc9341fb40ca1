"""Groups, projects, their CI/CD variables and trigger tokens."""

from __future__ import annotations

import re
from typing import Any

from .access import admin, random_token, user_json
from .state import Row, State
from .web import Answer, Problem, Request, Route, invalid, not_found, page

_PATH = re.compile(r"[A-Za-z0-9_.][A-Za-z0-9_.-]*")
_KEY = re.compile(r"[A-Za-z0-9_]{1,255}")
_MASKABLE = re.compile(r"[A-Za-z0-9_+=/@:.~-]{8,}")
_ACCESS_LEVELS = ("disabled", "private", "enabled")


def find_project(state: State, wanted: str) -> Row | None:
    """A project by its id or its full path."""
    if wanted.isdigit():
        return state.find("projects", id=int(wanted))
    return next((row for row in state.rows("projects") if row["path_with_namespace"].lower() == wanted.lower()), None)


def the_project(state: State, request: Request) -> Row:
    """The project that the path names.

    Raises:
        Problem: 404.
    """
    if project := find_project(state, request.parts["project"]):
        return project
    raise not_found("Project")


def project_json(state: State, row: Row) -> Row:
    """A project as the API shows it."""
    group, external = find_group(state, row["namespace"]), state.data.get("external_url", "")
    owner = {"id": group["id"], "kind": "group"} if group else {"id": 1, "kind": "user"}
    full, registry = row["path_with_namespace"], registry_access(row)
    namespace = _group_json(state, group) if group else {"name": row["namespace"], "full_name": row["namespace"]}
    return {
        **{name: row[name] for name in ("id", "name", "path", "path_with_namespace", "description", "visibility", "created_at")},
        "name_with_namespace": f"{namespace['full_name']} / {row['name']}",
        "default_branch": row["default_branch"],
        "namespace": {
            **owner,
            "name": namespace["name"],
            "path": row["namespace"].rpartition("/")[2],
            "full_path": row["namespace"],
            "parent_id": group.get("parent_id") if group else None,
        },
        "web_url": f"{external}/{full}",
        "http_url_to_repo": f"{external}/{full}.git",
        "archived": False,
        "empty_repo": row["default_branch"] is None,
        "creator_id": row["creator_id"],
        "container_registry_enabled": registry != "disabled",
        "container_registry_access_level": registry,
        "container_registry_image_prefix": f"{state.data.get('registry_host', '')}/{full}".lower(),
        "shared_runners_enabled": True,
    }


def registry_access(project: Row) -> str:
    """Who may use a project's container registry: `disabled` is nobody."""
    return str(project.get("container_registry_access_level") or "enabled")


def _registry_access(request: Request, before: str) -> str:
    level = request.value("container_registry_access_level")
    if level is None:
        # The older parameter, which GitLab still takes.
        switch = request.value("container_registry_enabled")
        return before if switch is None else "enabled" if request.flag("container_registry_enabled", True) else "disabled"
    if level not in _ACCESS_LEVELS:
        raise Problem(400, {"error": "container_registry_access_level does not have a valid value"})
    return str(level)


def _projects(state: State, request: Request) -> Any:
    search = str(request.query.get("search", "")).lower()
    rows = [
        row for row in state.rows("projects") if search in row["path_with_namespace"].lower() or search in row["name"].lower()
    ]
    return page(request, [project_json(state, row) for row in reversed(rows)])


def _make_project(state: State, request: Request) -> Any:
    name, path = request.value("name"), request.value("path")
    if not name and not path:
        raise Problem(400, {"error": "name, path are missing, at least one parameter must be provided"})
    path = str(path or re.sub(r"[^a-z0-9_.-]+", "-", str(name).lower()).strip("-"))
    if not _PATH.fullmatch(path):
        raise invalid(path="can contain only letters, digits, '_', '-' and '.'.")
    namespace = request.user["username"]
    if request.value("namespace_id") is not None:
        group = state.find("groups", id=int(request.value("namespace_id")))
        if group is None:
            raise invalid(namespace="is not valid")
        namespace = full_path(group)
    if find_project(state, f"{namespace}/{path}") or find_group(state, f"{namespace}/{path}"):
        raise Problem(400, {"message": {"path": ["has already been taken"], "name": ["has already been taken"]}})
    readme = request.flag("initialize_with_readme", False)
    row = {
        "name": str(name or path),
        "path": path,
        "namespace": namespace,
        "path_with_namespace": f"{namespace}/{path}",
        "description": request.value("description"),
        "visibility": request.value("visibility") or state.data["settings"]["default_project_visibility"],
        "default_branch": (request.value("default_branch") or "main") if readme else request.value("default_branch"),
        "creator_id": request.user["id"],
        "container_registry_access_level": _registry_access(request, "enabled"),
    }
    return Answer(201, project_json(state, state.insert("projects", row)))


def _project(state: State, request: Request) -> Any:
    return project_json(state, the_project(state, request))


def _change_project(state: State, request: Request) -> Any:
    project = the_project(state, request)
    for name in ("name", "description", "visibility", "default_branch"):
        if request.value(name) is not None:
            project[name] = request.value(name)
    project["container_registry_access_level"] = _registry_access(request, registry_access(project))
    return project_json(state, project)


def _remove_project(state: State, request: Request) -> Any:
    project = the_project(state, request)
    for table in ("variables", "triggers", "pipelines", "jobs", "deploy_tokens", "issues", "issue_notes", "merge_requests"):
        for row in state.where(table, project_id=project["id"]):
            state.delete(table, row)
    state.delete("projects", project)
    return Answer(202, {"message": "202 Accepted"})


# --- groups


def full_path(group: Row) -> str:
    """A group's path, those of its ancestors before it."""
    return str(group.get("full_path") or group["path"])


def find_group(state: State, wanted: str) -> Row | None:
    """A group by its full path."""
    return next((row for row in state.rows("groups") if full_path(row).lower() == wanted.lower()), None)


def _group_json(state: State, row: Row) -> Row:
    names = ("id", "name", "path", "visibility", "description", "created_at")
    parent = state.find("groups", id=row["parent_id"]) if row.get("parent_id") else None
    return {
        **{name: row[name] for name in names},
        "full_path": full_path(row),
        "full_name": f"{_group_json(state, parent)['full_name']} / {row['name']}" if parent else row["name"],
        "web_url": f"{state.data.get('external_url', '')}/groups/{full_path(row)}",
        "parent_id": row.get("parent_id"),
    }


def _groups(state: State, request: Request) -> Any:
    search = str(request.query.get("search", "")).lower()
    return page(request, [_group_json(state, row) for row in state.rows("groups") if search in full_path(row).lower()])


def _make_group(state: State, request: Request) -> Any:
    name, path = request.required("name", "path")
    if not _PATH.fullmatch(str(path)):
        raise invalid(path="can contain only letters, digits, '_', '-' and '.'.")
    parent = None
    if request.value("parent_id") not in (None, ""):
        parent = state.numbered("groups", str(request.value("parent_id")))
        if parent is None:
            raise not_found("Group")
    full = f"{full_path(parent)}/{path}" if parent else str(path)
    # Users, groups and projects share one space of names.
    if find_group(state, full) or (find_project(state, full) if parent else state.find("users", username=full)):
        raise Problem(400, {"message": 'Failed to save group {:path=>["has already been taken"]}'})
    row = {
        "name": name,
        "path": path,
        "full_path": full,
        "parent_id": parent["id"] if parent else None,
        "visibility": request.value("visibility") or "private",
        "description": request.value("description"),
    }
    return Answer(201, _group_json(state, state.insert("groups", row)))


def _the_group(state: State, request: Request) -> Row:
    wanted = request.parts["group"]
    found = state.find("groups", id=int(wanted)) if wanted.isdigit() else find_group(state, wanted)
    if found is None:
        raise not_found("Group")
    return found


def _group(state: State, request: Request) -> Any:
    return _group_json(state, _the_group(state, request))


def _remove_group(state: State, request: Request) -> Any:
    admin(request)
    state.delete("groups", _the_group(state, request))
    return Answer(202, {"message": "202 Accepted"})


# --- variables


def _variable_json(state: State, row: Row) -> Row:
    names = ("variable_type", "key", "protected", "masked", "hidden", "raw", "environment_scope", "description")
    # A hidden variable is never shown again; a masked one is, and its value is kept out of job logs only.
    return {**{name: row[name] for name in names}, "value": None if row["hidden"] else state.unseal(row["sealed"])}


def _variables(state: State, request: Request) -> Any:
    rows = state.where("variables", project_id=the_project(state, request)["id"])
    return page(request, [_variable_json(state, row) for row in rows])


def _variable_fields(state: State, request: Request, before: Row) -> Row:
    row = dict(before)
    for name in ("variable_type", "environment_scope", "description"):
        if request.value(name) is not None:
            row[name] = request.value(name)
    for name in ("protected", "masked", "raw"):
        row[name] = request.flag(name, bool(before[name]))
    if request.flag("masked_and_hidden", False):
        row["masked"] = row["hidden"] = True
    value = state.unseal(before["sealed"]) if request.value("value") is None else str(request.value("value"))
    if row["masked"] and not _MASKABLE.fullmatch(value):
        raise invalid(value="is invalid")
    if row["variable_type"] not in ("env_var", "file"):
        raise Problem(400, {"error": "variable_type does not have a valid value"})
    return {**row, "sealed": state.seal(value)}


def _make_variable(state: State, request: Request) -> Any:
    project = the_project(state, request)
    key, _value = request.required("key"), request.value("value")
    if _value is None:
        raise Problem(400, {"error": "value is missing"})
    if not _KEY.fullmatch(str(key[0])):
        raise invalid(key="can contain only letters, digits and '_'.")
    scope = request.value("environment_scope") or "*"
    if state.find("variables", project_id=project["id"], key=key[0], environment_scope=scope):
        raise invalid(key=f"({key[0]}) has already been taken")
    empty = {
        "variable_type": "env_var",
        "environment_scope": "*",
        "description": None,
        "protected": False,
        "masked": False,
        "hidden": False,
        "raw": False,
        "sealed": state.seal(""),
    }
    row = state.insert("variables", {**_variable_fields(state, request, empty), "project_id": project["id"], "key": key[0]})
    return Answer(201, _variable_json(state, row))


def _the_variable(state: State, request: Request) -> Row:
    project = the_project(state, request)
    found = state.where("variables", project_id=project["id"], key=request.parts["key"])
    wanted = request.value("filter")
    if isinstance(wanted, dict) and "environment_scope" in wanted:
        found = [row for row in found if row["environment_scope"] == wanted["environment_scope"]]
    if not found:
        raise not_found("Variable")
    if len(found) > 1:
        raise Problem(
            409, {"message": "There are multiple variables with provided parameters. Please use 'filter[environment_scope]'"}
        )
    return found[0]


def _variable(state: State, request: Request) -> Any:
    return _variable_json(state, _the_variable(state, request))


def _change_variable(state: State, request: Request) -> Any:
    row = _the_variable(state, request)
    row.update(_variable_fields(state, request, row))
    return _variable_json(state, row)


def _remove_variable(state: State, request: Request) -> Any:
    state.delete("variables", _the_variable(state, request))
    return Answer(204)


# --- triggers


def _trigger_json(state: State, row: Row, request: Request) -> Row:
    token = state.unseal(row["sealed"])
    own = row["owner_id"] == request.user["id"]
    owner = user_json(state.find("users", id=row["owner_id"]) or request.user)
    shown = {name: row[name] for name in ("id", "description", "created_at", "last_used")}
    return {**shown, "token": token if own else token[:4], "updated_at": row["created_at"], "owner": owner}


def _triggers(state: State, request: Request) -> Any:
    rows = state.where("triggers", project_id=the_project(state, request)["id"])
    return page(request, [_trigger_json(state, row, request) for row in rows])


def _make_trigger(state: State, request: Request) -> Any:
    project = the_project(state, request)
    (description,) = request.required("description")
    row = {
        "project_id": project["id"],
        "description": description,
        "owner_id": request.user["id"],
        "last_used": None,
        "sealed": state.seal(random_token("glptt-", 40)),
    }
    return Answer(201, _trigger_json(state, state.insert("triggers", row), request))


def _the_trigger(state: State, request: Request) -> Row:
    project, wanted = the_project(state, request), request.parts["trigger"]
    found = state.numbered("triggers", wanted, project_id=project["id"])
    if found is None:
        raise not_found("Trigger")
    return found


def _trigger(state: State, request: Request) -> Any:
    return _trigger_json(state, _the_trigger(state, request), request)


def _change_trigger(state: State, request: Request) -> Any:
    row = _the_trigger(state, request)
    row["description"] = request.value("description") or row["description"]
    return _trigger_json(state, row, request)


def _remove_trigger(state: State, request: Request) -> Any:
    state.delete("triggers", _the_trigger(state, request))
    return Answer(204)


ROUTES: tuple[Route, ...] = (
    ("GET", "/groups", _groups),
    ("POST", "/groups", _make_group),
    ("GET", "/groups/:group", _group),
    ("DELETE", "/groups/:group", _remove_group),
    ("GET", "/projects", _projects),
    ("POST", "/projects", _make_project),
    ("GET", "/projects/:project", _project),
    ("PUT", "/projects/:project", _change_project),
    ("DELETE", "/projects/:project", _remove_project),
    ("GET", "/projects/:project/variables", _variables),
    ("POST", "/projects/:project/variables", _make_variable),
    ("GET", "/projects/:project/variables/:key", _variable),
    ("PUT", "/projects/:project/variables/:key", _change_variable),
    ("DELETE", "/projects/:project/variables/:key", _remove_variable),
    ("GET", "/projects/:project/triggers", _triggers),
    ("POST", "/projects/:project/triggers", _make_trigger),
    ("GET", "/projects/:project/triggers/:trigger", _trigger),
    ("PUT", "/projects/:project/triggers/:trigger", _change_trigger),
    ("DELETE", "/projects/:project/triggers/:trigger", _remove_trigger),
)
