"""docs/engine.md names tests that are there."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[3]


def test_each_rule_of_the_engine_has_a_test_that_is_there() -> None:
    rows = [line for line in (ROOT / "docs" / "engine.md").read_text().splitlines() if line.startswith("| ")]
    table = rows[rows.index("| rule | held by |") + 1 :]
    rules = [line for line in table if not line.startswith("| **")]
    assert len(rules) > 40
    for line in rules:
        named = re.findall(r"`([a-z0-9_/]+\.py)::(test_\w+)`", line)
        assert named, line
        assert line.count("::") == len(named), line
        for file, test in named:
            text = (ROOT / "tests" / file).read_text()
            assert re.search(rf"^(async )?def {test}\(", text, flags=re.MULTILINE), f"{file}::{test}"
