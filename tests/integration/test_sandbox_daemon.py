"""The sandbox as its users meet it: the daemon, proxmoxer, SFTP, a real OpenBao and a real SeaweedFS behind its guests."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncssh
import boto3
import pytest
import requests
from botocore.config import Config
from botocore.exceptions import ClientError
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from proxmoxer import ProxmoxAPI
from proxmoxer.core import ResourceException

from labctl.model.errors import AdapterError, UserError
from labctl.model.guestfiles import STORE, VAULT, VAULT_RESET_UNIT, GuestRole
from labctl.sandbox import SandboxConfig, SandboxInfo, control, reset, start, status, stop, wait_ready
from labctl.sandbox.guests.runtime_folder import runtime_folder
from labctl.sandbox.pids import start_time
from tests.processes import command_lines

pytestmark = [pytest.mark.integration, pytest.mark.xdist_group("sandbox-daemon")]

CONFIG = SandboxConfig(address="127.86.77.1", network="127.86.77.0/24")
VAULT_VMID, STORE_VMID, PLAIN_VMID = 102, 101, 202
S3_SECRET = "integration-s3-secret-value"


class Authority:
    """A certificate authority for the guests."""

    def __init__(self, folder: Path) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test authority")])
        built = self._builder(name, name, self.key.public_key())
        self.certificate = built.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True).sign(
            self.key, hashes.SHA256()
        )
        self.file = folder / "authority.crt"
        self.file.write_bytes(self.certificate.public_bytes(serialization.Encoding.PEM))

    def _builder(self, subject: x509.Name, issuer: x509.Name, public: Any) -> x509.CertificateBuilder:
        now = dt.datetime.now(dt.UTC)
        end = now + dt.timedelta(days=2)
        return x509.CertificateBuilder(issuer, subject, public, x509.random_serial_number(), now - dt.timedelta(hours=1), end)

    def sign(self, request: str) -> str:
        csr = x509.load_pem_x509_csr(request.encode())
        names = csr.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        built = self._builder(csr.subject, self.certificate.subject, csr.public_key()).add_extension(names, critical=False)
        return built.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


@dataclass
class Lab:
    """A running sandbox and the means to use it."""

    home: Path
    info: SandboxInfo
    authority: Authority

    def __post_init__(self) -> None:
        user, _, name = self.info.token_id.partition("!")
        self.api = ProxmoxAPI(
            CONFIG.address,
            port=CONFIG.api_port,
            user=user,
            token_name=name,
            token_value=self.info.token.reveal(),
            verify_ssl=str(self.info.ca_file),
        )
        self.api._store["session"].trust_env = False
        self.node = self.api.nodes(CONFIG.node)

    def task(self, upid: str, expected: str = "OK") -> None:
        until(lambda: self.node.tasks(upid).status.get()["status"] == "stopped")
        assert self.node.tasks(upid).status.get()["exitstatus"] == expected

    def create(self, vmid: int, name: str, **more: Any) -> None:
        fields = {
            "vmid": vmid,
            "name": name,
            "agent": "enabled=1",
            "net0": "virtio,bridge=vmbr0",
            "ipconfig0": f"ip=127.86.77.{vmid}/24",
            "searchdomain": "example.com",
            "onboot": 1,
            **more,
        }
        self.task(self.node.qemu.post(**fields))
        self.task(self.node.qemu(vmid).status.start.post())

    def power(self, vmid: int, action: str) -> None:
        self.task(self.node.qemu(vmid).status(action).post())

    def read(self, vmid: int, path: str) -> str:
        return str(self.node.qemu(vmid).agent("file-read").get(file=path)["content"])

    def write(self, vmid: int, path: str, content: str) -> None:
        self.node.qemu(vmid).agent("file-write").post(file=path, content=content)

    def run(self, vmid: int, *command: str) -> dict[str, Any]:
        pid = self.node.qemu(vmid).agent("exec").post(command=list(command))["pid"]
        answers: list[dict[str, Any]] = []

        def ended() -> bool:
            answers.append(self.node.qemu(vmid).agent("exec-status").get(pid=pid))
            return bool(answers[-1]["exited"])

        until(ended)
        return answers[-1]

    def certify(self, vmid: int, role: GuestRole) -> None:
        self.write(vmid, role.cert, self.authority.sign(self.read(vmid, role.csr)))

    def deliver_s3(self) -> None:
        identity = {
            "name": "root",
            "credentials": [{"accessKey": "ROOT", "secretKey": S3_SECRET}],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        }
        assert self.run(STORE_VMID, "install", "-m", "0600", "/dev/null", STORE.credentials)["exitcode"] == 0
        self.write(STORE_VMID, STORE.credentials, json.dumps({"identities": [identity]}))
        assert self.run(STORE_VMID, "systemctl", "restart", STORE.unit)["exitcode"] == 0

    def vault(self, method: str, path: str, **body: Any) -> Any:
        with requests.Session() as session:
            session.trust_env = False
            url = f"https://127.86.77.{VAULT_VMID}:8200/v1/{path}"
            return session.request(method, url, json=body or None, verify=str(self.authority.file), timeout=30).json()

    def s3(self, secret: str = S3_SECRET) -> Any:
        return boto3.client(
            "s3",
            endpoint_url=f"https://127.86.77.{STORE_VMID}:9000",
            aws_access_key_id="ROOT",
            aws_secret_access_key=secret,
            region_name="eu-west-1",
            verify=str(self.authority.file),
            config=Config(s3={"addressing_style": "path"}, retries={"max_attempts": 0}, connect_timeout=2, read_timeout=10),
        )

    def services(self, vmid: int) -> dict[str, str]:
        found = status(self.home)
        assert found is not None
        return dict(next(guest for guest in found.guests if guest.vmid == vmid).services)


def until(condition: Callable[[], Any], timeout_s: float = 30.0) -> None:
    """Wait until a condition holds; an exception counts as not yet."""
    deadline = time.monotonic() + timeout_s
    problem: Exception | None = None
    while time.monotonic() < deadline:
        try:
            if condition():
                return
        except Exception as error:  # noqa: BLE001 - whatever a service says before it is up
            problem = error
        time.sleep(0.05)
    raise AssertionError(f"not within {timeout_s} s; last: {problem!r}")


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    home = tmp_path_factory.mktemp("sandbox") / "home"
    info = start(home, CONFIG)
    running = Lab(home, info, Authority(home.parent))
    yield running
    reset(home)


@pytest.fixture(scope="module")
def vault(lab: Lab) -> Lab:
    lab.create(VAULT_VMID, "vault", tags="labctl;role-vault")
    lab.certify(VAULT_VMID, VAULT)
    assert lab.run(VAULT_VMID, "systemctl", "restart", VAULT.unit)["exitcode"] == 0
    until(lambda: "initialized" in lab.vault("GET", "sys/init"))
    return lab


@pytest.fixture(scope="module")
def store(lab: Lab) -> Lab:
    lab.create(STORE_VMID, "store", tags="labctl;role-store")
    lab.certify(STORE_VMID, STORE)
    lab.deliver_s3()
    until(lambda: lab.s3().list_buckets())
    return lab


def test_start_again_is_the_same_sandbox_and_other_settings_are_refused(lab: Lab) -> None:
    again = start(lab.home, CONFIG)
    assert (again.pid, again.token, again.running) == (lab.info.pid, lab.info.token, True)
    with pytest.raises(UserError, match="other settings"):
        start(lab.home, SandboxConfig(address="127.86.77.2", network=CONFIG.network))


def test_a_second_sandbox_cannot_take_the_first_ones_port(lab: Lab, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        start(tmp_path / "second", CONFIG)
    assert f"{CONFIG.address}:{CONFIG.api_port}" in caught.value.message
    assert f"(process {lab.info.pid})" in caught.value.message


def test_the_certificate_is_verified_against_its_own_authority_only(lab: Lab) -> None:
    with requests.Session() as session:
        session.trust_env = False
        url = f"{lab.info.endpoint}/api2/json/version"
        with pytest.raises(requests.exceptions.SSLError):
            session.get(url, timeout=5)
        assert session.get(url, timeout=5, verify=str(lab.info.ca_file)).status_code == 401


def test_root_logs_in_with_its_password(lab: Lab) -> None:
    password = lab.info.root_password.reveal()
    api = ProxmoxAPI(CONFIG.address, port=CONFIG.api_port, user="root@pam", password=password, verify_ssl=str(lab.info.ca_file))
    assert api.version.get()["release"] == "9.0"


def test_sftp_takes_snippets_and_keeps_clients_in(lab: Lab) -> None:
    async def use() -> None:
        key = asyncssh.read_private_key(str(lab.info.ssh_private_key_file))
        host_key = asyncssh.import_public_key(lab.info.ssh_host_key)
        login = {
            "port": CONFIG.ssh_port,
            "username": "root",
            "known_hosts": ([host_key], [], []),
            "config": None,
            "agent_path": None,
        }
        async with asyncssh.connect(CONFIG.address, client_keys=[key], **login) as ssh:
            async with ssh.start_sftp_client() as sftp:
                async with sftp.open("/var/lib/vz/snippets/hello.yaml", "w") as file:
                    await file.write("#cloud-config\n{}\n")
                names = {str(entry) for entry in await sftp.listdir("/../../..")}
                assert "credentials.json" not in names
                with pytest.raises(asyncssh.SFTPError):
                    await sftp.symlink("/etc", "/var/lib/vz/snippets/out")
            with pytest.raises(asyncssh.Error):
                await ssh.run("id", check=True)
        with pytest.raises(asyncssh.PermissionDenied):
            await asyncssh.connect(CONFIG.address, password="guess", client_keys=[], **login)

    asyncio.run(use())
    (volume,) = [item for item in lab.node.storage("local").content.get() if item["content"] == "snippets"]
    assert (volume["volid"], volume["size"]) == ("local:snippets/hello.yaml", 17)


def test_a_guest_without_a_role_keeps_files_and_has_a_host_key(lab: Lab) -> None:
    lab.create(PLAIN_VMID, "docker", tags="role-docker")
    lab.write(PLAIN_VMID, "/etc/motd", "grüß")
    assert lab.read(PLAIN_VMID, "/etc/motd").encode("latin-1").decode() == "grüß"
    assert lab.read(PLAIN_VMID, "/etc/ssh/ssh_host_ed25519_key.pub").startswith("ssh-ed25519 ")
    interfaces = lab.node.qemu(PLAIN_VMID).agent("network-get-interfaces").get()["result"]
    assert interfaces[1]["ip-addresses"][0]["ip-address"] == f"127.86.77.{PLAIN_VMID}"
    with pytest.raises(ResourceException, match="Failed to execute child process"):
        lab.run(PLAIN_VMID, "sh", "-c", "id")
    with pytest.raises(ResourceException, match="failed to open file"):
        lab.read(PLAIN_VMID, "/../../credentials.json")


def test_a_vault_asks_for_a_certificate_and_serves_with_it(vault: Lab) -> None:
    csr = x509.load_pem_x509_csr(vault.read(VAULT_VMID, VAULT.csr).encode())
    names = csr.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert csr.is_signature_valid
    assert names.get_values_for_type(x509.DNSName) == ["vault", "vault.example.com"]
    assert [str(address) for address in names.get_values_for_type(x509.IPAddress)] == [f"127.86.77.{VAULT_VMID}"]
    assert vault.run(VAULT_VMID, "stat", "-c", "%a", "/etc/openbao/tls/server.key")["out-data"] == "600\n"
    assert vault.vault("GET", "sys/init") == {"initialized": False}
    assert vault.services(VAULT_VMID) == {VAULT.unit: "active"}


def test_a_vault_keeps_its_data_and_request_over_a_reboot_and_loses_them_by_the_reset_unit(vault: Lab) -> None:
    csr = vault.read(VAULT_VMID, VAULT.csr)
    keys = vault.vault("POST", "sys/init", secret_shares=1, secret_threshold=1)
    assert len(keys["keys"]) == 1
    vault.power(VAULT_VMID, "reboot")
    until(lambda: vault.vault("GET", "sys/seal-status")["initialized"] is True)
    assert vault.vault("GET", "sys/seal-status")["sealed"] is True
    assert vault.read(VAULT_VMID, VAULT.csr) == csr
    assert vault.vault("POST", "sys/unseal", key=keys["keys"][0])["sealed"] is False
    audit = vault.home / "guests" / str(VAULT_VMID) / "root/var/log/openbao/audit.log"
    until(lambda: audit.stat().st_size > 0)
    assert vault.run(VAULT_VMID, "systemctl", "start", VAULT_RESET_UNIT)["exitcode"] == 0
    until(lambda: vault.vault("GET", "sys/init") == {"initialized": False})


def test_a_reload_takes_a_new_certificate_without_a_restart(vault: Lab) -> None:
    def serial() -> int:
        import ssl

        pem = ssl.get_server_certificate((f"127.86.77.{VAULT_VMID}", 8200))
        return x509.load_pem_x509_certificate(pem.encode()).serial_number

    before = serial()
    children = (vault.home / "children.json").read_text()
    vault.certify(VAULT_VMID, VAULT)
    assert vault.run(VAULT_VMID, "systemctl", "reload", VAULT.unit)["exitcode"] == 0
    until(lambda: serial() != before)
    assert (vault.home / "children.json").read_text() == children


def test_a_process_that_dies_comes_back(vault: Lab) -> None:
    def pids() -> set[int]:
        entries = json.loads((vault.home / "children.json").read_text())
        return {entry["pid"] for entry in entries if b"bao" in Path(f"/proc/{entry['pid']}/cmdline").read_bytes()}

    before = pids()
    (pid,) = before
    os.kill(pid, signal.SIGKILL)
    until(lambda: pids() and not pids() & before)
    until(lambda: "initialized" in vault.vault("GET", "sys/init"))


def test_a_store_is_s3_over_tls_with_versions_and_conditional_writes(store: Lab) -> None:
    s3 = store.s3()
    s3.create_bucket(Bucket="terraform")
    s3.put_bucket_versioning(Bucket="terraform", VersioningConfiguration={"Status": "Enabled"})
    s3.put_object(Bucket="terraform", Key="state.tflock", Body=b"1", IfNoneMatch="*")
    with pytest.raises(ClientError) as caught:
        s3.put_object(Bucket="terraform", Key="state.tflock", Body=b"2", IfNoneMatch="*")
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 412
    s3.put_object(Bucket="terraform", Key="state.tflock", Body=b"3")
    assert len(s3.list_object_versions(Bucket="terraform")["Versions"]) == 2
    with pytest.raises(ClientError):
        store.s3(secret="wrong").list_buckets()


def test_credentials_lie_in_memory_only_and_must_be_delivered_again_after_a_reboot(store: Lab) -> None:
    files = [path for path in store.home.rglob("*") if path.is_file() and not path.is_symlink()]
    assert [path for path in files if S3_SECRET.encode() in path.read_bytes()] == []
    assert not [line for line in command_lines() if S3_SECRET.encode() in line]
    delivered = runtime_folder(store.home) / str(STORE_VMID) / "lab" / "s3.json"
    assert delivered.stat().st_mode & 0o777 == 0o600
    store.s3().put_object(Bucket="terraform", Key="kept", Body=b"kept")
    store.power(STORE_VMID, "stop")
    assert not delivered.exists()
    store.power(STORE_VMID, "start")
    assert store.services(STORE_VMID) == {STORE.unit: "inactive"}
    store.deliver_s3()
    until(lambda: store.s3().get_object(Bucket="terraform", Key="kept")["Body"].read() == b"kept")


def test_stop_and_start_bring_the_same_lab_back_with_its_guests(vault: Lab, store: Lab) -> None:
    lab = vault
    children = [(entry["pid"], entry["started"]) for entry in json.loads((lab.home / "children.json").read_text())]
    assert len(children) == 2
    assert stop(lab.home) is True
    assert stop(lab.home) is False
    assert [start_time(pid) for pid, _ in children] == ["", ""]
    stopped = status(lab.home)
    assert stopped is not None
    assert [(guest.name, guest.role, guest.status) for guest in stopped.guests] == [
        ("store", "store", "stopped"),
        ("vault", "vault", "stopped"),
        ("docker", "docker", "stopped"),
    ]
    again = start(lab.home, CONFIG)
    assert (again.token, again.ssh_host_key, again.root_password) == (
        lab.info.token,
        lab.info.ssh_host_key,
        lab.info.root_password,
    )
    assert {guest.name: guest.status for guest in again.guests} == {"store": "running", "vault": "running", "docker": "running"}
    assert lab.services(VAULT_VMID) == {VAULT.unit: "active"}, "its certificate is on its disk"
    assert lab.services(STORE_VMID) == {STORE.unit: "inactive"}, "its credentials are gone"


def test_a_killed_sandbox_leaves_no_process_and_loses_no_state(vault: Lab) -> None:
    running = status(vault.home)
    assert running is not None
    children = [(entry["pid"], entry["started"]) for entry in json.loads((vault.home / "children.json").read_text())]
    assert children
    os.kill(running.pid, signal.SIGKILL)
    until(lambda: all(start_time(pid) != started for pid, started in children))
    crashed = status(vault.home)
    assert crashed is not None
    assert crashed.running is False
    with pytest.raises(AdapterError, match="does not answer"):
        control(vault.home, "GET", "status")
    again = start(vault.home, CONFIG)
    assert {guest.name for guest in again.guests if guest.status == "running"} == {"store", "vault", "docker"}


def test_a_guest_that_is_deleted_leaves_nothing(lab: Lab) -> None:
    lab.create(150, "gone", tags="role-vault")
    lab.power(150, "stop")
    lab.task(lab.node.qemu(150).delete())
    assert not (lab.home / "guests" / "150").exists()
    assert not (runtime_folder(lab.home) / "150").exists()
    assert 150 not in [item["vmid"] for item in lab.api.cluster.resources.get(type="vm")]


def test_reset_removes_everything_on_disk_and_in_memory(tmp_path: Path) -> None:
    home = tmp_path / "home"
    info = start(home, SandboxConfig(address="127.86.78.1", network="127.86.78.0/24"))
    memory = runtime_folder(home)
    reset(home)
    assert start_time(info.pid) == ""
    assert not home.exists()
    assert not memory.exists()


def test_a_sandbox_whose_folder_is_removed_ends_with_its_guests(tmp_path: Path) -> None:
    home = tmp_path / "home"
    config = SandboxConfig(address="127.86.75.1", network="127.86.75.0/24")
    info = start(home, config)
    memory = runtime_folder(home)
    session = requests.Session()
    session.trust_env, session.verify = False, str(info.ca_file)
    session.headers["Authorization"] = f"PVEAPIToken={info.token_id}={info.token.reveal()}"
    nodes = f"{info.endpoint}/api2/json/nodes/pve/qemu"
    assert session.post(nodes, data={"vmid": 102, "tags": "role-vault", "name": "vault", "start": 1}, timeout=10).ok
    until(lambda: session.get(f"{nodes}/102/status/current", timeout=10).json()["data"]["status"] == "running")
    assert (memory / "102").is_dir()
    session.close()
    # Moved away first: the guest's processes may be writing into it.
    shutil.rmtree(home.rename(tmp_path / "gone"))
    until(lambda: start_time(info.pid) == "")
    until(lambda: not (memory / "102").exists())
    shutil.rmtree(memory)


DAEMON = "labctl.sandbox"


def test_one_that_somebody_else_has_just_begun_is_waited_for(tmp_path: Path) -> None:
    """A `labctl up` that was killed right after it began the sandbox: the next one is faster than the sandbox."""
    home = tmp_path / "home"
    config = SandboxConfig(address="127.86.74.1", network="127.86.74.0/24")
    stop_after = start(home, config)
    assert stop(home)
    with subprocess.Popen([sys.executable, "-m", DAEMON, "--home", str(home)]) as other:
        try:
            assert wait_ready(home) is None or control(home, "GET", "status")["booted"]
            info = start(home, config)
            assert control(home, "GET", "status")["booted"]
            assert wait_ready(home) == info
            assert info.token == stop_after.token
        finally:
            other.terminate()
    reset(home)


def test_a_reset_lets_none_begin_that_comes_late(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A `labctl up` that was killed right after it began the sandbox: the sandbox comes in the middle of a reset."""
    home = tmp_path / "home"
    start(home, SandboxConfig(address="127.86.75.1", network="127.86.75.0/24"))
    stop(home)
    late: list[subprocess.CompletedProcess[str]] = []
    remove = shutil.rmtree

    def remove_late(folder: Path, **options: Any) -> None:
        if folder == home:
            command = [sys.executable, "-m", DAEMON, "--home", str(home)]
            late.append(subprocess.run(command, check=False, capture_output=True, text=True, timeout=30))
        remove(folder, **options)

    monkeypatch.setattr(shutil, "rmtree", remove_late)
    reset(home)
    assert [one.returncode for one in late] == [1]
    assert "another sandbox runs on this folder" in late[0].stderr
    assert not home.exists()


