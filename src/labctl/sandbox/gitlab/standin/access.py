"""Who asks: users, personal access tokens, application settings."""

from __future__ import annotations

import secrets
import string
from datetime import date, timedelta
from typing import Any

from . import places
from .state import SETTINGS, Row, State, digest, now
from .web import Answer, Problem, Request, Route, invalid, not_found, page

SCOPES = (
    "api",
    "read_api",
    "read_user",
    "create_runner",
    "manage_runner",
    "k8s_proxy",
    "read_repository",
    "write_repository",
    "read_registry",
    "write_registry",
    "sudo",
    "admin_mode",
    "read_service_ping",
)
MOST_DAYS = 365
_LETTERS = string.ascii_letters + string.digits


def random_token(prefix: str, length: int = 20) -> str:
    """A new token."""
    return prefix + "".join(secrets.choice(_LETTERS) for _ in range(length))


def authenticate(state: State, request: Request) -> None:
    """Finds out who asks, from a personal access token.

    Raises:
        Problem: 401: none was shown, or it is unknown, revoked or expired; 403: it lacks the scope.
    """
    shown = request.headers.get("private-token") or request.query.get("private_token") or ""
    scheme, _, bearer = request.headers.get("authorization", "").partition(" ")
    if not shown and scheme.lower() == "bearer":
        shown = bearer.strip()
    token = state.find("tokens", digest=digest(shown)) if shown else None
    if token is None:
        raise Problem(401, {"message": "401 Unauthorized"})
    if token["revoked"]:
        raise _bad_token("Token was revoked. You have to re-authorize from the user.")
    if token["expires_at"] and date.fromisoformat(token["expires_at"]) <= date.today():  # noqa: DTZ011 (GitLab compares days)
        raise _bad_token("Token is expired. You can either do re-authorization or token refresh.")
    if not _allowed(request, set(token["scopes"])):
        body = {
            "error": "insufficient_scope",
            "error_description": "The request requires higher privileges than provided by the access token.",
            "scope": "api" if request.method != "GET" else "api read_api",
        }
        raise Problem(403, body)
    token["last_used_at"] = now()
    request.token = token
    request.user = state.find("users", id=token["user_id"]) or {}


def _bad_token(text: str) -> Problem:
    return Problem(401, {"error": "invalid_token", "error_description": text})


def _allowed(request: Request, scopes: set[str]) -> bool:
    if "api" in scopes:
        return True
    if request.method == "GET" and "read_api" in scopes:
        return True
    if request.path in ("/personal_access_tokens/self", "/user") and request.method == "GET":
        return True
    return request.method == "POST" and request.path == "/user/runners" and "create_runner" in scopes


def admin(request: Request) -> None:
    """Refuses whoever is no administrator."""
    if not request.user.get("admin"):
        raise Problem(403, {"message": "403 Forbidden"})


def user_json(user: Row, *, full: bool = False) -> Row:
    """A user as the API shows it."""
    found = {
        "id": user["id"],
        "username": user["username"],
        "name": user["name"],
        "state": "active",
        "locked": False,
        "avatar_url": None,
        "web_url": f"/{user['username']}",
    }
    if full:
        found |= {
            "email": user["email"],
            "is_admin": user["admin"],
            "created_at": user["created_at"],
            "two_factor_enabled": False,
        }
    return found


def token_json(token: Row) -> Row:
    """A personal access token as the API shows it: without its value."""
    expired = bool(token["expires_at"]) and date.fromisoformat(token["expires_at"]) <= date.today()  # noqa: DTZ011
    names = ("id", "name", "revoked", "created_at", "description", "scopes", "user_id", "last_used_at")
    shown = {name: token.get(name) for name in names}
    return {**shown, "active": not token["revoked"] and not expired, "expires_at": token["expires_at"]}


def check_token(row: Row, *, new: bool) -> None:
    """GitLab's validations of a personal access token.

    Raises:
        Problem: 400 with the reason.
    """
    if not row.get("name"):
        raise invalid(name="can't be blank")
    if not row.get("scopes"):
        raise invalid(scopes="can't be blank")
    if set(row["scopes"]) - set(SCOPES):
        raise invalid(scopes="can only contain available scopes")
    if not new:
        return
    if not row.get("expires_at"):
        raise invalid(expires_at="can't be blank")
    last = date.today() + timedelta(days=MOST_DAYS)  # noqa: DTZ011
    if date.fromisoformat(row["expires_at"]) > last:
        raise invalid(expires_at=f"must be before {last.isoformat()}")


