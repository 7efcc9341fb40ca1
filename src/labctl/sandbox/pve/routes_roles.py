"""`/access`: groups, roles, the access control list."""

from __future__ import annotations

import re
from collections.abc import Container

from labctl.sandbox.pve import privileges
from labctl.sandbox.pve.errors import ApiError, invalid
from labctl.sandbox.pve.formats import split_list
from labctl.sandbox.pve.routing import Call, perm, route
from labctl.sandbox.pve.schema import BOOL, TEXT, Param
from labctl.sandbox.pve.state import AclEntry

_ROLE_ID = Param(pattern=r"[A-Za-z0-9.\-_]+")
_ACL_PATH = re.compile(
    r"/|/access(/groups(/[^/]+)?|/realm(/[^/]+)?)?|/nodes(/[^/]+)?|/pool(/[^/]+){0,3}|/storage(/[^/]+)?|/vms(/\d{3,9})?"
    r"|/sdn(/(zones|vnets|controllers|fabrics|ipams|dns)(/[^/]+){0,4})?|/mapping(/(pci|usb|dir)(/[^/]+)?)?"
)


@route("GET", "/access/groups")
def list_groups(call: Call) -> object:
    """The groups."""
    users = call.host.state.users
    return [
        {
            "groupid": name,
            "comment": comment,
            "users": ",".join(user for user, entry in users.items() if name in split_list(entry.groups)),
        }
        for name, comment in call.host.state.groups.items()
    ]


@route("POST", "/access/groups", {"groupid": _ROLE_ID.must(), "comment": TEXT}, check=perm("/access/groups", "Group.Allocate"))
def add_group(call: Call) -> None:
    """Make a group."""
    if call.text("groupid") in call.host.state.groups:
        raise ApiError(500, f"create group failed: group '{call.text('groupid')}' already exists")
    call.host.state.groups[call.text("groupid")] = call.text("comment")


@route("GET", "/access/groups/{groupid}", check=perm("/access/groups", "Sys.Audit", "Group.Allocate", any_of=True))
def get_group(call: Call) -> object:
    """One group with its members."""
    name = _existing_group(call)
    members = [user for user, entry in call.host.state.users.items() if name in split_list(entry.groups)]
    return {"comment": call.host.state.groups[name], "members": members}


@route("PUT", "/access/groups/{groupid}", {"comment": TEXT}, check=perm("/access/groups", "Group.Allocate"))
def edit_group(call: Call) -> None:
    """Change a group."""
    call.host.state.groups[_existing_group(call)] = call.text("comment")


@route("DELETE", "/access/groups/{groupid}", check=perm("/access/groups", "Group.Allocate"))
def remove_group(call: Call) -> None:
    """Remove a group."""
    name = _existing_group(call)
    del call.host.state.groups[name]
    call.host.state.acl = [entry for entry in call.host.state.acl if (entry.type, entry.ugid) != ("group", name)]


@route("GET", "/access/roles")
def list_roles(call: Call) -> object:
    """Built-in roles and the lab's own."""
    built_in = [
        {"roleid": name, "privs": ",".join(sorted(held)), "special": 1} for name, held in privileges.BUILT_IN_ROLES.items()
    ]
    return built_in + [{"roleid": name, "privs": held, "special": 0} for name, held in call.host.state.roles.items()]


@route("POST", "/access/roles", {"roleid": _ROLE_ID.must(), "privs": TEXT}, check=perm("/access", "Sys.Modify"))
def add_role(call: Call) -> None:
    """Make a role."""
    name = call.text("roleid")
    if name in call.host.state.roles or name in privileges.BUILT_IN_ROLES:
        raise ApiError(500, f"create role failed: role '{name}' already exists")
    if name.upper().startswith("PVE"):
        raise invalid(roleid=f"role ID '{name}' is invalid (reserved prefix 'PVE')")
    call.host.state.roles[name] = _known_privileges(call)


