"""The life of a project under the real Terraform."""

from __future__ import annotations

import json

import pytest

from tests.dockercompose import IMAGE, docker
from tests.integration.provider.conftest import MOVING, SECRETS, WEB, NewStack
from tests.ownprovider import ADDRESS, IDLE, Stack

pytestmark = [pytest.mark.integration, pytest.mark.xdist_group("provider")]

QUOTED = 'it\'s "a" `b` \\ %s * $HOME'


def test_planned_created_changed_in_place_and_destroyed_without_its_volume(stack: Stack) -> None:
    quoted = f"V: one, Q: {json.dumps(QUOTED.replace('$', '$$'))}"
    checked = "secrets: [password]\n    healthcheck: {test: [CMD, test, -d, /data], interval: 0.3s}\n"
    text = WEB.replace(MOVING, IMAGE).replace("V: one", quoted).replace("secrets: [password]\n", checked)
    stack.write(text, secrets=SECRETS)
    planned = stack.plan()
    assert "will be created" in planned
    # What the project would be is known before it is there.
    assert 'state        = "running"' in planned
    assert f'"{stack.name}_front"' in planned
    stack.apply_plan()
    stack.settled()
    state = stack.state()
    assert state is not None
    assert {name: (one["state"], one["health"]) for name, one in state["services"].items()} == {
        "web": ("running", "healthy"),
        "idle": ("running", "none"),
    }
    assert state["id"] == stack.name
    assert state["services"]["web"]["image_id"] == docker("image", "inspect", "--format", "{{.Id}}", IMAGE)
    assert f"Q={QUOTED}" in stack.in_container("web", "env").splitlines()

    web, idle = stack.containers("web"), stack.containers("idle")
    stack.write(text.replace("V: one", "V: two"), secrets=SECRETS)
    planned = stack.plan()
    assert "will be updated in-place" in planned
    changed = [line.split()[:4] for line in planned.splitlines() if "environment:" in line and line.strip()[0] in "+-"]
    assert changed == [["-", "environment:", "{V:", "one,"], ["+", "environment:", "{V:", "two,"]]
    stack.apply_plan()
    stack.settled()
    assert stack.containers("web") != web
    assert stack.containers("idle") == idle

    # Without its second service, the network, and the check.
    begin, _, rest = WEB.replace("    networks: [front]\n", "").replace("networks: {front: {}}\n", "").partition("  idle:")
    stack.write(begin + rest[rest.index("volumes:") :], secrets=SECRETS)
    stack.apply()
    stack.settled()
    assert (stack.networks(), len(stack.containers())) == ([f"{stack.name}_default"], 1)

    volumes = stack.volumes()
    assert len(volumes) == 1
    stack.destroy()
    assert (stack.containers(), stack.networks(), stack.volumes()) == ([], [], volumes)
    assert stack.state() is None


def test_lost_redeployed_renamed_and_destroyed_with_its_volume_where_that_was_asked_for(stack: Stack) -> None:
    text = IDLE.replace("network_mode: none", 'volumes: ["data:/data"]') + "volumes: {data: {}}\n"
    stack.write(text, remove_volumes=True)
    stack.apply()
    stack.in_container("idle", "touch", "/data/kept")
    docker("rm", "-f", *stack.containers())
    docker("network", "rm", *stack.networks())
    assert "will be created" in stack.plan()
    stack.apply_plan()
    stack.settled()
    stack.in_container("idle", "test", "-e", "/data/kept")

    before = stack.containers()
    stack.write(text, remove_volumes=True, redeploy='it\'s "now" $HOME')
    assert "will be updated in-place" in stack.apply()
    assert stack.containers() != before
    stack.write(text, name=f"{stack.name}-x")
    assert "must be replaced" in stack.plan()
    stack.write(text, remove_volumes=True)
    docker("rm", "-f", *stack.containers())
    # What is gone already is no trouble.
    stack.destroy("-refresh=false")
    assert (stack.containers(), stack.networks(), stack.volumes(), stack.state()) == ([], [], [], None)


def test_imported_by_its_name_it_is_taken_over_in_place(web: Stack) -> None:
    before = web.containers()
    (web.folder / "terraform.tfstate").rename(web.folder / "kept")
    assert f"{web.name}-none" in web.refused("import", ADDRESS, f"{web.name}-none")
    web.run("import", ADDRESS, web.name)
    assert "will be updated in-place" in web.plan()
    web.apply_plan()
    web.settled()
    assert web.containers() == before


def test_what_is_not_known_yet_leaves_the_project_unknown(stack: Stack) -> None:
    # On the machine's own network it has none that could be missing.
    text = IDLE.replace("network_mode: none", "network_mode: host")
    # Unknown, but known not to be null and how it begins: what newer Terraforms send as a refined unknown.
    stack.write(text, redeploy="id-${terraform_data.other.id}", resources={"terraform_data": {"other": {"input": "x"}}})
    assert "+ services     = (known after apply)" in stack.plan()
    stack.apply_plan()
    stack.settled()
    assert stack.networks() == []


def test_two_terraforms_at_once_share_one_provider(new_stack: NewStack) -> None:
    stacks = [new_stack(name) for name in ("first", "second")]
    for one in stacks:
        one.write(IDLE.replace("V: one", f"V: {one.name}"))
    for process in [one.begin("apply", "-auto-approve") for one in stacks]:
        said, _ = process.communicate(timeout=120)
        assert process.returncode == 0, said
    for one in stacks:
        assert list((one.state() or {})["services"]) == ["idle"]
        assert f"V={one.name}" in one.in_container("idle", "env")
