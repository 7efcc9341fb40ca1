"""No secret leaks: a whole life of a lab, and after it a search for every value that it had, wherever one could have gone."""

from __future__ import annotations

import base64
import gzip
import json
import os
import secrets
import signal
import subprocess
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path

import hvac
import pytest
import requests

from labctl.adapters.terraform import running_child
from labctl.model.secret import MASK
from labctl.sandbox import supervisor
from labctl.sandbox.guests.runtime_folder import runtime_folder
from tests.e2e.canary import Canary, CommandLines, Finding, Search, Watch, files_below
from tests.e2e.canary_life import (
    ALLOWED,
    WORK,
    RootToken,
    Tour,
    collect,
    in_folder,
    in_states,
    in_temporary_files,
    keys_of,
    leaks,
    store,
)
from tests.e2e.labfolder import LABCTL, LabFolder, Result


@pytest.fixture(scope="module")
def tour(make_lab: Callable[[], LabFolder]) -> Tour:
    """Everything that a user does with a lab, but for `down`, and what was found on the way."""
    lab = make_lab()
    trip = Tour(lab, time.time(), CommandLines(), RootToken(lab))
    log = {"TF_LOG": "TRACE", "TF_LOG_PROVIDER": "TRACE", "TF_LOG_PATH": str(lab.path / "trace.log")}
    with Watch(trip.lines.look), Watch(trip.root.look):
        trip.ok("sandbox", "start")
        supervisor.control(lab.work / "sandbox", "POST", "recording", {"name": "life"})
        trip.ok("up", "--yes", "--json")
        trip.ok("provision", "bucket", "measurements", "--json")
        trip.canaries = collect(lab, trip.root)
        trip.ok("up", "--yes", "--json", **log)
        trip.ok("plan")
        trip.ok("status", "--json")
        trip.ok("doctor")
        trip.ok("secrets", "list", "--json")
        trip.ok("secrets", "seed")
        trip.ok("provision", "bucket", "measurements")
        trip.ok("provision", "list", "--json")
        trip.ok("vault", "status", "--json")
        trip.ok("sandbox", "status")
        trip.ok("output", "foundation", "--json")
        trip.ok("env", "--", "sh", "-c", 'test -n "$AWS_SECRET_ACCESS_KEY" && sleep 0.1')
        trip.run("secrets", "get", "gitlab/roof")
        trip.ok("console", "gitlab")
        trip.run("ssh", "gitlab", "--", "id")
        trip.found["the lab's folder, up"] = in_folder(lab, trip.search)
        trip.found["states"] = in_states(lab, trip.search)
        trip.ok("sandbox", "stop")
        trip.found["the lab's folder, stopped"] = in_folder(lab, trip.search)
        trip.found["memory, stopped"] = trip.search.look_at_all(files_below(runtime_folder(lab.work / "sandbox")))
        trip.ok("sandbox", "start")
        trip.run("status")
        trip.ok("up", "--yes")
    trip.found["the user's home"] = trip.search.look_at_all(files_below(lab.path / "home"))
    return trip


@pytest.fixture(scope="module")
def ended(tour: Tour) -> Tour:
    """The lab after `down`."""
    with Watch(tour.lines.look):
        tour.run("down", "--yes", "--allow-destroy", "vault,store,gitlab,docker", "--json")
    assert list(tour.said.values())[-1].code == 0
    tour.found["the lab's folder, down"] = in_folder(tour.lab, tour.search)
    tour.found["memory, down"] = tour.search.look_at_all(files_below(runtime_folder(tour.lab.work / "sandbox")))
    return tour


# --- the search itself


def test_a_private_key_is_found_however_its_file_is_laid_out(tour: Tour) -> None:
    search = tour.search
    for path, name in (("tls/server.key", "emulator's tls/server.key"), ("ssh/id_ed25519", "emulator's ssh/id_ed25519")):
        pem = (tour.lab.work / "sandbox" / path).read_text()
        body = "".join(pem.splitlines()[1:-1])
        indented = "\n".join("      " + body[i : i + 40] for i in range(0, len(body), 40))
        for text in (json.dumps(pem), body, indented):
            assert name in {finding.canary for finding in search.look("here", text.encode())}


