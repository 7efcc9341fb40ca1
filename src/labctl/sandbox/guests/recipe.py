"""What the guests' base image is built from, and the name that follows from it. Light: choosing a runtime asks for the name."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

IMAGE = "labctl-guest"
SUITE = "trixie"
INSTALL = "apt-get install mmdebstrap debian-archive-keyring"
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
PACKAGES = (
    # What a cloud image of Debian has.
    *("systemd", "systemd-sysv", "dbus", "libpam-systemd", "udev", "kmod", "cloud-init", "openssh-server", "ca-certificates"),
    *("iproute2", "iptables", "procps", "sudo", "netbase", "less", "locales", "python3-yaml"),
    # What the lab's guests install from Debian, small and the same for most: there from the start, cloud-init has less to fetch.
    *("qemu-guest-agent", "curl", "gpg", "logrotate", "openssl", "python3-venv"),
)
ROOTFS = Path(__file__).parent / "base" / "rootfs"
CUSTOMIZE = Path(__file__).parent / "base" / "customize"
HOST_AUTHORITIES = Path("/usr/local/share/ca-certificates")
INIT = "/usr/sbin/sandbox-init"
CHANGES = (f'ENTRYPOINT ["{INIT}"]', "ENV container=docker")
OPTIONS = (
    "--variant=minbase",
    "--skip=output/dev",
    # A machine with a clock that is off, or a mirror that stands still, can build it too; the signature is still checked.
    '--aptopt=Acquire::Check-Valid-Until "false"',
    '--aptopt=Acquire::Check-Date "false"',
    '--aptopt=APT::Install-Recommends "false"',
    "--dpkgopt=path-exclude=/usr/share/man/*",
    "--dpkgopt=path-exclude=/usr/share/doc/*",
    "--dpkgopt=path-exclude=/usr/share/locale/*",
)


def image_files() -> dict[str, tuple[bytes, int]]:
    """What is laid over Debian's files: by path, content and mode. This machine's extra authorities are among them."""
    files = {
        str(path.relative_to(ROOTFS)): (path.read_bytes(), 0o755 if path.parent.name == "sbin" else 0o644)
        for path in sorted(ROOTFS.rglob("*"))
        if path.is_file()
    }
    return files | authority_files()


def authority_files() -> dict[str, tuple[bytes, int]]:
    """This machine's extra authorities: behind a proxy that opens TLS, pip and curl need what this machine trusts."""
    return {
        f"usr/local/share/ca-certificates/host-{path.name}": (path.read_bytes(), 0o644)
        for path in sorted(HOST_AUTHORITIES.glob("*.crt"))
    }


def image_name() -> str:
    """Name of the image that this version builds on this machine."""
    recipe = hashlib.sha256()
    for part in (SUITE, *PACKAGES, *OPTIONS, *CHANGES, CUSTOMIZE.read_text()):
        recipe.update(part.encode() + b"\0")
    for path, (content, mode) in image_files().items():
        recipe.update(f"{path}\0{mode:o}\0".encode() + content + b"\0")
    return f"{IMAGE}:{recipe.hexdigest()[:12]}"


def cannot_build() -> str:
    """Why the image cannot be built on this machine; "" where it can."""
    if shutil.which("mmdebstrap") is None:
        return "mmdebstrap is not installed"
    return "" if KEYRING.is_file() else f"{KEYRING} is not there"
