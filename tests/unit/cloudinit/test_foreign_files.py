"""Files in other languages, read by the programs that they are for."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from labctl.cloudinit import GITLAB_SECRETS_FILE, GITLAB_SECRETS_KEYS
from tests.needs import needed

# What Omnibus does with the file, in short: settings are hashes, URLs are methods, everything else is an error.
EVALUATE = """
require 'json'
class Settings
  URLS = %i[external_url registry_external_url]
  HASHES = %i[gitlab_rails letsencrypt puma sidekiq prometheus_monitoring registry]
  attr_reader :found
  def initialize = @found = {}
  URLS.each { |name| define_method(name) { |value| @found[name] = value } }
  HASHES.each { |name| define_method(name) { @found[name] ||= {} } }
end
settings = Settings.new
settings.instance_eval(File.read(ARGV[0]), ARGV[0])
puts JSON.generate(settings.found)
"""


def _files(text: str) -> dict[str, str]:
    return {file["path"]: file["content"] for file in yaml.safe_load(text)["write_files"]}


@pytest.fixture
def evaluate(tmp_path: Path, documents: dict[str, str]) -> Callable[..., subprocess.CompletedProcess[str]]:
    def run(name: str, secrets: dict[str, str] | None) -> subprocess.CompletedProcess[str]:
        delivered = tmp_path / "gitlab.json"
        if secrets is not None:
            delivered.write_text(json.dumps(secrets))
        config = tmp_path / "gitlab.rb"
        config.write_text(_files(documents[name])["/etc/gitlab/gitlab.rb"].replace(GITLAB_SECRETS_FILE, str(delivered)))
        ruby = needed("ruby", "ruby")
        checked = subprocess.run([ruby, "-wc", str(config)], capture_output=True, text=True, check=False)
        assert (checked.stdout, checked.stderr) == ("Syntax OK\n", "")
        return subprocess.run([ruby, "-e", EVALUATE, str(config)], capture_output=True, text=True, check=False)

    return run


SECRETS = {"api_token": "glpat-x", "root_password": "it's #{1}", "s3_access_key": "key", "s3_secret_key": 'se"cret'}


def test_gitlab_rb(evaluate: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    done = evaluate("gitlab", SECRETS)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    assert found["external_url"] == "http://gitlab.lab.internal"
    assert found["registry_external_url"] == "http://gitlab.lab.internal:5050"
    assert found["registry"] == {
        "database": {"enabled": True},
        "storage": {
            "s3_v2": {
                "bucket": "gitlab",
                "region": "eu-west-1",
                "regionendpoint": "https://store.lab.internal:9000",
                "accesskey": "key",
                "secretkey": 'se"cret',
                "pathstyle": True,
                "checksum_disabled": True,
            },
            "redirect": {"disable": True},
        },
    }
    assert found["gitlab_rails"]["initial_root_password"] == "it's #{1}"
    assert found["gitlab_rails"]["store_initial_root_password"] is False
    assert found["gitlab_rails"]["usage_ping_enabled"] is False
    assert found["puma"] == {"worker_processes": 0}
    assert found["sidekiq"] == {"concurrency": 10}
    assert found["prometheus_monitoring"] == {"enable": False}


def test_gitlab_rb_without_secrets_says_who_brings_them(evaluate: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    done = evaluate("gitlab", None)
    assert done.returncode != 0
    assert "labctl delivers it" in done.stderr


@pytest.mark.parametrize("missing", [key for key in GITLAB_SECRETS_KEYS if key != "api_token"])
def test_gitlab_rb_needs_every_agreed_key(missing: str, evaluate: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    done = evaluate("gitlab", {key: value for key, value in SECRETS.items() if key != missing})
    assert done.returncode != 0
    assert missing in done.stderr


def test_the_harness_refuses_an_unknown_setting(tmp_path: Path) -> None:
    config = tmp_path / "gitlab.rb"
    config.write_text("registrry['database'] = {}\n")
    assert subprocess.run([needed("ruby", "ruby"), "-e", EVALUATE, str(config)], capture_output=True, check=False).returncode


def test_gitlab_settings_are_ruby(documents: dict[str, str]) -> None:
    text = _files(documents["gitlab"])["/usr/local/lib/lab/gitlab-settings.rb"]
    subprocess.run([needed("ruby", "ruby"), "-wc"], input=text, text=True, check=True, capture_output=True)


@pytest.fixture
def system_root(tmp_path: Path) -> Callable[[dict[str, str]], Path]:
    """A folder that looks like a guest's root to systemd-analyze."""

    def build(files: dict[str, str]) -> Path:
        root = tmp_path / "root"
        shutil.copytree("/usr/lib/systemd/system", root / "usr/lib/systemd/system", symlinks=True)
        for path, text in files.items():
            target = root / path.lstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text)
        programs = {p for text in files.values() for p in re.findall(r"^Exec\w+=[+-]?(/\S+)", text, re.MULTILINE)}
        for program in programs | {"/usr/sbin/init"}:
            target = root / program.lstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            if not target.exists():
                target.write_text("#!/bin/sh\n")
            target.chmod(0o755)
        for other in ("docker", "gitlab-runner"):
            (root / f"usr/lib/systemd/system/{other}.service").write_text("[Service]\nExecStart=/usr/sbin/init\n")
        return root

    return build


