"""Strangers, power, tasks and the guest agent."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from labctl.adapters.proxmox import (
    AgentUnavailable,
    FileMissing,
    GuestMissing,
    Proxmox,
    ProxmoxFailed,
    TaskFailed,
    Unreachable,
    gather,
)
from labctl.model.errors import UserError
from labctl.model.inventory import foreign_guests, refuse_foreign
from labctl.model.secret import Secret

from .conftest import Pve

pytestmark = [pytest.mark.integration, pytest.mark.xdist_group("proxmox")]


def test_a_stranger_is_named(pve, client):
    pve.guest(201, "nas")
    try:
        with pytest.raises(UserError, match="VMID 201, wanted for 'gitlab', is taken by VM 'nas' on node 'pve'"):
            refuse_foreign(foreign_guests({201: "gitlab"}, client.resources(), set()))
        assert client.vmid_free(201) is False
        assert client.vmid_free(299) is True
    finally:
        pve.wait(str(pve.call("DELETE", "nodes/pve/qemu/201")))


def test_a_stranger_that_the_token_may_not_see_is_found_too(pve, lab):
    value = pve.token("blind@pve")
    pve.guest(201, "nas")
    try:
        with pve.client("blind@pve!labctl", value) as client:
            facts = gather(client, lab)
            assert facts.guests == ()
            assert facts.taken == {201}
            (found,) = foreign_guests({201: "gitlab", 202: "docker"}, facts.guests, set(), facts.taken)
        assert "may not see" in str(found)
    finally:
        pve.wait(str(pve.call("DELETE", "nodes/pve/qemu/201")))


@pytest.fixture(scope="module")
def running(pve: Pve) -> Iterator[int]:
    """A running guest without a role."""
    pve.guest(150, "plain", net0="virtio,bridge=vmbr0", ipconfig0="ip=127.86.79.150/24")
    with pve.client() as client:
        client.start(150)
        client.agent_wait(150, timeout_s=20)
        yield 150
        client.stop(150)
    pve.wait(str(pve.call("DELETE", "nodes/pve/qemu/150")))


@pytest.mark.parametrize(
    "content", [Secret('{"key": "a+b&c=d %41"}\n'), "Größe: „x“\n", b"\x00\x01\xfe\xff", "", b"\x80" * 4096, "x" * 61440]
)
def test_a_file_comes_back_as_it_was_sent(client, running, content):
    plain = content.reveal() if isinstance(content, Secret) else content
    client.file_write(running, "/etc/round-trip", content, mode=0o640)
    assert client.file_read(running, "/etc/round-trip") == (plain if isinstance(plain, bytes) else plain.encode())
    assert client.exec(running, ["stat", "-c", "%a", "/etc/round-trip"]).check("stat").out.strip() == "640"


def test_a_secret_file_is_its_owner_s_alone(client, running):
    client.file_write(running, "/run/secret", Secret("sekrit"))
    assert client.exec(running, ["stat", "-c", "%a", "/run/secret"]).out.strip() == "600"


def test_a_missing_file(client, running):
    assert client.file_read(running, "/etc/none", missing_ok=True) is None
    with pytest.raises(FileMissing):
        client.file_read(running, "/etc/none")


def test_a_missing_folder(client, running):
    with pytest.raises(ProxmoxFailed, match="/etc/none/file"):
        client.file_write(running, "/etc/none/file", "x")


def test_commands(client, running):
    assert client.exec(running, ["hostname"]).check("hostname").out.strip() == "plain"
    assert client.exec(running, ["test", "-e", "/etc/none"]).exit_code == 1


def test_what_the_guest_says_of_itself(client, running):
    assert client.addresses(running) == ("127.86.79.150",)
    assert client.os_info(running)["id"]


def test_power_and_the_agent(client, running):
    client.start(running)
    assert client.status(running).status == "running"
    client.shutdown(running, timeout_s=20)
    assert client.status(running).status == "stopped"
    assert client.agent_ping(running) is False
    with pytest.raises(AgentUnavailable):
        client.file_read(running, "/etc/hostname", missing_ok=True)
    client.start(running)
    client.agent_wait(running, timeout_s=20)


def test_a_task_that_fails(pve, client, running):
    client.stop(running)
    pve.fault(kind="task", type="qmstart", message="no space left on device")
    with pytest.raises(TaskFailed, match="no space left on device") as caught:
        client.start(running)
    assert any("no space left" in line for line in caught.value.log)
    client.start(running)


def test_a_start_whose_answer_is_lost_is_not_sent_twice(pve, client, running):
    def starts() -> int:
        return len([task for task in pve.call("GET", "nodes/pve/tasks") if task["type"] == "qmstart"])

    client.stop(running)
    before = starts()
    pve.fault(kind="http", method="POST", path="/status/start$", drop="after", times=0)
    with pytest.raises(Unreachable):
        client.start(running)
    client.agent_wait(running, timeout_s=20)
    assert starts() == before + 1
    client.start(running)
    assert starts() == before + 1


def test_a_guest_that_is_not_there(client):
    with pytest.raises(GuestMissing):
        client.agent_ping(555)


def test_volumes_and_pools(pve: Pve, client: Proxmox) -> None:
    pve.call("POST", "pools", poolid="some", comment="a pool")
    try:
        assert ("some", "a pool") in [(pool.name, pool.comment) for pool in client.pools()]
    finally:
        pve.call("DELETE", "pools", poolid="some")
    assert client.volumes("pve", "local", "snippets") == ()
