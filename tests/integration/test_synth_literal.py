"""Literal text against the real template language: what Terraform reads back is what was meant."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from labctl.adapters.terraform import Terraform, find_engine
from stacks.constructs.literal import TOKEN, literal

pytestmark = pytest.mark.integration

PIECES = ["$", "$", "%", "%", "{", "}", "${", "%{", "$${", "~", "a", " ", "\n", '"', "\\", "${TfToken[TOKEN.1]}", "€", "\t"]


def test_terraform_reads_back_exactly_the_text(tmp_path: Path) -> None:
    draw = random.Random(20)
    texts = ["".join(draw.choices(PIECES, k=draw.randrange(1, 9))) for _ in range(2000)]
    outputs = {f"t{number}": {"value": TOKEN.sub("${local.token}", literal(text))} for number, text in enumerate(texts)}
    folder = tmp_path / "stack"
    folder.mkdir()
    (folder / "cdk.tf.json").write_text(json.dumps({"locals": {"token": "<value>"}, "output": outputs}))
    (tmp_path / "cli.tfrc").write_text("")
    terraform = Terraform(find_engine(), folder, stack="literal", home=tmp_path / "home", cli_config=tmp_path / "cli.tfrc")
    terraform.init()
    terraform.plan(folder / "plan")
    terraform.apply(folder / "plan")
    read = terraform.output()
    wrong = {
        text: read[f"t{number}"].value
        for number, text in enumerate(texts)
        if read[f"t{number}"].value != TOKEN.sub("<value>", text)
    }
    assert wrong == {}