PLANTED = {
    "state": "state/planted.tfstate.backup",
    "stack": "stacks/platform/planted.tf.json",
    "Terraform's folder": "stacks/platform/.terraform/planted.tfstate",
    "journal": "runs/planted.jsonl",
    "key file": "keys/planted.note",
    "Terraform's home": "home/.ssh/planted",
    "emulator's state": "sandbox/planted.json",
    "emulator's log": "sandbox/planted.log",
    "recording": "sandbox/recordings/planted.jsonl",
    "snippet": "sandbox/pve/var/lib/vz/snippets/planted.yaml",
    "guest's disk": "sandbox/guests/101/root/var/lib/seaweedfs/planted.dat",
}


@pytest.fixture
def planted() -> Canary:
    return Canary.of_text("planted", secrets.token_urlsafe(24))


@pytest.fixture(scope="module")
def planted_everywhere(tour: Tour) -> set[Finding]:
    """What is found where a value of its own was planted in each sort of file."""
    canaries = {kind: Canary.of_text(kind, secrets.token_urlsafe(24)) for kind in PLANTED}
    try:
        for kind, path in PLANTED.items():
            (tour.lab.work / path).write_bytes(b"\0" * 5000 + base64.b64encode(b"x" + canaries[kind].values[0]))
        return in_folder(tour.lab, Search(canaries.values()))
    finally:
        for path in PLANTED.values():
            (tour.lab.work / path).unlink(missing_ok=True)


@pytest.mark.parametrize("kind", PLANTED)
def test_a_value_planted_in_the_labs_folder_is_found(planted_everywhere: set[Finding], kind: str) -> None:
    found = [finding for finding in leaks(planted_everywhere) if finding.place == f"{WORK}/{PLANTED[kind]}"]
    assert Finding(f"{WORK}/{PLANTED[kind]}", kind, "base64+1") in found
    assert {finding.canary for finding in found} == {kind}


def test_a_value_planted_in_a_saved_plan_or_a_packed_object_is_found(tour: Tour, planted: Canary) -> None:
    packed = BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("tfstate", b'{"password": "' + planted.values[0] + b'"}' + b" " * 500)
    files = {
        tour.lab.work / "runs" / "planted.tfplan": packed.getvalue(),
        tour.lab.work / PLANTED["guest's disk"]: b"head" + gzip.compress(planted.values[0]) + b"tail",
    }
    try:
        for file, content in files.items():
            assert planted.values[0] not in content
            file.write_bytes(content)
        found = in_folder(tour.lab, Search([planted]))
    finally:
        for file in files:
            file.unlink(missing_ok=True)
    assert {finding.place for finding in leaks(found)} == {str(file.relative_to(tour.lab.path)) for file in files}


def test_a_value_planted_in_an_old_version_of_a_state_is_found(tour: Tour, planted: Canary) -> None:
    client, key = store(tour.lab), "state/planted/terraform.tfstate"
    try:
        for body in (planted.values[0], b"{}"):
            client.put_object(Bucket="terraform", Key=key, Body=body)
        found = in_states(tour.lab, Search([planted]))
        assert {finding.place for finding in leaks(found)} == {f"s3://terraform/{key}"}
    finally:
        for version in client.list_object_versions(Bucket="terraform", Prefix=key).get("Versions", []):
            client.delete_object(Bucket="terraform", Key=key, VersionId=version["VersionId"])


def test_a_value_planted_in_an_output_or_a_temporary_file_is_found(tour: Tour, planted: Canary) -> None:
    search, value = Search([planted]), planted.values[0].decode()
    shown = Tour(tour.lab, 0, tour.lines, tour.root, said={"labctl up": Result(1, "", f"error: {value}")})
    assert {finding.place for finding in search.look_at_all(shown.outputs())} == {"the output of labctl up"}
    since = time.time() - 1
    with tempfile.NamedTemporaryFile("w", prefix="planted") as file:
        file.write(value)
        file.flush()
        assert {finding.place for finding in in_temporary_files(search, since)} == {Path(file.name).name}


# --- what it finds