def _verify(root: Path, units: list[str]) -> str:
    done = subprocess.run(
        [needed("systemd-analyze", "systemd"), "verify", f"--root={root}", "--man=no", *units],
        capture_output=True,
        text=True,
        check=False,
    )
    names = {Path(unit).name for unit in units}
    return "\n".join(line for line in (done.stdout + done.stderr).splitlines() if any(name in line for name in names))


@pytest.mark.parametrize("name", ["vault", "store", "gitlab", "docker"])
def test_systemd_reads_the_units(
    name: str,
    documents: dict[str, str],
    system_root: Callable[[dict[str, str]], Path],
) -> None:
    needed("systemd-analyze", "systemd")
    units = {path: text for path, text in _files(documents[name]).items() if path.startswith("/etc/systemd/system/")}
    assert units
    assert _verify(system_root(units), list(units)) == ""


def test_a_unit_with_a_slip_is_noticed(system_root: Callable[[dict[str, str]], Path]) -> None:
    needed("systemd-analyze", "systemd")
    path = "/etc/systemd/system/slip.service"
    assert _verify(system_root({path: "[Service]\nExecStrat=/usr/bin/true\nExecStart=/usr/bin/true\n"}), [path])


def test_sudo_takes_the_operators_line(documents: dict[str, str], tmp_path: Path) -> None:
    ops = yaml.safe_load(documents["vault"])["users"][0]
    file = tmp_path / "sudoers"
    file.write_text(f"{ops['name']} {ops['sudo']}\n")
    file.chmod(0o440)
    subprocess.run([needed("visudo", "sudo"), "--check", "--strict", "--file", str(file)], check=True, capture_output=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="logrotate changes owners: run as root, as in a guest")
def test_logrotate_rotates_the_audit_log_and_tells_openbao(documents: dict[str, str], tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.mkdir(mode=0o700)
    (log / "audit.log").write_text("entry\n")
    told = tmp_path / "told"
    systemctl = tmp_path / "systemctl"
    systemctl.write_text(f'#!/bin/sh\necho "$*" >> {told}\n')
    systemctl.chmod(0o755)
    text = _files(documents["vault"])["/etc/logrotate.d/openbao"]
    for old, new in {"/var/log/openbao": str(log), "openbao openbao": "root root", "/usr/bin/systemctl": str(systemctl)}.items():
        text = text.replace(old, new)
    config = tmp_path / "openbao.logrotate"
    config.write_text(text)
    config.chmod(0o644)
    command = [needed("logrotate", "logrotate"), "--force", "--state", str(tmp_path / "state"), str(config)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert (log / "audit.log.1").read_text() == "entry\n"
    assert (log / "audit.log").read_text() == ""
    assert (log / "audit.log").stat().st_mode & 0o777 == 0o600
    assert told.read_text() == "kill --kill-whom=main --signal=HUP openbao.service\n"
