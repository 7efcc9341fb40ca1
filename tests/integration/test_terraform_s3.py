"""The S3 state backend with its lock, against a real SeaweedFS: what goes wrong and what is said about it."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

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
from tests.seaweed import KEY, SECRET, Store, running_store

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with running_store(tmp_path_factory.mktemp("store")) as found:
        yield found


Make = Callable[..., Terraform]
CREDENTIALS = {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": Secret(SECRET)}


@pytest.fixture
def make(tmp_path: Path) -> Make:
    def stack(
        endpoint: str, *, bucket: str = "terraform", env: dict[str, Any] | None = None, name: str = "platform"
    ) -> Terraform:
        work_dir = tmp_path / name
        work_dir.mkdir()
        backend = Store(endpoint).backend(f"state/{tmp_path.name}/terraform.tfstate", bucket)
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