def test_the_search_knows_every_secret(tour: Tour) -> None:
    names = {canary.name for canary in tour.canaries}
    assert names >= {"secret gitlab/root#password", "secret store/terraform#secret_key", "secret store/root#access_key"}
    assert names >= {"secret platform/ssh#private_key", "secret projects/bucket/measurements#secret_key"}
    assert names >= {"root token", "unseal key", "labctl's secret_id", "authority's key", "emulator's token"}
    # In memory, where they belong, the values are found: what is searched for is what is used.
    memory = {finding.canary for finding in tour.search.look_at_all(files_below(runtime_folder(tour.lab.work / "sandbox")))}
    assert memory == {name for name in names if name.startswith(("secret store/", "secret gitlab/", "secret projects/"))}


@pytest.mark.parametrize(
    "place", ["the lab's folder, up", "the lab's folder, stopped", "the user's home", "states", "memory, stopped"]
)
def test_no_secret_lies_in(tour: Tour, place: str) -> None:
    assert leaks(tour.found[place]) == []


def test_every_exception_is_needed_and_readable_by_its_owner_only(tour: Tour) -> None:
    found = tour.found["the lab's folder, up"]
    for entry in ALLOWED:
        places = {finding.place for finding in found if entry.covers(finding)}
        assert places, f"nothing of the sort lies there any more: {entry}"
        assert {(tour.lab.path / place).stat().st_mode & 0o777 for place in places} == {0o600}, entry


def test_no_secret_is_said(tour: Tour) -> None:
    assert leaks(tour.search.look_at_all(tour.outputs())) == []


def test_no_secret_is_in_a_command_line(tour: Tour) -> None:
    programs = {place.rpartition(" ")[2] for place, _ in tour.lines.places()}
    assert {"bao", "weed"} <= programs
    assert [place for place, _ in tour.lines.places() if "terraform-provider-proxmox" in place], "the provider was never seen"
    assert leaks(tour.search.look_at_all(tour.lines.places())) == []


def test_no_secret_is_in_a_new_temporary_file(tour: Tour) -> None:
    assert leaks(in_temporary_files(tour.search, tour.since)) == []


def test_terraform_is_not_made_to_log(tour: Tour) -> None:
    assert not (tour.lab.path / "trace.log").exists()


def test_the_recording_holds_the_run_without_its_secrets(tour: Tour) -> None:
    lines = [json.loads(line) for line in (tour.lab.work / "sandbox/recordings/life.jsonl").read_text().splitlines()]
    written = [line["arguments"] for line in lines if line["path"].endswith("/agent/file-write")]
    handed = {"/run/lab/s3.json", "/run/lab/role-id", "/run/lab/secret-id.wrapped.new"}
    assert handed <= {entry["file"] for entry in written}
    assert [entry["file"] for entry in written if entry["content"] != MASK] == []


def test_files_are_readable_by_their_owner_only(tour: Tour) -> None:
    loose = []
    for folder, folders, names in os.walk(tour.lab.path / ".labctl"):
        for path in (Path(folder, name) for name in (*folders, *names)):
            # A guest's disk has the modes that the guest gave its files; nobody else gets to them.
            inside_a_guest = "/sandbox/guests/" in f"{path}" and "/root/" in f"{path}"
            if not path.is_symlink() and not inside_a_guest and path.lstat().st_mode & 0o077:
                loose.append(str(path.relative_to(tour.lab.path)))
    assert loose == []
    assert (tour.lab.path / ".labctl").stat().st_mode & 0o077 == 0


def test_no_saved_plan_and_no_core_dump_stays(tour: Tour) -> None:
    assert plans(tour.lab) == []
    assert [name for name, content in files_below(tour.lab.path) if content.startswith(b"\x7fELF") and "core" in name] == []


def plans(lab: LabFolder) -> list[str]:
    return sorted(path.name for path in (lab.work / "runs").rglob("*.tfplan"))


