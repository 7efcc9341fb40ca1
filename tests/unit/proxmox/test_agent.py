"""The guest agent's calls: what is sent, in which order, and what recorded answers become."""

from __future__ import annotations

import base64
import json

import pytest

from labctl.adapters.proxmox import AgentUnavailable, ExecResult, FileMissing, GuestMissing, Interface, ProxmoxFailed
from labctl.model.errors import AdapterError, UserError
from labctl.model.secret import Secret

AGENT = "/nodes/pve/qemu/102/agent"
DOWN = {"status": 500, "reason": "QEMU guest agent is not running"}
OFF = {"status": 500, "reason": "VM 102 is not running"}
NONE = {"status": 500, "reason": "No QEMU guest agent configured"}
MISSING = {
    "status": 500,
    "reason": "Agent error: Failed to open file '/etc/x' (mode: 'r'): No such file or directory",
}


def on_exec(stub, *statuses: dict[str, object]) -> None:
    stub.on("POST", f"{AGENT}/exec", {"pid": 41})
    stub.on("GET", f"{AGENT}/exec-status", *(statuses or ({"exited": 1, "exitcode": 0},)))


def test_ping(stub, pve, answer):
    stub.on("POST", f"{AGENT}/ping", {"result": {}}, answer(**DOWN), answer(**OFF), answer(**NONE))
    assert pve.agent_ping(102) is True
    assert pve.agent_ping(102) is False
    assert pve.agent_ping(102) is False
    with pytest.raises(AgentUnavailable, match="configured"):
        pve.agent_ping(102)


def test_ping_of_a_guest_that_is_gone(stub, pve, answer):
    gone = answer(status=500, reason="Configuration file 'nodes/pve/qemu-server/102.conf' does not exist")
    stub.on("POST", f"{AGENT}/ping", gone)
    with pytest.raises(GuestMissing):
        pve.agent_ping(102)


def test_ping_is_repeated_because_it_changes_nothing(stub, pve, answer):
    stub.on("POST", f"{AGENT}/ping", answer(drop=True), {"result": {}})
    assert pve.agent_ping(102) is True


def test_wait(stub, pve, answer, clock):
    stub.on("POST", f"{AGENT}/ping", *[answer(**DOWN)] * 25, {"result": {}})
    lines: list[str] = []
    pve.agent_wait(102, timeout_s=60, progress=lines.append)
    assert clock.now == 25
    assert lines == ["guest 102: waiting for its agent, 10 s", "guest 102: waiting for its agent, 20 s"]


def test_wait_gives_up(stub, pve, answer, clock):
    stub.on("POST", f"{AGENT}/ping", answer(**DOWN))
    with pytest.raises(AgentUnavailable, match="agent of guest 102 does not answer after 5 s") as caught:
        pve.agent_wait(102, timeout_s=5)
    assert "qm status 102" in caught.value.hint
    assert clock.now == pytest.approx(5, abs=0.1)


def test_file_read(stub, pve):
    stub.on("GET", f"{AGENT}/file-read", {"content": "-----BEGIN CERTIFICATE REQUEST-----\n", "bytes-read": 36})
    assert pve.file_read(102, "/etc/openbao/tls/server.csr") == b"-----BEGIN CERTIFICATE REQUEST-----\n"
    assert stub.asked[-1].fields == {"file": ["/etc/openbao/tls/server.csr"]}


@pytest.mark.parametrize(
    ("content", "data"), [("\x00\xff\xc3\xa9", b"\x00\xff\xc3\xa9"), ("„Labor“", "„Labor“".encode()), ("", b"")]
)
def test_file_read_gives_bytes(stub, pve, content, data):
    stub.on("GET", f"{AGENT}/file-read", {"content": content})
    assert pve.file_read(102, "/x") == data


def test_file_read_of_a_missing_file(stub, pve, answer):
    stub.on("GET", f"{AGENT}/file-read", answer(**MISSING))
    assert pve.file_read(102, "/etc/x", missing_ok=True) is None
    with pytest.raises(FileMissing, match="No such file"):
        pve.file_read(102, "/etc/x")


