"""What holds a secret does not show it: `repr`, `str`, formatting, copies and tracebacks."""

from __future__ import annotations

import copy
import dataclasses
import json
import pickle
import traceback
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from labctl.adapters.keys import Keyring
from labctl.adapters.objectstore import Credentials, ObjectStore, identities
from labctl.adapters.pki import create_authority
from labctl.adapters.proxmox import Proxmox
from labctl.adapters.terraform import Terraform
from labctl.adapters.terraform.binary import Engine
from labctl.adapters.vault import AppRoleCredentials, Vault
from labctl.adapters.vault.client import InitResult
from labctl.engine.interrupt import Interrupts
from labctl.engine.journal import Journal
from labctl.engine.labrun import LabRun
from labctl.engine.paths import LabPaths
from labctl.engine.provision import Login
from labctl.engine.provisioning import Result, Store
from labctl.engine.run import Options
from labctl.engine.secrets import SecretValue
from labctl.engine.session import LabSession
from labctl.engine.target import TargetSession
from labctl.model.labfile import parse_lab
from labctl.model.secret import Secret
from labctl.sandbox.settings import SandboxInfo

VALUE = "canary-4f1d-bird"
SECRET = Secret(VALUE)


@pytest.fixture
def paths(tmp_path: Path) -> LabPaths:
    found = LabPaths(tmp_path / "lab.yaml", "lab")
    found.create()
    found.authority.write_text(create_authority("test").cert_pem)
    return found


def vault(paths: LabPaths) -> Vault:
    return Vault("https://192.0.2.2:8200", paths.authority, SECRET)


def target(paths: LabPaths) -> TargetSession:
    return TargetSession(
        "https://192.0.2.1:8006", "labctl@pve!labctl", SECRET, paths.authority, {"PROXMOX_VE_SSH_PASSWORD": SECRET}
    )


def session(paths: LabPaths) -> LabSession:
    return LabSession(vault(paths), "https://192.0.2.3:9000", "lab", SECRET, SECRET, paths.authority)


def run(paths: LabPaths) -> LabRun:
    lab = parse_lab("name: lab\ntarget: {sandbox: {}}\n")
    journal, interrupts = Journal(paths, "up"), Interrupts(lambda _text: None)
    found = LabRun(lab=lab, paths=paths, options=Options(), journal=journal, interrupts=interrupts, view=lambda _event: None)
    found.connect(target(paths), Proxmox.connect)
    found.session = session(paths)
    return found


def terraform(paths: LabPaths) -> Terraform:
    engine = Engine("terraform", ("/bin/true",), (1, 9, 0), Path("/bin/true"))
    given = session(paths).environment() | target(paths).provider_environment()
    return Terraform(engine, paths.root, stack="platform", home=paths.home, cli_config=paths.home / "rc", env=given)


def sandbox(paths: LabPaths) -> SandboxInfo:
    values: dict[str, Any] = {field.name: "" for field in dataclasses.fields(SandboxInfo)}
    return SandboxInfo(**values | {"token": SECRET, "root_password": SECRET, "control_token": SECRET, "guests": ()})


HOLDERS = {
    "secret": lambda _paths: SECRET,
    "vault": vault,
    "target": target,
    "target's environment": lambda paths: target(paths).provider_environment(),
    "session": session,
    "session's environment": lambda paths: session(paths).environment(),
    "run": run,
    "terraform": terraform,
    "terraform's attributes": lambda paths: vars(terraform(paths)),
    "sandbox": sandbox,
    "initialisation": lambda _paths: InitResult((SECRET,), SECRET),
    "AppRole": lambda _paths: AppRoleCredentials(SECRET, SECRET),
    "read secret": lambda _paths: SecretValue("gitlab/root", 1, {"password": SECRET}),
    "key pair": lambda _paths: Credentials(SECRET, SECRET),
    "identities": lambda _paths: identities(Credentials(SECRET, SECRET), {}),
    "object store": lambda paths: ObjectStore("https://192.0.2.3:9000", "lab", SECRET, SECRET, paths.authority),
    "hypervisor": lambda paths: Proxmox.connect("https://192.0.2.1:8006", "labctl@pve!labctl", SECRET, paths.authority),
    "provisioned": lambda _paths: Result("bucket", "data", "projects/bucket/data", (), {}, "", {"secret_key": SECRET}),
    "project's login": lambda _paths: Login(SECRET, SECRET, 3600, "https://192.0.2.2:8200"),
    "store": lambda _paths: Store(ObjectStore, Credentials(SECRET, SECRET), nullcontext, bool, "", ""),  # type: ignore[arg-type]
    "keyring": lambda paths: Keyring(paths.keys),
}


@pytest.mark.parametrize("kind", HOLDERS)
def test_what_holds_a_secret_does_not_show_it(paths: LabPaths, kind: str) -> None:
    holder = HOLDERS[kind](paths)
    assert VALUE not in f"{holder!r} {holder!s} {holder} {[holder]}"


def test_the_authority_does_not_show_its_key() -> None:
    made = create_authority("test")
    assert made.key_pem.reveal().splitlines()[1] not in repr(made)
    assert "PRIVATE KEY" not in repr(made)


def test_a_copy_that_leaves_the_process_has_no_value() -> None:
    assert VALUE.encode() not in pickle.dumps(SECRET)
    assert VALUE not in repr(dataclasses.asdict(Credentials(SECRET, SECRET)))
    assert copy.deepcopy(SECRET).reveal() != VALUE
    with pytest.raises(TypeError):
        json.dumps(SECRET)
    assert VALUE not in json.dumps({"a": SECRET}, default=str)


def test_a_traceback_with_local_variables_shows_nothing(paths: LabPaths) -> None:
    def fail(holder: LabRun) -> None:
        kept = (holder, holder.target, holder.session)
        raise ValueError(f"{kept[1]} and {holder.target.token}")

    try:
        fail(run(paths))
    except ValueError as error:
        shown = "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())
    assert "kept = " in shown
    assert VALUE not in shown
