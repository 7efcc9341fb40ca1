"""A guest that really boots: the base image, its own cloud-init, the real guest agent, through the emulated API."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import signal
import socket
import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import docker
import pytest
import requests

from labctl.adapters.proxmox import AgentUnavailable, Proxmox, TaskFailed
from labctl.engine.steps.cloudinit import FirstBoot
from labctl.model.errors import AdapterError, UserError
from labctl.model.guestfiles import SET_UP
from labctl.sandbox import SandboxConfig, SandboxInfo, reset, start, status, stop
from labctl.sandbox.choice import look
from labctl.sandbox.guests.engine import HOME_LABEL, label_of
from labctl.sandbox.guests.qga import READ_LIMIT
from labctl.sandbox.guests.socketpath import engine_socket
from tests.waiting import until

CI = os.environ.get("CI") == "true"
FACTS = look()
CANNOT = (
    f"no Docker engine answers on {FACTS.socket}: start `dockerd`"
    if not FACTS.engine
    else f"the guests' base image is not there and {FACTS.builder}: `apt-get install mmdebstrap`"
    if FACTS.builder and not FACTS.image
    else ""
)

pytestmark = [
    pytest.mark.integration,
    pytest.mark.xdist_group("container-guests"),
    # In CI a missing engine is a failure: the fixture says so.
    pytest.mark.skipif(bool(CANNOT) and not CI, reason=CANNOT),
]

CONFIG = SandboxConfig(address="127.86.93.1", network="127.86.93.0/24", guests="container", guest_network="198.18.193.0/24")
VMID, OTHER, THIRD = 301, 302, 303
NAME = "small"
USER_DATA = """\
#cloud-config
hostname: small
fqdn: small.lab.example
manage_etc_hosts: localhost
write_files:
  - path: /etc/from-user-data
    permissions: "0644"
    content: |
      first
runcmd:
  - [sh, -c, "date +%s%N >> /var/log/boots-with-new-data"]
