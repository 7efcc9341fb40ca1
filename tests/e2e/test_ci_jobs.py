"""The scripts of the pipeline that users copy, run as a runner runs them: no operator's key, a token that GitLab signed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from labctl.engine import timer
from labctl.engine.lab import open_lab
from labctl.model.timer import credentials_in
from tests.e2e.labfolder import LABCTL, LabFolder
from tests.gitlabissuer import Issuer, serving
from tests.gitlabstandin import ROOT_TOKEN, Standin, configured

TEMPLATE = Path(__file__).parents[2] / "examples" / "gitlab-ci" / ".gitlab-ci.yml"
ISSUER = "127.93.2.1"


@dataclass
class Runner:
    """A runner's folder with the lab's repository in it, and the GitLab behind it."""

    lab: LabFolder
    issuer: Issuer
    standin: Standin
    ci: str

    def git(self, *arguments: str) -> str:
        who = ["-c", "user.name=Operator", "-c", "user.email=operator@example.com"]
        argv = ["git", "-C", str(self.lab.path), *who, *arguments]
        return subprocess.run(argv, capture_output=True, text=True, check=True).stdout

    def commit(self, text: str = "") -> None:
        self.lab.write(self.ci + text)
        self.git("add", "-A")
        self.git("commit", "-qm", "lab.yaml")

    def job(self, name: str, claims: dict[str, Any], **variables: str) -> subprocess.CompletedProcess[str]:
        """Runs a job's script as GitLab's shell executor does."""
        pipeline = yaml.safe_load(TEMPLATE.read_text())
        found = pipeline[name]
        environment = self.lab.environment(
            **{name: str(value) for name, value in pipeline["variables"].items()},
            **found.get("variables", {}),
            CI="true",
            CI_PROJECT_ID="1",
            CI_SERVER_URL=self.standin.url,
            CI_API_V4_URL=f"{self.issuer.url}/api/v4",
            LABCTL_GITLAB_TOKEN=ROOT_TOKEN,
            LABCTL_VAULT_JWT=self.issuer.token(**claims).reveal(),
            PATH=f"{LABCTL.parent}{os.pathsep}{os.environ['PATH']}",
            **variables,
        )
        script = "\n".join(found["script"])
        argv = ["bash", "-eo", "pipefail", "-c", script]
        return subprocess.run(
            argv,
            cwd=self.lab.path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
            stdin=subprocess.DEVNULL,
        )


@pytest.fixture(scope="module")
def runner(make_lab: Callable[[], LabFolder]) -> Iterator[Runner]:
    with tempfile.TemporaryDirectory(prefix="gitlab-") as folder, serving(ISSUER, "root/lab") as issuer:
        standin = configured(Path(folder))
        try:
            standin.client().projects.create({"name": "lab"})
            found = Runner(make_lab(), issuer, standin, f"ci: {{project: root/lab, gitlab: '{issuer.url}'}}\n")
            (found.lab.path / ".gitignore").write_text("/home/\n/plans/\n/plans.zip\n/review.md\n/terraform.json\n")
            found.git("init", "-q", "-b", "main")
            found.commit()
            found.lab.ok("up", "--yes")
            # The operator's key stays with the operator.
            key = found.lab.work / "keys" / "operator.agekey"
            away = found.lab.path / "home" / "elsewhere"
            shutil.move(key, away)
            yield found
            shutil.move(away, key)
        finally:
            standin.stop()


def test_review_in_the_merge_request_then_up_on_main_with_what_was_reviewed(runner: Runner, tmp_path: Path) -> None:
    runner.git("checkout", "-qb", "bigger")
    runner.commit("platform: {docker: {memory_mib: 20480}}\n")
    merge_request = (
        runner.standin.client()
        .projects.get("root/lab")
        .mergerequests.create({"source_branch": "bigger", "target_branch": "main", "title": "Bigger"})
    )
    branch = {"ref": "bigger", "ref_protected": "false"}
    job = {
        "CI_MERGE_REQUEST_IID": str(merge_request.iid),
        "CI_MERGE_REQUEST_DIFF_BASE_SHA": runner.git("rev-parse", "main").strip(),
        "CI_JOB_URL": f"{runner.standin.url}/root/lab/-/jobs/42",
    }
    linted = runner.job("lint", branch)
    assert linted.returncode == 0, linted.stderr
    done = runner.job("review", branch, **job)
    assert done.returncode == 0, done.stdout + done.stderr
    (note,) = merge_request.notes.list(get_all=True)
    assert "`REVIEW_JOB=42`" in note.body
    assert "| `platform` | changed here | changes |" in note.body
    # GitLab keeps what the job names as its artifacts.
    with zipfile.ZipFile(tmp_path / "artifacts.zip", "w") as archive:
        for path in (*(runner.lab.path / "plans").iterdir(), runner.lab.path / "review.md"):
            archive.write(path, path.relative_to(runner.lab.path))
    runner.issuer.artifacts["/api/v4/projects/1/jobs/42/artifacts"] = tmp_path / "artifacts.zip"
    shutil.rmtree(runner.lab.path / "plans")
    # The branch's own job could not apply it, whatever it asks for.
    stolen = runner.job("up", branch, REVIEW_JOB="42")
    assert stolen.returncode == 1
    assert "cannot be held against the state" in stolen.stderr
    runner.git("checkout", "-q", "main")
    runner.git("merge", "-q", "--ff-only", "bigger")
    applied = runner.job("up", {}, REVIEW_JOB="42")
    assert applied.returncode == 0, applied.stdout + applied.stderr
    assert int(runner.lab.hypervisor().nodes("pve").qemu(202).config.get()["memory"]) == 20480
    again = runner.job("up", {})
    assert again.returncode == 0, again.stdout + again.stderr
    assert "Nothing to do" in again.stdout


def test_the_nightly_job_writes_its_reports(runner: Runner) -> None:
    done = runner.job("drift", {})
    assert done.returncode == 0, done.stdout + done.stderr
    files = [runner.lab.path / name for name in ("drift.xml", "drift.html", "drift.md", "drift.prom")]
    for file in files:
        assert "e2e" in file.read_text()
        file.unlink()
    # The role is for the protected branch alone.
    assert runner.job("drift", {"ref": "bigger", "ref_protected": "false"}).returncode == 1


def test_the_nightly_checks_login_is_enough(runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABCTL_VAULT_JWT", runner.issuer.token().reveal())
    monkeypatch.setenv("LABCTL_VAULT_ROLE", "ci-up")
    found = open_lab(runner.lab.path / "lab.yaml")
    timer.write_credentials(found)
    file = timer.credentials_file(found)
    assert file.stat().st_mode & 0o777 == 0o600
    values = credentials_in(file.read_text())
    done = runner.lab.run("drift", "--json", **values)
    assert (done.code, json.loads(done.out)["result"]) == (0, "clean"), done.out
    # It reads no secret but the one of the states, and nobody is logged in without it.
    assert runner.lab.run("secrets", "get", "gitlab/root", **values).code == 1
    assert runner.lab.run("drift", "--json").code == 1
    # Made again, the login that was there before is worth nothing; removed, nor is the last one.
    timer.write_credentials(found)
    refused = runner.lab.run("secrets", "list", **values)
    assert refused.code == 1
    assert "`labctl schedule install`" in refused.err
    newest = credentials_in(file.read_text())
    assert _logs_in(runner, newest) == 0
    assert timer.remove(found, None, timer.nightly(found, 3, 30, user=True, credentials=True))
    assert not file.exists()
    assert _logs_in(runner, newest) == 1


def _logs_in(runner: Runner, values: dict[str, str]) -> int:
    return runner.lab.run("secrets", "list", **values).code
