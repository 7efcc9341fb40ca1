"""What the engine promises of any stacks: what was confirmed is what happens, kept plans, going on, several at once."""

from __future__ import annotations

import json
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.appfolder import AppFolder

APP = """
import json, os
from pathlib import Path

here = Path.cwd()
value, fail = os.environ.get("VALUE", "one"), os.environ.get("FAIL", "")


def command(text):
    return [{"local-exec": {"command": text}}]


def reads(name):
    return {"terraform_remote_state": {name: {"backend": "local", "config": {"path": f"{here}/terraform.{name}.tfstate"}}}}


stacks = {
    # Replaced where VALUE changes; what it makes then writes a file that another stack looks at.
    "net": {
        "resource": {
            "terraform_data": {
                "net": {
                    "input": value,
                    "triggers_replace": value,
                    "provisioner": command(f"{'false' if fail == 'net' else f'cp {here}/next {here}/flag'}"),
                }
            }
        },
        "output": {"id": {"value": "${terraform_data.net.id}"}},
    },
    "web": {
        "data": reads("net"),
        "resource": {
            "terraform_data": {
                "web": {
                    "input": "${data.terraform_remote_state.net.outputs.id}",
                    "triggers_replace": '${file("' + f"{here}/flag" + '")}',
                }
            }
        },
    },
    "other": {"resource": {"terraform_data": {"other": {"input": value}}}},
}
out = Path(os.environ["CDKTF_OUTDIR"])
entries = {}
for name, document in stacks.items():
    folder = out / "stacks" / name
    folder.mkdir(parents=True, exist_ok=True)
    document["terraform"] = {"backend": {"local": {"path": f"{here}/terraform.{name}.tfstate"}}}
    (folder / "cdk.tf.json").write_text(json.dumps(document))
    entries[name] = {
        "name": name,
        "dependencies": ["net"] if name == "web" else [],
        "synthesizedStackPath": f"stacks/{name}/cdk.tf.json",
        "workingDirectory": f"stacks/{name}",
    }
(out / "manifest.json").write_text(json.dumps({"version": "0.21.0", "stacks": entries}))
"""


@pytest.fixture
def app(tmp_path: Path) -> AppFolder:
    (tmp_path / "app.py").write_text(textwrap.dedent(APP))
    (tmp_path / "cdktf.json").write_text(json.dumps({"language": "python", "app": f"{sys.executable} app.py"}))
    # Not sources: the stacks themselves write and read them.
    for name in ("flag", "next"):
        (tmp_path / name).write_text("a")
    return AppFolder(tmp_path)


def resource(app: AppFolder, stack: str) -> dict[str, Any]:
    state = json.loads((app.path / f"terraform.{stack}.tfstate").read_text())
    return dict(state["resources"][-1]["instances"][0]["attributes"])


def test_what_goes_beyond_the_confirmed_picture_stops_the_run(app: AppFolder) -> None:
    app.ok("up", "--yes")
    before = resource(app, "web")
    (app.path / "next").write_text("b")
    # At confirmation web is only changed; when net has been applied, the file that it looks at is another one.
    assert app.statuses(VALUE="two") == {"net": "changes", "web": "changes", "other": "changes"}
    stopped = app.run("up", "--yes", VALUE="two")
    assert stopped.code == 1
    assert "terraform_data.web: replace, confirmed was update" in stopped.err
    assert resource(app, "web") == before
    assert resource(app, "other")["input"]["value"] == "two"
    app.ok("up", "--yes", VALUE="two")
    assert resource(app, "web")["id"] != before["id"]
    assert set(app.statuses(VALUE="two").values()) == {"no changes"}


def saved_plan(app: AppFolder, **env: str) -> str:
    said = app.ok("plan", "--save", **env).out
    return said.split("labctl up --plan ")[1].split("`")[0]


def test_a_kept_plan_is_applied_as_it_is_once(app: AppFolder) -> None:
    run = saved_plan(app)
    done = app.ok("up", "--yes", "--plan", run)
    assert "net         applied (1 added)" in done.out
    again = app.run("up", "--yes", "--plan", run)
    assert again.code == 1
    for name in ("net", "web", "other"):
        assert f"{name}: its state has changed since (serial -1" in again.err
    assert not list((app.path / ".labctl").rglob("*.tfplan"))


def test_a_kept_plan_is_refused_by_name_where_it_is_stale(app: AppFolder) -> None:
    app.ok("up", "--yes")
    run = saved_plan(app, VALUE="two")
    changed = app.run("up", "--yes", "--plan", run, VALUE="three")
    assert changed.code == 1
    assert "net: its description has changed since" in changed.err
    assert "web" not in changed.err
    missing = app.run("up", "--yes", "--plan", "20000101")
    assert missing.code == 1
    assert "there is no saved plan '20000101'" in missing.err
    assert resource(app, "net")["input"]["value"] == "one"
    (app.path / "next").write_text("a")
    app.ok("up", "--yes", "--plan", run, VALUE="two")
    assert resource(app, "net")["input"]["value"] == "two"


def test_a_failed_stack_blocks_what_needs_it_and_the_run_is_gone_on_with(app: AppFolder) -> None:
    failed = app.results("up", code=1, FAIL="net")
    assert failed == {"net": "failed", "web": "blocked", "other": "applied"}
    report = json.loads(app.ok("runs", "--json").out)["runs"][0]
    assert (report["result"], report["changed"]) == ("failed", ["other"])
    shown = app.ok("runs", report["id"]).out
    assert "blocked net failed" in " ".join(shown.split())
    assert app.results("resume") == {"net": "applied", "web": "applied", "other": "no changes"}
    over = app.run("resume", "--yes")
    assert over.code == 1
    assert "ended well" in over.err
    assert app.ok("graph").out.split() == ["other", "deployed", "web", "deployed", "└─", "net", "deployed"]


def test_resume_keeps_to_what_the_run_was_about(app: AppFolder) -> None:
    failed = app.run("up", "web", "--yes", FAIL="net")
    assert failed.code == 1
    assert app.results("resume") == {"net": "applied", "web": "applied"}
    assert not (app.path / "terraform.other.tfstate").exists()


def test_nothing_is_destroyed_before_what_depends_on_it(app: AppFolder) -> None:
    app.ok("up", "--yes")
    # The state of web is out of Terraform's reach: net, which web needs, must stay.
    state = app.path / "terraform.web.tfstate"
    content = state.read_text()
    document = json.loads(content)
    document["resources"][-1]["provider"] = 'provider["example.com/none/none"]'
    state.write_text(json.dumps(document))
    assert app.run("down", "--yes").code == 1
    assert resource(app, "net")
    state.write_text(content)
    assert app.results("down") == {"net": "destroyed", "web": "destroyed", "other": "destroyed"}
