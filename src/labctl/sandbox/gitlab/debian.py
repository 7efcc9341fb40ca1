"""Debian's formats, written in Python: packages (`ar` around two tars) and the indices of a repository.

No tool of Debian is needed on the machine that runs the sandbox. The same input gives the same bytes.
Sources: deb(5), deb-control(5), and the Debian wiki's page on the repository format.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime


@dataclass(frozen=True, slots=True)
class PackageFile:
    """A file of a package: where it lies, absolute, and its permissions."""

    path: str
    content: bytes
    mode: int = 0o644


@dataclass(frozen=True, slots=True)
class Package:
    """A binary package for every architecture.

    Attributes:
        name: Its name.
        version: Its version.
        depends: What it needs, as `Depends` lists it.
        description: One line.
        files: What it installs.
        scripts: Maintainer scripts by name, as `postinst`.
    """

    name: str
    version: str
    depends: Sequence[str]
    description: str
    files: Sequence[PackageFile]
    scripts: Mapping[str, bytes]

    @property
    def file_name(self) -> str:
        """The name of the `.deb`."""
        return f"{self.name}_{self.version}_all.deb"

    def control(self) -> str:
        """The control file, which is also the package's paragraph in the index."""
        fields = {
            "Package": self.name,
            "Version": self.version,
            "Architecture": "all",
            "Maintainer": "labctl's sandbox <sandbox@labctl.invalid>",
            "Installed-Size": str(1 + sum(len(file.content) for file in self.files) // 1024),
            "Depends": ", ".join(self.depends),
            "Section": "admin",
            "Priority": "optional",
            "Description": self.description,
        }
        return "".join(f"{name}: {value}\n" for name, value in fields.items())


def deb(package: Package) -> bytes:
    """The package as a `.deb`."""
    control = [PackageFile("/control", package.control().encode())]
    control += [PackageFile(f"/{name}", content, 0o755) for name, content in sorted(package.scripts.items())]
    members = {"debian-binary": b"2.0\n", "control.tar.gz": _tar(control), "data.tar.gz": _tar(package.files)}
    archive = io.BytesIO(b"!<arch>\n")
    archive.seek(0, io.SEEK_END)
    for name, content in members.items():
        archive.write(f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(content):<10}`\n".encode())
        archive.write(content + b"\n" * (len(content) % 2))
    return archive.getvalue()


def _tar(files: Sequence[PackageFile]) -> bytes:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.GNU_FORMAT) as tar:
        folders = {str(parent) for file in files for parent in _parents(file.path)}
        for folder in sorted(folders):
            tar.addfile(_entry(f".{folder}/" if folder else "./", 0o755, tarfile.DIRTYPE))
        for file in sorted(files, key=lambda one: one.path):
            entry = _entry(f".{file.path}", file.mode)
            entry.size = len(file.content)
            tar.addfile(entry, io.BytesIO(file.content))
    return gzip.compress(raw.getvalue(), mtime=0)


def _parents(path: str) -> list[str]:
    parts = path.split("/")[:-1]
    return ["/".join(parts[: n + 1]) for n in range(len(parts))]


def _entry(name: str, mode: int, kind: bytes = tarfile.REGTYPE) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.mode, entry.type, entry.uname, entry.gname = mode, kind, "root", "root"
    return entry


def packages_index(package: Package, path: str, content: bytes) -> bytes:
    """The `Packages` file of a repository with one package, which lies at `path`."""
    sums = {"MD5sum": hashlib.md5(content, usedforsecurity=False), "SHA1": hashlib.sha1(content, usedforsecurity=False)}
    fields = {"Filename": path, "Size": str(len(content)), **{name: found.hexdigest() for name, found in sums.items()}}
    fields["SHA256"] = hashlib.sha256(content).hexdigest()
    return (package.control() + "".join(f"{name}: {value}\n" for name, value in fields.items()) + "\n").encode()


def release(codename: str, origin: str, architectures: Sequence[str], indices: Mapping[str, bytes], moment: datetime) -> bytes:
    """The `Release` file over the indices, by their paths."""
    lines = [
        f"Origin: {origin}",
        f"Label: {origin}",
        f"Suite: {codename}",
        f"Codename: {codename}",
        f"Date: {format_datetime(moment.astimezone(UTC), usegmt=True)}",
        f"Architectures: {' '.join(architectures)}",
        "Components: main",
        f"Description: labctl's stand-ins for {origin}",
        "SHA256:",
        *(f" {hashlib.sha256(content).hexdigest()} {len(content)} {path}" for path, content in sorted(indices.items())),
    ]
    return ("\n".join(lines) + "\n").encode()
