"""`/access`: tickets, users, tokens, and one's own permissions."""

from __future__ import annotations

import re
import uuid

from labctl.sandbox.pve import privileges
from labctl.sandbox.pve.errors import ApiError
from labctl.sandbox.pve.formats import compact, split_list
from labctl.sandbox.pve.identity import hash_password, hash_token
from labctl.sandbox.pve.routing import Call, any_check, perm, route
from labctl.sandbox.pve.schema import BOOL, NATURAL, TEXT, Param
from labctl.sandbox.pve.state import Token, User

_USER_ID = Param(form=("user name", lambda value: bool(re.fullmatch(r"[^\s:/]+@[A-Za-z][A-Za-z0-9.\-_]+", value))), max_length=64)
_TOKEN_NAME = Param(pattern=r"[A-Za-z][A-Za-z0-9.\-_]+", required=True)
_USER = {
    "comment": TEXT,
    "email": TEXT,
    "enable": BOOL,
    "expire": NATURAL,
    "firstname": TEXT,
    "groups": TEXT,
    "keys": TEXT,
    "lastname": TEXT,
}
_ADMIN = perm("/access/groups", "User.Modify")


@route("GET", "/access", public=True)
def index(_call: Call) -> object:
    """What is below `/access`."""
    return [{"subdir": name} for name in ("users", "groups", "roles", "acl", "permissions", "ticket", "domains")]


@route("GET", "/access/domains", public=True)
def domains(_call: Call) -> object:
    """The realms."""
    return [{"realm": "pam", "type": "pam", "comment": "Linux PAM standard authentication"}, {"realm": "pve", "type": "pve"}]


@route(
    "POST",
    "/access/ticket",
    {
        "username": TEXT.must(),
        "password": TEXT.must(),
        "realm": TEXT,
        "new-format": BOOL,
        "otp": TEXT,
        "path": TEXT,
        "privs": TEXT,
        "tfa-challenge": TEXT,
    },
    public=True,
)
def log_in(call: Call) -> object:
    """A ticket for a user and a password."""
    user, realm = call.text("username"), call.text("realm")
    answer = call.host.sessions.log_in(
        call.host.state, f"{user}@{realm}" if realm and "@" not in user else user, call.text("password")
    )
    caller = str(answer["username"])
    answer["cap"] = {
        area: privileges.permissions(call.host.state, caller, f"/{area}")
        for area in ("access", "nodes", "storage", "vms", "sdn", "mapping")
    }
    return answer


@route("GET", "/access/permissions", {"path": TEXT, "userid": TEXT})
def own_permissions(call: Call) -> object:
    """Privileges by path: one's own, or with Sys.Audit on /access another one's."""
    subject = call.text("userid", call.caller)
    if subject not in {call.caller, privileges.owner_of(call.caller)} and privileges.owner_of(subject) != call.caller:
        call.require("/access", "Sys.Audit")
    return privileges.effective(call.host.state, subject, call.text("path"))


@route("GET", "/access/users", {"enabled": BOOL, "full": BOOL})
def list_users(call: Call) -> object:
    """Users: all for an administrator or auditor, oneself for everybody else; with `full` their groups and tokens too."""
    everybody = call.allowed("/access/groups", "User.Modify", "Sys.Audit", any_of=True)
    mine = privileges.owner_of(call.caller)
    chosen = [(name, user) for name, user in call.host.state.users.items() if everybody or name == mine]
    if not call.flag("full"):
        return [{key: value for key, value in _user(name, user).items() if key != "groups"} for name, user in chosen]
    return [{**_user(name, user), "groups": user.groups, "tokens": _tokens(call, name)} for name, user in chosen]


def _tokens(call: Call, user: str) -> list[dict[str, object]]:
    """A user's tokens, without their values."""
    return [
        {"tokenid": token_id.split("!")[1], **_token(token)}
        for token_id, token in call.host.state.tokens.items()
        if token_id.startswith(f"{user}!")
    ]


@route("POST", "/access/users", {"userid": _USER_ID.must(), "password": Param(max_length=64), **_USER}, check=_ADMIN)
def add_user(call: Call) -> None:
    """Make a user."""
    name = call.text("userid")
    if name in call.host.state.users:
        raise ApiError(500, f"create user failed: user '{name}' already exists")
    call.host.state.users[name] = _edited(User(), call)
    if call.text("password"):
        call.host.state.users[name].password = hash_password(call.text("password"))


@route("GET", "/access/users/{userid}", check=any_check(perm("/access/groups", "User.Modify", "Sys.Audit", any_of=True)))
def get_user(call: Call) -> object:
    """One user with groups and tokens."""
    name = call.text("userid")
    user = _existing_user(call, name)
    shown = _user(name, user)
    shown.pop("userid")
    shown["groups"] = split_list(user.groups)
    shown["tokens"] = {
        token_id.split("!")[1]: _token(token)
        for token_id, token in call.host.state.tokens.items()
        if token_id.startswith(f"{name}!")
    }
    return shown


