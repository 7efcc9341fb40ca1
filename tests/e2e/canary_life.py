"""A lab's life with all that it said, every secret that it had, and where those were found."""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

from labctl.adapters.keys import Keyring
from labctl.engine.lab import open_lab
from labctl.engine.secrets import get_secret, list_secrets
from labctl.model.secret import Secret
from tests.e2e.canary import Allowed, Canary, CommandLines, Finding, Search, files_below
from tests.e2e.labfolder import LabFolder, Result

WORK = ".labctl/e2e"
GUEST = f"{WORK}/sandbox/guests"
SHAPE = "the shape of *"

ALLOWED = (
    Allowed(
        f"{WORK}/keys/operator.agekey",
        "operator's identity",
        "on the sandbox the lab makes its operator itself; it opens the key files of this sandbox and nothing else",
    ),
    Allowed(f"{WORK}/keys/operator.agekey", SHAPE, "as above"),
    Allowed(f"{WORK}/sandbox/credentials.json", "emulator's *", "the emulated hypervisor's own; a real one has them itself"),
    Allowed(f"{WORK}/sandbox/ssh/*", "emulator's *", "as above"),
    Allowed(f"{WORK}/sandbox/ssh/*", SHAPE, "as above"),
    Allowed(f"{WORK}/sandbox/tls/server.key", "emulator's *", "as above"),
    Allowed(f"{WORK}/sandbox/tls/server.key", SHAPE, "as above"),
    Allowed(f"{GUEST}/102/root/etc/openbao/tls/server.key", "TLS key of guest vault", "made in the guest, and on its disk alone"),
    Allowed(f"{GUEST}/102/root/etc/openbao/tls/server.key", SHAPE, "as above"),
    Allowed(f"{GUEST}/101/root/etc/seaweedfs/tls/server.key", "TLS key of guest store", "as above"),
    Allowed(f"{GUEST}/101/root/etc/seaweedfs/tls/server.key", SHAPE, "as above"),
    Allowed(f"{GUEST}/*/root/etc/ssh/ssh_host_ed25519_key", "SSH host key of guest *", "as above"),
    Allowed(f"{GUEST}/*/root/etc/ssh/ssh_host_ed25519_key", SHAPE, "as above"),
)


KNOWN = frozenset({"bucket", "endpoint", "region"})


def leaks(found: set[Finding]) -> list[Finding]:
    return sorted((f for f in found if not any(entry.covers(f) for entry in ALLOWED)), key=str)


def in_folder(lab: LabFolder, search: Search) -> set[Finding]:
    """The lab's folder, without the user's home, which tests keep there too."""
    return search.look_at_all(files_below(lab.path, without=[lab.path / "home"]))


def in_temporary_files(search: Search, since: float) -> set[Finding]:
    """What is new in the folder for temporary files, but for what tests keep there. No shapes: others work there too."""
    found: set[Finding] = set()
    for path in Path(tempfile.gettempdir()).iterdir():
        if path.name.startswith("pytest-of-") or not is_new(path, since):
            continue
        if path.is_dir():
            found |= search.look_at_all(
                (f"{path.name}/{name}", content) for name, content in files_below(path, since, largest=_LARGEST)
            )
        elif path.is_file() and path.stat().st_size <= _LARGEST:
            found |= search.look(path.name, path.read_bytes())
    return {finding for finding in found if finding.form != "shape"}


_LARGEST = 2**22


def is_new(path: Path, since: float) -> bool:
    try:
        return path.lstat().st_ctime >= since
    except FileNotFoundError:
        return False


def in_states(lab: LabFolder, search: Search) -> set[Finding]:
    """Every version of every object in the bucket of the states, the locks too."""
    client = store(lab)
    found: set[Finding] = set()
    for version in client.list_object_versions(Bucket="terraform").get("Versions", []):
        body = client.get_object(Bucket="terraform", Key=version["Key"], VersionId=version["VersionId"])["Body"].read()
        found |= search.look(f"s3://terraform/{version['Key']}", body)
    return found


def store(lab: LabFolder) -> Any:
    s3 = lab.json("sandbox", "status")["s3"]
    return boto3.client(
        "s3",
        endpoint_url=s3["endpoint"],
        region_name=s3["region"],
        aws_access_key_id=s3["access_key"],
        aws_secret_access_key=s3["secret_key"],
        verify=s3["ca_file"],
        config=Config(s3={"addressing_style": "path"}),
    )


