"""Looks at the object store: its buckets, who is let into them, and locks that lie about."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeVar

from labctl.engine.drift.area import Looking, deployed_layers
from labctl.engine.session import LOCAL_LAYER
from labctl.model.catalogue import STORE_ROOT
from labctl.model.drift import AreaDrift
from labctl.model.drift import store as compare
from labctl.model.errors import AdapterError
from labctl.model.projects import FOLDER
from labctl.model.state import STATE_BUCKET

if TYPE_CHECKING:
    from labctl.adapters.objectstore import ObjectStore
    from labctl.engine.labrun import LabRun
    from labctl.engine.session import LabSession

_T = TypeVar("_T")
AT_ONCE = 8


def look(run: LabRun) -> AreaDrift:
    """The object store against the contract, lab.yaml, and what was provisioned."""
    area = Looking(compare.AREA)
    if LOCAL_LAYER not in deployed_layers(run):
        return area.told()
    if run.session is None:
        error = run.session_problem or AdapterError("the Vault is not open", hint="Run `labctl up --layer foundation`.")
        area.problem("the object store", error)
        return area.told()
    began = datetime.now(UTC)
    seen = area.read("the keys of the object store", lambda: _store(run.session, area))
    declared = area.read("what was provisioned", lambda: _declared(run, run.session))
    if seen is not None and declared is not None:
        store, all_seen = seen
        _buckets(area, store, declared, all_seen=all_seen)
        _locks(area, store, tuple(stack.name for stack in run.stacks), began)
    return area.told()


def _store(session: LabSession | None, area: Looking) -> tuple[ObjectStore, bool]:
    """The store, and whether all of it is seen: its administrator's login is not for the nightly check."""
    from labctl.adapters.objectstore import ObjectStore
    from labctl.adapters.vault import Denied

    assert session is not None
    try:
        _version, root = session.vault.read(STORE_ROOT)
    except Denied:
        area.notes.append(
            f"of the object store only bucket {STATE_BUCKET} was looked at: this login may not read {STORE_ROOT}. "
            "`labctl drift` with an operator's key looks at all buckets."
        )
        return session.state_store, False
    return ObjectStore(session.endpoint, session.region, root["access_key"], root["secret_key"], session.ca_file), True


def _declared(run: LabRun, session: LabSession | None) -> compare.DeclaredBuckets:
    assert session is not None
    folder = f"{FOLDER}/bucket/"
    entries = session.vault.list_secrets(folder)
    projects = tuple(entry.path.removeprefix(folder) for entry in entries if not entry.deleted)
    given_back = tuple(entry.path.removeprefix(folder) for entry in entries if entry.deleted)
    applied = tuple(run.outputs(LOCAL_LAYER).get("buckets", ()))
    return compare.DeclaredBuckets(applied, run.lab.foundation.store.buckets, projects, given_back)


def _buckets(area: Looking, store: ObjectStore, declared: compare.DeclaredBuckets, *, all_seen: bool) -> None:
    names = area.read("the buckets", store.buckets)
    if names is None:
        return
    own = [name for name in names if name in declared.names]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        found = {one.name: one for one in pool.map(lambda name: _bucket(area, store, name, all_seen=all_seen), own)}
    found |= {name: compare.FoundBucket(name) for name in names if name not in declared.names}
    area.add(len({*declared.names, *names}), compare.compare_buckets(declared, found, all_seen=all_seen))


def _bucket(area: Looking, store: ObjectStore, name: str, *, all_seen: bool) -> compare.FoundBucket:
    def read(what: str, ask: Callable[[str], _T]) -> _T | None:
        return area.read(f"{what} of bucket {name}", lambda: ask(name))

    return compare.FoundBucket(
        name,
        versioned=read("the versioning", store.versioning),
        policy=read("the policy", store.policy),
        # The key of a single bucket may not read this.
        grants=read("the access list", store.grants) if all_seen else None,
        lifecycle=read("the lifecycle", store.lifecycle),
    )


def _locks(area: Looking, store: ObjectStore, stacks: tuple[str, ...], began: datetime) -> None:
    """Locks of this check's own plans are younger than it, and gone when it is over."""
    from labctl.adapters.objectstore import NotThere
    from labctl.adapters.terraform import lock_from_json

    def held() -> tuple[str, ...]:
        whose: dict[str, str] = {}
        keys = store.keys(STATE_BUCKET, "state/")
        for key in filter(compare.is_lock, keys):
            try:
                info = lock_from_json(store.get(STATE_BUCKET, key))
            except NotThere:
                continue
            created = info.created if info else ""
            if not created or created[:19] < began.strftime("%Y-%m-%d %H:%M:%S"):
                whose[key] = (f" since {created}" if created else "") + (f" by {info.who}" if info and info.who else "")
        return compare.lock_notes(keys, stacks, whose)

    notes = area.read("the locks of the states", held)
    area.add(len(stacks), (), notes or ())
