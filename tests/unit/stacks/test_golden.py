from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from labctl.cloudinit import UserDataRequest
from labctl.model.lab import Lab


@pytest.mark.parametrize("variant", ["sandbox", "gpu", "dhcp", "services", "apps"])
def test_synthesised_json(
    variant: str,
    lab: Callable[..., Lab],
    documents: Callable[..., dict[str, Any]],
    golden: Callable[[str, str], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # cloud-init documents have golden files of their own; here it matters what reaches them, and that ${…} survives.
    monkeypatch.setattr("stacks.constructs.guest.user_data", told_to_cloud_init)
    # An image is known by its source's hash and place, which are not what is looked at here.
    monkeypatch.setattr("stacks.constructs.image.read_context", lambda folder: {"Dockerfile": folder.name.encode()})
    for name, document in documents(lab(variant)).items():
        for image in document["resource"].get("labctl_image", {}).values():
            image["context"] = re.sub(r"(?<=\").*(?=layers/)", "<here>/", image["context"])
        golden(f"stacks/{variant}/{name}.json", json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False) + "\n")


def told_to_cloud_init(request: UserDataRequest) -> str:
    hosts = "".join(f"  {name}: {ip}\n" for name, ip in request.hosts.items())
    return (
        f"#cloud-config\n# {request.guest.name}: ${{HOME}} %{{if}}\nvault: {request.vault_address}\n"
        f"s3: {request.s3_endpoint} in {request.s3_region}\nkeys: {len(request.ssh_keys)}\nhosts:\n{hosts}"
    )
