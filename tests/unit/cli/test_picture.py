"""The picture of all plans, as golden text."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from labctl.cli._picture import picture
from labctl.model.plan import StackPlan, StackStatus, parse_plan


def item(kind: str, name: str, *actions: str, before: Any = None, after: Any = None, **more: Any) -> dict[str, Any]:
    change = {"actions": list(actions), "before": before, "after": after, **more}
    return {"address": f"{kind}.{name}", "type": kind, "name": name, "mode": "managed", "change": change}


def guest(vmid: int, name: str, cores: int, memory_mib: int, disk_gib: int) -> dict[str, Any]:
    return {
        "vm_id": vmid,
        "name": name,
        "cpu": [{"cores": cores}],
        "memory": [{"dedicated": memory_mib}],
        "disk": [{"size": disk_gib}],
        "tags": ["lab"],
    }


PVE = "proxmox_virtual_environment"
DOCUMENT = "#cloud-config\n" + "".join(f"line {n}\n" for n in range(30))


def plans() -> list[StackPlan]:
    snippet = {"datastore_id": "local", "content_type": "snippets", "source_raw": [{"file_name": "lab-vault.yaml", "data": "x"}]}
    image = {"datastore_id": "local", "content_type": "import", "file_name": "lab-cloud-image.qcow2"}
    foundation = [
        item("proxmox_download_file", "image", "create", after=image),
        item(f"{PVE}_file", "vault", "create", after=snippet),
        item(f"{PVE}_firewall_rules", "vault", "create", after={"rule": [{}, {}]}),
        item(f"{PVE}_pool", "lab", "create", after={"pool_id": "datalab"}),
        item(f"{PVE}_vm", "vault", "create", after=guest(102, "vault", 1, 1024, 20)),
    ]
    before, after = guest(201, "gitlab", 4, 8192, 200), guest(201, "gitlab", 4, 16384, 200)
    before["description"], after["description"] = "d" * 90, "e" * 90
    before["password"], after["password"] = "hidden-before", "hidden-after"
    edited = DOCUMENT.replace("line 3\n", "line three\n").replace("line 9\n", "")
    for number in range(12, 20):
        edited = edited.replace(f"line {number}\n", f"{'wide ' * 30}{number}\n")
    platform = [
        item(
            f"{PVE}_file",
            "gitlab",
            "delete",
            "create",
            before={"id": "1", "source_raw": [{"data": DOCUMENT}]},
            after={"source_raw": [{"data": edited}]},
            after_unknown={"id": True},
            replace_paths=[["source_raw", 0, "data"]],
        ),
        item(f"{PVE}_vm", "gitlab", "update", before=before, after=after, after_sensitive={"password": True}),
        item(f"{PVE}_vm", "docker", "update", before={"ip": "192.0.2.7"}, after={}, after_unknown={"ip": True}),
        item(f"{PVE}_vm", "old", "delete", before=guest(209, "old", 2, 2048, 8)),
    ]
    output = {"output_changes": {"gitlab_url": {"actions": ["update"]}}}
    return [
        StackPlan(
            "foundation", "foundation", StackStatus.NOT_DEPLOYED, parse_plan("foundation", {"resource_changes": foundation})
        ),
        StackPlan("platform", "platform", StackStatus.CHANGES, parse_plan("platform", {"resource_changes": platform})),
        StackPlan("services", "services", StackStatus.CHANGES, parse_plan("services", output)),
        StackPlan("apps", "apps", StackStatus.NOT_DEPLOYED, known_after=("services",)),
        StackPlan("broken", "apps", StackStatus.BLOCKED, reason="the state bucket is out of reach"),
    ]


@pytest.mark.parametrize("columns", [80, 120])
def test_the_picture_is_readable_and_keeps_to_the_width(columns: int, golden: Callable[[str, str], None]) -> None:
    lines = picture(plans(), columns)
    assert max(map(len, lines)) <= columns
    text = "\n".join(lines) + "\n"
    assert "hidden" not in text
    golden(f"cli/picture-{columns}.txt", text)


def test_colours_stand_around_the_text_and_do_not_count_as_width() -> None:
    painted = picture(plans(), 80, lambda text, tone: f"<{tone}>{text}</>")
    plain = picture(plans(), 80)
    assert len(painted) == len(plain)
    assert painted[0].startswith("<bold>foundation</>")
    import re

    assert [re.sub(r"<[a-z/]*>", "", line) for line in painted] == plain


def test_what_the_sign_does_not_say_stands_beside_it() -> None:
    imported = item("terraform_data", "a", "no-op", importing={"id": "7"})
    moved = item("terraform_data", "b", "no-op") | {"previous_address": "terraform_data.old"}
    tainted = item("terraform_data", "c", "delete", "create") | {"action_reason": "replace_because_tainted"}
    changes = [imported, moved, tainted, item("terraform_data", "d", "forget")]
    summary = parse_plan("platform", {"resource_changes": changes})
    assert picture([StackPlan("platform", "platform", StackStatus.CHANGES, summary)], 120) == [
        "platform: changes (1 to replace, 1 to import, 1 to move, 1 to forget)",
        "  . terraform_data.a (import)",
        "  . terraform_data.b (was terraform_data.old)",
        "  ± terraform_data.c (tainted)",
        "  . terraform_data.d (forgotten: it stays, and Terraform lets go of it)",
    ]
