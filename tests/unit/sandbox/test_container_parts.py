"""The container runtime's parts that need no engine: seed, name server, image builds, the agent's client against a bad agent."""

from __future__ import annotations

import asyncio
import json
import os
import stat
import struct
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labctl.model.errors import AdapterError, UserError
from labctl.sandbox.guests import image, qga
from labctl.sandbox.guests.dns import local_answer, upstreams
from labctl.sandbox.guests.engine import Engine, EngineGone, Machine, binds_of, label_of
from labctl.sandbox.guests.image import ensure_image
from labctl.sandbox.guests.qga import NOT_RUNNING, Agent
from labctl.sandbox.guests.recipe import image_name
from labctl.sandbox.guests.runtime import AgentError, GuestSpec
from labctl.sandbox.guests.seed import SEED, write_seed

SPEC = GuestSpec(
    102, "vault", "vault", "198.18.86.102", 24, "bc:24:11:00:00:01", "vault.lab.example", 512, 1, "#cloud-config\n{}\n", "id1"
)


# ------------------------------------------------------------ what a guest is born with


def test_the_seed_is_private_and_a_later_boot_keeps_the_hosts_file(tmp_path: Path) -> None:
    mounts = write_seed(tmp_path, SPEC, "198.18.86.1")
    seed = Path(mounts[f"{SEED}:ro"])
    assert (seed / "user-data").read_text() == SPEC.user_data
    assert (seed / "meta-data").read_text() == "instance-id: id1\n"
    assert stat.S_IMODE((seed / "user-data").stat().st_mode) == 0o600
    hosts = Path(mounts["/etc/hosts"])
    assert stat.S_IMODE(hosts.stat().st_mode) == 0o644
    assert Path(mounts["/etc/resolv.conf"]).read_text() == "nameserver 198.18.86.1\nsearch lab.example\n"
    hosts.write_text("127.0.0.1 localhost\n198.18.86.101 store\n")
    before = hosts.stat().st_ino
    again = write_seed(tmp_path, SPEC, "")
    assert "store" in hosts.read_text()
    assert hosts.stat().st_ino == before, "a mounted file is never replaced"
    assert "/etc/resolv.conf" not in again


def test_what_belongs_to_a_sandbox_is_named_after_its_folder(tmp_path: Path) -> None:
    assert label_of(tmp_path) == label_of(tmp_path / "x" / "..")
    assert label_of(tmp_path) != label_of(tmp_path / "x")
    machine = Machine("n", "i", "h", {}, "net", "a", "m", (), 1, 1, {"/a:ro": "/here"}, {"/data": "volume"})
    assert binds_of(machine) == ["/here:/a:ro", "volume:/data"]


# ------------------------------------------------------------ names


