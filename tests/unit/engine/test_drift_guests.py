"""Looking into guests: one that cannot be looked into is told, and keeps no other from it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from labctl.adapters.proxmox import ExecResult, GuestMissing, PermissionMissing, StillRunning
from labctl.cloudinit.yamltext import yaml_text
from labctl.engine.drift.guests import look
from labctl.model.drift import AreaDrift, Kind
from labctl.model.drift.guests import digest
from labctl.model.errors import UserError
from labctl.model.guestfiles import USER_DATA
from labctl.model.lab import Lab

VMIDS = {"vault": 102, "store": 101, "gitlab": 201, "docker": 202}
SCRIPT = "/usr/local/lib/lab/set-hosts"
WRITTEN = digest(b"as written\n")
DOCUMENT = "#cloud-config\n" + yaml_text({"write_files": [{"path": SCRIPT, "permissions": "0755", "content": "as written\n"}]})


class Hypervisor:
    """Guests that answer as they should, but for what a test says of one."""

    def __init__(self, vmid: int = 0, **instead: Any) -> None:
        self._vmid, self._instead = vmid, instead
        self.commands: list[list[str]] = []

    def _say(self, vmid: int, call: str, otherwise: Any) -> Any:
        found = self._instead.get(call, otherwise) if vmid == self._vmid else otherwise
        if isinstance(found, Exception):
            raise found
        return found

    def guest(self, vmid: int) -> Any:
        return SimpleNamespace(status=self._say(vmid, "guest", "running"))

    def agent_ping(self, vmid: int) -> bool:
        return bool(self._say(vmid, "agent_ping", otherwise=True))

    def file_read(self, vmid: int, path: str, *, missing_ok: bool) -> bytes | None:
        assert (path, missing_ok) == (USER_DATA, True)
        content: bytes | None = self._say(vmid, "file_read", DOCUMENT.encode())
        return content

    def exec(self, vmid: int, argv: list[str], timeout_s: float) -> ExecResult:
        assert timeout_s > 0
        self.commands.append(argv)
        units = "".join(
            f"Id={unit}\nLoadState=loaded\nActiveState=active\n\n" for unit in argv[2].split() if unit.endswith(".service")
        )
        gitlab = "@@ registry\nchecksum_disabled: true\n@@ runner\nconcurrent = 4\n@@ told\n" if vmid == VMIDS["gitlab"] else ""
        said = f"@@ sums\n{WRITTEN}  {SCRIPT}\n@@ modes\n755 {SCRIPT}\n{gitlab}@@ units\n{units}"
        found: ExecResult = self._say(vmid, "exec", ExecResult(0, said, ""))
        return found


def looked(hypervisor: Hypervisor) -> AreaDrift:
    lab = Lab.model_validate({"name": "datalab", "target": {"sandbox": {"guests": "container"}}})

    def stack(layer: str, *guests: str) -> Any:
        outputs = {"guests": {name: {"vmid": VMIDS[name], "address": "192.0.2.1"} for name in guests}}
        return SimpleNamespace(name=layer, layer=layer, state=SimpleNamespace(deployed=True, outputs=outputs))

    paths = SimpleNamespace(state=SimpleNamespace(__truediv__=None))
    run = SimpleNamespace(lab=lab, stacks=(stack("platform", "gitlab", "docker"), stack("foundation", "vault", "store")))
    run.session, run.hypervisor, run.paths = None, hypervisor, paths
    return look(run)  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def no_states(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("labctl.engine.drift.guests.state_content", lambda *_given: None)


def test_guests_as_they_should_be_are_clean_and_each_is_asked_once() -> None:
    hypervisor = Hypervisor()
    found = looked(hypervisor)
    assert (found.findings, found.problems, found.notes) == ((), (), ())
    assert len(hypervisor.commands) == 4
    assert found.looked > 10


def test_a_changed_file_is_found_where_it_is() -> None:
    found = looked(Hypervisor(VMIDS["docker"], file_read=DOCUMENT.replace("as written", "otherwise").encode()))
    (one,) = found.findings
    assert (one.id, one.guest, one.layer) == (f"docker/file{SCRIPT}", "docker", "platform")


GONE = GuestMissing("there is no guest 201", status=404, where="pve", hint="`qm list`")
SLOW = StillRunning("sh in guest 201 has not ended", where="pve", hint="It still runs there.")


@pytest.mark.parametrize(
    ("instead", "problem", "note"),
    [
        ({"agent_ping": False}, "guest gitlab: it runs, but its agent does not answer. `systemctl status qemu-guest-agent`", ""),
        ({"guest": "stopped"}, "", "guest gitlab is stopped: it was not looked into"),
        ({"guest": GONE}, "", "guest gitlab is not there: it was not looked into"),
        ({"exec": SLOW}, "guest gitlab: pve: sh in guest 201 has not ended. It still runs there.", ""),
        (
            {"exec": ExecResult(127, "", "sh: not found")},
            "guest gitlab: the look into the guest failed in the guest with exit",
            "",
        ),
        ({"file_read": None}, f"guest gitlab: {USER_DATA} is not there", ""),
        ({"file_read": b"a: [b"}, f"guest gitlab: {USER_DATA} is not YAML", ""),
    ],
)
def test_one_guest_that_cannot_be_looked_into(instead: dict[str, Any], problem: str, note: str) -> None:
    hypervisor = Hypervisor(VMIDS["gitlab"], **instead)
    found = looked(hypervisor)
    assert [one.startswith(problem) for one in found.problems] == ([True] if problem else [])
    assert found.notes == ((note,) if note else ())
    assert found.findings == ()
    assert len([1 for command in hypervisor.commands if "registry" not in command[2]]) == 3, "the others were asked"
    assert (found.verdict == "error") == bool(problem)


def test_a_token_that_may_not_ask_is_told_once() -> None:
    denied = PermissionMissing(
        "denied", path="/vms/201", privileges=("VM.GuestAgent.Unrestricted",), hint="grant it", where="pve"
    )
    hypervisor = Hypervisor()

    def ask(_vmid: int) -> bool:
        raise denied

    hypervisor.agent_ping = ask  # type: ignore[method-assign]
    found = looked(hypervisor)
    (one,) = found.findings
    assert (one.id, one.kind, found.problems) == ("agent", Kind.HIDDEN, ())
    assert "VM.GuestAgent.Unrestricted" in one.text


def test_a_hypervisor_that_is_not_there_is_told_once() -> None:
    class Run:
        lab = Lab.model_validate({"name": "datalab", "target": {"sandbox": {}}})
        stacks = (
            SimpleNamespace(
                name="platform",
                layer="platform",
                state=SimpleNamespace(deployed=True, outputs={"guests": {"gitlab": {"vmid": 201}, "docker": {"vmid": 202}}}),
            ),
        )

        @property
        def hypervisor(self) -> Any:
            raise UserError("the sandbox is not running", hint="`labctl sandbox start` starts it.")

    assert look(Run()).problems == ("the guests: the sandbox is not running. `labctl sandbox start` starts it.",)  # type: ignore[arg-type]


def test_nothing_is_looked_at_where_nothing_is_deployed() -> None:
    run = SimpleNamespace(lab=Lab.model_validate({"name": "datalab", "target": {"sandbox": {}}}), stacks=())
    assert look(run).looked == 0  # type: ignore[arg-type]
