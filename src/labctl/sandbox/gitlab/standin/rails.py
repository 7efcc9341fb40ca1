"""`gitlab-rails runner`: what rails.rb, which stands for GitLab's own models, asks the process that has the database."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from . import access, places
from .state import SETTINGS, Row, State, digest
from .web import Problem

RUBY = Path(__file__).parent.parent / "rails.rb"


def perform(state: State, call: Row) -> Row:
    """Runs one call: `{"result": …}`, or `{"error": …, "kind": …}`, `kind` being the exception that GitLab raises."""
    try:
        return {"result": _CALLS[call["call"]](state, call["with"])}
    except Problem as problem:
        message = problem.body.get("message", problem.body)
        text = ", ".join(f"{name.replace('_', ' ').capitalize()} {said[0]}" for name, said in message.items())
        return {"kind": "ActiveRecord::RecordInvalid", "error": f"Validation failed: {text}"}
    except LookupError as error:
        return {"kind": "ActiveRecord::RecordNotFound", "error": str(error)}
    except AttributeError as error:
        return {"kind": "ActiveModel::UnknownAttributeError", "error": str(error)}


def _settings(state: State, given: Row) -> Any:
    for name in given:
        if name not in SETTINGS:
            raise AttributeError(f"unknown attribute '{name}' for ApplicationSetting.")
    state.data["settings"].update(given)
    return True


def _user(state: State, given: Row) -> Any:
    user = state.find("users", **given)
    return {name: user[name] for name in ("id", "username", "name", "email", "admin")} if user else None


def _token(state: State, given: Row) -> Any:
    return state.find("tokens", digest=digest(given["value"]))


def _tokens(state: State, given: Row) -> Any:
    return state.where("tokens", user_id=given["user_id"])


def _save(state: State, given: Row) -> Any:
    row, value = given["row"], given["value"]
    if row.get("id") is None:
        owner = state.find("users", id=row["user_id"])
        if owner is None:
            raise LookupError("Couldn't find User")
        new = {name: row.get(name) for name in ("name", "scopes", "expires_at")}
        return access.make_token(state, owner, value or access.random_token("glpat-"), new)
    kept = state.find("tokens", id=row["id"])
    if kept is None:
        raise LookupError("Couldn't find PersonalAccessToken")
    access.check_token(row, new=False)
    kept.update({name: row[name] for name in ("name", "scopes", "expires_at", "revoked")})
    if value:
        kept["digest"] = digest(value)
    return kept


_CALLS = {"settings": _settings, "user": _user, "token": _token, "tokens": _tokens, "save": _save}


def main(argv: list[str]) -> int:
    """`gitlab-rails runner FILE|CODE`; nothing else of Rails is here."""
    arguments = [word for word in argv if word not in ("-e", "production")]
    if arguments[:1] != ["runner"] or len(arguments) < 2:
        print("gitlab-rails: this stand-in knows `gitlab-rails runner FILE` only", file=sys.stderr)  # noqa: T201
        return 1
    os.environ["STANDIN_SOCKET"] = str(places.at(places.RAILS_SOCKET))
    return os.execvp("ruby", ["ruby", str(RUBY), *arguments[1:]])  # noqa: S606 (the command becomes Ruby)
