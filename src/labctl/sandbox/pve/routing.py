"""Routes of the emulated API, each with its parameters and its permission, as in PVE's own API declarations."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from labctl.sandbox.pve.errors import ApiError
from labctl.sandbox.pve.formats import split_list, truthy
from labctl.sandbox.pve.schema import Arguments, Param, Schema

if TYPE_CHECKING:
    from labctl.sandbox.pve.host import Host

Handler = Callable[["Call"], object | Awaitable[object]]
Check = Callable[["Call"], None]


@dataclass(slots=True)
class Call:
    """One request on its way through the API.

    Attributes:
        host: The emulated hypervisor.
        caller: Who asks: `user@realm` or `user@realm!token`.
        args: Parameters from path, query and body, as strings.
    """

    host: Host
    caller: str
    args: Arguments

    @property
    def node(self) -> str:
        """The node in the path, under its own name."""
        named = self.text("node", self.host.node)
        return self.host.node if named == "localhost" else named

    def text(self, name: str, default: str = "") -> str:
        """A parameter as a string."""
        value = self.args.get(name, default)
        return value[-1] if isinstance(value, list) else value

    def number(self, name: str, default: int = 0) -> int:
        """A parameter as a whole number."""
        return int(self.text(name) or default)

    def flag(self, name: str, default: bool = False) -> bool:
        """A parameter as a boolean."""
        return truthy(self.text(name)) if name in self.args else default

    def items(self, name: str) -> list[str]:
        """A parameter that is a list, written with commas or given several times."""
        value = self.args.get(name, "")
        return value if isinstance(value, list) else split_list(value)

    def body(self, *without: str) -> dict[str, str]:
        """All parameters but `without`, as strings."""
        return {name: self.text(name) for name in self.args if name not in without}

    def allowed(self, path: str, *privileges: str, any_of: bool = False) -> bool:
        """Whether the caller has all (or any) of the privileges on a path."""
        held = self.host.permissions(self.caller, path)
        return any(p in held for p in privileges) if any_of else all(p in held for p in privileges)

    def require(self, path: str, *privileges: str, any_of: bool = False) -> None:
        """Stop unless the caller has all (or any) of the privileges on a path.

        Raises:
            ApiError: 403, with the path and the first privilege that is missing.
        """
        self.host.require(self.caller, path, *privileges, any_of=any_of)


@dataclass(frozen=True, slots=True)
class Route:
    """A method and a path with what it takes and who may call it."""

    method: str
    path: str
    handler: Handler
    params: Schema
    check: Check | None
    public: bool = False
    pattern: re.Pattern[str] = field(init=False)

    def __post_init__(self) -> None:
        expression = re.sub(r"\\{(\w+)\\:rest\\}", r"(?P<\1>.+)", re.escape(self.path).replace(":rest", r"\:rest"))
        expression = re.sub(r"\\{(\w+)\\}", r"(?P<\1>[^/]+)", expression)
        object.__setattr__(self, "pattern", re.compile(expression))


ROUTES: list[Route] = []


def route(
    method: str, path: str, params: Schema | None = None, *, check: Check | None = None, public: bool = False
) -> Callable[[Handler], Handler]:
    """Register a function for a method and a path; `{name}` in the path is a parameter, `{name:rest}` takes slashes too."""
    names = re.findall(r"{(\w+)", path)
    schema = {**{name: Param(required=True) for name in names}, **(params or {})}

    def register(handler: Handler) -> Handler:
        ROUTES.append(Route(method, path, handler, schema, check, public))
        return handler

    return register


def find(method: str, path: str) -> tuple[Route, dict[str, str]]:
    """The route of a request and the parameters in its path.

    Raises:
        ApiError: 501, nothing serves it.
    """
    for candidate in ROUTES:
        if candidate.method == method and (match := candidate.pattern.fullmatch(path)):
            return candidate, match.groupdict()
    raise ApiError(501, f"Method '{method} {path}' not implemented")


def perm(path: str, *privileges: str, any_of: bool = False) -> Check:
    """A check: the caller needs all (or any) of the privileges on a path with parameters in braces."""

    def check(call: Call) -> None:
        call.require(path.format(**{name: call.text(name) for name in call.args}), *privileges, any_of=any_of)

    return check


def any_check(*checks: Check) -> Check:
    """A check: one of several is enough; the first one's refusal is what the caller hears."""

    def check(call: Call) -> None:
        refusal: ApiError | None = None
        for candidate in checks:
            try:
                candidate(call)
            except ApiError as error:
                refusal = refusal or error
            else:
                return
        if refusal:
            raise refusal

    return check
