"""Kills a command of a lab at a moment of its journal, and looks at what is left of it afterwards."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from labctl.engine.journal import EVENTS
from labctl.engine.lab import open_lab
from labctl.engine.secrets import get_secret
from tests.e2e.canary import Canary, Search, files_below
from tests.e2e.canary_life import keys_of, store
from tests.e2e.labfolder import ALL_GUESTS, LABCTL, LabFolder

KILL, INTERRUPT, TERMINATE = signal.SIGKILL, signal.SIGINT, signal.SIGTERM
POLL_S = 0.002
END_S = 150.0
PATIENCE_S = 1.0
COMMANDS = {"up": ("up", "--yes"), "down": ("down", "--yes", "--allow-destroy", ALL_GUESTS)}


@dataclass(frozen=True)
class Moment:
    """A moment of a run.

    Attributes:
        within_s: It lies up to that long after the last of `after`.
        after: What the journal must have said, one after the other: patterns of `type stack text`.
        where: What must be so for the moment to come, one of `facts`; "" where it always comes.
    """

    within_s: float
    after: tuple[str, ...] = ()
    where: str = ""

    def __str__(self) -> str:
        return " > ".join(self.after) or "the start"


def moments(where: str, *told: tuple[float, str]) -> tuple[Moment, ...]:
    return tuple(Moment(within_s, tuple(after.split(" > ")), where) for within_s, after in told)


_HEAD = (
    Moment(0.9),
    *moments(
        "",
        (0.02, "^run"),
        (0.05, "^stage .* checking the options"),
        (1.0, "^stage .* looking at the local state"),
        (0.1, "^stage .* opening the target"),
        (0.1, "^stage .* synthesising the stacks"),
        (0.3, "^stage .* preparing Terraform"),
        (2.0, "^stage .* reading the states"),
        (0.3, "^stage .* looking for what"),
        (0.8, "^stack foundation planning"),
    ),
)
_VAULT = (
    "noting that the init", "initialising", "noting that the keys", "unsealing", "checking audit", "generating the secrets",
    "making labctl's own", "logging in", "revoking the root", "removing the revoked",
)  # fmt: skip
MOMENTS = {
    "up": (
        *_HEAD,
        *moments(
            "",
            (1.5, "^stage .* preparing the lab's keys"),
            (0.05, "^stage .* checking the target"),
            (0.8, "^stack platform planning"),
            (0.1, "^stage .* planning"),
            (0.3, "^stack foundation steps"),
            (3.5, "^progress foundation waiting for the object store"),
            (0.1, "^stack foundation (applied|up to date)"),
            (0.1, "^stack platform (applied|up to date)"),
        ),
        *moments("the sandbox is off", (1.0, "^note  starting the sandbox")),
        *moments("foundation lacks something", (0.3, "^stack foundation applying"), (0.3, r"^resource foundation \S+pool")),
        *moments("foundation lacks something", (0.5, r"^resource foundation \S+vm\.\S+ creating")),
        *moments("foundation lacks something", (0.3, r"^resource foundation \S+vm\.\S+ created")),
        *moments("foundation lacks something", (0.1, r"^resource foundation \S+firewall\S+ created")),
        *moments("the Vault is not ready", *((0.1, f"^step foundation {words}") for words in _VAULT)),
        *moments("the Vault is not ready", (0.3, "^step foundation signing"), (0.2, "^step foundation delivering")),
        *moments("the Vault is not ready", (0.02, "^step foundation bucket")),
        *moments("platform lacks something", (1.0, "^stack foundation (applied|up to date) > ^stack platform planning")),
        *moments("platform lacks something", (0.4, r"^resource platform \S+vm\.\S+ creating")),
        *moments("platform lacks something", (0.2, r"^resource platform \S+vm\.\S+ created")),
        *moments("platform lacks something", (0.1, r"^resource platform \S+firewall\S+ created")),
        *moments("platform is not as described", (0.4, "^stack platform applying")),
        *moments("stacks are not initialised", (0.2, "^stack foundation init"), (0.2, "^stack platform init")),
    ),
    "down": (
        *_HEAD,
        *moments(
            "platform is up",
            (0.8, "^stack platform planning"),
            (0.4, "^stack platform applying"),
            (0.4, r"^resource platform \S+vm\.\S+ destroying"),
            (0.2, r"^resource platform \S+vm\.\S+ destroyed"),
            (0.2, r"^resource platform \S+file\.\S+ destroyed"),
            (0.1, "^stack platform destroyed"),
        ),
        *moments(
            "",
            (0.3, "^stack foundation applying"),
            (3.0, r"^resource foundation \S+vm\.\S+ destroying"),
            (0.3, r"^resource foundation \S+vm\.\S+ destroyed"),
            (0.1, r"^resource foundation \S+pool\S+ destroyed"),
            (0.1, "^stack foundation destroyed"),
        ),
    ),
}


def facts(lab: LabFolder) -> set[str]:
    """How the lab stands, as far as it decides which moments a run will come to."""
    there = set(hypervisor(lab)["guests"])
    found = {
        "": True,
        "the sandbox is off": not (lab.work / "sandbox" / "sandbox.pid").exists(),
        "foundation lacks something": not {"101", "102"} <= there,
        "platform lacks something": not {"201", "202"} <= there,
        "platform is not as described": not {"201", "202"} <= there,
        "platform is up": {"201", "202"} <= there,
        "the Vault is not ready": not ({"101", "102"} <= there and (lab.work / "keys" / "labctl.age").exists()),
        "stacks are not initialised": not (lab.work / "stacks" / "platform" / ".terraform" / "labctl-init.json").exists(),
    }
    return {name for name, true in found.items() if true}


@dataclass(frozen=True)
class Blow:
    """What is killed and how: `numbers` one after the other, to `target`."""

    target: str
    numbers: tuple[signal.Signals, ...]

    def __str__(self) -> str:
        return f"{'+'.join(number.name for number in self.numbers)} to {self.target}"


BLOWS = (
    *(Blow("labctl", (number,)) for number in (INTERRUPT, TERMINATE, KILL)),
    Blow("labctl", (INTERRUPT, INTERRUPT)),
    *(Blow("terraform", (number,)) for number in (INTERRUPT, TERMINATE, KILL, KILL)),
    Blow("the provider", (KILL,)),
    *(Blow("everything", (number,)) for number in (INTERRUPT, TERMINATE, KILL, KILL, KILL)),
)


@dataclass
class Attack:
    """One command that was to be killed."""

    command: str
    moment: Moment
    blow: Blow
    delay_s: float
    struck: bool = False
    code: int = 0
    said: str = ""
    journal: str = ""

    @property
    def reported(self) -> bool:
        """Whether it had come to its end already."""
        return '"type": "report"' in self.journal

    @property
    def applied_foundation(self) -> bool:
        """Whether it had begun to; a Terraform that outlives its labctl goes on with it."""
        return '"stack": "foundation", "text": "applying"' in self.journal

    def __str__(self) -> str:
        return f"{self.command}: {self.blow}, {self.delay_s:.3f} s after {self.moment}"


def draw(command: str, chance: random.Random, known: set[str]) -> Attack:
    """A moment that will come, each stage as likely as any other, and a blow."""
    moment = chance.choice([one for one in MOMENTS[command] if one.where in known])
    return Attack(command, moment, chance.choice(BLOWS), chance.uniform(0, moment.within_s))


def strike(lab: LabFolder, attack: Attack, chance: random.Random) -> None:
    """Runs the command, kills at the moment, and waits for its end. Where the moment does not come, it just runs to its end."""
    output = lab.path / "attack.out"
    known = set((lab.work / "runs").glob("*")) if lab.work.is_dir() else set()
    with output.open("w") as out:
        process = subprocess.Popen(
            [str(LABCTL), *COMMANDS[attack.command]],
            cwd=lab.path,
            env=lab.environment(),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
        )
        try:
            if _comes(lab, process, attack.moment, known):
                _pause(process, attack.delay_s)
                attack.struck = _hit(lab, process, attack.blow, chance)
            attack.code = process.wait(END_S)
        finally:
            process.kill()
    attack.said = output.read_text(errors="replace")
    attack.journal = "".join((path / EVENTS).read_text() for path in _new(lab, known) if (path / EVENTS).exists())


def _comes(lab: LabFolder, process: subprocess.Popen[bytes], moment: Moment, known: set[Path]) -> bool:
    wanted, offset, journal = list(moment.after), 0, None
    limit = time.monotonic() + END_S
    while wanted:
        if process.poll() is not None or time.monotonic() > limit:
            return False
        journal = journal or next((path / EVENTS for path in _new(lab, known)), None)
        if journal is not None and journal.is_file():
            with journal.open("rb") as file:
                file.seek(offset)
                new = file.read()
            whole = new[: new.rfind(b"\n") + 1]
            offset += len(whole)
            for line in whole.splitlines():
                event = json.loads(line)
                if wanted and re.search(wanted[0], f"{event['type']} {event.get('stack', '')} {event.get('text', '')}"):
                    wanted.pop(0)
        time.sleep(POLL_S)
    return True


def _new(lab: LabFolder, known: set[Path]) -> list[Path]:
    return [path for path in (lab.work / "runs").glob("*") if path not in known]


def _pause(process: subprocess.Popen[bytes], seconds: float) -> None:
    limit = time.monotonic() + seconds
    while process.poll() is None and (left := limit - time.monotonic()) > 0:
        time.sleep(min(POLL_S, left))


def _hit(lab: LabFolder, process: subprocess.Popen[bytes], blow: Blow, chance: random.Random) -> bool:
    """Says whether there was something to hit. A Terraform is waited for a moment; where none comes, labctl is hit instead."""
    hit = False
    for turn, number in enumerate(blow.numbers):
        _pause(process, chance.uniform(0, 0.7) if turn else 0)
        limit, targets = time.monotonic() + PATIENCE_S, _targets(lab, process.pid, blow.target)
        while process.poll() is None and not targets and time.monotonic() < limit:
            time.sleep(POLL_S)
            targets = _targets(lab, process.pid, blow.target)
        if process.poll() is not None:
            return hit
        for pid in targets or [process.pid]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
                hit = True
    return hit


def _targets(lab: LabFolder, labctl: int, target: str) -> list[int]:
    if target == "labctl":
        return [labctl]
    if target == "everything":
        return [*family(labctl), *(pid for pid in terraforms(lab) if pid not in family(labctl))]
    found = terraforms(lab)
    return found if target == "terraform" else [pid for one in found for pid in family(one)[1:] if _is_provider(pid)]


def family(pid: int) -> list[int]:
    """The process, its children and theirs."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(entry.name))
    found = [pid]
    for one in found:
        found += children.get(one, [])
    return found


