"""Who may reach the lab: users and tokens that run out, rights on its guests, roles, the datacenter's firewall."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from labctl.model.drift.finding import Finding, Kind, Severity
from labctl.model.drift.proxmox.world import Declared, Inventory, Part, change, found
from labctl.model.inventory import Account

SOON = timedelta(days=14)
HEAD = "labctl"
"""How the users begin that docs/proxmox.md and docs/drift-proxmox.md have made."""


def compare_access(seen: Inventory, declared: Declared, now: datetime) -> Part:
    """Users, tokens, grants, roles and the firewall that all guests' rules depend on."""
    findings: list[Finding] = []
    for account in seen.accounts or ():
        if _is_labs(account.name, declared):
            findings += _of_account(account, declared, now)
    findings += _granted(seen, declared)
    findings += _roles(seen, declared)
    findings += _blind(seen)
    notes = []
    if seen.firewall is False and declared.firewall:
        text = "the datacenter's firewall is off: no rule of any guest counts. `pvesh set /cluster/firewall/options --enable 1`"
        findings.append(
            found(Kind.CHANGED, "firewall/datacenter", text, Severity.HIGH, changes=change("enable", True, False)),
        )
    elif seen.firewall is False:
        notes.append("the datacenter's firewall is off; the sandbox enforces no rules anyway")
    return Part(tuple(findings), (), tuple(notes), looked=len(seen.accounts or ()) + len(seen.grants or ()))


def _is_labs(user: str, declared: Declared) -> bool:
    return user == declared.user or user.partition("@")[0].split("-")[0] == HEAD


def _of_account(account: Account, declared: Declared, now: datetime) -> Iterator[Finding]:
    if not account.enabled:
        text = f"user {account.name} is disabled, and all its tokens with it"
        yield found(Kind.CHANGED, f"user/{account.name}", text, changes=change("enable", True, False))
    yield from _expiry(f"user/{account.name}", f"user {account.name}", account.expires_s, now)
    for token in account.tokens:
        name = f"{account.name}!{token.name}"
        used = ", which labctl uses here," if name == declared.token_id else ""
        yield from _expiry(f"token/{name}", f"token {name}{used}", token.expires_s, now)


def _expiry(thing: str, who: str, expires_s: int, now: datetime) -> Iterator[Finding]:
    if not expires_s:
        return
    end = datetime.fromtimestamp(expires_s, UTC)
    day = f"{end:%Y-%m-%d %H:%M} UTC"
    owner, _, token = thing.partition("/")[2].partition("!")
    command = f"pveum user token modify {owner} {token}" if token else f"pveum user modify {owner}"
    if end <= now:
        text = f"{who} has expired on {day}. `{command} --expire 0` or a later time makes it valid again"
        yield found(Kind.EXPIRING, thing, text, Severity.HIGH)
    elif end - now <= SOON:
        yield found(Kind.EXPIRING, thing, f"{who} expires on {day}. `{command} --expire SECONDS` prolongs it", Severity.MEDIUM)


def _granted(seen: Inventory, declared: Declared) -> Iterator[Finding]:
    """Rights on the lab's own guests and pool. docs/proxmox.md has none granted there: PVE drops them with the guest."""
    paths = {f"/pool/{declared.lab}", *(f"/vms/{guest.vmid}" for guest in declared.guests)}
    for grant in seen.grants or ():
        if grant.path in paths and not (grant.kind != "group" and _is_labs(grant.subject.partition("!")[0], declared)):
            text = f"{grant.kind} {grant.subject} has role {grant.role} on {grant.path}, which is the lab's"
            yield found(Kind.UNMANAGED, f"acl{grant.path}/{grant.subject}/{grant.role}", text, Severity.HIGH)


def _roles(seen: Inventory, declared: Declared) -> Iterator[Finding]:
    for role, privileges in sorted(declared.roles.items()):
        more = sorted((seen.roles or {}).get(role, frozenset()) - privileges)
        if more:
            text = f"role {role} gives more than docs/proxmox.md says: {', '.join(more)}"
            changes = change("privileges", None, " ".join(more))
            yield found(Kind.CHANGED, f"role/{role}", text, Severity.HIGH, changes=changes)


def _blind(seen: Inventory) -> Iterator[Finding]:
    lacking = [
        path for path in ("/access", "/access/groups") if not seen.may(path, "Sys.Audit", "Permissions.Modify", "User.Modify")
    ]
    if lacking and seen.accounts is not None:
        text = f"the token is shown its own user only, and no grants of others: it lacks Sys.Audit on {lacking[0]}"
        yield found(Kind.HIDDEN, "hidden/access", text, Severity.LOW)
