"""Firewalls of the cluster, the node and the guests: options, rules, aliases, IP sets, security groups. Kept, never enforced."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from labctl.sandbox.pve.errors import ApiError, invalid
from labctl.sandbox.pve.formats import compact, digest
from labctl.sandbox.pve.routing import Call, Check, perm, route
from labctl.sandbox.pve.schema import BOOL, NATURAL, NETWORK_CIDR, TEXT, Param
from labctl.sandbox.pve.state import Firewall, Value

Handler = Callable[[Call, Firewall], object]

_NAME = Param(pattern=r"(?i)[a-z][a-z0-9\-_]+", max_length=64)
_LOG = Param(choices=("emerg", "alert", "crit", "err", "warning", "notice", "info", "debug", "nolog"))
_POLICY = Param(choices=("ACCEPT", "REJECT", "DROP"))
_RULE = {
    "action": Param(pattern=r"(?i)[a-z][a-z0-9\-_]+"),
    "comment": TEXT,
    "dest": TEXT,
    "digest": TEXT,
    "dport": TEXT,
    "enable": NATURAL,
    "icmp-type": TEXT,
    "iface": TEXT,
    "log": _LOG,
    "macro": TEXT,
    "pos": NATURAL,
    "proto": TEXT,
    "source": TEXT,
    "sport": TEXT,
    "type": Param(choices=("in", "out", "forward", "group")),
}
_OPTIONS = {
    "delete": TEXT,
    "digest": TEXT,
    "enable": NATURAL,
    "dhcp": BOOL,
    "ebtables": BOOL,
    "ipfilter": BOOL,
    "macfilter": BOOL,
    "ndp": BOOL,
    "radv": BOOL,
    "log_level_in": _LOG,
    "log_level_out": _LOG,
    "log_level_forward": _LOG,
    "log_ratelimit": TEXT,
    "policy_in": _POLICY,
    "policy_out": _POLICY,
    "policy_forward": Param(choices=("ACCEPT", "DROP")),
    "nosmurfs": BOOL,
    "tcpflags": BOOL,
    "nftables": BOOL,
    "smurf_log_level": _LOG,
    "tcp_flags_log_level": _LOG,
    "nf_conntrack_max": NATURAL,
    "nf_conntrack_tcp_timeout_established": NATURAL,
    "nf_conntrack_allow_invalid": BOOL,
    "protection_synflood": BOOL,
    "protection_synflood_burst": NATURAL,
    "protection_synflood_rate": NATURAL,
}
_SCOPES = {
    "/cluster/firewall": ("cluster", "/", "Sys.Audit", "Sys.Modify"),
    "/nodes/{node}/firewall": ("node", "/nodes/{node}", "Sys.Audit", "Sys.Modify"),
    "/nodes/{node}/qemu/{vmid}/firewall": ("qemu", "/vms/{vmid}", "VM.Audit", "VM.Config.Network"),
    "/nodes/{node}/lxc/{vmid}/firewall": ("lxc", "/vms/{vmid}", "VM.Audit", "VM.Config.Network"),
}


def _serve(method: str, path: str, params: dict[str, Param] | None = None, *, only: str = "") -> Callable[[Handler], Handler]:
    """Register a function under every scope (or `only` the cluster); it gets the scope's firewall."""

    def register(handler: Handler) -> Handler:
        for prefix, (scope, acl_path, reader, writer) in _SCOPES.items():
            if only in {"", scope}:
                check: Check = perm(acl_path, reader if method == "GET" else writer)
                route(method, prefix + path, params, check=check)(_bound(handler, scope))
        return handler

    return register


def _bound(handler: Handler, scope: str) -> Callable[[Call], object]:
    def run(call: Call) -> object:
        if scope in {"qemu", "lxc"}:
            call.host.guest(call.text("vmid"), scope)
            return handler(call, call.host.firewall(f"{scope}/{call.text('vmid')}"))
        return handler(call, call.host.firewall(scope))

    return run


@_serve("GET", "/options")
def get_options(_call: Call, firewall: Firewall) -> object:
    """The options that are set."""
    return {**firewall.options, "digest": digest(firewall.options)}


@_serve("PUT", "/options", _OPTIONS)
def set_options(call: Call, firewall: Firewall) -> None:
    """Set and delete options."""
    for name in call.items("delete"):
        firewall.options.pop(name, None)
    for name, param in _OPTIONS.items():
        if name in call.args and name not in {"delete", "digest"}:
            firewall.options[name] = _typed(call, name, param)


def _typed(call: Call, name: str, param: Param) -> Value:
    if param.kind == "boolean":
        return int(call.flag(name))
    return call.number(name) if param.kind == "integer" else call.text(name)


# ------------------------------------------------------------ rules, of a firewall or of a security group


def _group(call: Call, firewall: Firewall) -> dict[str, Any]:
    name = call.text("group")
    if name not in firewall.groups:
        raise ApiError(500, f"no such security group '{name}'")
    return firewall.groups[name]


