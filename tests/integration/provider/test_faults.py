"""What goes wrong with a project: said where it is, with what to do, and taken up again by the next apply.

More of what can be wrong with containers and images is in tests/integration/test_compose.py.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from labctl.adapters.pki import create_ssh_key
from labctl.adapters.terraform import REATTACH_VARIABLE
from tests.dockercompose import IMAGE, sshd
from tests.integration.provider.conftest import SECRETS, WEB, Run
from tests.ownprovider import IDLE, SLOW, Stack, begun, one_line, taken_up
from tests.socketrelay import relay

pytestmark = [pytest.mark.integration, pytest.mark.xdist_group("provider")]

LOOP = IDLE.replace('[sleep, "900"]', '[sh, -c, "echo no disk today; exit 3"]\n    restart: always')


def test_a_restart_loop_shows_its_log_and_leaves_the_state_as_it_was_for_the_next_apply(stack: Stack) -> None:
    stack.write(LOOP)
    said = stack.fails()
    assert "no disk today" in said
    assert "idle" in said
    assert '"compose"' in said, "the attribute is pointed at"
    assert stack.state() is None
    assert len(stack.containers()) == 1, "left for the next apply, and for whoever looks into it"
    stack.write(IDLE)
    assert "1 added, 0 changed, 0 destroyed" in stack.apply()

    before = stack.state() or {}
    stack.write(LOOP.replace("    restart: always\n", ""))
    assert "no disk today" in stack.fails()
    assert (stack.state() or {})["compose"] == before["compose"]
    assert "will be updated in-place" in stack.plan()


def test_an_image_that_nobody_has(stack: Stack) -> None:
    stack.write(IDLE.replace(IMAGE, "127.0.0.1:9/lab/none:1"))
    assert "image_id     = (known after apply)" in stack.plan()
    said = stack.refused("apply", "plan")
    assert "cannot be fetched" in said
    assert "registry cannot be reached" in said
    assert stack.state() is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (IDLE.replace("command", "comand"), "comand"),
        ("services: [\n", "line 2"),
        (IDLE.replace("network_mode: none", "networks: [nowhere]"), "undefined network"),
        (IDLE.replace("V: one", "V: $ONE"), "takes ONE from the environment"),
    ],
    ids=["key", "yaml", "network", "variable"],
)
def test_a_file_that_is_refused(stack: Stack, text: str, said: str) -> None:
    stack.write(text)
    found = stack.refused("plan")
    assert said in found, found
    assert '"compose"' in found, "the attribute is pointed at"


@pytest.mark.parametrize("name", ["Not A Name", 'it\'s "one"'])
def test_a_name_that_no_project_can_have(stack: Stack, name: str) -> None:
    stack.write(IDLE, name=name)
    found = stack.refused("validate")
    assert "is not a name for a Compose project" in found
    assert '"name"' in found


def test_an_engine_out_of_reach_stops_a_refresh_but_not_the_plan_of_a_create(stack: Stack, web: Stack) -> None:
    nowhere = f"unix://{stack.folder}/no.sock"
    stack.write(IDLE, docker_host=nowhere)
    planned = one_line(stack.plan())
    assert "will be created" in planned
    assert "Warning: what the project would be is not known yet" in planned
    assert "services = (known after apply)" in planned
    assert "systemctl start docker" in stack.refused("apply", "plan")
    assert stack.state() is None

    before = web.state()
    web.write(WEB, secrets=SECRETS, docker_host=nowhere)
    for words in (("plan", "-refresh-only"), ("destroy", "-auto-approve", "-refresh=false")):
        assert "systemctl start docker" in web.refused(*words)
        assert web.state() == before
    web.write(WEB, secrets=SECRETS)
    web.settled()


def test_an_engine_that_goes_away_in_the_middle_of_an_apply(stack: Stack) -> None:
    with relay(stack.folder / "engine.sock") as engine:
        stack.write(SLOW, docker_host=f"unix://{engine.path}")
        process = begun(stack)
        engine.cut()
        said, _ = process.communicate(timeout=60)
    assert process.returncode == 1, said
    assert "systemctl start docker" in one_line(said)
    assert stack.state() is None
    stack.write(SLOW)
    taken_up(stack)


def test_over_ssh_and_with_a_key_that_is_refused(stack: Stack, compose_path: Path, tmp_path: Path, run: Run) -> None:
    with sshd(tmp_path, compose_path) as server:
        stack.write(IDLE, docker_host=server.destination)
        known = {"LABCTL_SSH_KNOWN_HOSTS": str(server.known_hosts), "LABCTL_SSH_HOST_ALIAS": "docker"}
        right = run(LABCTL_SSH_PRIVATE_KEY=server.key.reveal(), **known)
        stack.environment[REATTACH_VARIABLE] = right.reattach
        stack.apply()
        wrong = run(LABCTL_SSH_PRIVATE_KEY=create_ssh_key("x").private.reveal(), **known)
        said = stack.refused("plan", **{REATTACH_VARIABLE: wrong.reattach})
        assert "refuses labctl's SSH key" in said
        assert "A guest made by another lab folder has another one" in said
        assert stack.state() is not None