@route("PUT", "/access/users/{userid}", {**_USER, "append": BOOL}, check=_ADMIN)
def edit_user(call: Call) -> None:
    """Change a user."""
    _edited(_existing_user(call, call.text("userid")), call)


@route("DELETE", "/access/users/{userid}", check=_ADMIN)
def remove_user(call: Call) -> None:
    """Remove a user with everything that names it."""
    state, name = call.host.state, call.text("userid")
    _existing_user(call, name)
    del state.users[name]
    state.tokens = {token_id: token for token_id, token in state.tokens.items() if not token_id.startswith(f"{name}!")}
    state.acl = [entry for entry in state.acl if privileges.owner_of(entry.ugid) != name]


@route(
    "PUT", "/access/password", {"userid": _USER_ID.must(), "password": Param(max_length=64).must(), "confirmation-password": TEXT}
)
def set_password(call: Call) -> None:
    """Set a password: one's own, or as an administrator another one's."""
    if call.text("userid") != call.caller:
        _ADMIN(call)
    _existing_user(call, call.text("userid")).password = hash_password(call.text("password"))


@route("GET", "/access/users/{userid}/token")
def list_tokens(call: Call) -> object:
    """The tokens of a user."""
    _own_or_admin(call)
    name = call.text("userid")
    _existing_user(call, name)
    return _tokens(call, name)


@route("GET", "/access/users/{userid}/token/{tokenid}")
def get_token(call: Call) -> object:
    """One token, without its value."""
    _own_or_admin(call)
    return _token(_existing_token(call))


@route(
    "POST",
    "/access/users/{userid}/token/{tokenid}",
    {"comment": TEXT, "expire": NATURAL, "privsep": BOOL, "tokenid": _TOKEN_NAME},
)
def add_token(call: Call) -> object:
    """Make a token; its value is said this once."""
    _own_or_admin(call)
    _existing_user(call, call.text("userid"))
    token_id = f"{call.text('userid')}!{call.text('tokenid')}"
    if token_id in call.host.state.tokens:
        raise ApiError(500, f"create token failed: token '{token_id}' already exists")
    value = str(uuid.uuid4())
    token = Token(hash_token(value), int(call.flag("privsep", default=True)), call.number("expire"), call.text("comment"))
    call.host.state.tokens[token_id] = token
    return {"full-tokenid": token_id, "info": _token(token), "value": value}


@route(
    "PUT",
    "/access/users/{userid}/token/{tokenid}",
    {"comment": TEXT, "expire": NATURAL, "privsep": BOOL, "delete": TEXT, "regenerate": BOOL},
)
def edit_token(call: Call) -> object:
    """Change a token."""
    _own_or_admin(call)
    token = _existing_token(call)
    token.comment = "" if "comment" in call.items("delete") else call.text("comment", token.comment)
    token.expire = call.number("expire", token.expire)
    token.privsep = int(call.flag("privsep", default=bool(token.privsep)))
    return _token(token)


@route("DELETE", "/access/users/{userid}/token/{tokenid}")
def remove_token(call: Call) -> None:
    """Remove a token with its entries in the access control list."""
    _own_or_admin(call)
    _existing_token(call)
    token_id = f"{call.text('userid')}!{call.text('tokenid')}"
    del call.host.state.tokens[token_id]
    call.host.state.acl = [entry for entry in call.host.state.acl if entry.ugid != token_id]


def _user(name: str, user: User) -> dict[str, object]:
    return compact(
        {
            "userid": name,
            "enable": int(user.enable),
            "expire": int(user.expire),
            "comment": user.comment,
            "email": user.email,
            "firstname": user.firstname,
            "lastname": user.lastname,
            "keys": user.keys,
            "groups": user.groups,
            "realm-type": name.rpartition("@")[2],
        }
    )


def _edited(user: User, call: Call) -> User:
    for name in _USER:
        if name in call.args:
            value = call.text(name)
            setattr(user, name, int(call.flag(name)) if name == "enable" else int(value) if name == "expire" else value)
    return user


def _token(token: Token) -> dict[str, object]:
    return compact({"privsep": token.privsep, "expire": token.expire, "comment": token.comment})


def _existing_user(call: Call, name: str) -> User:
    if name not in call.host.state.users:
        raise ApiError(500, f"no such user ('{name}')")
    return call.host.state.users[name]


def _existing_token(call: Call) -> Token:
    _existing_user(call, call.text("userid"))
    token = call.host.state.tokens.get(f"{call.text('userid')}!{call.text('tokenid')}")
    if token is None:
        raise ApiError(500, f"no such token '{call.text('tokenid')}' for user '{call.text('userid')}'")
    return token


def _own_or_admin(call: Call) -> None:
    if privileges.owner_of(call.caller) != call.text("userid"):
        _ADMIN(call)