def make_token(state: State, user: Row, value: str, row: Row) -> Row:
    """Keeps a new personal access token."""
    check_token(row, new=True)
    if state.find("tokens", digest=digest(value)):
        raise invalid(token_digest="has already been taken")  # noqa: S106 (the wording of an error)
    kept = {"user_id": user["id"], "revoked": False, "last_used_at": None, "description": None, "digest": digest(value)}
    return state.insert("tokens", {**row, **kept})


# --- the API


def _version(_state: State, _request: Request) -> Any:
    return {"version": places.VERSION, "revision": "standin", "enterprise": False, "kas": {"enabled": False}}


def _user(_state: State, request: Request) -> Any:
    return user_json(request.user, full=True)


def _users(state: State, request: Request) -> Any:
    wanted = {"username": request.query["username"]} if "username" in request.query else {}
    return page(request, [user_json(user, full=True) for user in state.where("users", **wanted)])


def _tokens(state: State, request: Request) -> Any:
    rows = state.rows("tokens")
    if not request.user["admin"]:
        rows = [row for row in rows if row["user_id"] == request.user["id"]]
    return page(request, [token_json(row) for row in rows])


def _one_token(state: State, request: Request) -> Row:
    if request.parts["token"] == "self":  # noqa: S105
        return request.token
    found = state.numbered("tokens", request.parts["token"])
    if found is None or (found["user_id"] != request.user["id"] and not request.user["admin"]):
        raise Problem(404, {"message": "404 Not Found"})
    return found


def _token(state: State, request: Request) -> Any:
    return token_json(_one_token(state, request))


def _revoke(state: State, request: Request) -> Any:
    _one_token(state, request)["revoked"] = True
    return Answer(204)


def _rotate(state: State, request: Request) -> Any:
    old = _one_token(state, request)
    value = random_token("glpat-")
    default = (date.today() + timedelta(days=7)).isoformat()  # noqa: DTZ011
    row = {"name": old["name"], "scopes": old["scopes"], "expires_at": request.value("expires_at") or default}
    owner = state.find("users", id=old["user_id"]) or {}
    made = make_token(state, owner, value, row)
    old["revoked"] = True
    return {**token_json(made), "token": value}


def _make(state: State, request: Request) -> Any:
    admin(request)
    user = state.numbered("users", request.parts["user"])
    if user is None:
        raise not_found("User")
    name, scopes = request.required("name", "scopes")
    value = random_token("glpat-")
    made = make_token(state, user, value, {"name": name, "scopes": list(scopes), "expires_at": request.value("expires_at")})
    return Answer(201, {**token_json(made), "token": value})


def _settings(state: State, request: Request) -> Any:
    admin(request)
    return {"id": 1, **state.data["settings"]}


def _set_settings(state: State, request: Request) -> Any:
    admin(request)
    known = {name: value for name, value in {**request.query, **request.body}.items() if name in SETTINGS}
    if not known:
        raise Problem(400, {"error": "at least one of the application settings must be provided"})
    for name, value in known.items():
        state.data["settings"][name] = request.flag(name, False) if isinstance(SETTINGS[name], bool) else value
    return {"id": 1, **state.data["settings"]}


ROUTES: tuple[Route, ...] = (
    ("GET", "/version", _version),
    ("GET", "/metadata", _version),
    ("GET", "/user", _user),
    ("GET", "/users", _users),
    ("POST", "/users/:user/personal_access_tokens", _make),
    ("GET", "/personal_access_tokens", _tokens),
    ("GET", "/personal_access_tokens/:token", _token),
    ("DELETE", "/personal_access_tokens/:token", _revoke),
    ("POST", "/personal_access_tokens/:token/rotate", _rotate),
    ("GET", "/application/settings", _settings),
    ("PUT", "/application/settings", _set_settings),
)
