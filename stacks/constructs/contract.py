"""Contracts at synthesis: a stack can publish only what its contract names, and read only what the contract below names."""

from __future__ import annotations

import types
from collections.abc import Mapping, Sequence
from typing import Any, Union, get_args, get_origin

from labctl.model.contracts import Contract
from labctl.model.errors import UserError, nearest
from stacks.cdk import Fn, IResolvable, TerraformOutput, TerraformRemoteState, TerraformStack, Token
from stacks.constructs.literal import arguments as escaped
from stacks.constructs.resource import Resource


def publish(
    stack: TerraformStack, contract: type[Contract], values: Mapping[str, Any], *, depends_on: Sequence[Resource] = ()
) -> None:
    """Publishes `values` as the stack's outputs, named exactly as the contract's fields.

    Args:
        stack: The stack that publishes.
        contract: What it must publish, all of it and nothing else.
        values: One value a field; tokens are welcome.
        depends_on: Resources without which an output would promise something that is not there.

    Raises:
        UserError: A field of the contract has no value, or a value has no field.
    """
    fields = contract.model_fields
    for name in fields.keys() - values.keys():
        raise UserError(
            f"{contract.__name__}.{name} is not published", where=contract.layer, hint="Give it a value in publish()."
        )
    for name in values.keys() - fields.keys():
        raise UserError(f"{contract.__name__} has no field {name!r}", where=contract.layer, hint=nearest(name, fields))
    for name, value in values.items():
        output = TerraformOutput(stack, f"output.{name}", value=escaped(value))
        output.override_logical_id(name)
        if depends_on:
            output.add_override("depends_on", [resource.address for resource in depends_on])


class Upstream:
    """The contract of the layer below, read through its state. Every accessor gives a reference that Terraform resolves.

    Args:
        contract: The contract that the other stack publishes.
        state: That stack's state.
    """

    def __init__(self, contract: type[Contract], state: TerraformRemoteState) -> None:
        self._contract = contract
        self._state = state
        state.override_logical_id(contract.layer)

    def string(self, name: str) -> str:
        """A text field.

        Raises:
            UserError: The contract has no such field, or it is not text. The other accessors raise the same.
        """
        self._check(name, str)
        return self._state.get_string(name)

    def number(self, name: str) -> float:
        """A number field, as a token."""
        self._check(name, int, float)
        return self._state.get_number(name)

    def list(self, name: str) -> list[str]:
        """A list field, as one token that stands for all of it."""
        self._check(name, list, tuple)
        return self._state.get_list(name)

    def map(self, name: str) -> IResolvable:
        """A mapping field, whole."""
        self._check(name, dict)
        return self._state.get(name)

    def entry(self, name: str, *path: str) -> str:
        """One value inside a mapping field, as `entry("guests", "vault", "address")`."""
        return Token.as_string(Fn.lookup_nested(self.map(name), [*path]))

    def _check(self, name: str, *wanted: type) -> None:
        field = self._contract.model_fields.get(name)
        title = self._contract.__name__
        if field is None:
            raise UserError(f"{title} has no field {name!r}", where=title, hint=nearest(name, self._contract.model_fields))
        kind = _kind(field.annotation)
        if kind not in wanted:
            raise UserError(
                f"{title}.{name} is {_name(kind)}, asked for as {' or '.join(_name(k) for k in wanted)}",
                where=title,
                hint=f"Read it with .{_ACCESSORS.get(kind, 'string')}({name!r}).",
            )


_ACCESSORS: dict[Any, str] = {str: "string", int: "number", float: "number", list: "list", tuple: "list", dict: "map"}


def _kind(annotation: Any) -> Any:
    """The plain type behind an annotation: `dict` of `dict[str, GuestOutput]`, `str` of `str | None`."""
    origin = get_origin(annotation)
    if origin in (Union, types.UnionType):
        return next((_kind(part) for part in get_args(annotation) if part is not type(None)), annotation)
    return origin or annotation


def _name(kind: Any) -> str:
    return str(getattr(kind, "__name__", kind))
