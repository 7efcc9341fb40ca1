"""The real Terraform and the real provider against the sandbox, with more kinds of resources than the lab's own stacks have."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from labctl.adapters.terraform import BPG_PROXMOX, Terraform, ensure_provider, find_engine, write_cli_config
from labctl.model.errors import LabError
from labctl.model.secret import Secret
from labctl.sandbox import SandboxConfig, SandboxInfo, control, reset, start

pytestmark = [pytest.mark.integration, pytest.mark.xdist_group("sandbox-provider")]

CONFIG = SandboxConfig(address="127.86.76.1", network="127.86.76.0/24")
REPOSITORY = Path(__file__).parents[2]

RESOURCES = """
terraform {
  required_providers {
    proxmox = { source = "bpg/proxmox", version = "0.111.1" }
  }
}

provider "proxmox" {
  endpoint = "https://127.86.76.1:8006/"
  ssh {
    agent = false
    node {
      name    = "pve"
      address = "127.86.76.1"
      port    = 8022
    }
  }
}

locals { node = "pve" }

resource "proxmox_virtual_environment_pool" "lab" {
  pool_id = "broad"
  comment = "a pool"
}

resource "proxmox_download_file" "image" {
  content_type = "import"
  datastore_id = "local"
  node_name    = local.node
  file_name    = "image.qcow2"
  url          = "https://example.com/image.qcow2"
  overwrite    = true
}

resource "proxmox_download_file" "template" {
  content_type = "vztmpl"
  datastore_id = "local"
  node_name    = local.node
  file_name    = "template.tar.zst"
  url          = "https://example.com/template.tar.zst"
  overwrite    = false
}

resource "proxmox_virtual_environment_file" "user_data" {
  content_type = "snippets"
  datastore_id = "local"
  node_name    = local.node
  upload_mode  = "sftp"
  source_raw {
    file_name = "user-data.yaml"
    data      = "#cloud-config\\nhostname: broad\\n"
  }
}

resource "proxmox_hardware_mapping_pci" "gpu" {
  name             = "gpu0"
  comment          = "a graphics card"
  mediated_devices = false
  map = [{
    id           = "10de:2204"
    iommu_group  = 14
    node         = local.node
    path         = "0000:01:00"
    subsystem_id = "10de:147d"
  }]
}

resource "proxmox_virtual_environment_vm" "all" {
  node_name       = local.node
  vm_id           = 201
  name            = "all"
  description     = "every kind of device"
  tags            = ["broad", "labctl"]
  pool_id         = proxmox_virtual_environment_pool.lab.pool_id
  on_boot         = true
  stop_on_destroy = true
  machine         = "q35"
  bios            = "ovmf"
  scsi_hardware   = "virtio-scsi-single"
  boot_order      = ["virtio0"]
  depends_on      = [proxmox_virtual_environment_file.user_data]
  cpu {
    cores = 4
    type  = "host"
  }
  memory {
    dedicated = 4096
    floating  = 2048
  }
  agent {
    enabled = true
    timeout = "20s"
    wait_for_ip { disabled = true }
  }
  efi_disk {
    datastore_id      = "local-lvm"
    type              = "4m"
    pre_enrolled_keys = false
  }
  disk {
    datastore_id = "local-lvm"
    interface    = "virtio0"
    import_from  = proxmox_download_file.image.id
    size         = 20
    iothread     = true
    discard      = "on"
  }
  hostpci {
    device  = "hostpci0"
    mapping = proxmox_hardware_mapping_pci.gpu.name
    pcie    = true
    rombar  = true
  }
  network_device {
    bridge   = "vmbr0"
    firewall = true
  }
  serial_device {}
  operating_system { type = "l26" }
  initialization {
    datastore_id      = "local-lvm"
    interface         = "ide2"
    user_data_file_id = "local:snippets/user-data.yaml"
    dns { domain = "example.com" }
    ip_config {
      ipv4 {
        address = "127.86.76.201/24"
        gateway = "127.86.76.1"
      }
    }
  }
}

resource "proxmox_virtual_environment_container" "box" {
  node_name     = local.node
  vm_id         = 101
  unprivileged  = true
  start_on_boot = true
  disk {
    datastore_id = "local-lvm"
    size         = 8
  }
  features { nesting = true }
  initialization {
    hostname = "box"
    ip_config {
      ipv4 { address = "dhcp" }
    }
  }
  network_interface {
    name   = "eth0"
    bridge = "vmbr0"
  }
  operating_system {
    template_file_id = proxmox_download_file.template.id
    type             = "debian"
  }
}

resource "proxmox_virtual_environment_firewall_alias" "lan" {
  name = "lan"
  cidr = "192.0.2.0/24"
}

resource "proxmox_virtual_environment_firewall_ipset" "people" {
  name    = "people"
  comment = "who may"
  cidr { name = "192.0.2.5" }
}

resource "proxmox_virtual_environment_cluster_firewall_security_group" "web" {
  name       = "web"
  comment    = "https"
  depends_on = [proxmox_virtual_environment_firewall_alias.lan]
  rule {
    type   = "in"
    action = "ACCEPT"
    proto  = "tcp"
    dport  = "443"
    source = "dc/lan"
    log    = "nolog"
  }
}

