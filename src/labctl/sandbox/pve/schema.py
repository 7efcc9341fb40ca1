"""Parameters of the API: what is allowed, and PVE's wording for what is not (PVE::JSONSchema)."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

UNKNOWN = "property is not defined in schema and the schema does not allow additional properties"
MISSING = "property is missing and it is not optional"
VMID_MIN, VMID_MAX = 100, 999_999_999

Arguments = dict[str, str | list[str]]


@dataclass(frozen=True, slots=True)
class Param:
    """One parameter.

    Attributes:
        kind: `string`, `integer`, `number` or `boolean`.
        required: Whether a request without it is refused.
        minimum: Smallest number.
        maximum: Largest number.
        max_length: Longest string.
        choices: The only strings allowed, empty for any.
        pattern: What the whole string must match.
        form: A format with a name of its own: what it is called, and the test.
        many: Whether it may be given several times.
    """

    kind: str = "string"
    required: bool = False
    minimum: float | None = None
    maximum: float | None = None
    max_length: int | None = None
    choices: tuple[str, ...] = ()
    pattern: str = ""
    form: tuple[str, Callable[[str], bool]] | None = None
    many: bool = False

    def must(self) -> Param:
        """The same parameter, required."""
        return replace(self, required=True)

    def problem(self, value: str) -> str:
        """What is wrong with a value, "" if nothing."""
        if self.kind != "string":
            return self._number_problem(value)
        if self.max_length is not None and len(value) > self.max_length:
            return f"value may only be {self.max_length} characters long"
        if self.choices and value not in self.choices:
            return f"value '{value}' does not have a value in the enumeration '{', '.join(self.choices)}'"
        if self.pattern and not re.fullmatch(self.pattern, value):
            return "value does not match the regex pattern"
        if self.form and not self.form[1](value):
            return f"invalid format - value does not look like a valid {self.form[0]}\n"
        return ""

    def _number_problem(self, value: str) -> str:
        shape = {"integer": r"[+-]?\d+", "number": r"[+-]?\d+(\.\d+)?", "boolean": r"(?i:0|1|on|off|yes|no|true|false)"}[
            self.kind
        ]
        if not re.fullmatch(shape, value):
            return f"type check ('{self.kind}') failed - got '{value}'"
        if self.kind == "boolean":
            return ""
        if self.minimum is not None and float(value) < self.minimum:
            return f"value must have a minimum value of {self.minimum:g}"
        if self.maximum is not None and float(value) > self.maximum:
            return f"value must have a maximum value of {int(self.maximum)}"
        return ""


def _is_network(value: str) -> bool:
    try:
        ipaddress.ip_network(value, strict=False)
    except ValueError:
        return False
    return True


def _is_address(value: str) -> bool:
    try:
        ipaddress.ip_address(value)
    except ValueError:
        return False
    return True


TEXT = Param()
BOOL = Param("boolean")
INT = Param("integer")
NATURAL = Param("integer", minimum=0)
NUMBER = Param("number", minimum=0)
VMID = Param("integer", minimum=VMID_MIN, maximum=VMID_MAX)
CONFIG_ID = Param(form=("configuration ID", lambda value: bool(re.fullmatch(r"(?i)[a-z][a-z0-9_-]+", value))))
STORAGE_ID = Param(form=("storage ID", lambda value: bool(re.fullmatch(r"(?i)[a-z][a-z0-9\-_.]*[a-z0-9]", value))))
DNS_NAME = Param(
    form=(
        "DNS name",
        lambda value: bool(
            re.fullmatch(r"(?i)(?=.{1,253}$)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*", value)
        ),
    )
)
NETWORK_CIDR = Param(form=("CIDR network configuration", _is_network))
ADDRESS = Param(form=("ip address", _is_address))

Schema = Mapping[str, Param]


def lookup(schema: Schema, name: str) -> Param | None:
    """The parameter called `name`; `net[n]` in a schema stands for net0, net1 and so on."""
    if name in schema and "[n]" not in name:
        return schema[name]
    stem = re.sub(r"\d+$", "", name)
    return schema.get(f"{stem}[n]") if stem != name else None


def verify(schema: Schema, arguments: Arguments) -> dict[str, str]:
    """What is wrong with the arguments of a request, by parameter; empty if nothing."""
    problems: dict[str, str] = {}
    for name, value in arguments.items():
        param = lookup(schema, name)
        if param is None:
            problems[name] = UNKNOWN
            continue
        if isinstance(value, list) and not param.many:
            problems[name] = f"type check ('{param.kind}') failed - got ARRAY"
            continue
        for item in value if isinstance(value, list) else [value]:
            if found := param.problem(item):
                problems[name] = found
    for name, param in schema.items():
        if param.required and name not in arguments:
            problems[name] = MISSING
    return problems