@route("GET", "/access/roles/{roleid}")
def get_role(call: Call) -> object:
    """The privileges of a role."""
    name = call.text("roleid")
    if name not in call.host.state.roles and name not in privileges.BUILT_IN_ROLES:
        raise ApiError(500, f"role '{name}' does not exist")
    return dict.fromkeys(sorted(privileges.role_privileges(call.host.state, name)), 1)


@route("PUT", "/access/roles/{roleid}", {"privs": TEXT, "append": BOOL}, check=perm("/access", "Sys.Modify"))
def edit_role(call: Call) -> None:
    """Change a role of the lab's own."""
    name = _own_role(call)
    kept = split_list(call.host.state.roles[name]) if call.flag("append") else []
    call.host.state.roles[name] = ",".join(dict.fromkeys(kept + split_list(_known_privileges(call))))


@route("DELETE", "/access/roles/{roleid}", check=perm("/access", "Sys.Modify"))
def remove_role(call: Call) -> None:
    """Remove a role of the lab's own."""
    name = _own_role(call)
    del call.host.state.roles[name]
    call.host.state.acl = [entry for entry in call.host.state.acl if entry.roleid != name]


@route("GET", "/access/acl")
def list_acl(call: Call) -> object:
    """The access control list, as far as the caller may change it or audit it."""
    audit = call.allowed("/access", "Sys.Audit")
    return [
        {"path": entry.path, "type": entry.type, "ugid": entry.ugid, "roleid": entry.roleid, "propagate": entry.propagate}
        for entry in call.host.state.acl
        if audit or call.allowed(entry.path, "Permissions.Modify")
    ]


@route(
    "PUT",
    "/access/acl",
    {
        "path": TEXT.must(),
        "roles": TEXT.must(),
        "users": TEXT,
        "groups": TEXT,
        "tokens": TEXT,
        "propagate": BOOL,
        "delete": BOOL,
    },
    check=perm("{path}", "Permissions.Modify"),
)
def edit_acl(call: Call) -> None:
    """Grant roles on a path, or take them away."""
    state, path = call.host.state, re.sub(r"(?<=.)/+$", "", call.text("path"))
    if not _ACL_PATH.fullmatch(path):
        raise invalid(path=f"invalid ACL path '{path}'\n")
    subjects = [("user", name) for name in call.items("users")] + [("group", name) for name in call.items("groups")]
    subjects += [("token", name) for name in call.items("tokens")]
    if not subjects:
        raise invalid(users="either 'users', 'groups' or 'tokens' is required")
    known: dict[str, Container[str]] = {"user": state.users, "group": state.groups, "token": state.tokens}
    for role in call.items("roles"):
        if role not in state.roles and role not in privileges.BUILT_IN_ROLES:
            raise ApiError(500, f"role '{role}' does not exist")
        for kind, name in subjects:
            if name not in known[kind] and not call.flag("delete"):
                raise ApiError(500, f"{kind} '{name}' does not exist")
            state.acl = [
                entry for entry in state.acl if (entry.path, entry.type, entry.ugid, entry.roleid) != (path, kind, name, role)
            ]
            if not call.flag("delete"):
                state.acl.append(AclEntry(path, kind, name, role, int(call.flag("propagate", default=True))))


def _existing_group(call: Call) -> str:
    if call.text("groupid") not in call.host.state.groups:
        raise ApiError(500, f"group '{call.text('groupid')}' does not exist")
    return call.text("groupid")


def _own_role(call: Call) -> str:
    name = call.text("roleid")
    if name in privileges.BUILT_IN_ROLES:
        raise ApiError(500, f"auto-generated role '{name}' cannot be modified")
    if name not in call.host.state.roles:
        raise ApiError(500, f"role '{name}' does not exist")
    return name


def _known_privileges(call: Call) -> str:
    names = call.items("privs")
    unknown = [name for name in names if name not in privileges.ALL_PRIVILEGES]
    if unknown:
        raise invalid(privs=f"invalid format - invalid privilege '{unknown[0]}'\n")
    return ",".join(names)
