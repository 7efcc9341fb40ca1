"""What a container guest is born with, as files of this machine: cloud-init's seed, hosts file, resolver."""

from __future__ import annotations

from pathlib import Path

from labctl.sandbox.guests.runtime import GuestSpec

SEED = "/var/lib/cloud/seed/nocloud"
HOSTS = "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\nff02::1 ip6-allnodes\nff02::2 ip6-allrouters\n"


def write_seed(folder: Path, spec: GuestSpec, resolver: str) -> dict[str, str]:
    """Write a guest's files, and say where each is to be mounted: `folder[:ro]` by path in the guest.

    Args:
        folder: The guest's own folder.
        spec: The guest.
        resolver: Address of the network's name server, "" for Docker's own.
    """
    seed, hosts = folder / "seed", folder / "hosts"
    seed.mkdir(mode=0o700, parents=True, exist_ok=True)
    # As PVE: the instance-id follows what cloud-init is given; it runs again after a change (PVE/QemuServer/Cloudinit.pm).
    _write(seed / "meta-data", f"instance-id: {spec.instance_id}\n", 0o600)
    _write(seed / "user-data", spec.user_data or "#cloud-config\n{}\n", 0o600)
    if not hosts.exists():
        # A mount of its own keeps it over a restart; Docker would write it anew each time.
        _write(hosts, HOSTS, 0o644)
    mounts = {f"{SEED}:ro": str(seed), "/etc/hosts": str(hosts)}
    if resolver:
        domain = spec.fqdn.partition(".")[2]
        _write(folder / "resolv.conf", f"nameserver {resolver}\n" + (f"search {domain}\n" if domain else ""), 0o644)
        mounts["/etc/resolv.conf"] = str(folder / "resolv.conf")
    return mounts


def _write(path: Path, text: str, mode: int) -> None:
    path.touch()
    path.chmod(mode)
    # In place: a running guest sees the file that was mounted, not one that took its name.
    path.write_text(text)
