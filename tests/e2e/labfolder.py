"""A lab in a folder of its own, driven through the command line as a user drives it."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from proxmoxer import ProxmoxAPI

from labctl.sandbox import control

ROOT = Path(__file__).parents[2]
ALL_GUESTS = "vault,store,gitlab,docker"
LABCTL = Path(sys.executable).parent / "labctl"


@dataclass(frozen=True)
class Result:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def last_json(self) -> dict[str, Any]:
        """The last line of a JSON stream."""
        return dict(json.loads(self.out.splitlines()[-1]))


@dataclass(frozen=True)
class LabFolder:
    """A folder with a lab.yaml of its own."""

    path: Path
    network: str
    guests: str = "appliance"
    guest_network: str = "198.18.86.0/24"

    def write(self, text: str) -> None:
        """Writes lab.yaml; `text` follows name and target."""
        sandbox = f"guests: {self.guests}, network: {self.network}, guest_network: {self.guest_network}"
        head = f"name: e2e\ntarget: {{sandbox: {{{sandbox}}}}}\n"
        (self.path / "lab.yaml").write_text(head + textwrap.dedent(text))

    def run(self, *args: str, timeout_s: float = 180, stdin: str = "", **env: str) -> Result:
        """Runs labctl in the folder, without a terminal."""
        done = subprocess.run(
            [str(LABCTL), *args],
            cwd=self.path,
            env=self.environment(**env),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        return Result(done.returncode, done.stdout, done.stderr)

    def environment(self, **more: str) -> dict[str, str]:
        """The environment of labctl here: the checkout's provider mirror, no other lab's settings."""
        dropped = ("LABCTL_", "PROXMOX_VE_", "TF_")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
        return kept | {"LABCTL_MIRROR": str(ROOT / ".cache" / "labctl" / "mirror"), "HOME": str(self.path / "home")} | more

    def ok(self, *args: str, timeout_s: float = 180, stdin: str = "") -> Result:
        """As `run`, and it must succeed."""
        result = self.run(*args, timeout_s=timeout_s, stdin=stdin)
        assert result.code == 0, f"labctl {' '.join(args)}: exit {result.code}\n{result.out[-3000:]}\n{result.err[-3000:]}"
        return result

    def json(self, *args: str) -> Any:
        """The JSON document that a command prints."""
        return json.loads(self.ok(*args, "--json").out)

    def hypervisor(self) -> Any:
        """The API of the lab's sandbox with all rights, by proxmoxer."""
        pve = self.json("sandbox", "status")["pve"]
        user, _, rest = pve["token"].partition("!")
        name, _, value = rest.partition("=")
        host = pve["endpoint"].removeprefix("https://")
        return ProxmoxAPI(host, user=user, token_name=name, token_value=value, verify_ssl=pve["ca_file"])

    def down(self) -> Result:
        """Destroys everything."""
        return self.ok("down", "--yes", "--allow-destroy", ALL_GUESTS)

    @contextlib.contextmanager
    def fault(self, **fields: Any) -> Iterator[None]:
        """A fault of the sandbox (docs/sandbox.md, "The control address") while the block runs."""
        control(self.work / "sandbox", "POST", "faults", fields)
        try:
            yield
        finally:
            control(self.work / "sandbox", "DELETE", "faults")

    def struck(self) -> int:
        """How often a fault has struck."""
        return sum(int(fault["struck"]) for fault in control(self.work / "sandbox", "GET", "faults"))

    def until_struck(self, process: subprocess.Popen[str], timeout_s: float = 120) -> None:
        """Waits until the process has run into a fault."""
        limit = time.monotonic() + timeout_s
        while not self.struck():
            assert process.poll() is None, f"it ended before: {process.communicate()}"
            assert time.monotonic() < limit, "it never came to it"
            time.sleep(0.02)

    @property
    def work(self) -> Path:
        """`.labctl/e2e`."""
        return self.path / ".labctl" / "e2e"
