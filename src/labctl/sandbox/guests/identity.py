"""What a guest makes for itself when it boots: SSH host key, private key, certificate request, what cloud-init leaves behind."""

from __future__ import annotations

import ipaddress
import json
import uuid
from pathlib import PurePosixPath

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509.oid import NameOID
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from labctl.model.cloudinit import STAGES
from labctl.model.guestfiles import (
    CA_FILE,
    CLOUD_INIT_LOG,
    CLOUD_INIT_STATUS,
    INSTANCE_ID,
    MACHINE_ID,
    SET_UP,
    USER_DATA,
    GuestRole,
)
from labctl.sandbox.guests.files import GuestFiles
from labctl.sandbox.guests.runtime import GuestSpec

SSH_HOST_KEY = "/etc/ssh/ssh_host_ed25519_key"
OS_RELEASE = """\
PRETTY_NAME="Debian GNU/Linux 13 (trixie)"
NAME="Debian GNU/Linux"
VERSION_ID="13"
VERSION="13 (trixie)"
VERSION_CODENAME=trixie
ID=debian
"""


def key_path(role: GuestRole) -> str:
    """Where a role's private key lies: beside its certificate."""
    return str(PurePosixPath(role.cert).with_suffix(".key"))


def first_boot(spec: GuestSpec, role: GuestRole | None, files: GuestFiles) -> None:
    """Make what is not there yet. A later boot changes nothing but the guest's name."""
    files.write("/etc/hostname", f"{spec.name}\n".encode(), 0o644)
    files.write("/etc/os-release", OS_RELEASE.encode(), 0o644)
    _leave_cloud_inits_traces(spec, files)
    if not files.exists(MACHINE_ID):
        files.write(MACHINE_ID, f"{uuid.uuid4().hex}\n".encode(), 0o444)
    if not files.exists(SSH_HOST_KEY):
        _make_ssh_host_key(spec, files)
    if role and role.csr and not files.exists(role.csr):
        _make_request(spec, role, files)


def _leave_cloud_inits_traces(spec: GuestSpec, files: GuestFiles) -> None:
    """What cloud-init would have left: that it is done, the instance's name, and those files that appliances have a use for."""
    stage = {"start": 0.5, "finished": 1.0, "errors": [], "recoverable_errors": {}}
    status = {"v1": {"datasource": "DataSourceNoCloud [seed=/dev/sr0]", "stage": None} | dict.fromkeys(STAGES, stage)}
    made = {CLOUD_INIT_STATUS: json.dumps(status), INSTANCE_ID: f"{spec.instance_id}\n", CLOUD_INIT_LOG: "", SET_UP: ""}
    made[USER_DATA] = spec.user_data
    for path, text in {**made, **_own_files(spec.user_data)}.items():
        files.make_folder(str(PurePosixPath(path).parent), parents=True)
        files.write(path, text.encode(), 0o644)


def _own_files(user_data: str) -> dict[str, str]:
    """The lab's settings and authority from the document's `write_files`."""
    try:
        document = YAML(typ="safe", pure=True).load(user_data)
    except YAMLError:
        return {}
    entries = document.get("write_files") if isinstance(document, dict) else None
    found = {str(entry.get("path")): str(entry.get("content", "")) for entry in entries or () if isinstance(entry, dict)}
    return {path: text for path, text in found.items() if path == CA_FILE or path.startswith("/etc/lab/")}


def _make_ssh_host_key(spec: GuestSpec, files: GuestFiles) -> None:
    key = ed25519.Ed25519PrivateKey.generate()
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption())
    public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    files.make_folder("/etc/ssh", parents=True)
    files.write(SSH_HOST_KEY, private, 0o600)
    files.write(f"{SSH_HOST_KEY}.pub", public + f" root@{spec.name}\n".encode(), 0o644)


def _make_request(spec: GuestSpec, role: GuestRole, files: GuestFiles) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    names: list[x509.GeneralName] = [x509.DNSName(name) for name in dict.fromkeys((spec.name, spec.fqdn))]
    names.append(x509.IPAddress(ipaddress.ip_address(spec.address)))
    request = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, spec.name)]))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(key, hashes.SHA256())
    )
    files.make_folder(str(PurePosixPath(role.csr).parent), parents=True)
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    files.write(key_path(role), private, 0o600)
    files.write(role.csr, request.public_bytes(serialization.Encoding.PEM), 0o644)