def _rules(call: Call, firewall: Firewall) -> list[dict[str, Value]]:
    if "group" not in call.args:
        return firewall.rules
    rules: list[dict[str, Value]] = _group(call, firewall)["rules"]
    return rules


def _list_rules(call: Call, firewall: Firewall) -> object:
    rules = _rules(call, firewall)
    return [{**_shown(call, rule), "pos": number, "digest": digest(rules)} for number, rule in enumerate(rules)]


def _add_rule(call: Call, firewall: Firewall) -> None:
    rules = _rules(call, firewall)
    rule = _rule(call)
    if rule.get("type") == "group" and rule.get("action") not in call.host.firewall("cluster").groups:
        raise invalid(action=f"security group '{rule.get('action')}' does not exist")
    rules.insert(call.number("pos"), rule)


def _rule(call: Call) -> dict[str, Value]:
    rule: dict[str, Value] = {name: _typed(call, name, param) for name, param in _RULE.items() if name in call.args}
    for name in ("pos", "digest"):
        rule.pop(name, None)
    return rule


def _at(call: Call, firewall: Firewall) -> tuple[list[dict[str, Value]], int]:
    rules, position = _rules(call, firewall), call.number("pos")
    if position >= len(rules):
        raise ApiError(500, f"no rule at position {position}")
    return rules, position


def _get_rule(call: Call, firewall: Firewall) -> object:
    rules, position = _at(call, firewall)
    # As a string: it is the parameter of the path, and the provider reads it as one.
    return {**_shown(call, rules[position]), "pos": str(position), "digest": digest(rules)}


def _shown(call: Call, rule: dict[str, Value]) -> dict[str, Value]:
    """A rule with the IP version that its addresses or aliases decide."""
    aliases = call.host.firewall("cluster").aliases
    for side in ("source", "dest"):
        named = aliases.get(str(rule.get(side, "")).removeprefix("dc/"))
        address = str(named["cidr"] if named else rule.get(side, ""))
        if address[:1].isdigit() or ":" in address:
            return {**rule, "ipversion": 6 if ":" in address else 4}
    return rule


def _edit_rule(call: Call, firewall: Firewall) -> None:
    rules, position = _at(call, firewall)
    rule = rules[position]
    if "moveto" in call.args:
        rules.insert(call.number("moveto") - (call.number("moveto") > position), rules.pop(position))
        return
    for name in call.items("delete"):
        rule.pop(name, None)
    rule.update(_rule(call))


def _remove_rule(call: Call, firewall: Firewall) -> None:
    rules, position = _at(call, firewall)
    del rules[position]


_MUST_RULE = {**_RULE, "action": _RULE["action"].must(), "type": _RULE["type"].must()}
_POSITION = {"pos": NATURAL.must()}
for _path, _only in (("/rules", ""), ("/groups/{group}", "cluster")):
    _serve("GET", _path, only=_only)(_list_rules)
    _serve("POST", _path, _MUST_RULE, only=_only)(_add_rule)
    _serve("GET", _path + "/{pos}", _POSITION, only=_only)(_get_rule)
    _serve("PUT", _path + "/{pos}", {**_RULE, **_POSITION, "moveto": NATURAL, "delete": TEXT}, only=_only)(_edit_rule)
    _serve("DELETE", _path + "/{pos}", {**_POSITION, "digest": TEXT}, only=_only)(_remove_rule)


# ------------------------------------------------------------ security groups


@_serve("GET", "/groups", only="cluster")
def list_groups(_call: Call, firewall: Firewall) -> object:
    """The security groups."""
    return [
        compact({"group": name, "comment": group.get("comment"), "digest": digest(group)})
        for name, group in firewall.groups.items()
    ]


@_serve("POST", "/groups", {"group": _NAME.must(), "comment": TEXT, "rename": _NAME, "digest": TEXT}, only="cluster")
def add_group(call: Call, firewall: Firewall) -> None:
    """Make a security group, or with `rename` give one another name and comment."""
    name, old = call.text("group"), call.text("rename")
    if old:
        if old not in firewall.groups:
            raise ApiError(500, f"Security group '{old}' does not exist")
        group = firewall.groups.pop(old)
    elif name in firewall.groups:
        raise ApiError(500, f"Security group '{name}' already exists")
    else:
        group = {"rules": []}
    firewall.groups[name] = {**group, "comment": call.text("comment", str(group.get("comment", "")))}


@_serve("DELETE", "/groups/{group}", only="cluster")
def remove_group(call: Call, firewall: Firewall) -> None:
    """Remove an empty security group."""
    if _group(call, firewall)["rules"]:
        raise ApiError(500, f"Security group '{call.text('group')}' is not empty")
    del firewall.groups[call.text("group")]


# ------------------------------------------------------------ IP sets


def _ipset(call: Call, firewall: Firewall) -> dict[str, Any]:
    if call.text("name") not in firewall.ipsets:
        raise ApiError(500, f"no such IPSet '{call.text('name')}'")
    return firewall.ipsets[call.text("name")]


