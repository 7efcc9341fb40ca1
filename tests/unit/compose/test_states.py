"""What the engine answers, as states, and how states differ. The answers are shortened recordings of Compose 2.26."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labctl.adapters.compose import ComposeInvalid, parse
from labctl.adapters.compose.waiting import hopeless
from labctl.model.compose import ComposeService, ComposeState, differences
from labctl.model.rolling import Ties

ID, OTHER = f"sha256:{'1' * 64}", f"sha256:{'2' * 64}"
DIGEST = f"sha256:{'d' * 64}"


def container(name: str = "web", status: str = "running", **more: Any) -> dict[str, Any]:
    state = {"Status": status, "ExitCode": more.pop("code", 0), "StartedAt": "2026-11-25T08:00:00.1Z"}
    if health := more.pop("health", None):
        state["Health"] = {"Status": health, "FailingStreak": 0, "Log": []}
    labels = {
        "com.docker.compose.project": "lab",
        "com.docker.compose.service": name,
        "com.docker.compose.oneoff": "False",
        "com.docker.compose.config-hash": more.pop("config", "abc"),
        **more.pop("labels", {}),
    }
    networks = {network: {"IPAddress": "172.18.0.2"} for network in more.pop("networks", ["lab_default"])}
    entry = {"id": "c1", "image": "a:1", "image_id": ID, "labels": labels, "state": state, "restarts": 0}
    return {**entry, "networks": networks, **more}


def found(*entries: dict[str, Any]) -> ComposeState:
    images = [{"id": ID, "digests": [f"a@{DIGEST}"]}, {"id": OTHER, "digests": None}]
    # Compose makes the project's own network only where a service is on it.
    has_own = not entries or any("lab_default" in entry["networks"] for entry in entries)
    parts = {
        "containers": "\n".join(map(json.dumps, entries)),
        "networks": "lab_default lab\nother_default other\n" if has_own else "other_default other\n",
        "volumes": "lab_b lab\nlab_a lab\n",
        "images": "\n".join(map(json.dumps, images)),
    }
    return parse.found_states(parts)["lab"]


def wanted(service: dict[str, Any], check: dict[str, Any] | None = None, **more: Any) -> ComposeState:
    config = {"name": "lab", "services": {"web": {"image": "a:1", "networks": {"default": None}, **service}}}
    config |= {"networks": {"default": {"name": "lab_default", "ipam": {}}}, **more}
    images = f"a:1 {json.dumps({'id': ID, 'digests': [f'a@{DIGEST}'], 'config': {'Healthcheck': check}})}\n"
    return parse.wanted_state({"config": json.dumps(config), "hashes": "web abc\n", "images": images})


ONE_SHOT = {"labels": {"labctl.one-shot": "true"}}


@pytest.mark.parametrize(
    ("service", "entries"),
    [
        ({}, [container()]),
        ({"scale": 2}, [container(), container(id="c2")]),
        ({"deploy": {"replicas": 2}}, [container(), container(id="c2")]),
        (ONE_SHOT, [container(status="exited", **ONE_SHOT)]),
        (ONE_SHOT, [container(status="exited", health="unhealthy", **ONE_SHOT)]),
        ({"healthcheck": {"test": ["CMD", "true"]}}, [container(health="healthy")]),
        ({"healthcheck": {"disable": True}}, [container()]),
        ({"network_mode": "host", "networks": None}, [container(networks=["host"])]),
        ({"network_mode": "service:db", "networks": None}, [container(networks=[])]),
        ({"labels": {"labctl.content": "x"}}, [container(labels={"labctl.content": "x"})]),
        ({}, [container(), container(id="c2", labels={"com.docker.compose.oneoff": "True"})]),
        ({}, [container(), {**container(id="c3"), "labels": {"com.docker.compose.project": "lab"}}]),
    ],
    ids=[
        *(
            "one container",
            "scale",
            "replicas",
            "one-shot",
            "one-shot that was looked after",
            "healthy",
            "check disabled",
            "host network",
            "joined network",
        ),
        *("content", "run by hand", "no service of Compose"),
    ],
)
def test_what_is_as_wanted_does_not_differ(service: dict[str, Any], entries: list[dict[str, Any]]) -> None:
    assert differences(wanted(service), found(*entries)) == ()


@pytest.mark.parametrize(
    ("service", "entries", "text"),
    [
        ({}, [], "web: missing is nothing, wanted a container"),
        ({}, [container(), container("old")], "old: orphan is a container, wanted nothing"),
        ({}, [container(image="a:2")], "web: image is a:2, wanted a:1"),
        ({}, [container(image_id=OTHER)], "web: image id is sha256:222222222222, wanted sha256:111111111111"),
        ({}, [container(config="f" * 64)], "web: config is ffffffffffff, wanted abc"),
        ({}, [container(labels={"labctl.content": "x"})], "web: content is x, wanted nothing"),
        ({}, [container(status="exited")], "web: state is exited, wanted running"),
        (ONE_SHOT, [container(status="exited", code=1, **ONE_SHOT)], "web: state is exited, wanted completed"),
        (
            {"healthcheck": {"test": ["CMD", "true"]}},
            [container(health="starting")],
            "web: health is starting, wanted healthy",
        ),
        ({}, [container(), container(id="c2")], "web: count is 2, wanted 1"),
        ({"scale": 2}, [container(), container("web", "dead", id="c2")], "web: state is dead, wanted running"),
        ({"scale": 2}, [container(), container(id="c2", config="old")], "web: config is abc, old, wanted abc"),
        ({"scale": 2}, [container(config="old"), container(id="c2")], "web: config is abc, old, wanted abc"),
        (
            {"scale": 2},
            [container(image_id=OTHER), container(id="c2")],
            "web: image id is sha256:111111111111, sha256:222222222222, wanted sha256:111111111111",
        ),
        (
            {"scale": 2},
            [container(), container(id="c2", networks=[])],
            "web: networks is lab_default (1 of 2), wanted lab_default",
        ),
        ({"scale": 0}, [container()], "web: orphan is a container, wanted nothing"),
        (
            {"scale": 2},
            [container(), container(id="c2", networks=["lab_default", "by_hand"])],
            "web: networks is by_hand (1 of 2), lab_default, wanted lab_default",
        ),
        (
            {"scale": 2},
            [container(), container(id="c2", labels={"labctl.content": "old"})],
            "web: content is none, old, wanted nothing",
        ),
    ],
)
def test_each_difference_is_told(service: dict[str, Any], entries: list[dict[str, Any]], text: str) -> None:
    assert "; ".join(map(str, differences(wanted(service), found(*entries)))) == text


@pytest.mark.parametrize(
    ("service", "image", "health"),
    [
        ({}, {"Test": ["CMD", "true"]}, "healthy"),
        ({}, {"Test": ["NONE"]}, "none"),
        ({}, {"Interval": 1}, "none"),
        ({"healthcheck": {"disable": True}}, {"Test": ["CMD", "true"]}, "none"),
        ({"healthcheck": {"test": ["NONE"]}}, {"Test": ["CMD", "true"]}, "none"),
        ({"healthcheck": {"interval": "5s"}}, {"Test": ["CMD", "true"]}, "healthy"),
        ({"healthcheck": {"interval": "5s"}}, None, "none"),
        ({"image": "other:1", "healthcheck": {"interval": "5s"}}, None, "healthy"),
        ({"image": "other:1"}, None, "none"),
        (ONE_SHOT, {"Test": ["CMD", "true"]}, "none"),
    ],
)
def test_an_image_may_bring_the_check_of_its_health(service: dict[str, Any], image: dict[str, Any] | None, health: str) -> None:
    assert wanted(service, image).services["web"].health == health


def test_a_service_without_an_image_is_refused() -> None:
    with pytest.raises(ComposeInvalid, match="project lab: service web names no image"):
        wanted({"image": None, "build": {"context": "."}})


def test_of_several_the_one_that_is_ill_is_seen() -> None:
    state = found(container(health="healthy"), container(id="c2", health="unhealthy"), container(id="c3", health="starting"))
    assert (state.services["web"].health, state.services["web"].count) == ("unhealthy", 3)


def test_an_image_that_is_not_there_yet_is_no_difference_of_ids() -> None:
    there = found(container())
    absent = ComposeState({"web": replace(there.services["web"], image_id="", digest="")}, there.networks)
    assert differences(absent, there) == ()


def test_what_decides_the_order_is_read_from_the_file_and_from_what_is_there() -> None:
    services = {
        "web": {"ports": [{"target": 80, "published": "8000", "protocol": "udp"}, {"target": 81}], "depends_on": {"db": {}}},
        "db": {"ports": [{"target": 80, "published": "8000-8010"}]},
        "other": {},
    }
    assert parse.ties({"config": json.dumps({"services": services})}) == {
        "web": Ties(frozenset({"db"}), frozenset({"8000/udp"})),
        "db": Ties(ports=frozenset({"8000-8010/tcp"})),
        "other": Ties(),
    }
    bound = {"80/udp": [{"HostIp": "", "HostPort": "8000"}, {"HostIp": "::1", "HostPort": "8001"}], "81/tcp": [{"HostPort": ""}]}
    assert parse.containers(json.dumps(container(ports=bound)))[0].ports == ("8000/udp", "8001/udp")
    assert parse.containers(json.dumps(container(ports=None)))[0].ports == ()


def test_what_a_check_said_is_told_where_it_failed() -> None:
    entry = container(health="unhealthy")
    entry["state"]["Health"]["Log"] = [{"ExitCode": 0, "Output": "fine"}, {"ExitCode": 1, "Output": "no answer\n"}]
    assert parse.containers(json.dumps(entry))[0].check == "no answer"
    entry["state"]["Health"]["Log"].append({"ExitCode": 0, "Output": "fine"})
    assert parse.containers(json.dumps(entry))[0].check == ""


@pytest.mark.parametrize(
    ("entry", "old", "strict", "vain"),
    [
        ({"health": "unhealthy"}, {}, True, True),
        ({"health": "unhealthy"}, {}, False, False),
        ({"health": "unhealthy"}, {"c1": 0}, True, False),
        ({"health": "starting"}, {}, True, False),
        ({"status": "exited"}, {}, False, True),
        ({"status": "exited", "config": "before"}, {}, False, False),
        ({"status": "restarting", "restarts": 3}, {}, False, True),
        ({"status": "restarting", "restarts": 3}, {"c1": 1}, False, False),
    ],
)
def test_waiting_is_in_vain(entry: dict[str, Any], old: dict[str, int], *, strict: bool, vain: bool) -> None:
    containers = parse.containers(json.dumps(container(**entry)))
    assert hopeless(wanted({}, {"Test": ["CMD", "true"]}), containers, old, strict=strict) is vain


def test_networks_volumes_and_digests() -> None:
    state = found(container())
    assert (state.networks, state.volumes) == (("lab_default",), ("lab_a", "lab_b"))
    assert state.services["web"].digest == DIGEST
    lost = replace(state, networks=())
    assert [str(one) for one in differences(state, lost)] == ["networks is nothing, wanted lab_default"]
    outside = wanted({}, networks={"default": {"name": "lab_default", "external": True}}, volumes={"v": {"name": "lab_v"}})
    assert (outside.networks, outside.volumes) == ((), ("lab_v",))
    text = json.dumps({"id": ID, "digests": [f"mirror/a@{OTHER}", f"host:5000/a@{DIGEST}"]})
    assert parse.image_digest(text, "host:5000/a") == DIGEST
    assert parse.image_digest(text, "a") == ""
    assert parse.image_digest("") == ""


SERVICES = st.builds(
    ComposeService,
    image=st.text(),
    image_id=st.text(),
    digest=st.text(),
    state=st.sampled_from(["running", "exited", "completed"]),
    health=st.sampled_from(["none", "healthy", "unhealthy"]),
    config_hash=st.text(),
    count=st.integers(0, 3),
    networks=st.lists(st.text()).map(tuple),
)
STATES = st.builds(ComposeState, st.dictionaries(st.text(min_size=1), SERVICES, max_size=4), st.lists(st.text()).map(tuple))


@given(STATES)
def test_nothing_differs_from_itself(state: ComposeState) -> None:
    assert differences(state, state) == ()


@given(STATES, STATES)
def test_what_differs_one_way_differs_the_other(one: ComposeState, other: ComposeState) -> None:
    services = {each.service for each in differences(one, other) if each.what in ("missing", "orphan")}
    assert services == set(one.services) ^ set(other.services)
