"""Rights: how PVE passes them down, which ones the lab lacks, and the commands that grant them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labctl.model.inventory import Release
from labctl.model.privileges import (
    REQUIRED_PRIVILEGES,
    Permissions,
    missing_privileges,
    requirements,
    rights,
    roles,
    setup_commands,
)

from .conftest import enough

NINE, EIGHT_4, EIGHT_1 = Release("9.0.10"), Release("8.4.1"), Release("8.1.4")

NAMES = {
    "node": "pve", "pool": "datalab", "bridge": "vmbr0", "snippets": "local", "images": "local", "disks": "local-lvm",
}  # fmt: skip
ROLES = {"A": {"p"}, "B": {"q"}, "C": {"p", "q"}, "D": {"r"}}
PATHS = ("/", "/vms", "/vms/101", "/storage", "/storage/local", "/pool", "/pool/lab")
LISTED_ALWAYS = ("/", "/vms", "/storage", "/pool")


def above(path: str) -> list[str]:
    parts = [part for part in path.split("/") if part]
    return ["/", *("/" + "/".join(parts[: n + 1]) for n in range(len(parts)))]


def roles_of(acl: dict[str, dict[str, bool]], path: str) -> dict[str, bool]:
    """The roles on a path, by PVE's rule: an entry further down replaces what came from above."""
    current: dict[str, bool] = {}
    for step in above(path):
        new = {role: passed for role, passed in acl.get(step, {}).items() if passed or step == path}
        current = new or current
    return current


def privileges_of(acl: dict[str, dict[str, bool]], path: str) -> dict[str, bool]:
    held: dict[str, bool] = {}
    for role, passed in roles_of(acl, path).items():
        for privilege in ROLES[role]:
            held[privilege] = held.get(privilege, False) or passed
    return held


ACLS = st.dictionaries(st.sampled_from(PATHS), st.dictionaries(st.sampled_from(sorted(ROLES)), st.booleans(), min_size=1))


@given(ACLS, st.sampled_from((*PATHS, "/vms/999", "/storage/other", "/nodes/pve", "/sdn/zones/localnetwork/vmbr0")))
def test_rights_on_any_path_follow_from_what_pve_lists(acl, path):
    listed = {one: privileges_of(acl, one) for one in {*LISTED_ALWAYS, *acl}}
    permissions = Permissions({one: held for one, held in listed.items() if held})
    assert permissions.at(path) == frozenset(privileges_of(acl, path))


@pytest.mark.parametrize("release", [NINE, EIGHT_4, EIGHT_1])
@pytest.mark.parametrize("gpu", [False, True])
def test_exactly_the_required_rights_are_enough(make_lab, release, gpu):
    lab = make_lab(gpu=gpu)
    assert missing_privileges(enough(lab, release), lab, release) == []


def test_one_datastore_for_everything(make_lab):
    lab = make_lab(datastores="{snippets: tank, images: tank, disks: tank}")
    assert missing_privileges(enough(lab, NINE), lab, NINE) == []


@pytest.mark.parametrize("release", [NINE, EIGHT_1])
def test_each_right_that_is_taken_away_is_missed(make_lab, release):
    lab = make_lab(gpu=True)
    full = enough(lab, release).entries
    taken = 0
    for one in requirements(lab, release):
        path = next(
            right.grant_at
            for right in rights(Permissions(full), lab, release)
            if (right.requirement.privilege, right.requirement.grant_at.format(**NAMES))
            == (one.privilege, one.grant_at.format(**NAMES))
        )
        without = {
            p: {name: passed for name, passed in held.items() if (p, name) != (path, one.privilege)} for p, held in full.items()
        }
        lacking = [
            (right.grant_at, right.requirement.privilege) for right in missing_privileges(Permissions(without), lab, release)
        ]
        assert ((path, one.privilege) in lacking) is not one.advisory, one
        taken += 1
    assert taken > 20


def test_nothing_is_held_by_a_token_without_rights(lab):
    lacking = {(right.requirement.privilege, right.grant_at) for right in missing_privileges(Permissions({}), lab, NINE)}
    assert lacking == {(one.privilege, one.grant_at.format(**NAMES)) for one in requirements(lab, NINE) if not one.advisory}