def test_one_that_has_no_more_than_a_pid_is_waited_for(tmp_path: Path) -> None:
    home = tmp_path / "home"
    config = SandboxConfig(address="127.86.73.1", network="127.86.73.0/24")
    start(home, config)
    stop(home)
    with subprocess.Popen([sys.executable, "-m", DAEMON, "--home", str(home)]) as other:
        try:
            at_once((home / "sandbox.pid").exists)
            info = wait_ready(home)
            assert info is not None
            assert (info.running, info.pid) == (True, other.pid)
            assert control(home, "GET", "status")["booted"]
        finally:
            other.terminate()
    reset(home)


def test_one_that_is_ending_is_waited_for_and_then_started_again(tmp_path: Path) -> None:
    home = tmp_path / "home"
    config = SandboxConfig(address="127.86.72.1", network="127.86.72.0/24")
    first = start(home, config)
    body = {"kind": "task", "type": "qmcreate", "message": "slow", "delay_s": 2}
    control(home, "POST", "faults", body)
    session = requests.Session()
    session.trust_env, session.verify = False, str(first.ca_file)
    session.headers["Authorization"] = f"PVEAPIToken={first.token_id}={first.token.reveal()}"
    assert session.post(f"{first.endpoint}/api2/json/nodes/pve/qemu", data={"vmid": 102, "name": "slow"}, timeout=10).ok
    session.close()
    os.kill(first.pid, signal.SIGTERM)
    at_once(lambda: not status_pid(home))
    assert start_time(first.pid), "it ended before it could be met ending"
    assert wait_ready(home) is None
    second = start(home, config)
    assert second.pid != first.pid
    assert start_time(first.pid) == ""
    reset(home)