def test_missing_ok_does_not_hide_an_absent_agent(stub, pve, answer):
    stub.on("GET", f"{AGENT}/file-read", answer(**DOWN))
    with pytest.raises(AgentUnavailable):
        pve.file_read(102, "/etc/x", missing_ok=True)


def test_file_read_of_too_much(stub, pve):
    stub.on("GET", f"{AGENT}/file-read", {"content": "x", "truncated": 1})
    with pytest.raises(ProxmoxFailed, match="larger"):
        pve.file_read(102, "/var/log/big")


def test_file_write_makes_the_file_with_its_mode_first(stub, pve):
    on_exec(stub)
    stub.on("POST", f"{AGENT}/file-write", None)
    pve.file_write(102, "/run/lab/s3.json", Secret('{"key": "a+b&c=d"}\n'))
    posts = [(one.path, one.fields) for one in stub.asked if one.method == "POST"]
    assert posts == [
        (f"{AGENT}/exec", {"command": ["install", "-m", "0600", "/dev/null", "/run/lab/s3.json"]}),
        (f"{AGENT}/file-write", {"file": ["/run/lab/s3.json"], "content": ['{"key": "a+b&c=d"}\n']}),
    ]


@pytest.mark.parametrize("content", ["Straße\n", b"\x00\x01\xff"])
def test_file_write_of_anything_but_ascii_goes_as_base64(stub, pve, content):
    on_exec(stub)
    stub.on("POST", f"{AGENT}/file-write", None)
    pve.file_write(102, "/etc/x", content, mode=0o644)
    fields = stub.asked[-1].fields
    data = content if isinstance(content, bytes) else content.encode()
    assert base64.b64decode(fields["content"][0]) == data
    assert fields["encode"] == ["0"]
    assert "0644" in stub.asked[-3].fields["command"]


def test_file_write_of_nothing(stub, pve):
    on_exec(stub)
    stub.on("POST", f"{AGENT}/file-write", None)
    pve.file_write(102, "/etc/x", "")
    assert stub.asked[-1].fields["content"] == [""]


def test_file_write_stops_when_the_file_cannot_be_made(stub, pve):
    on_exec(stub, {"exited": 1, "exitcode": 1, "err-data": "install: cannot create regular file '/no/x'\n"})
    with pytest.raises(ProxmoxFailed, match="cannot create regular file") as caught:
        pve.file_write(102, "/no/x", Secret("sekrit"))
    assert ("POST", f"{AGENT}/file-write") not in stub.sent()
    assert "folder" in caught.value.hint


@pytest.mark.parametrize(
    ("content", "fits"),
    [
        ("x" * 61440, True),
        ("x" * 61441, False),
        (b"\x80" + bytes(46000), True),
        (b"\x80" + bytes(46080), False),
        ("\n" * 30000, False),
        (b"\xff" * 46000, False),
    ],
)
def test_file_write_limits(stub, pve, content, fits):
    on_exec(stub)
    stub.on("POST", f"{AGENT}/file-write", None)
    if fits:
        pve.file_write(102, "/etc/x", content)
    else:
        with pytest.raises(UserError, match="too long for the guest agent"):
            pve.file_write(102, "/etc/x", content)
        assert stub.asked == []


@pytest.mark.parametrize("path", ["", "etc/x", "../x", "/etc/\0x", "/etc/x\n"])
def test_paths_that_are_not_absolute(stub, pve, path):
    with pytest.raises(UserError, match="absolute"):
        pve.file_write(102, path, "x")
    with pytest.raises(UserError, match="absolute"):
        pve.file_read(102, path)
    assert stub.asked == []


def test_exec_waits_for_the_end(stub, pve, clock):
    on_exec(stub, {"exited": 0}, {"exited": 0}, {"exited": 1, "exitcode": 3, "out-data": "out\n", "err-data": "err\n"})
    assert pve.exec(102, ["sh", "-c", "echo 'a b'"]) == ExecResult(3, "out\n", "err\n")
    assert stub.asked[1].fields == {"command": ["sh", "-c", "echo 'a b'"]}
    assert stub.asked[-1].fields == {"pid": ["41"]}
    assert len(clock.pauses) == 2


