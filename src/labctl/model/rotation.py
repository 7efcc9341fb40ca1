"""Rotating a secret: what gets a new value, who is given it, and what a plan may do for it. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from labctl.model.catalogue import Generator, SecretSpec, catalogue
from labctl.model.compose import CONTENT_KEY
from labctl.model.errors import UserError, nearest
from labctl.model.lab import Lab
from labctl.model.plan import Action, StackPlan

COMPOSE_PROJECT = "labctl_compose_project"


@dataclass(frozen=True, slots=True)
class Rotation:
    """What is to be rotated.

    Attributes:
        path: The secret.
        fields: How each field that gets a new value is generated.
        services: The services that are given it, each after those that it needs: they start again.
        guests: The guests whose own agent reads it.
    """

    path: str
    fields: Mapping[str, Generator]
    services: tuple[str, ...]
    guests: tuple[str, ...]


def rotation(lab: Lab, path: str, field: str = "") -> Rotation:
    """What rotating a secret, or one field of it, comes to.

    Raises:
        UserError: The lab has no such secret or field, or labctl cannot make a new value count.
    """
    specs = {spec.path: spec for spec in catalogue(lab)}
    if path not in specs:
        raise UserError(f"the lab has no secret {path!r}", hint=nearest(path, specs))
    spec = specs[path]
    if field and field not in spec.fields:
        raise UserError(f"secret {path!r} has no field {field!r}", hint=nearest(field, spec.fields))
    fields = {name: generator for name, generator in spec.rotated.items() if field in ("", name)}
    if not fields:
        raise UserError(f"{path}{'#' if field else ''}{field} is not rotated by labctl", hint=spec.rotation)
    return Rotation(path, fields, _services(lab, path, fields), _guests(lab, spec))


def _services(lab: Lab, path: str, fields: Mapping[str, Generator]) -> tuple[str, ...]:
    references = {f"{path}#{name}" for name in fields}
    return tuple(
        spec.name
        for spec in lab.service_specs()
        if (path == CONTENT_KEY and spec.kind.secrets) or references & set(spec.kind.secrets.values())
    )


def _guests(lab: Lab, spec: SecretSpec) -> tuple[str, ...]:
    return tuple(guest.name for guest in lab.guests() if guest.role.identity and guest.role.name in spec.readers)


def beyond_rotation(what: Rotation, plans: Sequence[StackPlan]) -> Iterator[str]:
    """What the plans do besides giving the new value to its users, a sentence each."""
    for plan in plans:
        for change in plan.summary.changes if plan.summary else ():
            if change.action is not Action.UPDATE or change.type != COMPOSE_PROJECT or change.name not in what.services:
                yield f"{plan.stack}: {change.action} {change.address}"
