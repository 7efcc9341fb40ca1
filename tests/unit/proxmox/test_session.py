"""The door to the API against a real TLS server: trust, repeats, and what each failure is told as."""

from __future__ import annotations

import logging
import socket

import pytest

from labctl.adapters.proxmox import (
    AgentUnavailable,
    CertificateUnknown,
    FileMissing,
    GuestMissing,
    NotTheApi,
    PermissionMissing,
    Proxmox,
    ProxmoxFailed,
    TokenRefused,
    Unreachable,
    parse_token,
)
from labctl.model.errors import UserError
from labctl.model.secret import Secret

VERSION = {"version": "9.0.10", "release": "9.0"}
HTML = b"<html><body>Sign in</body></html>"


def test_the_token_is_sent_and_the_answer_read(stub, pve):
    stub.on("GET", "/version", VERSION)
    assert pve.version().text == "9.0.10"
    assert stub.asked[0].authorization == "PVEAPIToken=labctl@pve!labctl=9c1f2a4e-token-value"


def test_environment_does_not_change_trust_or_route(stub, pve, monkeypatch, tmp_path):
    other = tmp_path / "other.pem"
    other.write_text("not a certificate")
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"):
        monkeypatch.setenv(name, str(other))
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.86.179.9:9")
    stub.on("GET", "/version", VERSION)
    assert pve.version().major == 9


def test_environment_cannot_lend_trust(stub, connect, monkeypatch):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(stub.ca_file))
    monkeypatch.setenv("SSL_CERT_FILE", str(stub.ca_file))
    with pytest.raises(CertificateUnknown):
        connect(stub.endpoint, None).version()


def test_an_authority_without_critical_constraints_is_accepted(make_stub, connect):
    stub = make_stub(plain_authority=True)
    stub.on("GET", "/version", VERSION)
    assert connect(stub.endpoint, stub.ca_file).version().major == 9


@pytest.mark.parametrize("drops", [1, 2])
def test_a_read_is_repeated_after_a_dropped_connection(stub, pve, answer, drops, clock):
    stub.on("GET", "/version", *[answer(drop=True)] * drops, VERSION)
    assert pve.version().major == 9
    assert len(stub.asked) == drops + 1
    assert clock.pauses == [0.2, 0.6][:drops]


def test_a_read_is_given_up_after_three_drops(stub, pve, answer):
    stub.on("GET", "/version", answer(drop=True))
    with pytest.raises(Unreachable, match="connection was lost during GET /version") as caught:
        pve.version()
    assert len(stub.asked) == 3
    assert caught.value.where == stub.endpoint


@pytest.mark.parametrize("status", [500, 502, 503, 504, 595, 596, 599])
def test_a_passing_failure_of_a_read_passes(stub, pve, answer, status):
    stub.on("GET", "/version", answer(status=status, reason="stumbled"), VERSION)
    assert pve.version().major == 9


@pytest.mark.parametrize("failure", [{"drop": True}, {"status": 500, "reason": "stumbled"}, {"status": 503, "reason": "busy"}])
def test_a_change_is_sent_once(stub, pve, answer, failure):
    stub.on("GET", "/nodes/pve/qemu/102/status/current", {"vmid": 102, "status": "stopped"})
    stub.on("POST", "/nodes/pve/qemu/102/status/start", answer(**failure))
    with pytest.raises((Unreachable, ProxmoxFailed)):
        pve.start(102)
    assert stub.sent().count(("POST", "/nodes/pve/qemu/102/status/start")) == 1