@_serve("GET", "/ipset")
def list_ipsets(_call: Call, firewall: Firewall) -> object:
    """The IP sets."""
    return [
        compact({"name": name, "comment": ipset.get("comment"), "digest": digest(ipset)})
        for name, ipset in firewall.ipsets.items()
    ]


@_serve("POST", "/ipset", {"name": _NAME.must(), "comment": TEXT, "rename": _NAME, "digest": TEXT})
def add_ipset(call: Call, firewall: Firewall) -> None:
    """Make an IP set, or with `rename` give one another name and comment."""
    name, old = call.text("name"), call.text("rename")
    if old and old not in firewall.ipsets:
        raise ApiError(500, f"IPSet '{old}' does not exist")
    if not old and name in firewall.ipsets:
        raise ApiError(500, f"IPSet '{name}' already exists")
    ipset = firewall.ipsets.pop(old) if old else {"cidrs": []}
    firewall.ipsets[name] = {**ipset, "comment": call.text("comment", str(ipset.get("comment", "")))}


@_serve("GET", "/ipset/{name}")
def get_ipset(call: Call, firewall: Firewall) -> object:
    """The networks of an IP set."""
    ipset = _ipset(call, firewall)
    return [{**entry, "digest": digest(ipset)} for entry in ipset["cidrs"]]


@_serve("POST", "/ipset/{name}", {"cidr": TEXT.must(), "comment": TEXT, "nomatch": BOOL})
def add_to_ipset(call: Call, firewall: Firewall) -> None:
    """Put a network into an IP set."""
    cidrs = _ipset(call, firewall)["cidrs"]
    if any(entry["cidr"] == call.text("cidr") for entry in cidrs):
        raise ApiError(500, f"address '{call.text('cidr')}' already exists")
    nomatch = {"nomatch": int(call.flag("nomatch"))} if "nomatch" in call.args else {}
    cidrs.append({**compact({"cidr": call.text("cidr"), "comment": call.text("comment")}), **nomatch})


@_serve("DELETE", "/ipset/{name}/{cidr:rest}", {"digest": TEXT})
def remove_from_ipset(call: Call, firewall: Firewall) -> None:
    """Take a network out of an IP set."""
    ipset = _ipset(call, firewall)
    ipset["cidrs"] = [entry for entry in ipset["cidrs"] if entry["cidr"] != call.text("cidr")]


@_serve("DELETE", "/ipset/{name}", {"force": BOOL})
def remove_ipset(call: Call, firewall: Firewall) -> None:
    """Remove an IP set; one with networks in it only by force."""
    if _ipset(call, firewall)["cidrs"] and not call.flag("force"):
        raise ApiError(500, f"IPSet '{call.text('name')}' is not empty")
    del firewall.ipsets[call.text("name")]


# ------------------------------------------------------------ aliases


@_serve("GET", "/aliases")
def list_aliases(_call: Call, firewall: Firewall) -> object:
    """The aliases."""
    return [{**alias, "digest": digest(firewall.aliases)} for alias in firewall.aliases.values()]


@_serve("POST", "/aliases", {"name": _NAME.must(), "cidr": NETWORK_CIDR.must(), "comment": TEXT})
def add_alias(call: Call, firewall: Firewall) -> None:
    """Make an alias."""
    if call.text("name") in firewall.aliases:
        raise invalid(name="alias already exists")
    firewall.aliases[call.text("name")] = _alias(call, call.text("name"))


@_serve("GET", "/aliases/{name}")
def get_alias(call: Call, firewall: Firewall) -> object:
    """One alias."""
    return _existing_alias(call, firewall)


@_serve("PUT", "/aliases/{name}", {"cidr": NETWORK_CIDR.must(), "comment": TEXT, "rename": _NAME, "digest": TEXT})
def edit_alias(call: Call, firewall: Firewall) -> None:
    """Change an alias."""
    _existing_alias(call, firewall)
    name = call.text("rename") or call.text("name")
    del firewall.aliases[call.text("name")]
    firewall.aliases[name] = _alias(call, name)


@_serve("DELETE", "/aliases/{name}", {"digest": TEXT})
def remove_alias(call: Call, firewall: Firewall) -> None:
    """Remove an alias."""
    _existing_alias(call, firewall)
    del firewall.aliases[call.text("name")]


def _alias(call: Call, name: str) -> dict[str, Value]:
    cidr = call.text("cidr")
    version: dict[str, Value] = {"ipversion": 6 if ":" in cidr else 4}
    comment: dict[str, Value] = {"comment": call.text("comment")} if call.text("comment") else {}
    return {"name": name, "cidr": cidr, **comment, **version}


def _existing_alias(call: Call, firewall: Firewall) -> dict[str, Value]:
    if call.text("name") not in firewall.aliases:
        raise ApiError(500, f"no such alias '{call.text('name')}'")
    return firewall.aliases[call.text("name")]
