"""Any kill at any moment: nothing is lost, and the next run goes on."""

from __future__ import annotations

import datetime as dt
import os
import random
import shutil
import time
from collections.abc import Callable

from tests.e2e.chaos import (
    COMMANDS,
    Attack,
    Memory,
    check_down,
    check_up,
    draw,
    facts,
    journal_tail,
    strike,
    terraforms,
)
from tests.e2e.labfolder import LabFolder

KILLS = int(os.environ.get("LABCTL_KILLS") or 20)


class Chaos:
    """A lab that is built, changed and destroyed again and again, with kills on the way.

    Every step draws from a generator of its own, so that what happened before does not change what comes.
    """

    def __init__(self, lab: LabFolder, seed: int) -> None:
        self.lab = lab
        self.seed = seed
        self.memory = Memory()
        self.step = 0
        self.kills = 0
        self.missed = 0
        self.last = ""
        self.described = False
        self.began = time.monotonic()

    def chance(self) -> random.Random:
        self.step += 1
        return random.Random(f"{self.seed}/{self.step}")

    @property
    def enough(self) -> bool:
        return self.kills >= KILLS

    def kill(self, command: str, *also: str) -> bool:
        """Lets a command run into a kill; says whether it did, instead of coming to its end before."""
        chance = self.chance()
        attack = draw(command, chance, facts(self.lab) | set(also))
        self._tell(str(attack))
        strike(self.lab, attack, chance)
        self.last = attack.said
        self.kills, self.missed = self.kills + attack.struck, self.missed + (not attack.struck)
        self._tell(f"  {'struck' if attack.struck else 'never came to it'}, exit {attack.code}")
        assert attack.struck or attack.code == 0, f"exit {attack.code} of a run that nobody hit"
        _well_said(attack)
        if command == "down" and attack.applied_foundation:
            # The Vault goes with its guest, now or in a moment. Nothing else may take it.
            self.memory.secrets = {}
        return attack.struck and attack.code != 0

    def complete(self, command: str) -> None:
        self._tell(f"{command} to its end")
        result = self.lab.run(*COMMANDS[command])
        self.last = result.out + result.err
        assert result.code == 0, f"{command}: exit {result.code}"
        assert "Traceback" not in self.last
        {"up": check_up, "down": check_down}[command](self.lab, self.memory)

    def build(self) -> None:
        """Kills on the way up, each in what the one before left; then `up` comes to its end."""
        chance = self.chance()
        if self.step > 1 and chance.random() < 0.3:
            self._tell("the sandbox's machine is off")
            self.lab.ok("sandbox", "stop")
        if chance.random() < 0.3 and not terraforms(self.lab):
            self._tell("synthesised stacks and Terraform's folders are gone")
            shutil.rmtree(self.lab.work / "stacks", ignore_errors=True)
        for _ in range(chance.randint(2, 4)):
            if self.enough or not self.kill("up"):
                break
        self.complete("up")

    def change(self) -> None:
        """Kills on the way to a new description and back."""
        self.described = not self.described
        self.lab.write("platform: {docker: {memory_mib: 20480}}\n" if self.described else "")
        self.memory.guests = {}
        if not self.enough:
            self.kill("up", "platform is not as described")
        self.complete("up")

    def destroy(self) -> None:
        """Kills on the way down; then `down` comes to its end, or `up` does."""
        chance = self.chance()
        for _ in range(chance.randint(1, 2)):
            if self.enough or not self.kill("down"):
                break
        if chance.random() < 0.8 or self.enough:
            self.complete("down")

    def _tell(self, text: str) -> None:
        print(f"{time.monotonic() - self.began:5.1f} s, step {self.step}, kill {self.kills}: {text}", flush=True)

    def report(self) -> None:
        print(f"LABCTL_SEED={self.seed}, step {self.step}; the last command said:\n{self.last[-6000:]}")
        print("\n".join(journal_tail(self.lab)))


def _well_said(attack: Attack) -> None:
    """A command that was asked to stop says so, as any other error."""
    # Before and after its run, a signal does to it what it does to any program.
    outside = attack.reported or not attack.moment.after
    if not outside:
        assert "Traceback" not in attack.said, "a traceback"
    killed = -9 if "SIGKILL" in str(attack.blow) else None
    assert attack.code in (0, 1, 130, killed, *((-2, -15) if outside else ())), f"exit {attack.code}"


def test_kills_at_random_moments(make_lab: Callable[[], LabFolder]) -> None:
    """`LABCTL_KILLS` of them, drawn from `LABCTL_SEED`; other ones each day without it."""
    seed = int(os.environ.get("LABCTL_SEED") or dt.datetime.now(dt.UTC).date().toordinal())
    print(f"LABCTL_SEED={seed} LABCTL_KILLS={KILLS}")
    chaos = Chaos(make_lab(), seed)
    try:
        while not chaos.enough:
            chaos.build()
            if chaos.chance().random() < 0.4:
                chaos.change()
            chaos.destroy()
        assert chaos.missed <= max(5, chaos.kills), "the journal's words have changed: most moments never came"
    except BaseException:
        chaos.report()
        raise
