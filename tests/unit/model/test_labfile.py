"""What `lab.yaml` may say, and what it is told when it says something else."""

from __future__ import annotations

import pytest

from labctl.model.errors import UserError
from labctl.model.labfile import parse_lab

SANDBOX = "name: lab\ntarget: {sandbox: {}}\n"
PROXMOX = """\
name: lab
target:
  proxmox: {endpoint: "https://pve.example.com:8006"}
operators: ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBrVQvMM0n7EzVrMvD5oo3p5Ze7uW4Zx0j0b3z7b1s2Y ops"]
network: {cidr: 192.0.2.0/24}
"""


def test_defaults_of_a_sandbox_lab() -> None:
    lab = parse_lab(SANDBOX)
    assert {g.name: (g.settings.vmid, g.ip) for g in lab.guests()} == {
        "store": (101, "127.86.0.101"),
        "vault": (102, "127.86.0.102"),
        "gitlab": (201, "127.86.0.201"),
        "docker": (202, "127.86.0.202"),
    }
    assert lab.gitlab_url == "http://gitlab.lab.internal"
    assert lab.registry_host == "gitlab.lab.internal:5050"


def test_a_proxmox_lab_uses_dhcp_unless_an_address_is_given() -> None:
    lab = parse_lab(PROXMOX + "foundation: {vault: {address: 192.0.2.11/24}}\n")
    assert {g.name: g.address for g in lab.guests()} == {
        "vault": "192.0.2.11/24",
        "store": "dhcp",
        "gitlab": "dhcp",
        "docker": "dhcp",
    }


BAD = {
    "empty": ("", "lab.yaml: is empty", ""),
    "not yaml": ("name: [", "lab.yaml:1: ", ""),
    "duplicate key": (SANDBOX + "name: other\n", 'lab.yaml:3: found duplicate key "name"', ""),
    "a list": ("- a\n", "lab.yaml:1: found a list at the top", ""),
    "unknown key": (SANDBOX + "platfrom: {}\n", "lab.yaml:3: unknown key 'platfrom'", "Did you mean 'platform'?"),
    "unknown inner key": (
        SANDBOX + "platform:\n  gitlab:\n    vmid: 301\n    memory: 8\n",
        "lab.yaml:6: unknown key 'platform.gitlab.memory'",
        "Did you mean 'memory_mib'?",
    ),
    "a unit": (
        SANDBOX + "platform:\n  gitlab:\n    memory_mib: 8GB\n",
        "lab.yaml:5: platform.gitlab.memory_mib: found '8GB', allowed: a whole number",
        "",
    ),
    "too small": (SANDBOX + "platform: {gitlab: {memory_mib: 8}}\n", "lab.yaml:3: platform.gitlab.memory_mib: found 8", ""),
    "vmid below 100": (SANDBOX + "platform: {gitlab: {vmid: 7}}\n", "greater than or equal to 100", ""),
    "vmid twice": (SANDBOX + "platform: {gitlab: {vmid: 102}}\n", "vmid 102 is used twice, by vault and gitlab", ""),
    "address twice": (
        SANDBOX + "platform: {gitlab: {address: 127.86.0.102/24}}\n",
        "address 127.86.0.102 is used twice, by vault and gitlab",
        "",
    ),
    "outside the network": (
        PROXMOX + "platform: {docker: {address: 198.51.100.7/24}}\n",
        "platform.docker.address: 198.51.100.7 is outside the network 192.0.2.0/24",
        "",
    ),
    "no prefix": (PROXMOX + "platform: {docker: {address: 192.0.2.7}}\n", "needs its prefix length", ""),
    "no target": ("name: lab\ntarget: {}\n", "name exactly one target", ""),
    "two targets": (PROXMOX.replace("  proxmox", "  sandbox: {}\n  proxmox"), "name exactly one target", ""),
    "no target key": ("name: lab\n", "target is missing", ""),
    "no operator": (
        'name: lab\ntarget: {proxmox: {endpoint: "https://pve.example.com:8006"}}\n',
        "nobody could unseal the Vault",
        "",
    ),
    "operator no key": (SANDBOX + "operators: [someone]\n", "is not a public key", ""),
    "endpoint not https": (
        'name: lab\ntarget: {proxmox: {endpoint: "http://pve.example.com"}}\n',
        "lab.yaml:2: target.proxmox.endpoint",
        "",
    ),
    "sandbox off loopback": ("name: lab\ntarget: {sandbox: {network: 192.0.2.0/24}}\n", "inside 127.0.0.0/8", ""),
    "runner concurrency 1": (SANDBOX + "platform: {gitlab: {runner: {concurrent: 1}}}\n", "runner.concurrent: found 1", ""),
    "no run kept": (SANDBOX + "runs: {keep: 0}\n", "lab.yaml:3: runs.keep: found 0", ""),
    "too many runs kept": (SANDBOX + "runs: {keep: 1001}\n", "lab.yaml:3: runs.keep: found 1001", ""),
    "state bucket left out": (SANDBOX + "foundation: {store: {buckets: [gitlab]}}\n", "bucket 'terraform' is needed", ""),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_names_line_and_remedy(case: str) -> None:
    text, sentence, hint = BAD[case]
    with pytest.raises(UserError) as caught:
        parse_lab(text)
    assert sentence in str(caught.value)
    assert hint in caught.value.hint


def test_every_mistake_is_told_at_once() -> None:
    with pytest.raises(UserError) as caught:
        parse_lab(SANDBOX + "platfrom: {}\nnetwork: {bridge: 3}\n")
    assert "lab.yaml:3" in str(caught.value)
    assert "lab.yaml:4: network.bridge: found 3, allowed: text" in str(caught.value)
