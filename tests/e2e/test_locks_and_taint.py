"""What Terraform marks as tainted, and locks that somebody else holds: labctl names both, and has a command for each."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

from tests.e2e.labfolder import LABCTL, LabFolder
from tests.e2e.test_faults import clean, family, held_lock, refused, started

GITLAB = "proxmox_virtual_environment_vm.gitlab"
OPTIONS = "proxmox_virtual_environment_firewall_options"
NOBODYS = "00000000-0000-4000-8000-000000000000"


@pytest.fixture(scope="module")
def up_lab(make_lab: Callable[[], LabFolder]) -> LabFolder:
    """A lab that is up; tests leave it up and as described."""
    lab = make_lab()
    lab.ok("up", "--yes")
    return lab


def terraform(lab: LabFolder, stack: str, *args: str) -> None:
    """Somebody's own Terraform in a stack of the lab."""
    lab.ok("env", "--", "terraform", f"-chdir={lab.work / 'stacks' / stack}", *args)


def event(text: str, kind: str) -> dict[str, Any]:
    """The one event of that type in a stream."""
    (found,) = [shape for line in text.splitlines() if (shape := json.loads(line))["type"] == kind]
    return dict(found)


# -- taint ---------------------------------------------------------------------------------------------------------------


def test_a_tainted_guest_is_named_and_untaint_mends_it(up_lab: LabFolder) -> None:
    terraform(up_lab, "platform", "taint", GITLAB)

    refused(
        up_lab.run("up", "--yes"), "platform", "[tainted-guest]", "'gitlab'", "labctl untaint gitlab", "--allow-destroy gitlab"
    )
    plan = up_lab.run("plan", "--json")
    assert plan.last_json["stacks"][1]["replace"] >= 1
    assert "[tainted-guest]" in event(plan.out, "warning")["text"]
    refused(up_lab.run("untaint", "docker"), "docker is not tainted", f"Tainted: {GITLAB}.")
    refused(up_lab.run("untaint", "gitlib"), "'gitlib'", "Did you mean 'gitlab'?")

    done = up_lab.ok("untaint", "gitlab")
    assert f"{GITLAB} is no longer tainted" in done.out
    clean(up_lab)
    refused(up_lab.run("untaint", "gitlab"), "gitlab is not tainted", "Nothing is tainted.")


def test_what_is_no_guest_is_untainted_by_its_address(up_lab: LabFolder) -> None:
    address = f"{OPTIONS}.vault"
    terraform(up_lab, "foundation", "taint", address)
    assert up_lab.run("plan", "--detailed-exitcode").code == 2
    told = event(up_lab.ok("untaint", address, "--json").out, "untaint")
    assert (told["stack"], told["address"]) == ("foundation", address)
    clean(up_lab)


# -- consent and the lab's own rules -------------------------------------------------------------------------------------


def test_consent_to_an_unknown_address_is_refused_with_the_nearest(up_lab: LabFolder) -> None:
    wrong = GITLAB.replace("gitlab", "gitlib")
    refused(up_lab.run("up", "--yes", "--allow-destroy", wrong), wrong, f"Did you mean '{GITLAB}'?")


def test_a_rule_of_the_lab_stops_what_it_forbids_and_no_consent_overrides_it(up_lab: LabFolder) -> None:
    rules = (
        "policy:\n"
        "  - {id: gitlab-stays, forbid: [destroy], address: '*_vm.gitlab', reason: 'people work there'}\n"
        "  - {id: look-at-firewall, warn: [destroy], type: 'proxmox_virtual_environment_firewall_*', stack: platform}\n"
    )
    up_lab.write(rules)
    try:
        down = up_lab.run("down", "--yes", "--layer", "platform", "--allow-destroy", "gitlab,docker")
        refused(down, "[gitlab-stays]", "people work there", "also with --allow-destroy")
        assert "[look-at-firewall]" in down.err.partition("error: ")[0]
        up_lab.write(rules.replace("stack: platform", "stack: platfrom"))
        refused(up_lab.run("plan"), "lab.yaml", "look-at-firewall", "Did you mean 'platform'?")
    finally:
        up_lab.write("")
    clean(up_lab)


