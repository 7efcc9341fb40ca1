"""Each guest's one-time identity, with OpenBao's real agent: handed over, used by somebody else, handed over again."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from labctl.adapters.vault import Vault
from labctl.model.errors import LabError
from labctl.model.secret import Secret
from labctl.sandbox.guests.runtime_folder import runtime_folder
from tests.e2e.labfolder import LabFolder
from tests.e2e.test_first_path import vault

UNIT = "lab-identity.service"


def memory(lab: LabFolder, vmid: int) -> Path:
    """A guest's `/run/lab` as it lies on this machine."""
    return runtime_folder(lab.work / "sandbox") / str(vmid) / "lab"


def in_guest(lab: LabFolder, vmid: int, *argv: str) -> tuple[int, str]:
    agent = lab.hypervisor().nodes("pve").qemu(vmid).agent
    pid = agent("exec").post(command=list(argv))["pid"]
    while not (answer := agent("exec-status").get(pid=pid))["exited"]:
        time.sleep(0.05)
    return int(answer["exitcode"]), str(answer.get("out-data", ""))


def steps(lab: LabFolder) -> tuple[str, list[str]]:
    report = lab.ok("up", "--yes", "--json").last_json
    return report["result"], report["steps"]


def secret(lab: LabFolder, path: str) -> dict[str, str]:
    return dict(lab.json("secrets", "get", path)["data"])


def test_each_guest_has_what_it_may_read_and_nothing_else(deployed: LabFolder) -> None:
    store = secret(deployed, "store/gitlab")
    gitlab = json.loads((memory(deployed, 201) / "gitlab.json").read_text())
    assert gitlab == {
        "root_password": secret(deployed, "gitlab/root")["password"],
        "api_token": secret(deployed, "gitlab/root")["api_token"],
        "s3_access_key": store["access_key"],
        "s3_secret_key": store["secret_key"],
    }
    assert json.loads((memory(deployed, 202) / "s3.json").read_text()) == secret(deployed, "store/mlflow")
    for vmid, role, names in (
        (201, "guest-gitlab", {"gitlab.json", "identity.json", "role-id", "runner.token"}),
        (202, "guest-docker", {"s3.json", "identity.json", "role-id"}),
    ):
        files = list(memory(deployed, vmid).iterdir())
        assert {file.name for file in files} == names, "the wrapping token is gone once it was used"
        assert {file.stat().st_mode & 0o777 for file in files} == {0o600}
        assert json.loads((memory(deployed, vmid) / "identity.json").read_text()) == {"role": role}
        assert in_guest(deployed, vmid, "systemctl", "is-active", UNIT) == (0, "active\n")
    assert (memory(deployed, 201) / "runner.token").read_text() == "", "GitLab has issued none yet"


def test_no_secret_id_stays_out_and_a_guest_has_one_login(deployed: LabFolder) -> None:
    client = vault(deployed)
    for role in ("guest-gitlab", "guest-docker"):
        assert logins(client, role) == 1


def logins(client: Any, role: str) -> int:
    accessors = client.auth.token.list_accessors()["data"]["keys"]
    about = [client.auth.token.lookup_accessor(accessor)["data"] for accessor in accessors]
    return sum((one["meta"] or {}).get("role_name") == role for one in about)


def test_a_second_up_hands_nothing_over(deployed: LabFolder) -> None:
    before = vault(deployed).auth.token.list_accessors()["data"]["keys"]
    assert steps(deployed) == ("nothing to do", [])
    assert set(before) & set(vault(deployed).auth.token.list_accessors()["data"]["keys"])


def test_after_a_stop_of_the_sandbox_it_is_handed_over_again(deployed: LabFolder) -> None:
    deployed.ok("sandbox", "stop")
    assert not memory(deployed, 201).exists()
    deployed.ok("sandbox", "start")
    assert list(memory(deployed, 201).iterdir()) == []
    result, changed = steps(deployed)
    assert result == "done"
    assert "guest gitlab logged in to the Vault with a new identity" in changed
    assert "guest docker logged in to the Vault with a new identity" in changed
    assert (memory(deployed, 201) / "gitlab.json").stat().st_size
    assert logins(vault(deployed), "guest-gitlab") == 1
    assert steps(deployed) == ("nothing to do", [])