def test_the_root_token_is_dead_and_forgotten(tour: Tour) -> None:
    found = tour.lab.json("sandbox", "status")["vault"]
    session = requests.Session()
    session.trust_env, session.verify = False, found["ca_file"]
    assert tour.root.value is not None
    client = hvac.Client(url=found["address"], token=tour.root.value.reveal(), session=session, verify=found["ca_file"])
    with pytest.raises(hvac.exceptions.Forbidden):
        client.auth.token.lookup_self()
    assert set(keys_of(tour.lab, "vault")) == {"unseal_keys"}


# --- what goes wrong shows nothing either


@pytest.fixture
def quoting(tour: Tour) -> Iterator[Callable[[str], None]]:
    """Makes the hypervisor quote the token that it was given, with an error, to requests of a path."""
    home = tour.lab.work / "sandbox"
    token = json.loads((home / "credentials.json").read_text())["token"]

    def quote_at(path: str) -> None:
        message = f"refused: PVEAPIToken=labctl@pve!labctl={token}, value {token}"
        supervisor.control(home, "POST", "faults", {"path": path, "status": 500, "message": message, "times": 0})

    yield quote_at
    supervisor.control(home, "DELETE", "faults")


@pytest.mark.parametrize("path", ["/qemu/201/config$", "^/version$"], ids=["the provider's", "labctl's own"])
def test_an_error_that_quotes_the_token_is_masked(tour: Tour, quoting: Callable[[str], None], path: str) -> None:
    quoting(path)
    result = tour.run("plan")
    assert result.code == 1
    said = result.out + result.err
    assert tour.search.look("output", said.encode()) == set()
    assert "refused: PVEAPIToken=" in said
    assert said.count(MASK) == 2
    assert leaks(in_folder(tour.lab, tour.search)) == []
    assert plans(tour.lab) == []


def test_a_refused_run_leaves_no_plan(tour: Tour) -> None:
    refused = tour.run("down", "--yes", "--json")
    assert refused.code == 1
    assert "--allow-destroy" in refused.err
    assert '"stage": "planning"' in refused.out
    assert plans(tour.lab) == []


def test_the_plan_of_a_killed_run_is_removed_by_the_next(tour: Tour) -> None:
    with changed(tour.lab):
        environment = tour.lab.environment()
        process = subprocess.Popen([str(LABCTL), "plan"], cwd=tour.lab.path, env=environment, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        while not plans(tour.lab) and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        process.wait()
        for record in (tour.lab.work / "stacks").glob("*/terraform.pid"):
            while running_child(record) is not None and time.monotonic() < deadline:
                time.sleep(0.05)
        assert plans(tour.lab), "it was killed too late to leave a plan"
        assert leaks(in_folder(tour.lab, tour.search)) == []
        tour.ok("plan")
    assert plans(tour.lab) == []


class changed:  # noqa: N801  (reads as a sentence)
    """While the block runs, lab.yaml describes a change."""

    def __init__(self, lab: LabFolder) -> None:
        self._lab = lab

    def __enter__(self) -> None:
        self._lab.write("platform: {docker: {memory_mib: 20480}}\n")

    def __exit__(self, *_: object) -> None:
        self._lab.write("")


@pytest.mark.parametrize("text", ["AGE-SECRET-KEY-1", "-----BEGIN OPENSSH PRIVATE KEY-----"])
def test_a_private_key_among_the_operators_is_not_quoted(tour: Tour, text: str) -> None:
    value = secrets.token_hex(16).upper()
    try:
        tour.lab.write(f"operators: ['{text}{value}']\n")
        result = tour.lab.run("status")
    finally:
        tour.lab.write("")
    assert result.code == 1
    assert "private key" in result.err
    assert value[:4] not in result.err


# --- the end


@pytest.mark.parametrize("place", ["the lab's folder, down", "memory, down"])
def test_no_secret_is_left_in(ended: Tour, place: str) -> None:
    assert leaks(ended.found[place]) == []
    assert list((ended.lab.work / "sandbox" / "guests").glob("*/root")) == []


def test_down_says_no_secret_and_retires_keys_that_stay_encrypted(ended: Tour) -> None:
    assert leaks(ended.search.look_at_all([*ended.outputs(), *ended.lines.places()])) == []
    assert [path.name for path in sorted((ended.lab.work / "keys" / "retired").rglob("*.age"))] == ["labctl.age", "vault.age"]