# -- locks ---------------------------------------------------------------------------------------------------------------


def test_a_foreign_lock_is_shown_and_broken_only_with_its_id(up_lab: LabFolder) -> None:
    assert "platform is not locked" in up_lab.ok("unlock", "platform").out
    refused(up_lab.run("unlock", "platfrom"), "'platfrom'", "Did you mean 'platform'?")
    with held_lock(up_lab, "platform", f"{OPTIONS}.gitlab"):
        shown = up_lab.run("unlock", "platform")
        assert shown.code == 1
        found = re.search(r"labctl unlock platform --id ([0-9a-f-]{36})", shown.out)
        assert found, shown.out
        assert re.search(r"locked by \S+@\S+ since 2\S+ \S+ UTC \(operation apply", shown.out), shown.out
        refused(up_lab.run("up", "--yes"), "locked by", f"labctl unlock platform --id {found[1]}")

        refused(up_lab.run("unlock", "platform", "--id", NOBODYS), NOBODYS, found[1])
        told = event(up_lab.run("unlock", "platform", "--json").out, "lock")
        assert (told["lock"]["id"], told["broken"]) == (found[1], False)

        assert "platform is unlocked" in up_lab.ok("unlock", "platform", "--id", found[1]).out
        clean(up_lab)
    assert "not locked" in up_lab.ok("unlock", "platform", "--id", found[1]).out


def test_the_lock_of_a_live_process_on_this_disk_is_shown_and_cannot_be_broken(up_lab: LabFolder) -> None:
    with held_lock(up_lab, "foundation", f"{OPTIONS}.vault"):
        shown = up_lab.run("unlock", "foundation", "--json")
        assert shown.code == 1
        lock = event(shown.out, "lock")["lock"]
        assert lock["operation"] == "apply"
        refused(up_lab.run("unlock", "foundation", "--id", lock["id"]), "a live process on this machine", "cannot be broken")
    assert "foundation is not locked" in up_lab.ok("unlock", "foundation").out


def test_what_a_dead_process_left_beside_a_state_locks_nothing(up_lab: LabFolder) -> None:
    folder = up_lab.work / "stacks" / "foundation"
    argv = [str(LABCTL), "env", "--", "terraform", f"-chdir={folder}", "apply", "-no-color", f"-replace={OPTIONS}.vault"]
    with subprocess.Popen(
        argv, cwd=up_lab.path, env=up_lab.environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as other:
        assert other.stdout is not None
        seen = b""
        while b"Enter a value" not in seen:
            seen += os.read(other.stdout.fileno(), 4096)
        for pid in family(other.pid):
            os.kill(pid, signal.SIGKILL)
    assert (up_lab.work / "state" / ".foundation.tfstate.lock.info").is_file()
    told = up_lab.ok("unlock", "foundation", "--id", NOBODYS).out
    assert "foundation is not locked" in told
    assert "locks nothing" in told
    clean(up_lab)


def test_the_lock_of_the_labs_own_terraform_is_not_broken_while_it_works(up_lab: LabFolder) -> None:
    with up_lab.fault(method="GET", path="/qemu/201/config$", delay_s=120, times=1):
        run = started(up_lab)
        up_lab.until_struck(run)
        # Only labctl dies; its Terraform waits for the answer and holds its lock.
        os.kill(run.pid, signal.SIGKILL)
        run.wait()
        shown = up_lab.run("unlock", "platform")
        assert shown.code == 1
        assert "own Terraform still works there" in shown.out
        (lock_id,) = re.findall(r"lock ([0-9a-f-]{36})", shown.out)
        told = up_lab.run("unlock", "platform", "--id", lock_id)
        refused(told, "still works there")
        (pid,) = re.findall(r"`kill -INT (\d+)`", told.err)
        os.kill(int(pid), signal.SIGINT)
    clean(up_lab)
    assert "platform is not locked" in up_lab.ok("unlock", "platform").out
