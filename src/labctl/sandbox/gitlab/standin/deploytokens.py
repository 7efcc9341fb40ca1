"""Deploy tokens of projects: logins for machines, which are no user's and are good for one project."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

from .access import random_token
from .projects import the_project
from .state import Row, State, digest
from .web import Answer, Problem, Request, Route, page

SCOPES = (
    "read_repository",
    "read_registry",
    "write_registry",
    "read_package_registry",
    "write_package_registry",
    "read_virtual_registry",
    "write_virtual_registry",
)
_USERNAME = re.compile(r"[a-zA-Z0-9.+_-]{1,255}")
_LONGEST = 255


def username(token: Row) -> str:
    """What stands before the token in a login."""
    return str(token["username"] or f"gitlab+deploy-token-{token['id']}")


def active(token: Row) -> bool:
    """Whether it still opens anything."""
    return not token["revoked"] and not _expired(token)


def _expired(token: Row) -> bool:
    return bool(token["expires_at"]) and datetime.fromisoformat(token["expires_at"]).date() < datetime.now(UTC).date()


def _json(token: Row) -> Row:
    shown = {name: token[name] for name in ("id", "name", "expires_at", "scopes", "revoked")}
    return {**shown, "username": username(token), "expired": _expired(token)}


def _all(state: State, request: Request) -> Any:
    rows = state.where("deploy_tokens", project_id=the_project(state, request)["id"])
    return page(request, [_json(row) for row in rows if active(row) or not request.flag("active", False)])


def _make(state: State, request: Request) -> Any:
    project = the_project(state, request)
    name, wanted = request.value("name"), request.value("scopes")
    scopes = request.words("scopes")
    problems = ["name is missing"] if name is None else []
    problems += ["scopes is missing"] if wanted is None else []
    problems += ["scopes does not have a valid value"] if wanted is None or set(scopes) - set(SCOPES) else []
    expires_at = _moment(request.value("expires_at"), problems)
    if problems:
        raise Problem(400, {"error": ", ".join(problems)})
    own = request.value("username") or None
    said = []
    if not scopes:
        said.append("Scopes can't be blank")
    if own and not _USERNAME.fullmatch(str(own)):
        said.append("Username can contain only letters, digits, '_', '-', '+', and '.'")
    if len(str(name)) > _LONGEST:
        said.append(f"Name is too long (maximum is {_LONGEST} characters)")
    if said:
        raise Problem(400, {"message": " and ".join(said)})
    token = random_token("gldt-")
    row = {
        "project_id": project["id"],
        "creator_id": request.user["id"],
        "name": str(name),
        "username": own,
        "expires_at": expires_at,
        "scopes": [scope for scope in SCOPES if scope in scopes],
        "revoked": False,
        "digest": digest(token),
    }
    return Answer(201, {**_json(state.insert("deploy_tokens", row)), "token": token})


def _moment(given: Any, problems: list[str]) -> str | None:
    if not given:
        return None
    try:
        moment = datetime.fromisoformat(str(given))
    except ValueError:
        problems.append("expires_at is invalid")
        return None
    return moment.replace(tzinfo=moment.tzinfo or UTC).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")


def _one(state: State, request: Request) -> Row:
    project, wanted = the_project(state, request), request.parts["token_id"]
    if not wanted.isdigit():
        raise Problem(400, {"error": "token_id is invalid"})
    found = state.numbered("deploy_tokens", wanted, project_id=project["id"])
    if found is None:
        raise Problem(404, {"message": "404 Not found"})
    return found


def _show(state: State, request: Request) -> Any:
    return _json(_one(state, request))


def _remove(state: State, request: Request) -> Any:
    state.delete("deploy_tokens", _one(state, request))
    return Answer(204)


ROUTES: tuple[Route, ...] = (
    ("GET", "/projects/:project/deploy_tokens", _all),
    ("POST", "/projects/:project/deploy_tokens", _make),
    ("GET", "/projects/:project/deploy_tokens/:token_id", _show),
    ("DELETE", "/projects/:project/deploy_tokens/:token_id", _remove),
)