def test_a_wide_role_on_the_root_is_enough(lab):
    wide = dict.fromkeys((one.privilege for one in requirements(lab, NINE)), True)
    assert missing_privileges(Permissions({"/": wide}), lab, NINE) == []


def test_rights_that_are_not_passed_down_do_not_reach_the_guests(lab):
    flat = {one.privilege: False for one in requirements(lab, NINE)}
    assert "VM.Allocate" in {r.requirement.privilege for r in missing_privileges(Permissions({"/": flat}), lab, NINE)}


def test_a_grant_on_one_guest_replaces_the_wide_one(lab):
    entries = dict(enough(lab, NINE).entries) | {"/vms/201": {"VM.Audit": True}}
    lacking = missing_privileges(Permissions(entries), lab, NINE)
    assert {"VM.Allocate", "VM.PowerMgmt"} <= {right.requirement.privilege for right in lacking}
    assert {right.lacking for right in lacking} == {("/vms/201",)}


def test_rights_on_guests_may_come_from_the_pool(lab):
    entries = {path: held for path, held in enough(lab, NINE).entries.items() if path != "/vms"}
    guest_rights = {one.privilege: True for one in requirements(lab, NINE) if one.path == "/vms/{vmid}"}
    entries["/pool"] = {**entries["/pool"], **guest_rights}
    assert missing_privileges(Permissions(entries), lab, NINE) == []


def test_sys_modify_does_for_the_download(lab):
    entries = dict(enough(lab, NINE).entries)
    entries["/nodes/pve"] = {"Sys.Audit": True}
    assert [r.requirement.privilege for r in missing_privileges(Permissions(entries), lab, NINE)] == ["Sys.AccessNetwork"]
    entries["/"] = {"Sys.Audit": True, "Sys.Modify": True}
    assert missing_privileges(Permissions(entries), lab, NINE) == []


@pytest.mark.parametrize(
    ("release", "known", "unknown"),
    [
        (NINE, {"VM.GuestAgent.Unrestricted", "Sys.AccessNetwork"}, {"VM.Monitor", "Sys.Modify"}),
        (EIGHT_4, {"VM.Monitor", "Sys.AccessNetwork"}, {"VM.GuestAgent.Unrestricted", "Sys.Modify"}),
        (EIGHT_1, {"VM.Monitor", "Sys.Modify"}, {"VM.GuestAgent.Unrestricted", "Sys.AccessNetwork"}),
    ],
)
def test_each_release_is_asked_only_for_what_it_knows(lab, release, known, unknown):
    asked = {one.privilege for one in requirements(lab, release)}
    assert known <= asked
    assert not unknown & asked


def test_the_gpu_s_rights_are_asked_only_with_a_gpu(lab, make_lab):
    assert "Mapping.Modify" not in {one.privilege for one in requirements(lab, NINE)}
    assert "Mapping.Modify" in {one.privilege for one in requirements(make_lab(gpu=True), NINE)}


def test_the_setup_commands_grant_what_is_required(make_lab):
    """Reads the commands back as PVE would, and checks the outcome."""
    lab = make_lab(gpu=True)
    made: dict[str, set[str]] = {}
    acl: dict[str, dict[str, bool]] = {}
    for command in setup_commands(lab, NINE, "labctl@pve!labctl"):
        words = command.split(" || ")[0].replace('"', " ").split()
        if words[:3] == ["pveum", "role", "add"]:
            made[words[3]] = set(words[5:])
        else:
            assert words[:3] == ["pveum", "acl", "modify"]
            assert words[4:8] == ["--users", "labctl@pve", "--tokens", "'labctl@pve!labctl'"]
            acl.setdefault(words[3], {}).update(dict.fromkeys(made[words[9]], True))
    assert missing_privileges(Permissions(acl), lab, NINE) == []


def test_roles_are_not_in_pve_s_own_name_space(make_lab):
    assert all(not role.startswith("PVE") for role in roles(make_lab(gpu=True), NINE))


def test_no_requirement_is_written_twice():
    keys = [(one.path, one.privilege) for one in REQUIRED_PRIVILEGES]
    assert len(keys) == len(set(keys))