REFUSALS = [
    (401, "authentication failure", TokenRefused, "token is not accepted (authentication failure)", "PROXMOX_VE_API_TOKEN", 1),
    (401, "no such token 'labctl' for user 'labctl@pve'", TokenRefused, "no such token", "pveum user token", 1),
    (403, "Permission check failed (/vms/102, VM.Audit)", PermissionMissing, "lacks VM.Audit on /vms/102", "doctor", 1),
    (403, "Permission check failed (/storage/local, Datastore.Audit|Datastore.AllocateSpace)", PermissionMissing,
     "lacks Datastore.Audit or Datastore.AllocateSpace on /storage/local", "doctor", 1),
    (403, "Permission check failed (user != root@pam)", PermissionMissing, "user != root@pam", "doctor", 1),
    (500, "Configuration file 'nodes/pve/qemu-server/102.conf' does not exist", GuestMissing, "does not exist", "qm list", 1),
    (500, "No QEMU guest agent configured", AgentUnavailable, "No QEMU guest agent configured", "agent enabled=1", 1),
    (500, "QEMU guest agent is not running", AgentUnavailable, "not running", "qemu-guest-agent", 1),
    (500, "Agent error: Failed to open file '/x' (mode: 'r'): No such file or directory", FileMissing, "No such file", "", 1),
    (500, "Agent error: guest-file-open has been disabled", ProxmoxFailed, "has been disabled", "", 1),
    (500, "VM is locked (backup)", ProxmoxFailed, "locked (backup)", "Another task", 1),
    (500, "cluster not ready - no quorum?", ProxmoxFailed, "no quorum", "pvecm status", 3),
    (500, "something else", ProxmoxFailed, "GET /version failed: something else", "journalctl", 3),
    (501, "Method 'GET /version' not implemented", ProxmoxFailed, "not implemented", "does not know the call", 1),
    (596, "Connection timed out", ProxmoxFailed, "Connection timed out", "pvecm status", 3),
    (599, "Too many redirections", ProxmoxFailed, "Too many", "pvecm status", 3),
]  # fmt: skip


@pytest.mark.parametrize("in_body", [True, False])
@pytest.mark.parametrize("case", REFUSALS, ids=lambda case: f"{case[0]} {case[1]}")
def test_refusals(stub, pve, answer, case, in_body):
    status, reason, kind, message, hint, tries = case
    stub.on("GET", "/version", answer(status=status, reason=reason, message_in_body=in_body))
    with pytest.raises(kind) as caught:
        pve.version()
    assert message in caught.value.message
    assert hint in caught.value.hint
    assert caught.value.where == stub.endpoint
    assert len(stub.asked) == tries


def test_a_missing_right_is_named(stub, pve, answer):
    stub.on("GET", "/version", answer(status=403, reason="Permission check failed (/vms/102, VM.GuestAgent.Audit|VM.Audit)"))
    with pytest.raises(PermissionMissing) as caught:
        pve.version()
    assert (caught.value.path, caught.value.privileges) == ("/vms/102", ("VM.GuestAgent.Audit", "VM.Audit"))


def test_wrong_parameters_are_named(stub, pve, answer):
    stub.on("GET", "/version", answer(status=400, reason="Parameter verification failed.", errors={"node": "no such node\n"}))
    with pytest.raises(ProxmoxFailed, match=r"Parameter verification failed\. \(node: no such node\)") as caught:
        pve.version()
    assert caught.value.status == 400


@pytest.mark.parametrize(
    ("fields", "found"),
    [
        ({"raw": HTML, "content_type": "text/html; charset=utf-8"}, "a page of type text/html"),
        ({"raw": b"", "content_type": ""}, "without a type"),
        ({"raw": b'{"error": 1}'}, "without the field data"),
        ({"raw": b"[]"}, "without the field data"),
        ({"raw": HTML, "status": 404, "reason": "Not Found"}, "status 404"),
        ({"data": ["not", "a", "version"]}, "another shape"),
        ({"data": None}, "another shape"),
    ],
)
def test_answers_that_are_not_the_api(stub, pve, answer, fields, found):
    stub.on("GET", "/version", answer(**fields))
    with pytest.raises(NotTheApi, match=found) as caught:
        pve.version()
    assert "target.proxmox.endpoint" in caught.value.hint


def test_a_gateway_page_is_repeated_and_then_told(stub, pve, answer):
    stub.on("GET", "/version", answer(status=502, reason="Bad Gateway", raw=HTML, content_type="text/html"))
    with pytest.raises(ProxmoxFailed, match="Bad Gateway"):
        pve.version()
    assert len(stub.asked) == 3


def test_a_redirect_is_not_followed(stub, pve, make_stub, answer):
    elsewhere = make_stub()
    stub.on("GET", "/version", answer(status=302, reason="Found", location=f"{elsewhere.endpoint}/api2/json/version"))
    with pytest.raises(NotTheApi, match="redirects"):
        pve.version()
    assert elsewhere.asked == []


def test_unknown_authority(stub, make_stub, connect):
    with pytest.raises(CertificateUnknown, match="authority that is not trusted") as caught:
        connect(stub.endpoint, make_stub().ca_file).version()
    assert "/etc/pve/pve-root-ca.pem" in caught.value.hint
    assert "target.proxmox.ca_file" in caught.value.hint
    assert stub.asked == []