def at_once(condition: Callable[[], Any]) -> None:
    limit = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.001)


def status_pid(home: Path) -> int:
    info = status(home)
    return info.pid if info is not None else 0


@pytest.mark.parametrize("name", ["tls/ca.crt", "tls/server.crt", "config.json", "ssh/id_ed25519.pub"])
def test_a_start_that_is_killed_while_it_writes_leaves_no_half_file(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half a file would stop every later command: here the kill strikes each time that one of that name is written."""
    home = tmp_path / "home"
    config = SandboxConfig(address="127.86.70.1", network="127.86.70.0/24")
    target = Path(name).name

    def half(opened: Any) -> Any:
        def write(self: Path, content: Any, *args: Any) -> Any:
            if self.name == target:
                opened(self, content[: len(content) // 2], *args)
                raise KeyboardInterrupt
            return opened(self, content, *args)

        return write

    with monkeypatch.context() as killed:
        killed.setattr(Path, "write_text", half(Path.write_text))
        killed.setattr(Path, "write_bytes", half(Path.write_bytes))
        rename = Path.replace
        killed.setattr(Path, "replace", lambda self, to: killed_at(self, to, target, rename))
        with pytest.raises(KeyboardInterrupt):
            start(home, config)
    assert status(home) is None or not status(home).running  # type: ignore[union-attr]
    try:
        assert start(home, config).running
    finally:
        reset(home)


def killed_at(path: Path, to: Path, target: str, rename: Callable[[Path, Path], Path]) -> Path:
    if to.name == target:
        raise KeyboardInterrupt
    return rename(path, to)