@dataclass
class RootToken:
    """The root token, which is kept for moments only: read from the key file each time that it changes."""

    lab: LabFolder
    value: Secret | None = None
    _seen: tuple[int, int] = (0, 0)

    def look(self) -> None:
        try:
            about = (self.lab.work / "keys" / "vault.age").stat()
        except FileNotFoundError:
            return
        if (about.st_ino, about.st_mtime_ns) == self._seen:
            return
        self._seen = (about.st_ino, about.st_mtime_ns)
        root = keys_of(self.lab, "vault").get("root_token")
        self.value = root if isinstance(root, Secret) else self.value


def keys_of(lab: LabFolder, name: str) -> dict[str, Any]:
    keys = lab.work / "keys"
    return dict(Keyring(keys).read(name, [keys / "operator.agekey"]))


@dataclass(repr=False)
class Tour:
    """A lab's life so far, and all that it said. Without `repr`: pytest would print it."""

    lab: LabFolder
    since: float
    lines: CommandLines
    root: RootToken
    canaries: tuple[Canary, ...] = ()
    said: dict[str, Result] = field(default_factory=dict)
    found: dict[str, set[Finding]] = field(default_factory=dict)

    def run(self, *args: str, **env: str) -> Result:
        result = self.lab.run(*args, timeout_s=180, **env)
        self.said[f"{len(self.said)}: labctl {' '.join(args)[:60]}"] = result
        return result

    def ok(self, *args: str, **env: str) -> Result:
        result = self.run(*args, **env)
        # Not the output: a value that leaked there would leak once more into the test's report.
        assert result.code == 0, f"labctl {' '.join(args)} ended with {result.code}"
        return result

    @cached_property
    def search(self) -> Search:
        return Search(self.canaries)

    def outputs(self) -> list[tuple[str, bytes]]:
        return [(f"the output of {name}", (result.out + result.err).encode()) for name, result in self.said.items()]


def _canary(name: str, value: str) -> Canary:
    return Canary.of_private_key(name, value.encode()) if "PRIVATE KEY" in value else Canary.of_text(name, value)


def collect(lab: LabFolder, root: RootToken) -> tuple[Canary, ...]:
    """Every secret value of the lab that is up, and those of its emulated hypervisor."""
    opened, found = open_lab(lab.path / "lab.yaml"), []
    for entry in list_secrets(opened):
        if entry["version"]:
            held = get_secret(opened, entry["path"]).data
            # Beside a project's credentials lies what it needs to know and everybody may.
            secret = {
                name: value for name, value in held.items() if name not in KNOWN or not entry["path"].startswith("projects/")
            }
            found += [_canary(f"secret {entry['path']}#{name}", value.reveal()) for name, value in secret.items()]
    assert root.value is not None, "the root token was never seen in the key file"
    found.append(Canary.of_text("root token", root.value.reveal()))
    found += [Canary.of_text("unseal key", key.reveal()) for key in keys_of(lab, "vault")["unseal_keys"]]
    found += [Canary.of_text(f"labctl's {name}", value.reveal()) for name, value in keys_of(lab, "labctl").items()]
    found.append(Canary.of_private_key("authority's key", keys_of(lab, "authority")["key"].reveal().encode()))
    identity = (lab.work / "keys" / "operator.agekey").read_text().splitlines()[-1]
    found.append(Canary.of_text("operator's identity", identity))
    sandbox = lab.work / "sandbox"
    emulator = json.loads((sandbox / "credentials.json").read_text())
    found += [Canary.of_text(f"emulator's {name}", value) for name, value in emulator.items()]
    for name in ("ssh/id_ed25519", "ssh/ssh_host_ed25519_key", "tls/server.key"):
        found.append(Canary.of_private_key(f"emulator's {name}", (sandbox / name).read_bytes()))
    disks = sandbox / "guests"
    for guest, path in (("vault", "102/root/etc/openbao"), ("store", "101/root/etc/seaweedfs")):
        found.append(Canary.of_private_key(f"TLS key of guest {guest}", (disks / path / "tls" / "server.key").read_bytes()))
    for key in disks.glob("*/root/etc/ssh/ssh_host_ed25519_key"):
        found.append(Canary.of_private_key(f"SSH host key of guest {key.parts[-5]}", key.read_bytes()))
    return tuple(found)