class Thief:
    """Whoever can look into the guest's memory for a moment, and is quicker than the guest."""

    def __init__(self, lab: LabFolder, vmid: int, *, wraps_again: bool = False) -> None:
        found = lab.json("sandbox", "status")["vault"]
        self.vault = Vault(found["address"], Path(found["ca_file"]))
        self.folder, self.wraps_again = memory(lab, vmid), wraps_again
        self.session: Vault | None = None
        self.secret_id: Secret | None = None
        self.problem: LabError | None = None
        self._end = threading.Event()

    def _watch(self) -> None:
        draft = self.folder / "secret-id.wrapped.new"
        while not self._end.is_set():
            try:
                token = draft.read_text()
            except OSError:
                token = ""
            if token:
                self._take(draft, Secret(token))
                return
            time.sleep(0.002)

    def _take(self, draft: Path, token: Secret) -> None:
        try:
            self.secret_id = self.vault.unwrap(token)["secret_id"]
            if self.wraps_again:
                body = {"secret_id": self.secret_id.reveal()}
                answer = self.vault.with_token(self._own()).client.write_data("sys/wrapping/wrap", data=body, wrap_ttl="60s")
                draft.write_text(answer["wrap_info"]["token"])
            else:
                self.session = self.vault.login_approle(Secret((self.folder / "role-id").read_text()), self.secret_id)
        except LabError as error:
            self.problem = error

    def _own(self) -> Secret:
        login = self.login
        answer = self.vault.client.auth.approle.login(login["role_id"], login["secret_id"], use_token=False)
        return Secret(answer["auth"]["client_token"])

    login: dict[str, str]

    @contextmanager
    def lurking(self) -> Iterator[None]:
        thread = threading.Thread(target=self._watch, daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._end.set()
            thread.join(10)


@contextmanager
def slow_agent(lab: LabFolder, vmid: int) -> Iterator[None]:
    """Time for a thief: each command in the guest takes a while to begin."""
    with lab.fault(kind="http", method="POST", path=f"/qemu/{vmid}/agent/exec$", times=0, delay_s=0.7):
        yield


def test_a_token_that_was_used_on_its_way_is_told_as_tampering_and_worth_nothing_then(deployed: LabFolder) -> None:
    in_guest(deployed, 201, "systemctl", "stop", UNIT)
    thief = Thief(deployed, 201)
    with slow_agent(deployed, 201), thief.lurking():
        told = deployed.run("up", "--yes")
    assert thief.problem is None
    assert thief.session is not None, "he was in"
    assert told.code == 1
    assert "guest gitlab: its one-time identity was used by somebody else before the guest could: this is tampering" in told.err
    assert "logins of guest-gitlab revoked" in told.err
    assert not thief.session.token_alive()
    assert logins(vault(deployed), "guest-gitlab") == 0
    assert in_guest(deployed, 201, "systemctl", "is-active", UNIT)[1] == "failed\n"
    assert not (memory(deployed, 201) / "secret-id.wrapped").exists()
    # The guest gets another one, and nobody lurks.
    assert "guest gitlab logged in to the Vault with a new identity" in steps(deployed)[1]
    assert steps(deployed) == ("nothing to do", [])


def test_a_token_that_was_wrapped_again_is_refused_by_the_guest(deployed: LabFolder) -> None:
    in_guest(deployed, 202, "systemctl", "stop", UNIT)
    thief = Thief(deployed, 202, wraps_again=True)
    thief.login = deployed.json("sandbox", "status")["vault"]
    with slow_agent(deployed, 202), thief.lurking():
        told = deployed.run("up", "--yes")
    assert thief.problem is None
    assert thief.secret_id is not None
    assert told.code == 1
    assert "guest docker: its one-time identity was used by somebody else" in told.err
    assert "1 unused secret-ids destroyed" in told.err
    with pytest.raises(LabError):
        thief.vault.login_approle(Secret((memory(deployed, 201) / "role-id").read_text()), thief.secret_id)
    assert "guest docker logged in to the Vault with a new identity" in steps(deployed)[1]


def test_what_changes_in_the_vault_arrives_with_a_new_identity(deployed: LabFolder) -> None:
    """As GitLab's runner token does: it is issued after the first login."""
    client = vault(deployed)
    client.secrets.kv.v2.create_or_update_secret("gitlab/runner", {"token": "glrt-e2e"}, cas=0, mount_point="lab")
    in_guest(deployed, 201, "systemctl", "stop", UNIT)
    deployed.ok("up", "--yes")
    assert (memory(deployed, 201) / "runner.token").read_text() == "glrt-e2e"


def test_host_keys_are_taken_down_and_labctls_own_key_is_in_the_vault(deployed: LabFolder) -> None:
    lines = [line.split() for line in (deployed.work / "known_hosts").read_text().splitlines() if not line.startswith("#")]
    assert [words[0].split(",")[0] for words in lines] == ["docker", "gitlab", "store", "vault"]
    disks = deployed.work / "sandbox" / "guests"
    for vmid, name in ((101, "store"), (102, "vault"), (201, "gitlab"), (202, "docker")):
        shown = (disks / str(vmid) / "root/etc/ssh/ssh_host_ed25519_key.pub").read_text().split()[:2]
        assert [shown] == [words[1:3] for words in lines if words[0].startswith(f"{name},")]
    assert "OPENSSH PRIVATE KEY" in secret(deployed, "platform/ssh")["private_key"]
    public = (deployed.work / "keys" / "ssh.pub").read_text().strip()
    assert public in deployed.ok("render", "vault").out


def test_an_appliance_has_no_shell_but_a_console(deployed: LabFolder) -> None:
    refused = deployed.run("ssh", "gitlab", "--", "id")
    assert refused.code == 1
    assert "guest gitlab is an appliance of the sandbox, which has no shell" in refused.err
    assert "Did you mean 'gitlab'?" in deployed.run("ssh", "gitlap").err
    assert "Did you mean 'docker'?" in deployed.run("console", "doker").err
    assert "authentication successful" in deployed.ok("console", "gitlab").out
    assert "openbao.service: " in deployed.ok("console", "vault").out


def test_status_shows_cloud_init_and_services(deployed: LabFolder) -> None:
    guests = {guest["name"]: guest for layer in deployed.json("status")["layers"] for guest in layer["guests"]}
    assert {name: guest["services"] for name, guest in guests.items()} == {
        "vault": {"openbao.service": "active"},
        "store": {"seaweedfs.service": "active"},
        "gitlab": {UNIT: "active"},
        "docker": {UNIT: "active"},
    }
    assert {guest["cloud_init"] for guest in guests.values()} == {"done"}
    in_guest(deployed, 202, "systemctl", "stop", UNIT)
    assert "lab-identity inactive" in deployed.ok("status").out
    assert "guest docker logged in to the Vault with a new identity" in steps(deployed)[1]
