"""What goes wrong between labctl and a hypervisor, and what it is told as."""

from __future__ import annotations

import pytest

from labctl.adapters.proxmox import (
    CertificateUnknown,
    NotTheApi,
    PermissionMissing,
    Proxmox,
    ProxmoxFailed,
    TokenRefused,
    Unreachable,
    gather,
)
from labctl.model.preflight import checks, refusal
from labctl.model.secret import Secret

from .conftest import ADDRESS

pytestmark = [pytest.mark.integration, pytest.mark.xdist_group("proxmox")]


@pytest.mark.parametrize(
    ("token_id", "value"),
    [
        ("labctl@pve!labctl", Secret("00000000-0000-0000-0000-000000000000")),
        ("labctl@pve!other", None),
        ("nouser@pve!labctl", None),
    ],
)
def test_a_wrong_token(pve, token_id, value):
    with pve.client(token_id, value) as client, pytest.raises(TokenRefused) as caught:
        client.permissions()
    assert "PROXMOX_VE_API_TOKEN" in caught.value.hint
    assert pve.info.token.reveal() not in f"{caught.value}{caught.value.hint}"


def test_an_unknown_authority(pve):
    with Proxmox.connect(pve.info.endpoint, pve.info.token_id, pve.info.token) as client, pytest.raises(CertificateUnknown):
        client.version()


def test_a_port_where_nothing_listens(pve):
    endpoint = f"https://{ADDRESS}:8007"
    with (
        Proxmox.connect(endpoint, pve.info.token_id, pve.info.token, pve.info.ca_file) as client,
        pytest.raises(Unreachable, match="refused"),
    ):
        client.version()


FAULTS = [
    ({"body": "<html>login</html>", "status": 200}, NotTheApi, "does not answer as the API"),
    ({"body": "<html>bad gateway</html>", "status": 502, "times": 3}, ProxmoxFailed, "GET /version failed"),
    ({"status": 403, "message": "Permission check failed (/, Sys.Audit)"}, PermissionMissing, "Sys.Audit"),
    ({"status": 401, "message": "authentication failure"}, TokenRefused, "not accepted"),
    ({"status": 500, "message": "stumbled", "times": 3}, ProxmoxFailed, "stumbled"),
    ({"status": 596, "message": "broken pipe", "times": 3}, ProxmoxFailed, "broken pipe"),
    ({"drop": "before", "times": 3}, Unreachable, "connection was lost"),
]


@pytest.mark.parametrize(("fault", "kind", "message"), FAULTS)
def test_faults_of_a_read(pve, client, fault, kind, message):
    pve.fault(kind="http", method="GET", path="^/version$", **fault)
    with pytest.raises(kind, match=message):
        client.version()
    assert client.version().major == 9


@pytest.mark.parametrize("fault", [{"status": 500, "message": "stumbled", "times": 2}, {"drop": "before"}, {"drop": "after"}])
def test_passing_faults_of_a_read_pass(pve, client, fault):
    pve.fault(kind="http", method="GET", path="^/version$", **fault)
    assert client.version().major == 9


@pytest.mark.parametrize("nth", range(12))
@pytest.mark.parametrize("fault", [{"status": 500, "message": "stumbled"}, {"drop": "before"}, {"drop": "after"}])
def test_a_passing_fault_at_any_request_of_the_preflight_passes(pve, client, lab, nth, fault):
    pve.fault(kind="http", after=nth, **fault)
    assert refusal(checks(gather(client, lab), lab)) is None
