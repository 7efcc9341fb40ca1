"""The script that registers the runner, run by bash against a stand-in of gitlab-runner."""

from __future__ import annotations

import re
import subprocess
import time
import tomllib
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

if TYPE_CHECKING:
    from conftest import Guest

TOKEN = "glrt-t1_AbCdEfGhIjKlMnOp"

GITLAB_RUNNER = r"""#!/usr/bin/env python3
import json, os, pathlib, re, sys
root = pathlib.Path(os.environ["FAKE"])
config = root / "etc/gitlab-runner/config.toml"
argv = sys.argv[1:]
with open(root / "calls", "a") as log:
    print(json.dumps({"argv": argv, "token": os.environ.get("CI_SERVER_TOKEN")}), file=log)
failing = (root / "failing").read_text().split() if (root / "failing").exists() else []
if argv[0] in failing:
    sys.exit(f"FATAL: {argv[0]} failed")
value = lambda flag: argv[argv.index(flag) + 1]
drop = lambda text, name: "".join(
    block for block in re.split(r"(?m)^(?=\[\[runners\]\])", text) if f'name = "{name}"' not in block)
fresh = 'concurrent = 1\ncheck_interval = 0\n\n[session_server]\n  session_timeout = 1800\n\n'
text = config.read_text() if config.exists() else fresh
if argv[0] == "register":
    hosts = [argv[n + 1] for n, word in enumerate(argv) if word == "--docker-extra-hosts"]
    text += (f'[[runners]]\n  name = "{value("--name")}"\n  url = "{value("--url")}"\n'
             f'  token = "{os.environ["CI_SERVER_TOKEN"]}"\n'
             f'  executor = "{value("--executor")}"\n  [runners.docker]\n    image = "{value("--docker-image")}"\n'
             f'    extra_hosts = {json.dumps(hosts)}\n')
elif argv[0] in ("unregister", "verify"):
    text = drop(text, value("--name"))
config.parent.mkdir(parents=True, exist_ok=True)
config.write_text(text)
"""