resource "proxmox_virtual_environment_firewall_rules" "all" {
  node_name = local.node
  vm_id     = proxmox_virtual_environment_vm.all.vm_id
  rule {
    security_group = proxmox_virtual_environment_cluster_firewall_security_group.web.name
    iface          = "net0"
  }
  rule {
    type   = "in"
    action = "ACCEPT"
    proto  = "tcp"
    dport  = "22"
  }
}

resource "proxmox_virtual_environment_firewall_options" "all" {
  node_name    = local.node
  vm_id        = proxmox_virtual_environment_vm.all.vm_id
  enabled      = true
  input_policy = "DROP"
}

resource "proxmox_virtual_environment_role" "ops" {
  role_id    = "BroadOps"
  privileges = ["VM.Audit", "VM.PowerMgmt"]
}

resource "proxmox_virtual_environment_user" "ops" {
  user_id = "ops@pve"
  enabled = true
}

resource "proxmox_acl" "ops" {
  path    = "/vms"
  role_id = proxmox_virtual_environment_role.ops.role_id
  user_id = proxmox_virtual_environment_user.ops.user_id
}

resource "proxmox_user_token" "ops" {
  user_id               = proxmox_virtual_environment_user.ops.user_id
  token_name            = "labctl"
  privileges_separation = false
}

resource "proxmox_virtual_environment_hosts" "node" {
  node_name = local.node
  entry {
    address   = "192.0.2.20"
    hostnames = ["gitlab.example.com"]
  }
}

resource "proxmox_virtual_environment_dns" "node" {
  node_name = local.node
  domain    = "example.com"
  servers   = ["192.0.2.1"]
}
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("provider") / "sandbox"
    yield folder
    reset(folder)


@pytest.fixture(scope="module")
def sandbox(home: Path) -> SandboxInfo:
    return start(home, CONFIG)


def terraform_as(sandbox: SandboxInfo, home: Path, token: str) -> Terraform:
    """Terraform on the resources above, with a token."""
    engine = find_engine()
    mirror = Path(os.environ.get("LABCTL_MIRROR") or REPOSITORY / ".cache" / "labctl" / "mirror")
    ensure_provider(mirror, BPG_PROXMOX, host=engine.registry_host)
    work = home.parent / "work"
    work.mkdir(exist_ok=True)
    (work / "main.tf").write_text(RESOURCES)
    write_cli_config(home.parent / "cli.tfrc", mirror)
    env: dict[str, str | Secret] = {
        "PROXMOX_VE_API_TOKEN": Secret(token),
        "PROXMOX_VE_SSH_USERNAME": sandbox.ssh_username,
        "PROXMOX_VE_SSH_PRIVATE_KEY": Secret(sandbox.ssh_private_key_file.read_text()),
        "SSL_CERT_FILE": str(sandbox.ca_file),
        "SSL_CERT_DIR": str(home.parent),
    }
    made = Terraform(engine, work, stack="broad", home=home.parent / "home", cli_config=home.parent / "cli.tfrc", env=env)
    made.init()
    return made


@pytest.fixture(scope="module")
def terraform(sandbox: SandboxInfo, home: Path) -> Terraform:
    return terraform_as(sandbox, home, f"{sandbox.token_id}={sandbox.token.reveal()}")


def changes(terraform: Terraform, *, destroy: bool = False) -> bool:
    """Plan, apply what is planned, and say whether there was anything."""
    planned = terraform.plan(terraform.work_dir / "plan", destroy=destroy)
    if planned.changes:
        terraform.apply(terraform.work_dir / "plan")
    return planned.changes


def test_apply_then_nothing_to_do_then_nothing_left(terraform: Terraform, home: Path) -> None:
    before = control(home, "GET", "state")
    assert changes(terraform) is True
    assert changes(terraform) is False
    during = control(home, "GET", "state")
    assert {guest["status"] for guest in during["guests"].values()} == {"running"}
    assert during["volumes"]["local-lvm:vm-201-disk-1"]["size"] == 20 * 2**30
    assert changes(terraform, destroy=True) is True
    after = control(home, "GET", "state")
    lasting = ("guests", "volumes", "pools", "users", "tokens", "roles", "acl", "mappings", "groups")
    assert {name: after[name] for name in lasting} == {name: before[name] for name in lasting}
    assert control(home, "GET", "unserved") == []


def test_a_token_without_rights_fails_with_the_path_and_the_privilege(
    sandbox: SandboxInfo, terraform: Terraform, home: Path
) -> None:
    with requests.Session() as session:
        session.trust_env, session.verify = False, str(sandbox.ca_file)
        session.headers["Authorization"] = f"PVEAPIToken={sandbox.token_id}={sandbox.token.reveal()}"
        access = f"{sandbox.endpoint}/api2/json/access"
        assert session.post(f"{access}/users", data={"userid": "eye@pve"}, timeout=10).ok
        assert session.put(f"{access}/acl", data={"path": "/", "users": "eye@pve", "roles": "PVEAuditor"}, timeout=10).ok
        value = session.post(f"{access}/users/eye@pve/token/t1", data={"privsep": 0}, timeout=10).json()["data"]["value"]
    try:
        with pytest.raises(LabError, match=r"lacks the privilege \w+\.\w+ on /"):
            changes(terraform_as(sandbox, home, f"eye@pve!t1={value}"))
        assert control(home, "GET", "state")["guests"] == {}
    finally:
        changes(terraform, destroy=True)
