"""Reading a repository, and the synthesis of another revision with that revision's own code."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from labctl.adapters.git import Repository, repository
from labctl.model.errors import AdapterError, UserError
from labctl.model.labfile import parse_lab
from labctl.model.review import DESCRIPTION, compare
from labctl.model.stackcontext import StackContext
from labctl.synth import Revision, revision_documents, stack_documents

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]


def git(folder: Path, *arguments: str) -> str:
    who = ["-c", "user.name=Operator", "-c", "user.email=operator@example.com"]
    return subprocess.run(["git", "-C", str(folder), *who, *arguments], capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def repo(tmp_path: Path) -> Repository:
    folder = tmp_path / "repo"
    folder.mkdir()
    git(folder, "init", "-q", "-b", "main")
    (folder / ".gitattributes").write_text("secret.txt export-ignore\n")
    for name in ("a.txt", "secret.txt", "ä b.txt"):
        (folder / name).write_text("one\n")
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "One")
    git(folder, "checkout", "-qb", "change")
    (folder / "a.txt").write_text("two\n")
    git(folder, "commit", "-qam", "Two")
    git(folder, "checkout", "-q", "main")
    (folder / "main.txt").write_text("main moves on\n")
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "Three")
    git(folder, "checkout", "-q", "change")
    return repository(folder)


def test_what_a_branch_changes_is_seen_from_where_it_left_main(repo: Repository) -> None:
    since = repo.merge_base("main")
    assert since == git(repo.top, "rev-parse", "main~1")
    assert repo.changed(since) == ("a.txt",)
    # What is not committed counts too, and what Git does not know yet, with any letters.
    (repo.top / "ä b.txt").unlink()
    (repo.top / "new\nline.txt").touch()
    (repo.top / ".gitignore").write_text("ignored\n")
    (repo.top / "ignored").touch()
    assert repo.changed(since) == (".gitignore", "a.txt", "new\nline.txt", "ä b.txt")


def test_a_revisions_files_are_all_there_and_the_index_stays(
    repo: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    git(repo.top, "rm", "-q", "--cached", "a.txt")
    before = git(repo.top, "status", "--porcelain")
    # As within a hook, whose variables name another index.
    monkeypatch.setenv("GIT_INDEX_FILE", str(tmp_path / "another"))
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "nowhere"))
    repo.write_tree(repo.merge_base("main"), tmp_path / "tree")
    assert {path.name for path in (tmp_path / "tree").iterdir()} == {".gitattributes", "a.txt", "secret.txt", "ä b.txt"}
    assert (tmp_path / "tree" / "a.txt").read_text() == "one\n"
    monkeypatch.undo()
    assert git(repo.top, "status", "--porcelain") == before
    assert {path.name for path in tmp_path.iterdir()} == {"repo", "tree"}


@pytest.mark.parametrize("name", ["none", "--all", "-h"])
def test_a_revision_that_is_not_there(repo: Repository, name: str) -> None:
    with pytest.raises(UserError, match="there is no revision") as refused:
        repo.merge_base(name)
    assert "GIT_DEPTH" in refused.value.hint


def test_histories_that_have_nothing_in_common(repo: Repository) -> None:
    git(repo.top, "checkout", "-q", "--orphan", "other")
    git(repo.top, "commit", "-qm", "Other")
    with pytest.raises(UserError, match="no common ancestor"):
        repo.merge_base("main")


def test_a_folder_that_is_no_work_tree(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is no Git work tree"):
        repository(tmp_path)


@pytest.fixture
def revision(tmp_path: Path) -> Revision:
    """This checkout's own code and lab, as another revision of it."""
    tree = tmp_path / "tree"
    for name in ("src", "stacks", "layers"):
        shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "lab.yaml", tree)
    return Revision(ROOT, tree, tmp_path)


def documents(found: dict[str, str]) -> dict[str, str]:
    return {Path(path).parent.name: text for path, text in found.items() if path.endswith("cdk.tf.json")}


@pytest.fixture(scope="module")
def head() -> dict[str, str]:
    lab = parse_lab((ROOT / "lab.yaml").read_text(), "lab.yaml").with_guests("container")
    root = ROOT / ".labctl" / lab.name
    return documents(stack_documents(StackContext(lab=lab, authority_pem="", state_dir=root / "state", outdir=root)))


def base(revision: Revision) -> dict[str, str]:
    return documents(revision_documents(revision, ROOT / "lab.yaml", guests="container"))


def changed(before: dict[str, str], after: dict[str, str]) -> set[str]:
    found = compare(before, after, (), {name: f".labctl/lab/stacks/{name}" for name in after}, "lab.yaml")
    return {name for name, reason in found.reasons.items() if DESCRIPTION in reason}


def test_the_same_code_and_lab_elsewhere_make_the_same_stacks(revision: Revision, head: dict[str, str]) -> None:
    found = base(revision)
    assert found.keys() == head.keys()
    assert changed(found, head) == set()


def test_a_file_of_a_layer_concerns_the_stacks_that_are_made_from_it(revision: Revision, head: dict[str, str]) -> None:
    file = revision.tree / "layers/gitlab/gitlab-settings.rb"
    file.write_text(file.read_text() + "# another\n")
    assert changed(base(revision), head) == {"platform"}


def test_a_value_of_the_lab_concerns_the_stacks_that_read_it(revision: Revision, head: dict[str, str]) -> None:
    head_text = (revision.tree / "lab.yaml").read_text()
    smaller = head_text.replace("memory_mib: 36864", "memory_mib: 20480")
    assert smaller != head_text
    for text, concerned in ((f"{head_text}runs: {{keep: 7}}\n", set()), (smaller, {"platform"})):
        (revision.tree / "lab.yaml").write_text(text)
        assert changed(base(revision), head) == concerned


def test_code_that_cannot_be_run_is_an_error_with_its_last_line(revision: Revision) -> None:
    (revision.tree / "stacks/__init__.py").write_text("raise RuntimeError('not today')\n")
    with pytest.raises(AdapterError, match="not today"):
        base(revision)
    (revision.tree / "src/labctl/synth/synthesis.py").write_text("")
    with pytest.raises(AdapterError, match="stack_documents"):
        base(revision)


def test_documents_are_json(head: dict[str, str]) -> None:
    assert {json.loads(text)["//"]["metadata"]["stackName"] for text in head.values()} == head.keys()