@pytest.mark.parametrize("exited", [1, True, "1"])
def test_exec_reads_all_of_pve_s_booleans(stub, pve, exited):
    on_exec(stub, {"exited": exited, "exitcode": 0})
    assert pve.exec(102, ["true"]).exit_code == 0


def test_exec_of_a_command_that_was_killed(stub, pve):
    on_exec(stub, {"exited": 1, "signal": 9})
    assert pve.exec(102, ["sleep", "9"]).exit_code == 137


def test_exec_reads_utf8(stub, pve):
    on_exec(stub, {"exited": 1, "exitcode": 0, "out-data": "Größe".encode().decode("latin-1"), "err-data": "„x“"})
    assert pve.exec(102, ["true"]) == ExecResult(0, "Größe", "„x“")


def test_exec_that_does_not_end(stub, pve):
    on_exec(stub, {"exited": 0})
    with pytest.raises(AdapterError, match="sleep in guest 102 has not ended after 4 s") as caught:
        pve.exec(102, ["sleep", "99"], timeout_s=4)
    assert "41" in caught.value.hint


def test_exec_is_sent_once(stub, pve, answer):
    stub.on("POST", f"{AGENT}/exec", answer(drop=True))
    with pytest.raises(AdapterError):
        pve.exec(102, ["reboot"])
    assert stub.sent().count(("POST", f"{AGENT}/exec")) == 1


def test_exec_input(stub, pve):
    on_exec(stub)
    pve.exec(102, ["cat"], input_data=Secret("line\n"))
    assert stub.asked[1].fields == {"command": ["cat"], "input-data": ["line\n"]}


@pytest.mark.parametrize("text", ["ü", "x" * 65537, "\n" * 30000])
def test_exec_input_that_the_api_cannot_carry(stub, pve, text):
    with pytest.raises(UserError, match="ASCII"):
        pve.exec(102, ["cat"], input_data=text)
    assert stub.asked == []


def test_exec_of_nothing(pve):
    with pytest.raises(UserError):
        pve.exec(102, [])


def test_check():
    assert ExecResult(0, "x", "").check("ls") == ExecResult(0, "x", "")
    with pytest.raises(AdapterError, match="systemctl restart failed in the guest with exit code 5") as caught:
        ExecResult(5, "", "a\nb\nUnit not found\n").check("systemctl restart")
    assert caught.value.hint.endswith("Unit not found")


INTERFACES = {
    "result": [
        {"name": "lo", "ip-addresses": [{"ip-address": "127.0.0.1", "ip-address-type": "ipv4", "prefix": 8}]},
        {"name": "eth0", "ip-addresses": [
            {"ip-address": "fe80::1", "ip-address-type": "ipv6", "prefix": 64},
            {"ip-address": "2001:db8::7", "ip-address-type": "ipv6", "prefix": 64},
            {"ip-address": "192.0.2.7", "ip-address-type": "ipv4", "prefix": 24}]},
        {"name": "wlan0"},
    ]
}  # fmt: skip


def test_addresses(stub, pve):
    stub.on("GET", f"{AGENT}/network-get-interfaces", INTERFACES)
    assert pve.addresses(102) == ("192.0.2.7", "2001:db8::7")
    assert pve.interfaces(102)[2] == Interface("wlan0", ())


def test_addresses_of_a_sandbox_guest_are_loopback_addresses(stub, pve):
    text = json.dumps(INTERFACES).replace("192.0.2.7", "127.86.179.104")
    stub.on("GET", f"{AGENT}/network-get-interfaces", json.loads(text))
    assert pve.addresses(102)[0] == "127.86.179.104"


def test_os_info(stub, pve):
    stub.on("GET", f"{AGENT}/get-osinfo", {"result": {"id": "ubuntu", "version-id": "24.04"}})
    assert pve.os_info(102)["version-id"] == "24.04"