def terraforms(lab: LabFolder) -> list[int]:
    """Every Terraform that works on the lab, also one that outlived its labctl."""
    return [pid for pid in workers(lab) if not _is_provider(pid)]


def workers(lab: LabFolder) -> list[int]:
    """Every Terraform and every provider that works on the lab."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            inside = os.readlink(entry / "cwd").startswith(f"{lab.work}{os.sep}")  # noqa: PTH115  (a folder may be gone)
            if inside and b"terraform" in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
    return found


def _is_provider(pid: int) -> bool:
    try:
        return b"terraform-provider-" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0]
    except OSError:
        return False


# -- what is left ----------------------------------------------------------------------------------------------------------

_TORN = re.compile(r"\.(tmp|new|draft|probe|tfplan|part)$|^\.synthesis-|\.recovered\.tfstate$|^scratch$|^rehearsal")


@dataclass
class Memory:
    """What the lab had when it was last whole. `secrets` are those of the Vault that lives; never printed."""

    guests: Mapping[str, Any] = field(default_factory=dict)
    secrets: dict[str, Any] = field(default_factory=dict, repr=False)


def check_up(lab: LabFolder, memory: Memory) -> None:
    """The lab is whole: nothing is missing, nothing is there twice, nothing is locked, and the Vault knows what it knew."""
    plan = lab.run("plan", "--detailed-exitcode")
    assert plan.code == 0, f"plan: exit {plan.code}\n{plan.out[-3000:]}\n{plan.err[-2000:]}"
    listed = store(lab).list_objects_v2(Bucket="terraform").get("Contents", [])
    found = hypervisor(lab)
    memory.guests = memory.guests or found
    _same("locks in the bucket", [one["Key"] for one in listed if one["Key"].endswith(".tflock")], [])
    _same("left behind", left_behind(lab), [])
    _same("processes", workers(lab), [])
    _same("guests", sorted(found["guests"]), ["101", "102", "201", "202"])
    for kind, things in found.items():
        _same(kind, things, memory.guests[kind])
    secrets = {"gitlab/root": lab.json("secrets", "get", "gitlab/root")}
    for path in ("store/root", "store/terraform"):
        held = get_secret(open_lab(lab.path / "lab.yaml"), path)
        secrets[path] = (held.version, {name: value.reveal() for name, value in held.data.items()})
    # By name only: the values must not be printed.
    _same("changed secrets", [path for path, held in memory.secrets.items() if held != secrets[path]], [])
    memory.secrets = secrets
    _same("secrets in clear", leaks(lab), [])


def check_down(lab: LabFolder, memory: Memory) -> None:
    """Nothing of the lab is left, neither on the hypervisor nor in the states."""
    for kind, things in hypervisor(lab).items():
        _same(kind, list(things), [])
    _same("resources", json.loads((lab.work / "state" / "foundation.tfstate").read_text())["resources"], [])
    _same("left behind", left_behind(lab), [])
    _same("processes", workers(lab), [])
    _same("disks", list((lab.work / "sandbox" / "guests").glob("*/root")), [])
    memory.secrets = {}


def _same(what: str, found: object, wanted: object) -> None:
    assert found == wanted, f"{what}: {found}, not {wanted}"


def left_behind(lab: LabFolder) -> list[str]:
    """Locks, records of processes, and files that somebody was writing when he was killed."""
    found = [*(lab.work / "state").glob(".*.lock.info"), *(lab.work / "stacks").glob("*/terraform.pid")]
    for folder, folders, names in os.walk(lab.work):
        folders[:] = [name for name in folders if name not in ("guests", ".terraform", "pve")]
        found += [Path(folder, name) for name in (*folders, *names) if _TORN.search(name)]
    return sorted(str(path.relative_to(lab.work)) for path in found)


_KINDS = ("guests", "volumes", "pools", "firewalls")


def hypervisor(lab: LabFolder) -> dict[str, Any]:
    """What there is of the lab on the hypervisor, without what is drawn by lot when a guest is made."""
    file = lab.work / "sandbox" / "state.json"
    state = json.loads(file.read_text()) if file.exists() else {key: {} for key in _KINDS}
    content = lab.work / "sandbox" / "pve" / "var" / "lib" / "vz"
    drawn = re.compile(r"virtio(=[0-9A-Fa-f:]{17})?|uuid=[^,]*")
    guests = {}
    for vmid, guest in state["guests"].items():
        config = {
            name: drawn.sub("", f"{value}")
            for name, value in guest["config"].items()
            if name not in ("vmgenid", "meta", "digest")
        }
        guests[vmid] = {**{name: guest[name] for name in ("name", "pool", "lock", "status")}, "config": config}
    return {
        "guests": guests,
        "volumes": {volid: (one["size"], one["vmid"]) for volid, one in state["volumes"].items()},
        "pools": state["pools"],
        "firewalls": {where: one for where, one in state["firewalls"].items() if any(one.values())},
        "files": sorted(str(path.relative_to(content)) for path in content.rglob("*") if path.is_file()),
    }


def leaks(lab: LabFolder) -> list[str]:
    """Where a secret value lies in the lab's folder in clear; the emulated hypervisor keeps nothing but its guests' disks."""
    opened = open_lab(lab.path / "lab.yaml")
    canaries = [Canary.of_text("unseal key", key.reveal()) for key in keys_of(lab, "vault")["unseal_keys"]]
    canaries += [Canary.of_text(f"labctl's {name}", value.reveal()) for name, value in keys_of(lab, "labctl").items()]
    for path in ("gitlab/root", "store/terraform"):
        held = get_secret(opened, path).data
        canaries += [Canary.of_text(f"secret {path}#{name}", value.reveal()) for name, value in held.items()]
    search = Search(canaries)
    found = search.look_at_all(files_below(lab.path, without=[lab.path / "home", lab.work / "sandbox" / "guests"]))
    return sorted(f"{one.canary} in {one.place}" for one in found if one.form != "shape")


def journal_tail(lab: LabFolder, runs: int = 2, lines: int = 12) -> Iterator[str]:
    """The end of the last runs' journals."""
    for run in sorted((lab.work / "runs").glob("*"), key=lambda path: path.stat().st_mtime)[-runs:]:
        yield f"-- {run.name}"
        with contextlib.suppress(OSError):
            yield from (line[:400] for line in (run / EVENTS).read_text(errors="replace").splitlines()[-lines:])
