"""The pipeline that users copy: GitLab would take it, and it asks nobody for a long-lived secret."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml
from check_jsonschema.builtin_schemas import get_builtin_schema
from jsonschema import Draft7Validator

from labctl.cli._main import COMMANDS
from labctl.model.ci import DRIFT, REVIEW, UP, Ci

TEMPLATE = Path(__file__).parents[2] / "examples" / "gitlab-ci" / ".gitlab-ci.yml"
KEYWORDS = {"workflow", "stages", "default", "variables", "include"}


@pytest.fixture
def pipeline() -> dict[str, Any]:
    return dict(yaml.safe_load(TEMPLATE.read_text()))


def problems(pipeline: dict[str, Any]) -> list[str]:
    """What GitLab's own schema has against it."""
    return [error.message for error in Draft7Validator(get_builtin_schema("vendor.gitlab-ci")).iter_errors(pipeline)]


def test_gitlabs_schema_has_nothing_against_it(pipeline: dict[str, Any]) -> None:
    assert problems(pipeline) == []


def test_the_schema_does_find_mistakes(pipeline: dict[str, Any]) -> None:
    broken = copy.deepcopy(pipeline)
    broken["review"]["artifacts"]["reports"]["terraform"] = {"path": "x"}
    assert problems(broken)


def jobs(pipeline: dict[str, Any]) -> dict[str, Any]:
    return {name: job for name, job in pipeline.items() if name not in KEYWORDS and not name.startswith(".")}


def test_jobs_are_in_known_stages_and_extend_what_is_there(pipeline: dict[str, Any]) -> None:
    for name, job in jobs(pipeline).items():
        assert job["stage"] in pipeline["stages"], name
        assert job.get("extends", ".vault") in pipeline, name


def test_roles_and_audience_are_those_of_the_vault(pipeline: dict[str, Any]) -> None:
    roles = {name: job["variables"]["LABCTL_VAULT_ROLE"] for name, job in jobs(pipeline).items() if "extends" in job}
    assert roles == {"review": REVIEW, "up": UP, "drift": DRIFT}
    assert pipeline[".vault"]["id_tokens"] == {"LABCTL_VAULT_JWT": {"aud": Ci(project="lab/infra").audience}}


def test_what_changes_the_lab_is_started_by_hand_on_the_protected_branch_alone(pipeline: dict[str, Any]) -> None:
    up = pipeline["up"]
    assert [rule["when"] for rule in up["rules"]] == ["never", "manual"]
    assert 'CI_COMMIT_REF_PROTECTED == "true"' in up["rules"][1]["if"]
    assert (up["resource_group"], up["environment"]["name"], up["interruptible"]) == ("lab", "lab", False)
    assert {pipeline[name]["resource_group"] for name in ("review", "drift")} == {"lab"}


def test_it_calls_commands_that_there_are(pipeline: dict[str, Any]) -> None:
    script = "\n".join(line for job in jobs(pipeline).values() for line in job["script"])
    words = [line.split("$LABCTL ")[1].split()[0] for line in script.splitlines() if "$LABCTL " in line]
    assert {"review", "up", "drift"} <= set(words)
    # The nightly check comes with a command of its own.
    assert set(words) <= {*COMMANDS, "drift"}
