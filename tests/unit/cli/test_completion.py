"""What the shell offers."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

LAB = "name: shell\ntarget: {sandbox: {guests: appliance}}\n"


def offered(folder: Path, line: str) -> list[str]:
    words = line.split(" ")
    program = "from labctl.cli import main; main()"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LABCTL_")} | {
        "_LABCTL_COMPLETE": "complete_bash",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(words) - 1),
    }
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.argv = ['labctl']; {program}"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    return done.stdout.split()


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("labctl pl", {"plan"}),
        ("labctl secrets ", {"list", "seed", "get", "rotate"}),
        ("labctl up --layer ", {"foundation", "platform"}),
        ("labctl down --allow-destroy g", {"gitlab"}),
        ("labctl render ", {"vault", "store", "gitlab", "docker"}),
        ("labctl untaint g", {"gitlab"}),
        ("labctl unlock ", {"foundation", "platform"}),
        ("labctl graph --format ", {"text", "mermaid", "dot", "svg"}),
        ("labctl output f", {"foundation"}),
        ("labctl output platform git", {"gitlab_url"}),
        ("labctl secrets get gitlab/", {"gitlab/root", "gitlab/runner"}),
        ("labctl provision ", {"postgres", "kafka", "ollama", "bucket", "list"}),
        ("labctl provision kafka --topic ", set()),
    ],
)
def test_names_of_the_lab_are_offered(tmp_path: Path, line: str, wanted: set[str]) -> None:
    (tmp_path / "lab.yaml").write_text(LAB)
    assert set(offered(tmp_path, line)) == wanted
    assert not (tmp_path / ".labctl").exists()


def test_topics_of_the_labs_apps_are_offered(tmp_path: Path) -> None:
    services = "services: {postgres: {}, kafka: {}, mlflow: {}}\napps: {mlserver: {models: [{name: houses}]}}\n"
    (tmp_path / "lab.yaml").write_text(LAB + services)
    assert set(offered(tmp_path, "labctl provision kafka --topic ")) == {"ml_inference_results", "ml_inference_feedback"}


def test_runs_that_are_kept_are_offered(tmp_path: Path) -> None:
    (tmp_path / "lab.yaml").write_text(LAB)
    for run_id in ("20260131T081500Z-ab12", "20260201T081500Z-cd34"):
        folder = tmp_path / ".labctl" / "shell" / "runs" / run_id
        folder.mkdir(parents=True)
        (folder / "events.jsonl").touch()
    assert offered(tmp_path, "labctl runs 202601") == ["20260131T081500Z-ab12"]
    assert set(offered(tmp_path, "labctl runs ab12 --format ")) == {"markdown", "junit"}


def test_without_a_lab_there_is_nothing_to_offer_and_no_error(tmp_path: Path) -> None:
    assert offered(tmp_path, "labctl render ") == []
