"""A lab in a repository of its own: a branch is reviewed, merged, and what was reviewed is applied."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.labfolder import LabFolder, Result
from tests.gitlabstandin import ROOT_TOKEN, Standin, configured

BIGGER = "platform: {docker: {memory_mib: 20480}}\n"


@dataclass
class Repo:
    """The lab's repository, and its project and merge request in a GitLab."""

    lab: LabFolder
    standin: Standin
    environment: dict[str, str] = field(default_factory=dict)
    merge_request: Any = None

    def git(self, *arguments: str) -> str:
        who = ["-c", "user.name=Operator", "-c", "user.email=operator@example.com"]
        argv = ["git", "-C", str(self.lab.path), *who, *arguments]
        return subprocess.run(argv, capture_output=True, text=True, check=True).stdout

    def commit(self, text: str) -> None:
        self.lab.write(text)
        self.git("add", "-A")
        self.git("commit", "-qm", "Another lab.yaml")

    def branch(self, name: str, text: str) -> None:
        """A branch off main with a merge request, as its pipeline sees it."""
        self.git("checkout", "-qB", name, "main")
        self.commit(text)
        project = self.standin.client().projects.get("root/lab")
        fields = {"source_branch": name, "target_branch": "main", "title": "A bigger lab"}
        self.merge_request = project.mergerequests.create(fields)
        self.environment = {
            "CI_MERGE_REQUEST_IID": str(self.merge_request.iid),
            "CI_MERGE_REQUEST_DIFF_BASE_SHA": self.git("merge-base", "main", "HEAD").strip(),
            "CI_PROJECT_ID": str(project.id),
            "CI_SERVER_URL": self.standin.url,
            "CI_JOB_URL": f"{self.standin.url}/root/lab/-/jobs/1",
            "LABCTL_GITLAB_TOKEN": ROOT_TOKEN,
        }

    def review(self, *arguments: str, **more: str) -> Result:
        return self.lab.run("review", *arguments, **self.environment | more)

    def notes(self) -> list[Any]:
        return list(self.merge_request.notes.list(get_all=True, sort="asc"))


@pytest.fixture(scope="module")
def repo(make_lab: Callable[[], LabFolder]) -> Iterator[Repo]:
    with tempfile.TemporaryDirectory(prefix="gitlab-") as folder:
        standin = configured(Path(folder))
        try:
            standin.client().projects.create({"name": "lab"})
            lab = make_lab()
            (lab.path / ".gitignore").write_text("/home/\n")
            found = Repo(lab, standin)
            found.git("init", "-q", "-b", "main")
            found.commit("")
            lab.ok("up", "--yes")
            yield found
        finally:
            standin.stop()


@pytest.fixture(autouse=True)
def as_described(repo: Repo) -> Iterator[None]:
    """Each test begins on a lab that is as main has it, which is as at the beginning."""
    yield
    repo.git("checkout", "-q", "--force", "main")
    repo.lab.write("")
    if repo.git("status", "--porcelain"):
        repo.git("commit", "-qam", "As at the beginning")
        repo.lab.ok("up", "--yes")


def test_a_branch_is_reviewed_pushed_again_merged_and_exactly_that_applied(repo: Repo, tmp_path: Path) -> None:
    repo.branch("bigger", BIGGER)
    kept, counts = tmp_path / "plans", tmp_path / "widget.json"
    done = repo.review("--artifact", str(kept), "--widget", str(counts))
    assert done.code == 0, done.out + done.err
    (note,) = repo.notes()
    assert "| `platform` | changed here | changes |  | 1 |  |  |" in note.body
    assert re.search(r"memory\.dedicated: \d+ → 20480", note.body)
    assert "`foundation`" not in note.body
    assert json.loads(counts.read_text()) == {"create": 0, "update": 1, "delete": 0}
    assert {path.stat().st_mode & 0o077 for path in (kept, *kept.iterdir())} == {0}
    # Pushed again: the same note.
    repo.commit(BIGGER + "# and a remark\n")
    again = repo.review("--artifact", str(kept))
    assert "Updated the note" in again.out
    (updated,) = repo.notes()
    assert (updated.id, updated.body == note.body) == (note.id, False)
    # Merged, and applied from the artifact alone.
    repo.git("checkout", "-q", "main")
    repo.git("merge", "-q", "--ff-only", "bigger")
    carried = tmp_path / "carried"
    shutil.copytree(kept, carried)
    applied = repo.lab.run("up", "--yes", "--plan", str(carried), "--json")
    assert applied.code == 0, applied.out + applied.err
    assert {s["name"]: s["result"] for s in applied.last_json["stacks"]}["platform"] == "applied"
    assert int(repo.lab.hypervisor().nodes("pve").qemu(202).config.get()["memory"]) == 20480
    # A second time it is stale: the state is another one now.
    refused = repo.lab.run("up", "--yes", "--plan", str(carried))
    assert refused.code == 1
    assert "platform: its state has changed since" in refused.err


