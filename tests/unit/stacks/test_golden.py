from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from labctl.cloudinit import UserDataRequest
from labctl.model.lab import Lab


@pytest.mark.parametrize("variant", ["sandbox", "gpu", "dhcp", "services"])
def test_synthesised_json(
    variant: str,
    lab: Callable[..., Lab],
    documents: Callable[..., dict[str, object]],
    golden: Callable[[str, str], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # cloud-init documents have golden files of their own; here it matters what reaches them, and that ${…} survives.
    monkeypatch.setattr("stacks.constructs.guest.user_data", told_to_cloud_init)
    for name, document in documents(lab(variant)).items():
        golden(f"stacks/{variant}/{name}.json", json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False) + "\n")


def told_to_cloud_init(request: UserDataRequest) -> str:
    hosts = "".join(f"  {name}: {ip}\n" for name, ip in request.hosts.items())
    return (
        f"#cloud-config\n# {request.guest.name}: ${{HOME}} %{{if}}\nvault: {request.vault_address}\n"
        f"s3: {request.s3_endpoint} in {request.s3_region}\nkeys: {len(request.ssh_keys)}\nhosts:\n{hosts}"
    )
