"""Looks into each guest through its agent, all of them at once."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ruamel.yaml.error import YAMLError

from labctl.cloudinit.document import parse
from labctl.engine.drift.area import Looking, deployed_outputs
from labctl.engine.guestunits import unit_states
from labctl.engine.session import LOCAL_LAYER, state_content
from labctl.model.drift import AreaDrift
from labctl.model.drift import guests as compare
from labctl.model.drift.guestanswer import look_command, parse_answer
from labctl.model.errors import AdapterError, LabError
from labctl.model.guestfiles import CA_FILE, USER_DATA
from labctl.model.openings import Opening, openings

if TYPE_CHECKING:
    from labctl.engine.labrun import LabRun
    from labctl.model.lab import GuestSpec

LOOK_S = 60.0
_APPLIANCE_FILES = (CA_FILE, "/etc/lab/")
"""What an appliance has of its document: it does not boot."""


def look(run: LabRun) -> AreaDrift:
    """Every guest that is deployed. One that cannot be looked into keeps no other from it."""
    outputs = deployed_outputs(run)
    there = {name: int(guest["vmid"]) for one in outputs.values() for name, guest in one.get("guests", {}).items()}
    specs = [spec for spec in run.lab.guests() if spec.name in there]
    area = Looking(compare.AREA)
    # Without a way to the hypervisor, that is said once and not of each guest.
    if not specs or area.read("the guests", lambda: run.hypervisor) is None:
        return area.told()
    uploaded = _uploaded(run)
    with ThreadPoolExecutor(len(specs)) as pool:
        areas = list(pool.map(lambda spec: _guest(run, spec, there[spec.name], outputs, uploaded), specs))
    for one in areas:
        area.problems += one.problems
        area.add(one.looked, one.findings, one.notes)
    return _merged(area.told())


def _merged(found: AreaDrift) -> AreaDrift:
    """What the token may not see is the same for every guest: it is told once."""
    return replace(found, findings=tuple(dict.fromkeys(found.findings)))


def _guest(
    run: LabRun, spec: GuestSpec, vmid: int, outputs: Mapping[str, Mapping[str, Any]], uploaded: Mapping[str, str]
) -> Looking:
    from labctl.adapters.proxmox import PermissionMissing

    area = Looking(compare.AREA)
    try:
        if _answers(run, spec, vmid, area):
            _look_into(run, spec, vmid, area, _openings(run, spec.name, outputs), uploaded)
    except PermissionMissing as error:
        area.add(0, [compare.hidden(error.privileges)])
    except LabError as error:
        area.problem(f"guest {spec.name}", error)
    return area


def _answers(run: LabRun, spec: GuestSpec, vmid: int, area: Looking) -> bool:
    """Whether there is anything to look into. That a guest is gone or off is drift elsewhere, with what to do.

    Raises:
        AdapterError: It runs, and its agent does not answer.
    """
    from labctl.adapters.proxmox import GuestMissing

    try:
        status = run.hypervisor.guest(vmid).status
    except GuestMissing:
        area.notes.append(f"guest {spec.name} is not there: it was not looked into")
        return False
    if status != "running":
        area.notes.append(f"guest {spec.name} is {status}: it was not looked into")
        return False
    if not run.hypervisor.agent_ping(vmid):
        raise AdapterError(
            "it runs, but its agent does not answer",
            hint=f"`systemctl status qemu-guest-agent` in the guest (`labctl ssh {spec.name}`), or `qm agent {vmid} ping`.",
        )
    return True


def _look_into(
    run: LabRun, spec: GuestSpec, vmid: int, area: Looking, opened: tuple[Opening, ...], uploaded: Mapping[str, str]
) -> None:
    document = _document(run, spec, vmid, area, uploaded)
    files = compare.held_files(document, gpu=run.lab.platform.docker.gpu is not None and spec.name == "docker")
    gitlab = spec.name == "gitlab" and run.lab.boots
    if not run.lab.boots:
        files = tuple(file for file in files if file.path.startswith(_APPLIANCE_FILES))
    held = compare.Held(
        spec.name, spec.layer, files, opened, concurrent=run.lab.platform.gitlab.runner.concurrent if gitlab else 0
    )
    facts = _booted(run, spec, vmid, files, gitlab=gitlab) if run.lab.boots else _appliance(run, spec, vmid, files)
    findings, notes, looked = compare.compare_guest(held, facts)
    area.add(looked, findings, notes)


def _document(run: LabRun, spec: GuestSpec, vmid: int, area: Looking, uploaded: Mapping[str, str]) -> Any:
    """What the guest was made from, as it keeps it itself, else as its stack uploaded it.

    Raises:
        AdapterError: Neither is there, or it is no document.
    """
    latest = uploaded.get(f"{run.lab.name}-{spec.name}-user-data.yaml")
    content = run.hypervisor.file_read(vmid, USER_DATA, missing_ok=True)
    text = content.decode(errors="replace") if content else latest
    if text is None:
        raise AdapterError(
            f"{USER_DATA} is not there, so that nobody knows how its files should be",
            hint="Is its cloud-init done? `labctl status` tells.",
        )
    if content and latest is not None and text.strip() != latest.strip():
        area.notes.append(
            f"guest {spec.name} was made from an older document than lab.yaml makes now: a new one reaches new guests"
        )
    try:
        return parse(text)
    except YAMLError as error:
        raise AdapterError(f"{USER_DATA} is not YAML", hint="Somebody changed it: the guest should be made anew.") from error


def _booted(run: LabRun, spec: GuestSpec, vmid: int, files: tuple[compare.HeldFile, ...], *, gitlab: bool) -> compare.GuestFacts:
    units = spec.role.units(boots=True)
    command = look_command([file.path for file in files], units, gitlab=gitlab)
    result = run.hypervisor.exec(vmid, command, timeout_s=LOOK_S)
    # The answer may be up to a poll old: that is far less than what is noted.
    return parse_answer(result.check("the look into the guest").out, units, time.time())


def _appliance(run: LabRun, spec: GuestSpec, vmid: int, files: tuple[compare.HeldFile, ...]) -> compare.GuestFacts:
    """It has no system: its few files, and the units that serve its role."""
    contents = {file.path: run.hypervisor.file_read(vmid, file.path, missing_ok=True) for file in files}
    found = {path: compare.FoundFile(compare.digest(content)) for path, content in contents.items() if content is not None}
    units = spec.role.units(boots=False)
    states = unit_states(run.hypervisor, vmid, units) if units else ()
    return compare.GuestFacts(found, units={one.name: one.state for one in states})


def _openings(run: LabRun, name: str, outputs: Mapping[str, Mapping[str, Any]]) -> tuple[Opening, ...]:
    """What lab.yaml opens now, and what the services that are deployed were given."""
    published: list[str] = []
    if name == "docker":
        for one in outputs.values():
            published += [str(service["address"]) for service in one.get("endpoints", {}).values()]
            published += [str(address) for address in one.get("addresses", ())]
    ports = (address.rpartition(":")[2] for address in published)
    return (*openings(run.lab, name), *(Opening(int(port), "as published") for port in ports if port.isdigit()))


def _uploaded(run: LabRun) -> dict[str, str]:
    """The documents as the stacks uploaded them last; none of a stack whose state cannot be read, which others tell."""
    found: dict[str, str] = {}
    for stack in run.stacks:
        if not (stack.state.deployed and "guests" in (stack.state.outputs or {})):
            continue
        if run.session is None and stack.layer != LOCAL_LAYER:
            continue
        try:
            content = state_content(run.session, run.paths, stack.name, stack.layer)
            found |= compare.snippets(json.loads(content)) if content else {}
        except (LabError, ValueError):
            continue
    return found
