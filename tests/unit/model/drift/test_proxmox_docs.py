"""docs/drift-proxmox.md has the cases that are tested, and a token with the rights that they are tested with."""

from __future__ import annotations

import re
from pathlib import Path

from tests.integration.proxmox.driftcases import HARMLESS, SEEDED, tables
from tests.integration.proxmox.driftlab import AUDITOR, GRANTS

TEXT = (Path(__file__).parents[4] / "docs" / "drift-proxmox.md").read_text(encoding="utf-8")


def test_the_tables_are_those_of_the_tests() -> None:
    assert TEXT.split("<!-- cases -->\n")[1] == tables()
    assert len(SEEDED) >= 20
    assert len(HARMLESS) >= 15
    assert len({case.title for case in SEEDED}) == len(SEEDED)


def test_the_token_is_the_one_that_is_tested() -> None:
    commands = [line for block in re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL) for line in block.splitlines()]
    assert [line for line in commands if line.startswith(("pveum role", "pveum acl"))] == list(GRANTS)
    user, _, token = AUDITOR.partition("!")
    assert any(line.startswith(f"pveum user token add {user} {token} ") for line in commands)
