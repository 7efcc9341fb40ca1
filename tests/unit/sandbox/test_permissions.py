"""Who may do what: tokens, roles, paths, pools."""

from __future__ import annotations

import time
from typing import Any


def test_a_wrong_or_unknown_token_is_401_with_a_reason(pve: Any) -> None:
    assert pve.fails("GET", "/version", token="labctl@pve!labctl=wrong") == (401, "invalid token value!")
    assert pve.fails("GET", "/version", token="labctl@pve!other=x") == (401, "no such token 'other' for user 'labctl@pve'")
    assert pve.fails("GET", "/version", token="nobody@pve!x=x") == (401, "no such user ('nobody@pve')")
    status, reason, _ = pve.request("GET", "/api2/json/version", headers={})
    assert (status, reason) == (401, "No ticket")


def test_expired_tokens_and_disabled_users_are_refused(pve: Any) -> None:
    token = pve.user("a@pve", PVEAuditor="/")
    pve.ok("PUT", "/access/users/a@pve/token/tk", expire=int(time.time()) - 1)
    assert pve.fails("GET", "/version", token=token)[0] == 401
    pve.ok("PUT", "/access/users/a@pve/token/tk", expire=0)
    assert pve.call("GET", "/version", token)[0] == 200
    pve.ok("PUT", "/access/users/a@pve", enable=0)
    assert pve.fails("GET", "/version", token=token) == (401, "user 'a@pve' is disabled")


def test_tickets_need_a_csrf_token_to_write_and_can_be_expired(pve: Any) -> None:
    def log_in(password: str) -> tuple[int, str, Any]:
        data = {"username": "root@pam", "password": password}
        answer: tuple[int, str, Any] = pve.request("POST", "/api2/json/access/ticket", headers={}, data=data)
        return answer

    assert log_in("guess")[:2] == (401, "authentication failure")
    ticket = log_in("root-password")[2]["data"]
    cookie = {"Cookie": f"PVEAuthCookie={ticket['ticket']}"}
    pool = {"data": {"poolid": "p"}}
    assert pve.request("POST", "/api2/json/pools", headers=cookie, **pool)[:2] == (401, "Permission denied - invalid csrf token")
    assert (
        pve.request("POST", "/api2/json/pools", headers={**cookie, "CSRFPreventionToken": ticket["CSRFPreventionToken"]}, **pool)[
            0
        ]
        == 200
    )
    assert log_in(ticket["ticket"])[0] == 200, "a ticket renews itself"
    pve.control("POST", "expire-tickets")
    assert pve.request("GET", "/api2/json/version", headers=cookie)[:2] == (401, "permission denied - invalid PVE ticket")


def test_an_option_needs_its_own_privilege(pve: Any) -> None:
    pve.vm(201, virtio0="local-lvm:8")
    pve.ok("POST", "/access/roles", roleid="Tuner", privs="VM.Audit,VM.Config.CPU")
    token = pve.user("tuner@pve", Tuner="/vms/201")
    pve.ok("PUT", "/nodes/pve/qemu/201/config", token, cores=2)
    refused = {
        "virtio1": ("local-lvm:8", "VM.Config.Disk"),
        "memory": (2048, "VM.Config.Memory"),
        "net1": ("virtio,bridge=vmbr0", "VM.Config.Network"),
        "tags": ("x", "VM.Config.Options"),
        "machine": ("q35", "VM.Config.HWType"),
        "ciuser": ("me", "VM.Config.Cloudinit|VM.Config.Network"),
    }
    for option, (value, privilege) in refused.items():
        found = pve.fails("PUT", "/nodes/pve/qemu/201/config", token=token, **{option: value})
        assert found == (403, f"Permission check failed (/vms/201, {privilege})"), option
    resize = {"disk": "virtio0", "size": "9G"}
    assert pve.fails("PUT", "/nodes/pve/qemu/201/resize", token=token, **resize) == (
        403,
        "Permission check failed (/vms/201, VM.Config.Disk)",
    )
    assert pve.fails("POST", "/nodes/pve/qemu/201/status/start", token=token) == (
        403,
        "Permission check failed (/vms/201, VM.PowerMgmt)",
    )


def test_what_only_root_may_set_is_refused_to_a_token_with_all_rights(pve: Any) -> None:
    assert pve.fails("POST", "/nodes/pve/qemu", vmid=201, args="-s") == (500, "only root can set 'args' config")
    raw = pve.fails("POST", "/nodes/pve/qemu", vmid=201, hostpci0="0000:01:00")
    assert raw == (500, "only root can set 'hostpci0' config for non-mapped devices")


def test_bridge_mapping_and_storage_must_be_the_callers_to_use(pve: Any) -> None:
    token = pve.user("maker@pve", PVEVMAdmin="/vms")
    create = {"vmid": 300}
    assert pve.fails("POST", "/nodes/pve/qemu", token=token, **create, net0="virtio,bridge=vmbr0") == (
        403,
        "Permission check failed (/sdn/zones/localnetwork/vmbr0, SDN.Use)",
    )
    assert pve.fails("POST", "/nodes/pve/qemu", token=token, **create, hostpci0="mapping=gpu0") == (
        403,
        "Permission check failed (/mapping/pci/gpu0, Mapping.Use)",
    )
    assert pve.fails("POST", "/nodes/pve/qemu", token=token, **create, virtio0="local-lvm:8") == (
        403,
        "Permission check failed (/storage/local-lvm, Datastore.AllocateSpace)",
    )
    pve.ok("POST", "/nodes/pve/qemu", token, **create)


