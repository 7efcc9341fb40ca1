"""The control address: faults, recordings, who may use it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import aiohttp
import pytest


def test_only_the_control_token_opens_the_control_address(pve: Any) -> None:
    for headers in ({}, {"X-Sandbox-Token": "x"}, {"Authorization": f"PVEAPIToken={pve.token}"}):
        assert pve.request("GET", "/_sandbox/state", headers=headers)[0] == 403


def test_an_http_fault_strikes_after_n_requests_as_often_as_said(pve: Any) -> None:
    pve.control(
        "POST", "faults", {"method": "GET", "path": "^/version$", "after": 2, "times": 2, "status": 503, "message": "busy"}
    )
    seen = [pve.call("GET", "/version")[:2] for _ in range(6)]
    assert seen == [(200, "OK")] * 2 + [(503, "busy")] * 2 + [(200, "OK")] * 2
    (fault,) = pve.control("GET", "faults")[1]
    assert (fault["seen"], fault["struck"]) == (6, 2)


def test_other_requests_do_not_count_and_clear_ends_all(pve: Any) -> None:
    pve.control("POST", "faults", {"method": "POST", "path": "pools", "times": 0, "status": 403, "message": "no"})
    assert pve.call("GET", "/pools")[0] == 200
    assert [pve.call("POST", "/pools", poolid=f"p{n}")[0] for n in range(3)] == [403] * 3
    pve.control("DELETE", "faults")
    assert pve.call("POST", "/pools", poolid="p")[0] == 200


def test_a_dropped_connection_before_does_nothing_and_after_has_done_it(pve: Any) -> None:
    for when, done in (("before", False), ("after", True)):
        pve.control("POST", "faults", {"method": "POST", "path": "/pools", "drop": when})
        with pytest.raises(aiohttp.ClientError):
            pve.call("POST", "/pools", poolid=when)
        assert (when in pve.host.state.pools) is done


def test_a_proxys_html_page_instead_of_json(pve: Any) -> None:
    pve.control("POST", "faults", {"body": "<html>Bad Gateway</html>"})
    assert pve.call("GET", "/version")[::2] == (502, "<html>Bad Gateway</html>")


def test_a_task_fault_fails_the_task_and_a_create_leaves_no_guest(pve: Any) -> None:
    pve.control("POST", "faults", {"kind": "task", "type": "^qmcreate$", "message": "storage is full"})
    assert pve.ended("POST", "/nodes/pve/qemu", vmid=201) == "storage is full"
    assert pve.host.state.guests == {}
    pve.vm(201)
    pve.control("POST", "faults", {"kind": "task", "type": "qmstart", "message": "no quorum", "after": 1})
    pve.ok("POST", "/nodes/pve/qemu/201/status/start")
    pve.ok("POST", "/nodes/pve/qemu/201/status/stop")
    assert pve.ended("POST", "/nodes/pve/qemu/201/status/start") == "no quorum"


@pytest.mark.parametrize("wrong", [{"knd": "http"}, {"kind": "disk"}, {"path": "("}, {"drop": "maybe"}, {"status": "500"}])
def test_a_wrong_fault_is_refused(pve: Any, wrong: dict[str, Any]) -> None:
    status, answer = pve.control("POST", "faults", wrong)
    assert status == 400
    assert answer["errors"]
    assert pve.control("GET", "faults")[1] == []


def test_a_recording_has_every_request_and_no_secret(pve: Any) -> None:
    pve.vm(201)
    pve.ok("POST", "/nodes/pve/qemu/201/status/start")
    file = Path(pve.control("POST", "recording", {"name": "run-1"})[1]["file"])
    pve.ok("GET", "/version")
    pve.ok("POST", "/nodes/pve/qemu/201/agent/file-write", file="/run/lab/s3.json", content="top-secret-1")
    value = pve.ok("POST", "/access/users/labctl@pve/token/new")["value"]
    pve.request("POST", "/api2/json/access/ticket", headers={}, data={"username": "root@pam", "password": "root-password"})
    assert pve.control("DELETE", "recording")[1] == {"file": str(file)}
    pve.ok("GET", "/version")
    text = file.read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    assert [line["path"] for line in lines][:2] == ["/version", "/nodes/pve/qemu/201/agent/file-write"]
    assert len(lines) == 4
    assert lines[0]["answer"]["data"]["release"] == "9.0"
    for secret in ("top-secret-1", value, "root-password"):
        assert secret not in text


def test_a_recordings_name_cannot_leave_its_folder(pve: Any) -> None:
    assert pve.control("POST", "recording", {"name": "../x"})[0] == 400