class TestRegisterRunner:
    SETTINGS: ClassVar[dict[str, str]] = {
        "LAB_RUNNER_URL": "http://gitlab.example.com",
        "LAB_RUNNER_NAME": "gitlab",
        "LAB_RUNNER_IMAGE": "ubuntu:latest",
        "LAB_RUNNER_CONCURRENT": "4",
        "LAB_RUNNER_EXTRA_HOSTS": "gitlab.example.com:192.0.2.21 store.example.com:192.0.2.11",
    }

    @pytest.fixture(autouse=True)
    def _stand_ins(self, guest: Guest) -> None:
        guest.fake("gitlab-runner", GITLAB_RUNNER)
        guest.fake("systemctl", 'echo "$*" >> "$FAKE/systemctl"')
        guest.write("/run/lab/runner.token", TOKEN + "\n")

    def register(self, guest: Guest, **changed: str) -> subprocess.CompletedProcess[str]:
        return guest.run("register-runner", **(self.SETTINGS | changed))

    def config(self, guest: Guest) -> dict[str, Any]:
        return tomllib.loads(guest.read("/etc/gitlab-runner/config.toml"))

    def test_a_fresh_runner_runs_several_jobs_at_once(self, guest: Guest) -> None:
        done = self.register(guest)
        assert done.returncode == 0, done.stderr
        config = self.config(guest)
        assert config["concurrent"] == 4
        assert [r["token"] for r in config["runners"]] == [TOKEN]
        assert config["runners"][0]["executor"] == "docker"
        assert config["runners"][0]["docker"]["image"] == "ubuntu:latest"
        assert config["runners"][0]["docker"]["extra_hosts"] == ["gitlab.example.com:192.0.2.21", "store.example.com:192.0.2.11"]
        assert self.restarts(guest) == 1
        assert (guest.root / "etc/gitlab-runner/config.toml").stat().st_mode & 0o077 == 0

    def restarts(self, guest: Guest) -> int:
        return guest.read("systemctl").splitlines().count("restart gitlab-runner.service")

    def test_the_token_is_no_argument(self, guest: Guest) -> None:
        self.register(guest)
        (call,) = guest.calls()
        assert call["token"] == TOKEN
        assert TOKEN not in str(call["argv"])

    def test_a_second_run_changes_nothing(self, guest: Guest) -> None:
        self.register(guest)
        before = guest.read("/etc/gitlab-runner/config.toml")
        assert self.register(guest).returncode == 0
        assert guest.read("/etc/gitlab-runner/config.toml") == before
        assert len(guest.calls()) == 1
        assert self.restarts(guest) == 1

    def test_a_runner_that_is_off_is_started(self, guest: Guest) -> None:
        self.register(guest)
        guest.fake("systemctl", 'echo "$*" >> "$FAKE/systemctl"; test "$1" != is-active')
        assert self.register(guest).returncode == 0
        assert self.restarts(guest) == 2

    def test_a_restart_that_was_cut_off_is_made_up_for(self, guest: Guest) -> None:
        guest.fake("systemctl", 'echo "$*" >> "$FAKE/systemctl"; test "$1" != restart')
        assert self.register(guest).returncode != 0
        guest.fake("systemctl", 'echo "$*" >> "$FAKE/systemctl"')
        assert self.register(guest).returncode == 0
        assert self.restarts(guest) == 2
        assert self.register(guest, LAB_RUNNER_CONCURRENT="6").returncode == 0
        assert self.restarts(guest) == 3

    @pytest.mark.parametrize(
        "head",
        [
            "concurrent = 1\n",
            "concurrent=10\ncheck_interval = 0\n",
            "check_interval = 3\n",
            "",
            "# concurrent = 2\n  concurrent = 1 # one\n",
            "concurrent = 4\n",
        ],
    )
    @pytest.mark.parametrize(
        "table", ["[session_server]\n  session_timeout = 1800\n", '[[runners]]\n  name = "mine"\n  limit = 2\n', ""]
    )
    def test_a_config_that_is_there_already(self, guest: Guest, head: str, table: str) -> None:
        guest.write("/etc/gitlab-runner/config.toml", head + table)
        assert self.register(guest).returncode == 0
        config = self.config(guest)
        assert config["concurrent"] == 4
        assert config["runners"][-1]["token"] == TOKEN
        assert ("mine" in [r["name"] for r in config["runners"]]) == ("mine" in table)
        assert len(re.findall(r"^\s*concurrent", guest.read("/etc/gitlab-runner/config.toml"), re.MULTILINE)) == 1

    @pytest.mark.parametrize("failing", ["", "unregister"])
    def test_a_new_token_takes_the_place_of_the_old_one(self, guest: Guest, failing: str) -> None:
        self.register(guest)
        guest.write("failing", failing)
        guest.write("/run/lab/runner.token", "glrt-another1234567")
        assert self.register(guest, LAB_RUNNER_CONCURRENT="6").returncode == 0
        config = self.config(guest)
        assert [r["token"] for r in config["runners"]] == ["glrt-another1234567"]
        assert config["concurrent"] == 6

    def test_a_registration_that_was_cut_off_before_the_setting_is_finished(self, guest: Guest) -> None:
        guest.write("/etc/gitlab-runner/config.toml", f'concurrent = 1\n[[runners]]\n  name = "gitlab"\n  token = "{TOKEN}"\n')
        assert self.register(guest).returncode == 0
        assert self.config(guest)["concurrent"] == 4
        assert guest.calls() == []

    def test_a_refused_registration_fails_and_restarts_nothing(self, guest: Guest) -> None:
        guest.write("failing", "register")
        assert self.register(guest).returncode != 0
        assert not (guest.root / "systemctl").exists()

    def test_a_token_that_is_still_being_written_is_waited_for(self, guest: Guest) -> None:
        file = guest.write("/run/lab/runner.token", "")
        command, environment = guest.command("register-runner", **self.SETTINGS)
        process = subprocess.Popen(command, env=environment)
        time.sleep(0.3)
        assert guest.calls() == []
        file.write_text(TOKEN)
        assert process.wait(timeout=30) == 0
        assert self.config(guest)["runners"][0]["token"] == TOKEN

    def test_an_empty_token_is_given_up_with_a_sentence(self, guest: Guest) -> None:
        guest.fake("sleep", "true")
        guest.write("/run/lab/runner.token", "")
        done = self.register(guest)
        assert done.returncode == 1
        assert "runner.token is empty" in done.stderr