def question(name: str, kind: int = 1, number: int = 77) -> bytes:
    labels = b"".join(bytes([len(part)]) + part.encode() for part in name.split("."))
    return struct.pack(">HHHHHH", number, 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack(">HH", kind, 1)


def names(name: str) -> str:
    return {"vault.lab.example": "198.18.86.102"}.get(name, "")


def test_a_name_of_the_lab_is_answered_in_any_case() -> None:
    asked = question("Vault.LAB.example")
    answer = local_answer(asked, names)
    assert answer
    assert struct.unpack(">HHHHHH", answer[:12]) == (77, 0x8580, 1, 1, 0, 0)
    assert answer[12 : len(asked)] == asked[12:]
    assert answer.endswith(bytes([198, 18, 86, 102]))


def test_it_has_no_address_of_another_kind_and_knows_no_other_names() -> None:
    answer = local_answer(question("vault.lab.example", kind=28), names)
    assert answer
    assert struct.unpack(">HHHHHH", answer[:12])[3] == 0
    assert local_answer(question("deb.debian.org"), names) is None


@given(st.binary(max_size=80))
def test_no_question_breaks_it(data: bytes) -> None:
    assert local_answer(data, lambda _name: "") is None


def test_upstreams_are_those_of_the_machine() -> None:
    assert upstreams("# x\nsearch a\nnameserver 192.0.2.1\nnameserver fe80::1%eth0\nnameserver\n") == ["192.0.2.1", "fe80::1"]
    assert upstreams("") == []


# ------------------------------------------------------------ the base image


class FakeEngine:
    """Has images, and says what it was asked."""

    def __init__(self) -> None:
        self.names: list[str] = ["labctl-guest:old"]
        self.imported: list[bytes] = []

    def has_image(self, name: str) -> bool:
        return name in self.names

    def images(self, _repository: str) -> list[str]:
        return list(self.names)

    def remove_image(self, name: str) -> None:
        self.names.remove(name)

    def import_image(self, archive: Path, name: str, _changes: Sequence[str]) -> None:
        self.imported.append(archive.read_bytes())
        self.names.append(name)


@pytest.fixture
def mmdebstrap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A builder whose last argument is the file that it writes; `FAIL` beside it makes it stop in the middle."""
    folder = tmp_path / "bin"
    folder.mkdir()
    script = folder / "mmdebstrap"
    script.write_text(
        '#!/bin/sh\nfor last; do :; done\necho "I: extracting archives..." >&2\nprintf root > "$last"\n'
        f'[ ! -e {folder}/FAIL ] || {{ echo "E: no space left" >&2; exit 25; }}\nsleep 0.2\n'
    )
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setattr(image, "cannot_build", lambda: "")
    monkeypatch.setattr(image, "cache_folder", lambda: tmp_path)
    return folder


def test_the_image_is_built_once_and_an_old_one_goes(mmdebstrap: Path) -> None:
    engine, said = FakeEngine(), []
    assert ensure_image(engine, said.append) == image_name()  # type: ignore[arg-type]
    assert ensure_image(engine, said.append) == image_name()  # type: ignore[arg-type]
    assert (engine.imported, engine.names) == ([b"root"], [image_name()])
    assert "mmdebstrap: extracting archives..." in said


def test_two_do_not_build_at_once(mmdebstrap: Path) -> None:
    engine, said = FakeEngine(), []
    threads = [threading.Thread(target=ensure_image, args=(engine, said.append)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(engine.imported) == 1
    assert "waiting for another labctl that builds the guests' base image" in said


def test_a_half_built_image_is_never_used(mmdebstrap: Path, tmp_path: Path) -> None:
    engine = FakeEngine()
    (mmdebstrap / "FAIL").touch()
    with pytest.raises(AdapterError, match="mmdebstrap ended with 25") as caught:
        ensure_image(engine, lambda _text: None)  # type: ignore[arg-type]
    assert "no space left" in caught.value.hint
    assert engine.imported == []
    assert not list(tmp_path.glob("labctl-image-*")), "nothing is left on the disk"
    (mmdebstrap / "FAIL").unlink()
    assert ensure_image(engine, lambda _text: None) == image_name()  # type: ignore[arg-type]


def test_without_mmdebstrap_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image, "cannot_build", lambda: "mmdebstrap is not installed")
    with pytest.raises(UserError, match="mmdebstrap is not installed") as caught:
        ensure_image(FakeEngine(), lambda _text: None)  # type: ignore[arg-type]
    assert "apt-get install mmdebstrap" in caught.value.hint


# ------------------------------------------------------------ an agent that is not as it should be


async def asked(behave: Any, folder: Path, command: str = "ping") -> object:
    """What the client makes of an agent that behaves in this way."""
    path = folder / "agent.sock"
    server = await asyncio.start_unix_server(behave, path)
    async with server:
        try:
            return await Agent(path).answer(command, {})
        finally:
            server.close()


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()
    writer.close()


async def out_of_step(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Still has an answer for somebody who is gone; then it refuses a command that it does not have."""
    writer.write(b'{"return": {"pid": 7}}\n\xff{"return": 1}\n')
    sync = json.loads((await reader.readline()).lstrip(b"\xff"))
    writer.write(b'\xff{"return": %d}\n' % sync["arguments"]["id"])
    command = json.loads(await reader.readline())["execute"]
    writer.write(json.dumps({"error": {"class": "CommandNotFound", "desc": f"no {command}"}}).encode() + b"\n")
    await reader.read()
    writer.close()


async def dies(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    sync = json.loads((await reader.readline()).lstrip(b"\xff"))
    writer.write(b'\xff{"return": %d}\n' % sync["arguments"]["id"])
    await reader.readline()
    writer.close()


async def truths(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    sync = json.loads((await reader.readline()).lstrip(b"\xff"))
    writer.write(b'\xff{"return": %d}\n' % sync["arguments"]["id"])
    await reader.readline()
    writer.write(b'{"return": [{"online": true, "id": 0}]}\n')
    await reader.read()
    writer.close()


@pytest.mark.parametrize(("behave", "said"), [(silent, NOT_RUNNING), (dies, NOT_RUNNING), (out_of_step, "no guest-ping")])
def test_an_agent_that_hangs_or_refuses(behave: Any, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(qga, "SYNC_TIMEOUT_S", 0.3)
    monkeypatch.setattr(qga, "CALL_TIMEOUT_S", 0.3)
    with pytest.raises(AgentError, match=said):
        asyncio.run(asked(behave, tmp_path))


def test_truth_values_are_numbers_as_in_pve(tmp_path: Path) -> None:
    assert json.dumps(asyncio.run(asked(truths, tmp_path, "get-vcpus"))) == '[{"online": 1, "id": 0}]'


def test_no_agent_and_no_such_command(tmp_path: Path) -> None:
    with pytest.raises(AgentError, match=NOT_RUNNING):
        asyncio.run(Agent(tmp_path / "none.sock").answer("ping", {}))
    with pytest.raises(AgentError, match="guest-set-user-password has not been found"):
        asyncio.run(Agent(tmp_path / "none.sock").answer("set-user-password", {}))


def test_an_engine_that_is_gone_says_how_to_start_it(tmp_path: Path) -> None:
    with pytest.raises(EngineGone, match=f"does not answer on {tmp_path}/none.sock") as caught:
        Engine(f"{tmp_path}/none.sock").version()
    assert "systemctl start docker" in caught.value.hint