def test_guests_without_audit_are_hidden_not_refused(pve: Any) -> None:
    pve.vm(201)
    pve.vm(202)
    token = pve.user("eye@pve", PVEAuditor="/vms/202")
    assert [item["vmid"] for item in pve.ok("GET", "/cluster/resources", token, type="vm")] == [202]
    assert [item["vmid"] for item in pve.ok("GET", "/nodes/pve/qemu", token)] == [202]
    assert pve.ok("GET", "/storage", token) == []
    assert pve.fails("GET", "/nodes/pve/qemu/201/config", token=token) == (403, "Permission check failed (/vms/201, VM.Audit)")


def test_a_pools_rights_reach_its_members_and_no_one_else(pve: Any) -> None:
    pve.ok("POST", "/pools", poolid="lab")
    pve.vm(201, pool="lab")
    pve.vm(202)
    token = pve.user("p@pve", PVEVMAdmin="/pool/lab")
    assert [item["vmid"] for item in pve.ok("GET", "/cluster/resources", token, type="vm")] == [201]
    pve.ok("PUT", "/nodes/pve/qemu/201/config", token, cores=2)
    pve.ok("POST", "/nodes/pve/qemu", token, vmid=203, pool="lab")
    assert pve.fails("POST", "/nodes/pve/qemu", token=token, vmid=204)[0] == 403


def test_a_separated_token_has_at_most_its_users_rights(pve: Any) -> None:
    pve.user("u@pve", PVEVMUser="/vms")
    value = pve.ok("POST", "/access/users/u@pve/token/sep", privsep=1)["value"]
    token = f"u@pve!sep={value}"
    assert pve.ok("GET", "/access/permissions", token) == {}
    pve.ok("PUT", "/access/acl", path="/vms", tokens="u@pve!sep", roles="Administrator")
    held = pve.ok("GET", "/access/permissions", token)["/vms"]
    assert "VM.PowerMgmt" in held
    assert "VM.Allocate" not in held


def test_deeper_entries_replace_shallower_ones_and_no_access_takes_all(pve: Any) -> None:
    token = pve.user("d@pve", Administrator="/", NoAccess="/vms/201", PVEAuditor="/storage")
    for path, privilege, expected in (
        ("/vms/202", "VM.Allocate", True),
        ("/vms/201", "VM.Audit", False),
        ("/storage/local", "Datastore.Allocate", False),
        ("/storage/local", "Datastore.Audit", True),
    ):
        held = pve.ok("GET", "/access/permissions", token, path=path)[path]
        assert (privilege in held) is expected, path


def test_an_entry_without_propagation_counts_on_its_path_only(pve: Any) -> None:
    token = pve.user("n@pve")
    pve.ok("PUT", "/access/acl", path="/vms", users="n@pve", roles="PVEAuditor", propagate=0)
    assert pve.ok("GET", "/access/permissions", token, path="/vms/201") == {"/vms/201": {}}
    assert pve.ok("GET", "/access/permissions", token)["/vms"]["VM.Audit"] == 0


def test_group_members_have_the_groups_rights(pve: Any) -> None:
    pve.ok("POST", "/access/groups", groupid="ops")
    token = pve.user("g@pve")
    pve.ok("PUT", "/access/users/g@pve", groups="ops")
    pve.ok("PUT", "/access/acl", path="/nodes", groups="ops", roles="PVEAuditor")
    pve.ok("GET", "/nodes/pve/status", token)
    assert pve.fails("POST", "/nodes/pve/hosts", token=token, data="x") == (
        403,
        "Permission check failed (/nodes/pve, Sys.Modify)",
    )


def test_nobody_grants_rights_without_permissions_modify(pve: Any) -> None:
    token = pve.user("v@pve", PVEAdmin="/")
    grant = {"path": "/", "users": "v@pve", "roles": "Administrator"}
    assert pve.fails("PUT", "/access/acl", token=token, **grant) == (403, "Permission check failed (/, Permissions.Modify)")
    assert pve.fails("POST", "/access/users/root@pam/token/mine", token=pve.user("w@pve"))[0] == 403


def test_agent_rights_are_split_as_in_pve_9(pve: Any) -> None:
    pve.vm(201)
    pve.ok("POST", "/nodes/pve/qemu/201/status/start")
    pve.ok("POST", "/access/roles", roleid="Reader", privs="VM.GuestAgent.Audit,VM.GuestAgent.FileRead")
    token = pve.user("r@pve", Reader="/vms")
    pve.ok("POST", "/nodes/pve/qemu/201/agent/ping", token)
    pve.ok("GET", "/nodes/pve/qemu/201/agent/file-read", token, file="/etc/hostname")
    assert pve.fails("POST", "/nodes/pve/qemu/201/agent/exec", token=token, command="true") == (
        403,
        "Permission check failed (/vms/201, VM.GuestAgent.Unrestricted)",
    )
    wrote = pve.fails("POST", "/nodes/pve/qemu/201/agent/file-write", token=token, file="/x", content="y")
    assert wrote == (403, "Permission check failed (/vms/201, VM.GuestAgent.FileWrite|VM.GuestAgent.Unrestricted)")


def test_token_values_are_said_once_and_not_kept(pve: Any) -> None:
    value = pve.user("s@pve").partition("=")[2]
    assert value not in (pve.home / "state.json").read_text()
    assert "value" not in pve.ok("GET", "/access/users/s@pve/token/tk")