def test_what_was_merged_meanwhile_makes_the_artifact_stale(repo: Repo, tmp_path: Path) -> None:
    repo.branch("meanwhile", BIGGER)
    kept = tmp_path / "plans"
    assert repo.review("--artifact", str(kept)).code == 0
    repo.lab.write("platform: {docker: {memory_mib: 24576}}\n")
    refused = repo.lab.run("up", "--yes", "--plan", str(kept))
    assert refused.code == 1
    assert "platform: its description has changed since" in refused.err
    repo.git("checkout", "-q", "--force", "meanwhile")
    (plan,) = kept.glob("platform*.saved-plan")
    plan.write_bytes(plan.read_bytes()[:-100])
    refused = repo.lab.run("up", "--yes", "--plan", str(kept))
    assert "platform: its plan file is missing or damaged" in refused.err
    shutil.copy(next(kept.glob("foundation*.saved-plan")), plan)
    refused = repo.lab.run("up", "--yes", "--plan", str(kept))
    assert "platform: its plan file is of another description" in refused.err


def test_no_secret_of_labctl_lies_in_an_artifact(repo: Repo, tmp_path: Path) -> None:
    repo.branch("secrets", BIGGER)
    kept = tmp_path / "plans"
    assert repo.review("--artifact", str(kept)).code == 0
    sandbox = repo.lab.json("sandbox", "status")
    secrets = [sandbox["pve"]["token"].partition("=")[2], sandbox["vault"]["secret_id"], sandbox["s3"]["secret_key"]]
    for path in ("gitlab/root", "store/terraform", "store/gitlab"):
        values = repo.lab.json("secrets", "get", path)["data"]
        secrets += [value for name, value in values.items() if "user" not in name and "access" not in name]
    assert len([secret for secret in secrets if len(secret) >= 16]) >= 5
    contents = []
    for path in kept.iterdir():
        contents.append(path.read_bytes())
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                contents += [archive.read(name) for name in archive.namelist()]
    assert len(contents) > 5
    for secret in secrets:
        assert not any(secret.encode() in content for content in contents)


def test_a_change_that_concerns_no_stack_plans_none(repo: Repo) -> None:
    repo.git("checkout", "-qB", "words", "main")
    (repo.lab.path / "notes.md").write_text("Only words.\n")
    done = repo.lab.run("review", "--base", "main")
    (repo.lab.path / "notes.md").unlink()
    assert done.code == 0, done.err
    assert "No stack is concerned" in done.out
    assert "1 changed file made no difference" in done.out
    last = repo.lab.json("runs")["runs"][0]
    assert (last["command"], last["result"]) == ("review", "nothing to do")


def test_a_broken_rule_refuses_and_the_note_says_which(repo: Repo) -> None:
    repo.branch("away", "platform: {docker: {vmid: 302}}\n")
    done = repo.review()
    assert done.code == 1
    (note,) = repo.notes()
    assert "⛔" in note.body
    assert "protected-guest" in note.body
    assert re.search(r"\*\*1 of \d stacks would not go through", note.body)
    assert "<details open><summary>platform</summary>" in note.body


def test_a_base_that_cannot_be_synthesised_makes_every_stack_count(repo: Repo) -> None:
    repo.git("checkout", "-qB", "broken", "main")
    (repo.lab.path / "lab.yaml").write_text("name: e2e\nnonsense: 1\n")
    repo.git("commit", "-qam", "A mistake")
    repo.git("checkout", "-qb", "mended")
    repo.commit("")
    done = repo.lab.run("review", "--base", "broken")
    assert done.code == 0, done.out + done.err
    assert "every stack counts as changed" in done.err
    assert "| `foundation` | changed here | ✅ no changes |" in done.out


def test_without_gitlab_the_plan_decides_and_the_note_is_printed(repo: Repo) -> None:
    repo.branch("offline", BIGGER)
    done = repo.review(CI_SERVER_URL="http://127.93.1.1:9")
    assert done.code == 0
    assert "warning: no note: " in done.err
    assert "connection refused" in done.err
    assert "| `platform` |" in done.out
    done = repo.review(LABCTL_GITLAB_TOKEN="glpat-unknown")
    assert done.code == 0
    assert "LABCTL_GITLAB_TOKEN must be" in done.err
    assert repo.notes() == []


def test_a_closed_merge_request_gets_no_note(repo: Repo) -> None:
    repo.branch("closed", BIGGER)
    repo.merge_request.state_event = "close"
    repo.merge_request.save()
    done = repo.review()
    assert done.code == 0
    assert "is closed: it gets no note" in done.out
    assert repo.notes() == []
