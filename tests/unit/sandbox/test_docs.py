"""docs/sandbox.md lists what is served: no call more, no call less."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

from labctl.sandbox.guests.commands import COMMANDS
from labctl.sandbox.pve.routing import ROUTES
from labctl.sandbox.pve.server import SERVED

TEXT = (Path(__file__).parents[3] / "docs" / "sandbox.md").read_text()


def served() -> str:
    """Every path with its methods, the firewalls of cluster, node and guests as one."""
    assert SERVED
    methods: dict[str, set[str]] = defaultdict(set)
    for route in ROUTES:
        path = re.sub(r"^(/cluster|/nodes/{node}(/(qemu|lxc)/{vmid})?)/firewall", "{scope}/firewall", route.path)
        path = re.sub(r"/(qemu|lxc)(?=/|$)", "/{kind}", path) if path.startswith("/nodes") else path
        methods[path.replace(":rest", "")].add(route.method)
    return "".join(f"{path} {' '.join(sorted(methods[path]))}\n" for path in sorted(methods))


def test_the_list_of_calls_is_what_is_served() -> None:
    listed = TEXT.split("<!-- calls -->")[1].strip().strip("`").removeprefix("text").strip() + "\n"
    assert listed == served()


def test_the_list_of_commands_is_what_a_guest_knows() -> None:
    (line,) = [line for line in TEXT.splitlines() if line.startswith("Commands: ")]
    assert re.findall(r"`([^`]+)`", line) == list(COMMANDS)