"""


class Relay:
    """Stands between the sandbox and the engine, so that the engine can go away without troubling anybody else."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lines: list[socket.socket] = []
        self._listener: socket.socket | None = None

    def open(self) -> None:
        self.path.unlink(missing_ok=True)
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self.path))
        self._listener.listen(64)
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def close(self) -> None:
        assert self._listener
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.path.unlink()
        for line in self._lines:
            with contextlib.suppress(OSError):
                line.shutdown(socket.SHUT_RDWR)
        self._lines.clear()

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                client = listener.accept()[0]
                engine = socket.socket(socket.AF_UNIX)
                engine.connect(engine_socket_of_the_machine())
                self._lines += [client, engine]
                for one, other in ((client, engine), (engine, client)):
                    threading.Thread(target=self._pump, args=(one, other), daemon=True).start()

    def _pump(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while part := source.recv(65536):
                target.sendall(part)
            target.shutdown(socket.SHUT_WR)


def engine_socket_of_the_machine() -> str:
    return FACTS.socket


@dataclass
class Bench:
    """A sandbox with container guests, and the ways to it."""

    home: Path
    info: SandboxInfo
    relay: Relay
    engine: docker.DockerClient

    def client(self) -> Proxmox:
        return Proxmox.connect(self.info.endpoint, self.info.token_id, self.info.token, self.info.ca_file, timeout_s=30)

    def call(self, method: str, where: str, **fields: object) -> Any:
        with requests.Session() as http:
            http.trust_env = False
            http.headers["Authorization"] = f"PVEAPIToken={self.info.token_id}={self.info.token.reveal()}"
            sent = {"params": fields} if method == "GET" else {"data": fields}
            url = f"{self.info.endpoint}/api2/json/nodes/pve/{where}"
            answer = http.request(method, url, timeout=60, verify=str(self.info.ca_file), **sent)
        assert answer.ok, f"{method} {where}: {answer.status_code} {answer.text}"
        return answer.json()["data"]

    def task(self, method: str, where: str, timeout_s: float = 90, **fields: object) -> None:
        upid = str(self.call(method, where, **fields))
        with self.client() as pve:
            pve.wait_task(upid, timeout_s=timeout_s)

    def power(self, action: str, vmid: int = VMID) -> None:
        self.task("POST", f"qemu/{vmid}/status/{action}")

    def state(self, vmid: int = VMID) -> str:
        return str(self.call("GET", f"qemu/{vmid}/status/current")["status"])

    def snippet(self, text: str, name: str = NAME) -> None:
        folder = self.home / "pve" / "var" / "lib" / "vz" / "snippets"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.yaml").write_text(text)

    def create(self, vmid: int, name: str, **more: object) -> None:
        fields = {
            "vmid": vmid,
            "name": name,
            "memory": 320,
            "cores": 1,
            "agent": "enabled=1",
            "net0": "virtio=BC:24:11:00:03:01,bridge=vmbr0",
            "ipconfig0": f"ip=198.18.193.{vmid % 250}/24",
            "onboot": 1,
            **more,
        }
        self.task("POST", "qemu", **fields)

    def container(self, vmid: int = VMID) -> Any:
        return self.engine.containers.get(f"labctl-{label_of(self.home)}-{vmid}")

    def run(self, *command: str) -> str:
        with self.client() as pve:
            return pve.exec(VMID, list(command)).check(" ".join(command)).out

    def ready(self, vmid: int = VMID) -> None:
        """Waits until the agent answers and cloud-init is done."""
        with self.client() as pve:
            pve.agent_wait(vmid, 60)
            found = pve.exec(vmid, ["cloud-init", "status", "--wait", "--format", "json"], timeout_s=90)
        assert json.loads(found.out)["status"] == "done", found

    def crash(self) -> None:
        """The sandbox is killed."""
        os.kill(self.info.pid, signal.SIGKILL)
        until(lambda: not (status(self.home) or self.info).running, 60)

    def boots(self) -> int:
        return len(self.run("cat", "/var/log/boots-with-new-data").split())

    def began(self) -> str:
        """When its first process started: what tells one boot from another."""
        return str(self.container().attrs["State"]["StartedAt"])

    def left(self) -> list[str]:
        """What the engine has of this sandbox."""
        labelled = {"label": f"{HOME_LABEL}={self.home}"}
        containers = self.engine.containers.list(all=True, filters=labelled)
        volumes, networks = self.engine.volumes.list(filters=labelled), self.engine.networks.list(filters=labelled)
        return [str(one.name) for one in (*containers, *volumes, *networks)]


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    assert not CANNOT, CANNOT
    home = tmp_path_factory.mktemp("guests") / "home"
    relay = Relay(Path("/tmp") / f"labctl-relay-{os.getpid()}.sock")
    relay.open()
    kept = os.environ.get("DOCKER_HOST")
    os.environ["DOCKER_HOST"] = f"unix://{relay.path}"
    try:
        info = start(home, CONFIG, say=print)
        yield Bench(home, info, relay, docker.DockerClient(f"unix://{FACTS.socket}"))
    finally:
        print((home / "sandbox.log").read_text()[-6000:] if home.exists() else "")
        reset(home)
        relay.close()
        if kept is None:
            del os.environ["DOCKER_HOST"]
        else:
            os.environ["DOCKER_HOST"] = kept


@pytest.fixture(scope="module")
def guest(bench: Bench) -> Bench:
    bench.snippet(USER_DATA)
    bench.create(VMID, NAME, cicustom=f"user=local:snippets/{NAME}.yaml")
    bench.power("start")
    bench.ready()
    return bench


def test_it_boots_with_the_uploaded_user_data(guest: Bench) -> None:
    assert guest.run("cat", "/etc/from-user-data") == "first\n"
    assert guest.run("hostname", "-f").strip() == "small.lab.example"
    assert (
        guest.run("cat", "/var/lib/cloud/data/instance-id").strip()
        == guest.call("GET", f"qemu/{VMID}/cloudinit/dump", type="meta").removeprefix("instance-id: ").strip()
    )
    assert guest.call("GET", f"qemu/{VMID}/cloudinit/dump", type="user") == USER_DATA
    assert "small" in str(guest.container().logs())
    assert b"cloud-init" in guest.container().logs(), "the console is readable"


def test_the_address_that_the_agent_reports_is_the_one_that_answers(guest: Bench) -> None:
    with guest.client() as pve:
        (address,) = pve.addresses(VMID)
        (card,) = [
            one for one in guest.call("GET", f"qemu/{VMID}/agent/network-get-interfaces")["result"] if one["name"] == "eth0"
        ]
        assert pve.os_info(VMID)["version-id"] == "13"
    assert (address, card["hardware-address"]) == ("198.18.193.51", "bc:24:11:00:03:01")
    with socket.create_connection((address, 22), timeout=5) as line:
        assert line.recv(8).startswith(b"SSH-2.0")


def test_limits_are_those_of_the_configuration(guest: Bench) -> None:
    limits = guest.container().attrs["HostConfig"]
    assert (limits["Memory"], limits["NanoCpus"]) == (320 * 2**20, 10**9)
    guest.call("PUT", f"qemu/{VMID}/config", memory=448)
    assert guest.container().attrs["HostConfig"]["Memory"] == 320 * 2**20, "as PVE: at the next start"


def test_files_go_through_the_agent_unchanged(guest: Bench) -> None:
    content = bytes(range(256)) * 8
    with guest.client() as pve:
        pve.file_write(VMID, "/root/secret", content, mode=0o600)
        assert pve.file_read(VMID, "/root/secret") == content
        assert guest.run("stat", "-c", "%a", "/root/secret").strip() == "600"
        guest.run("dd", "if=/dev/urandom", "of=/root/large", "bs=1M", "count=5")
        digest = hashlib.sha256(pve.file_read(VMID, "/root/large") or b"").hexdigest()
        assert guest.run("sha256sum", "/root/large").split()[0] == digest
        assert pve.file_read(VMID, "/root/none", missing_ok=True) is None
    guest.run("truncate", "-s", str(READ_LIMIT + 5), "/root/huge")
    answer = guest.call("GET", f"qemu/{VMID}/agent/file-read", file="/root/huge")
    assert (answer["bytes-read"], answer["truncated"]) == (READ_LIMIT, 1)
    guest.run("rm", "/root/huge", "/root/large")


def test_commands_have_input_output_and_exit_codes(guest: Bench) -> None:
    with guest.client() as pve:
        found = pve.exec(VMID, ["sh", "-c", "cat; echo wrong >&2; exit 3"], input_data="given")
        assert (found.exit_code, found.out, found.err) == (3, "given", "wrong\n")
        with pytest.raises(AdapterError, match="no-such-program"):
            pve.exec(VMID, ["no-such-program"])
        assert pve.exec(VMID, ["sh", "-c", "kill -9 $$"]).exit_code == 137


def test_an_agent_that_hangs_is_not_running(guest: Bench) -> None:
    guest.container().exec_run("pkill -STOP qemu-ga")
    with guest.client() as pve:
        assert pve.agent_ping(VMID) is False
        with pytest.raises(AgentUnavailable, match="not running"):
            pve.exec(VMID, ["true"])
        guest.container().exec_run("pkill -CONT qemu-ga")
        pve.agent_wait(VMID, 20)
        assert pve.exec(VMID, ["true"]).exit_code == 0


def test_a_reboot_from_inside_is_seen(guest: Bench) -> None:
    before, boots = guest.began(), guest.boots()
    with contextlib.suppress(AdapterError):
        guest.run("systemctl", "reboot")
    until(lambda: guest.began() != before and guest.container().status == "running", 60)
    guest.ready()
    assert (guest.state(), guest.boots()) == ("running", boots)
    assert guest.run("cat", "/etc/from-user-data") == "first\n"
    assert guest.container().attrs["HostConfig"]["Memory"] == 320 * 2**20, "no new configuration without a start"


def test_one_that_switches_itself_off_is_stopped_and_keeps_its_disk(guest: Bench) -> None:
    with contextlib.suppress(AdapterError):
        guest.run("systemctl", "poweroff")
    until(lambda: guest.state() == "stopped", 60)
    guest.power("start")
    guest.ready()
    assert guest.run("stat", "-c", "%a", "/root/secret").strip() == "600"
    assert guest.container().attrs["HostConfig"]["Memory"] == 448 * 2**20


@pytest.mark.parametrize("action", ["reboot", "shutdown", "stop"])
def test_the_hypervisor_switches_it_off_and_on(guest: Bench, action: str) -> None:
    before = guest.began()
    guest.power(action)
    if action != "reboot":
        assert (guest.state(), guest.container().status) == ("stopped", "exited")
        guest.power("start")
    guest.ready()
    assert guest.began() != before
    assert guest.run("stat", "-c", "%a", "/root/secret").strip() == "600"


def test_edited_user_data_counts_from_the_next_start(guest: Bench) -> None:
    boots = guest.boots()
    guest.snippet(USER_DATA.replace("first", "second"))
    guest.power("reboot")
    guest.ready()
    assert (guest.boots(), guest.run("cat", "/etc/from-user-data")) == (boots + 1, "second\n")


def test_containers_in_a_guest_would_know_the_labs_names(guest: Bench) -> None:
    assert "nameserver 198.18.193.1" in guest.run("cat", "/etc/resolv.conf")
    question = struct.pack(">HHHHHH", 7, 0x0100, 1, 0, 0, 0) + b"\x05small\x03lab\x07example\x00" + struct.pack(">HH", 1, 1)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as line:
        line.settimeout(5)
        line.sendto(question, ("198.18.193.1", 53))
        assert line.recv(512).endswith(socket.inet_aton("198.18.193.51"))


def test_an_engine_that_goes_away_is_said_and_waited_for(guest: Bench) -> None:
    guest.relay.close()
    until(lambda: guest.state() == "stopped", 60)
    with pytest.raises(TaskFailed, match="the Docker engine does not answer on"):
        guest.power("start")
    guest.container().kill()
    guest.relay.open()
    guest.power("start")
    guest.ready()
    assert guest.run("cat", "/etc/from-user-data") == "second\n"


def test_a_machine_that_was_switched_off_brings_its_guests_back(guest: Bench) -> None:
    guest.run("sh", "-c", "echo kept > /var/lib/docker/data")
    guest.create(OTHER, "other", net0="virtio=BC:24:11:00:03:02,bridge=vmbr0")
    guest.power("start", OTHER)
    guest.crash()
    guest.container().kill()
    guest.container(OTHER).kill()
    # And somebody tidied up meanwhile.
    guest.container().remove()
    guest.info = start(guest.home, CONFIG)
    guest.ready()
    guest.ready(OTHER)
    assert guest.run("cat", "/var/lib/docker/data") == "kept\n"
    assert guest.boots() == 1, "cloud-init ran again"


def test_guests_left_running_by_a_killed_sandbox_are_taken_in(guest: Bench) -> None:
    before = guest.began()
    guest.crash()
    guest.info = start(guest.home, CONFIG)
    guest.ready()
    assert guest.began() != before


def test_another_address_counts_from_the_next_start(guest: Bench) -> None:
    guest.call("PUT", f"qemu/{VMID}/config", ipconfig0="ip=198.18.193.77/24")
    guest.power("reboot")
    guest.ready()
    with guest.client() as pve:
        assert pve.addresses(VMID) == ("198.18.193.77",)
    assert guest.run("cat", "/sys/class/net/eth0/address").strip() == "bc:24:11:00:03:01"
    with socket.create_connection(("198.18.193.77", 22), timeout=5) as line:
        assert line.recv(8).startswith(b"SSH-2.0")


def test_a_network_that_somebody_removed_is_made_again(guest: Bench) -> None:
    guest.power("stop")
    guest.power("stop", OTHER)
    guest.engine.networks.get(f"labctl-{label_of(guest.home)}").remove()
    guest.power("start")
    guest.ready()
    guest.power("start", OTHER)
    with guest.client() as pve:
        assert pve.addresses(VMID) == ("198.18.193.77",)
    guest.call("PUT", f"qemu/{OTHER}/config", ipconfig0="ip=198.18.7.7/24")
    with pytest.raises(TaskFailed, match=r"198\.18\.7\.7 is outside the guests' network"):
        guest.power("reboot", OTHER)
    guest.call("PUT", f"qemu/{OTHER}/config", ipconfig0="ip=198.18.193.52/24")
    guest.power("start", OTHER)


def test_it_stops_and_comes_back_with_the_sandbox(guest: Bench) -> None:
    assert stop(guest.home)
    assert guest.container().status == "exited"
    assert [one.status for one in (status(guest.home) or guest.info).guests] == ["stopped", "stopped"]
    guest.info = start(guest.home, CONFIG)
    guest.ready()


def test_the_other_kind_of_guests_is_refused_while_these_are_here(guest: Bench) -> None:
    stop(guest.home)
    with pytest.raises(UserError, match="made with guests of kind `container`") as caught:
        start(guest.home, replace(CONFIG, guests="appliance"))
    assert "labctl sandbox reset" in caught.value.hint
    guest.info = start(guest.home, CONFIG)


def test_a_network_that_is_taken_is_said_before_anything_starts(guest: Bench, tmp_path: Path) -> None:
    other = replace(CONFIG, address="127.86.93.2", guest_network="198.18.193.0/24")
    with pytest.raises(UserError, match=r"198\.18\.193\.0/24 overlaps with") as caught:
        start(tmp_path / "home", other)
    assert caught.value.where == "target.sandbox.guest_network"
    assert not (tmp_path / "home" / "config.json").exists()


def test_no_engine_is_said_before_anything_starts(guest: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    assert engine_socket() == f"{tmp_path}/none.sock"
    with pytest.raises(AdapterError, match="does not answer") as caught:
        start(tmp_path / "home", replace(CONFIG, address="127.86.93.2", guest_network="198.18.194.0/24"))
    assert "systemctl start docker" in caught.value.hint


@contextlib.contextmanager
def another(bench: Bench, user_data: str) -> Iterator[tuple[FirstBoot, list[str]]]:
    """A guest of its own that boots with this user-data, and what is warned of; removed afterwards."""
    warned: list[str] = []
    bench.snippet(f"#cloud-config\n{user_data}", "other")
    bench.create(THIRD, "other", cicustom="user=local:snippets/other.yaml", net0="virtio=BC:24:11:00:03:03,bridge=vmbr0")
    bench.power("start", THIRD)
    try:
        with bench.client() as pve:
            yield FirstBoot(pve, "other", THIRD, 120, progress=print, warn=warned.append), warned
    finally:
        if bench.state(THIRD) == "running":
            bench.power("stop", THIRD)
        bench.task("DELETE", f"qemu/{THIRD}")


@pytest.mark.parametrize(
    ("user_data", "says"),
    [
        ("runcmd:\n  - set -e\n  - cat /no/such/file\n", "/no/such/file"),
        ("package_update: true\npackages: [no-such-package-at-all]\n", "no-such-package-at-all"),
        ("runcmd:\n  - set -e\n  - ip route del default\n  - curl -sS --max-time 5 http://198.51.100.1/\n", "curl: ("),
    ],
    ids=["a command that fails", "a package that is not there", "no network"],
)
def test_a_first_boot_that_fails_is_told_with_its_cause(bench: Bench, user_data: str, says: str) -> None:
    with another(bench, user_data) as (boot, _), pytest.raises(AdapterError, match="cloud-init failed in module") as caught:
        boot.wait()
    assert says in f"{caught.value} {caught.value.hint}"
    assert "labctl console other" in caught.value.hint


REBOOTS = f"""\
runcmd:
  - set -e
  - rm -f {SET_UP}
  - "test -e /root/again || {{ touch /root/again; systemctl reboot; sleep 60; }}"
  - echo whole > /root/whole
  - install -D -m 0644 /dev/null {SET_UP}
"""


def test_a_guest_that_reboots_in_the_middle_of_its_first_boot_begins_again(bench: Bench) -> None:
    with another(bench, REBOOTS) as (boot, warned):
        boot.wait()
        assert warned == ["guest other rebooted in the middle of its first boot, which begins again"]
        assert boot.hypervisor.file_read(THIRD, "/root/whole") == b"whole\n"
        assert boot.has_ended_well()


def test_a_deleted_guest_leaves_nothing(guest: Bench) -> None:
    guest.power("stop", OTHER)
    assert any(name.endswith(str(OTHER)) for name in guest.left())
    guest.task("DELETE", f"qemu/{OTHER}")
    assert not [name for name in guest.left() if str(OTHER) in name]
    assert not (guest.home / "guests" / str(OTHER)).exists()


def test_reset_leaves_nothing(guest: Bench) -> None:
    assert guest.left()
    reset(guest.home)
    assert guest.left() == []
    assert not guest.home.exists()
    shutil.rmtree(guest.home.parent, ignore_errors=True)
