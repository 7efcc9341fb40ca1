"""The object store against what the lab has: buckets, their versioning, and who else is let in. Pure."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from labctl.model.drift.finding import Change, Finding, Kind, Severity
from labctl.model.state import STATE_BUCKET, state_key

AREA = "store"
_LOCK = ".tflock"


@dataclass(frozen=True, slots=True)
class FoundBucket:
    """A bucket that is there; None for what the login may not see.

    Attributes:
        name: Its name.
        versioned: Whether it keeps old versions.
        policy: Its policy (JSON), "" without one.
        grants: The groups that its access list lets in, as `AllUsers: READ`.
        lifecycle: Names of rules by which the store deletes or moves its objects.
    """

    name: str
    versioned: bool | None = None
    policy: str | None = None
    grants: tuple[str, ...] | None = None
    lifecycle: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class DeclaredBuckets:
    """The buckets that belong to the lab.

    Attributes:
        applied: Those of foundation's contract.
        wanted: Those of lab.yaml.
        projects: Those that `labctl provision bucket` has made.
        given_back: Those of them whose credentials were deleted since: the bucket stays until somebody removes it.
    """

    applied: tuple[str, ...]
    wanted: tuple[str, ...]
    projects: tuple[str, ...] = ()
    given_back: tuple[str, ...] = ()

    @property
    def names(self) -> frozenset[str]:
        """All of them."""
        return frozenset((*self.applied, *self.wanted, *self.projects, *self.given_back))


def compare_buckets(declared: DeclaredBuckets, found: Mapping[str, FoundBucket], *, all_seen: bool) -> Iterator[Finding]:
    """Buckets that are missing, foreign, or not as they should be.

    Args:
        declared: Those that should be there.
        found: Those that are there.
        all_seen: Whether the login sees every bucket: only then one that is not seen is gone.
    """
    for name in sorted(declared.names):
        there = found.get(name)
        if there is not None:
            yield from _bucket(there)
        elif name in declared.wanted and name not in declared.applied:
            text = f"bucket {name}: it is not there yet. `labctl up --layer foundation` makes it."
            yield Finding(AREA, Kind.PENDING, f"bucket/{name}", text, Severity.LOW)
        elif name in (*declared.applied, *declared.projects) and (all_seen or name == STATE_BUCKET):
            text = f"bucket {name} is gone, with all that was in it. `labctl up --layer foundation` makes an empty one."
            yield Finding(AREA, Kind.MISSING, f"bucket/{name}", text, Severity.HIGH)
    for name in sorted(found.keys() - declared.names):
        text = f"the store has bucket {name}, which nobody declared and `labctl provision` did not make"
        yield Finding(AREA, Kind.UNMANAGED, f"bucket/{name}", text, Severity.LOW)


def _bucket(there: FoundBucket) -> Iterator[Finding]:
    """Versioning is declared for the states alone: elsewhere it is the users' own."""
    name = there.name
    changes = []
    if name == STATE_BUCKET and there.versioned is False:
        changes.append((Change("versioning", "Enabled", "Suspended"), "keeps no old versions: `labctl up` turns that on again"))
    if there.policy:
        how = "lets everybody in" if is_public(there.policy) else "lets others in"
        changes.append(
            (Change("policy", None, _shown(there.policy)), f"has a policy that {how}: `aws s3api delete-bucket-policy`")
        )
    if there.grants:
        said = ", ".join(there.grants)
        text = f"has an access list that lets everybody in ({said}): `aws s3api put-bucket-acl --acl private`"
        changes.append((Change("access list", None, said), text))
    if there.lifecycle:
        said = ", ".join(there.lifecycle)
        text = f"has rules by which the store deletes objects ({said}): `aws s3api delete-bucket-lifecycle`"
        changes.append((Change("lifecycle", None, said), text))
    if changes:
        text = f"bucket {name} " + "; it ".join(text for _change, text in changes)
        severity = Severity.MEDIUM if _users_own(there) else Severity.HIGH
        yield Finding(AREA, Kind.CHANGED, f"bucket/{name}", text, severity, changes=tuple(change for change, _text in changes))


def _users_own(there: FoundBucket) -> bool:
    """Whether all that differs are rules for objects that are not the lab's."""
    return there.name != STATE_BUCKET and not there.policy and not there.grants


def is_public(policy: str) -> bool:
    """Whether a bucket policy (JSON) allows anybody anything."""
    try:
        statements = json.loads(policy)["Statement"]
    except (ValueError, KeyError, TypeError):
        return True  # what cannot be read is not taken for harmless
    every = statements if isinstance(statements, list) else [statements]
    return any(one.get("Effect") == "Allow" and "*" in _principals(one.get("Principal")) for one in every)


def _principals(principal: Any) -> list[str]:
    if isinstance(principal, dict):
        return [name for value in principal.values() for name in _principals(value)]
    return [str(name) for name in principal] if isinstance(principal, list) else [str(principal)]


def _shown(policy: str) -> str:
    try:
        return json.dumps(json.loads(policy), sort_keys=True)[:500]
    except ValueError:
        return policy.strip()[:500]


def lock_notes(keys: Sequence[str], stacks: Collection[str], held: Mapping[str, str]) -> tuple[str, ...]:
    """Notes on locks that lie beside states, older than the check.

    Args:
        keys: The objects in the state bucket.
        stacks: The lab's stacks.
        held: Whose each such lock is, by its object; one that is missing is of this check itself, or was given back.
    """
    known = {f"{state_key(stack)}{_LOCK}": stack for stack in stacks}
    notes = []
    for key in sorted(key for key in keys if key.endswith(_LOCK) and key in held):
        if key in known:
            notes.append(
                f"the state of stack {known[key]} is locked{held[key]}: if no run is at work there, `labctl unlock {known[key]}`"
            )
        else:
            notes.append(f"{STATE_BUCKET}/{key} is a lock{held[key]} of a stack that the lab does not have")
    return tuple(notes)


def is_lock(key: str) -> bool:
    """Whether an object is the lock of a state."""
    return key.endswith(_LOCK)
