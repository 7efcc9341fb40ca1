"""The lab as it was applied last, as far as stacks publish it: what only lab.yaml has is pending, not drift. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, get_args

from labctl.model.lab import Lab
from labctl.model.services import Services


def applied_projects(outputs: Mapping[str, Mapping[str, Any]]) -> tuple[str, ...]:
    """The services and apps that are deployed, from the outputs of each stack."""
    services = [name for one in outputs.values() for name in one.get("endpoints", {})]
    return (*services, *(str(one["app"]) for one in outputs.values() if "app" in one))


def as_applied(lab: Lab, outputs: Mapping[str, Mapping[str, Any]]) -> Lab:
    """The lab with the buckets, services and apps that are deployed, and no others.

    Args:
        lab: As lab.yaml describes it.
        outputs: The outputs of each deployed stack, by stack.
    """
    buckets = outputs.get("foundation", {}).get("buckets")
    store = lab.foundation.store if buckets is None else lab.foundation.store.model_copy(update={"buckets": tuple(buckets)})
    there = applied_projects(outputs)
    apps = {name: None for name in lab.apps.on() if name not in there}
    return lab.model_copy(
        update={
            "foundation": lab.foundation.model_copy(update={"store": store}),
            "services": _services(lab.services, there),
            "apps": lab.apps.model_copy(update=apps),
        }
    )


def _services(described: Services, there: Collection[str]) -> Services:
    settings = {name: _service(described, name) if name in there else None for name in Services.model_fields}
    return described.model_copy(update=settings)


def _service(described: Services, name: str) -> Any:
    """As lab.yaml has it. One that it no longer names has defaults: which secrets it has does not depend on them."""
    found = getattr(described, name) or get_args(Services.model_fields[name].annotation)[0]()
    return found.model_copy(update={"enabled": True})