def test_certificate_for_another_address(make_stub, connect):
    stub = make_stub(certified_for="127.86.179.2")
    with pytest.raises(CertificateUnknown, match="another name or address"):
        connect(stub.endpoint, stub.ca_file).version()


def test_no_tls(make_stub, connect):
    stub = make_stub(tls=False)
    with pytest.raises(NotTheApi, match="does not speak TLS"):
        connect(stub.endpoint, stub.ca_file).version()


def test_refused_port(stub, connect, clock):
    with socket.create_server(("127.86.179.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(Unreachable, match="refused") as caught:
        connect(f"https://127.86.179.1:{port}", stub.ca_file).version()
    assert f"127.86.179.1:{port}" in str(caught.value)
    assert clock.pauses == []


def test_unknown_name(stub, connect, monkeypatch):
    def fail(*args: object, **kwargs: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    with pytest.raises(Unreachable, match=r"name 'pve\.example\.com' is not known"):
        connect("https://pve.example.com:8006", stub.ca_file).version()


def test_slow_answer(stub, connect, answer):
    stub.on("GET", "/version", answer(VERSION, wait_s=5))
    with pytest.raises(Unreachable, match=r"no answer to GET /version within 0\.3 s"):
        connect(stub.endpoint, stub.ca_file, timeout_s=0.3).version()
    assert len(stub.asked) == 1


@pytest.mark.parametrize("content", [None, "", "-----BEGIN CERTIFICATE-----\nno\n-----END CERTIFICATE-----\n"])
def test_unusable_authority_file(tmp_path, connect, content):
    ca_file = tmp_path / "ca.pem"
    if content is not None:
        ca_file.write_text(content)
    with pytest.raises(UserError, match="PEM certificates") as caught:
        connect("https://127.86.179.1:8006", ca_file)
    assert caught.value.where == "target.proxmox.ca_file"


@pytest.mark.parametrize("token_id", ["", "labctl", "labctl@pve", "labctl!labctl", "labctl@pve!", "a b@pve!x"])
def test_token_ids_of_another_form(token_id):
    with pytest.raises(UserError, match="user@realm!name"):
        Proxmox.connect("https://127.86.179.1:8006", token_id, Secret("x"))


@pytest.mark.parametrize("endpoint", ["http://127.86.179.1:8006", "pve:8006", "https://"])
def test_endpoints_of_another_form(endpoint):
    with pytest.raises(UserError, match="https://host:8006"):
        Proxmox.connect(endpoint, "labctl@pve!labctl", Secret("x"))


def test_parse_token():
    token_id, value = parse_token(Secret("labctl@pve!labctl=aaaa=bbbb"))
    assert token_id == "labctl@pve!labctl"
    assert value.reveal() == "aaaa=bbbb"


@pytest.mark.parametrize("text", ["", "hunter2hunter2", "labctl@pve=hunter2hunter2", "labctl@pve!labctl=", "hunter2hunter2=x"])
def test_parse_token_does_not_show_what_it_refuses(text):
    with pytest.raises(UserError) as caught:
        parse_token(Secret(text))
    assert "hunter2" not in f"{caught.value}{caught.value.hint}{caught.value!r}"


def test_nothing_secret_in_logs_or_errors(stub, pve, answer, caplog):
    caplog.set_level(logging.DEBUG)
    stub.on("POST", "/nodes/pve/qemu/102/agent/exec", {"pid": 7})
    stub.on("GET", "/nodes/pve/qemu/102/agent/exec-status", {"exited": 1, "exitcode": 0})
    stub.on("POST", "/nodes/pve/qemu/102/agent/file-write", answer(status=500, reason="Agent error: disk full"))
    with pytest.raises(ProxmoxFailed) as caught:
        pve.file_write(102, "/run/lab/s3.json", Secret("sekrit-content"))
    shown = f"{caplog.text}{caught.value}{caught.value.hint}{caught.value!r}{pve!r}"
    assert "urllib3" in caplog.text
    assert "sekrit-content" not in shown
    assert "9c1f2a4e" not in shown
    assert any("sekrit-content" in str(one.fields) for one in stub.asked)
    # The content is in no argument list.
    assert not any("sekrit-content" in str(one.fields.get("command")) for one in stub.asked)


def test_an_endpoint_without_a_port_is_on_443(connect, stub):
    with pytest.raises(Unreachable) as caught:
        connect("https://127.86.179.3/", stub.ca_file).version()
    assert caught.value.where == "https://127.86.179.3"
    assert "port=443" in str(caught.value.__cause__)
