"""The inventory over a lab that `labctl up` made: clean, and then not."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from labctl.adapters.proxmox import Proxmox
from labctl.engine.drift.proxmox import look
from labctl.engine.lab import open_lab
from labctl.engine.preparing import prepare
from labctl.engine.run import Options
from labctl.engine.start import starting
from labctl.engine.target import open_target
from labctl.model.drift import AreaDrift, Kind, Severity, Verdict
from labctl.sandbox import control
from tests.e2e.labfolder import ROOT, LabFolder


@contextmanager
def environment(lab: LabFolder) -> Iterator[None]:
    """labctl in this process, with the lab's environment."""
    before = dict(os.environ)
    os.environ |= {"LABCTL_MIRROR": str(ROOT / ".cache" / "labctl" / "mirror"), "HOME": str(lab.path / "home")}
    try:
        yield
    finally:
        os.environ.clear()
        os.environ |= before


def looked(lab: LabFolder, *, vault: bool = True) -> AreaDrift:
    """What the area finds; without the Vault's session, as where that is sealed."""
    with environment(lab), starting("plan", lab.path / "lab.yaml", Options(), lambda _event: None) as run:
        prepare(run, "plan")
        if not vault and run.session is not None:
            run.session.close()
            run.session = None
        return look(run)


def test_a_lab_is_clean_until_something_is_changed(deployed: LabFolder) -> None:
    clean = looked(deployed)
    assert (clean.findings, clean.problems, clean.verdict) == ((), (), Verdict.CLEAN)
    assert clean.looked > 20
    home = deployed.work / "sandbox"
    pve = deployed.hypervisor()
    pve.nodes("pve").qemu.post(vmid=105, name="nas", pool="e2e", memory=512)
    pve.nodes("pve").storage("local-lvm").content.post(vmid=107, filename="vm-107-disk-0", size="4G")
    control(home, "POST", "guests/201/pending", {"cores": "2"})
    try:
        found = looked(deployed)
        assert {(one.kind, one.id, one.severity) for one in found.findings} == {
            (Kind.UNMANAGED, "qemu/105", Severity.MEDIUM),
            (Kind.UNMANAGED, "volume/local-lvm:vm-107-disk-0", Severity.LOW),
            (Kind.CHANGED, "qemu/201/pending", Severity.MEDIUM),
        }
    finally:
        for path in ("qemu/105", "storage/local-lvm/content/local-lvm:vm-107-disk-0"):
            pve(f"nodes/pve/{path}").delete()
        control(home, "POST", "guests/201/pending", {"cores": 4})
        pve.nodes("pve").qemu(201).status.reboot.post()


def test_without_the_vault_its_layers_are_known_by_lab_yaml(deployed: LabFolder) -> None:
    found = looked(deployed, vault=False)
    assert found.findings == ()
    assert found.problems
    assert all("the state of platform cannot be read" in problem for problem in found.problems)
    assert found.verdict is Verdict.ERROR


def test_a_lab_that_was_never_up_is_clean(lab: LabFolder) -> None:
    lab.ok("sandbox", "start")
    with environment(lab), starting("plan", lab.path / "lab.yaml", Options(), lambda _event: None) as run:
        opened = open_lab(lab.path / "lab.yaml")
        run.connect(open_target(opened.lab, opened.paths, lambda _text: None, opened.guests), Proxmox.connect)
        found = look(run)
    assert (found.findings, found.problems) == ((), ())


@pytest.mark.parametrize("fault", [{"path": ".", "body": "<html>Bad gateway</html>", "status": 502}])
def test_a_hypervisor_that_does_not_answer_is_a_problem(deployed: LabFolder, fault: dict[str, object]) -> None:
    with environment(deployed), starting("plan", deployed.path / "lab.yaml", Options(), lambda _event: None) as run:
        prepare(run, "plan")
        with deployed.fault(kind="http", times=0, **fault):
            found = look(run)
    assert found.verdict is Verdict.ERROR
    assert found.findings == ()
    assert any("502" in problem or "Bad Gateway" in problem for problem in found.problems)
