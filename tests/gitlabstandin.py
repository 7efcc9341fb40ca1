"""A stand-in of GitLab as a process: its own folder, its own address."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import gitlab as python_gitlab
import requests

import labctl.sandbox.gitlab as standins
from tests.needs import needed

PACKAGE = Path(standins.__file__).parent
ADDRESS = "127.93.1.1"
ROOT_TOKEN = "glpat-AbCdEfGhIjKlMnOpQrSt"
SECRETS = {
    "root_password": "root-password-1234",
    "api_token": ROOT_TOKEN,
    "s3_access_key": "access",
    "s3_secret_key": "s3-secret-value",
}
SETTINGS = Path(__file__).parents[1] / "layers/gitlab/gitlab-settings.rb"


@dataclass
class Standin:
    """A guest's files below a folder, and the API of it as a process."""

    root: Path
    port: int
    boot_s: float = 0.0
    process: subprocess.Popen[bytes] | None = None
    systemctl: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://{ADDRESS}:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        return {
            "PATH": f"{self.root}/bin:{os.environ['PATH']}:/usr/sbin:/sbin",
            "STANDIN_ROOT": str(self.root),
            "STANDIN_BOOT_S": str(self.boot_s),
            "PYTHONPATH": str(self.root / "opt/gitlab/standin"),
            "LC_ALL": "C.UTF-8",
        }

    def run(self, module: str, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        code = f"import sys; from standin.{module} import main; sys.exit(main(sys.argv[1:]))"
        argv = [sys.executable, "-c", code, *arguments]
        return subprocess.run(argv, env=self.environment | variables, capture_output=True, text=True, timeout=60, check=False)

    def write(self, path: str, text: str) -> Path:
        file = self.root / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    def read(self, path: str) -> str:
        return (self.root / path.lstrip("/")).read_text()

    def calls(self) -> list[str]:
        log = self.root / "systemctl"
        return log.read_text().splitlines() if log.exists() else []

    def start(self, address: str = ADDRESS) -> None:
        code = "import sys; from standin.server import main; sys.exit(main(sys.argv[1:]))"
        argv = [sys.executable, "-c", code, address, str(self.port)]
        with (self.root / "api.log").open("ab") as log:
            self.process = subprocess.Popen(argv, env=self.environment, stdout=log, stderr=log)
        end = time.monotonic() + 20
        while True:
            try:
                socket.create_connection((address, self.port), timeout=1).close()
                return
            except OSError:
                assert self.process.poll() is None, self.read("api.log")
                assert time.monotonic() < end, self.read("api.log")
                time.sleep(0.05)

    def stop(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
            self.process = None

    def client(self, token: str = ROOT_TOKEN) -> python_gitlab.Gitlab:
        session = requests.Session()
        session.trust_env = False
        return python_gitlab.Gitlab(self.url, private_token=token, session=session, keep_base_url=True)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((ADDRESS, 0))
        return int(probe.getsockname()[1])


GITLAB_RB = """\
require 'json'
secrets = JSON.parse(File.read('{secrets}'))
external_url 'http://{address}:{port}'
gitlab_rails['initial_root_password'] = secrets.fetch('root_password')
puma['worker_processes'] = 0
registry_external_url 'http://{address}:5050'
registry['database'] = {{ 'enabled' => true }}
registry['storage'] = {{
  's3_v2' => {{
    'bucket' => 'gitlab', 'region' => 'eu-west-1', 'regionendpoint' => 'https://store.example.com:9000',
    'accesskey' => secrets.fetch('s3_access_key'), 'secretkey' => secrets.fetch('s3_secret_key'),
    'pathstyle' => true, 'checksum_disabled' => true
  }},
  'redirect' => {{ 'disable' => true }}
}}
"""


def prepared(root: Path) -> Standin:
    """The files of the package below a folder, gitlab.rb and delivered secrets; nothing configured."""
    needed("ruby", "ruby")
    needed("openssl", "openssl")
    standin = Standin(root, free_port())
    library = root / "opt/gitlab/standin"
    shutil.copytree(PACKAGE / "standin", library / "standin", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("check.rb", "rails.rb"):
        shutil.copy(PACKAGE / "packages/gitlab-ce" / name, library / name)
    standin.write("bin/systemctl", f'#!/bin/sh\necho "$*" >> {root}/systemctl\n').chmod(0o755)
    secrets = standin.write("/run/lab/gitlab.json", json.dumps(SECRETS))
    standin.write("/etc/gitlab/gitlab.rb", GITLAB_RB.format(secrets=secrets, address=ADDRESS, port=standin.port))
    standin.write("/usr/local/lib/lab/gitlab-settings.rb", SETTINGS.read_text().replace("$secrets_file", f"'{secrets}'"))
    return standin


def configured(root: Path) -> Standin:
    """As the guest's unit leaves it: reconfigured, running, settings made."""
    standin = prepared(root)
    done = standin.run("ctl", "reconfigure")
    assert done.returncode == 0, done.stderr
    standin.start()
    done = standin.run("rails", "runner", str(root / "usr/local/lib/lab/gitlab-settings.rb"))
    assert done.returncode == 0, done.stderr
    return standin
