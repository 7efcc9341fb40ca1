"""Datastores and volumes: files of a directory storage lie under the chroot, block volumes exist by name and size only."""

from __future__ import annotations

import re
import struct
import time
from dataclasses import dataclass
from pathlib import Path

from labctl.sandbox.pve.errors import ApiError, TaskError
from labctl.sandbox.pve.formats import GIB, split_list
from labctl.sandbox.pve.state import State, Storage, Volume

FOLDERS = {"snippets": "snippets", "iso": "template/iso", "vztmpl": "template/cache", "import": "import", "backup": "dump"}
IMAGE_VIRTUAL_SIZE = 3 * GIB + GIB // 2
"""What a downloaded cloud image claims to be: a plausible size that every guest's disk is larger than."""

_QCOW2_MAGIC = b"QFI\xfb"
_QCOW2_HEADER = struct.Struct(">4sIQIIQIIQQIIQQQQII")
_CLUSTER = 2**16
_BACKUP = re.compile(r"vzdump-(?:qemu|lxc)-(\d+)-")


def qcow2_image(virtual_size: int) -> bytes:
    """A valid, empty qcow2 image (version 3, QEMU's docs/interop/qcow2.rst): header, refcounts and an empty L1 table.

    Args:
        virtual_size: Size of the disk in bytes.
    """
    l1_size = -(-virtual_size // (_CLUSTER * _CLUSTER // 8))
    header = _QCOW2_HEADER.pack(
        _QCOW2_MAGIC, 3, 0, 0, 16, virtual_size, 0, l1_size, 3 * _CLUSTER, _CLUSTER, 1, 0, 0, 0, 0, 0, 4, _QCOW2_HEADER.size
    )
    refcount_table = struct.pack(">Q", 2 * _CLUSTER)
    refcounts = struct.pack(">HHHH", 1, 1, 1, 1)
    clusters = (header + bytes(8), refcount_table, refcounts, bytes(8 * l1_size))
    return b"".join(cluster.ljust(_CLUSTER, b"\0") for cluster in clusters)


def virtual_size(path: Path) -> int:
    """The size in bytes of the disk in an image file; of a raw one, its length."""
    with path.open("rb") as file:
        head = file.read(32)
    if head[:4] == _QCOW2_MAGIC:
        return int(struct.unpack(">Q", head[24:32])[0])
    return path.stat().st_size


@dataclass(frozen=True, slots=True)
class VolumeInfo:
    """What a content listing says about a volume. Sizes in bytes."""

    volid: str
    content: str
    format: str
    size: int
    vmid: int = 0
    ctime: int = 0


class Datastores:
    """The storages of the node.

    Args:
        state: Where block volumes are kept.
        chroot: The folder that stands for the node's `/`.
    """

    def __init__(self, state: State, chroot: Path) -> None:
        self._state = state
        self._chroot = chroot

    def make_folders(self) -> None:
        """Make the folders of the directory storages."""
        for name, storage in self._state.storages.items():
            if storage.type == "dir":
                for kind in FOLDERS:
                    self._folder(name, kind).mkdir(parents=True, exist_ok=True)

    def get(self, name: str) -> Storage:
        """A storage by name.

        Raises:
            ApiError: 500, there is none.
        """
        if name not in self._state.storages:
            raise ApiError(500, f"storage '{name}' does not exist")
        return self._state.storages[name]

    def require_content(self, name: str, content: str) -> None:
        """Stop unless a storage takes a kind of content.

        Raises:
            ApiError: 500.
        """
        if content not in split_list(self.get(name).content):
            raise ApiError(500, f"storage '{name}' does not support content-type '{content}'")

    def _folder(self, name: str, kind: str) -> Path:
        return self._chroot / self._state.storages[name].path.lstrip("/") / FOLDERS[kind]

    def file_of(self, volid: str) -> Path | None:
        """The file behind `storage:kind/name`, None for a block volume."""
        name, _, rest = volid.partition(":")
        kind, slash, file_name = rest.partition("/")
        storage = self._state.storages.get(name)
        if storage is None or storage.type != "dir" or kind not in FOLDERS or not slash:
            return None
        if "/" in file_name or file_name in {"", ".", ".."}:
            raise ApiError(500, f"unable to parse volume ID '{volid}'")
        return self._folder(name, kind) / file_name

    def path_of(self, volid: str) -> str:
        """The path as the node would say it."""
        file = self.file_of(volid)
        return f"/{file.relative_to(self._chroot)}" if file else f"/dev/pve/{volid.partition(':')[2]}"

    def volumes(self, name: str) -> list[VolumeInfo]:
        """Every volume of a storage."""
        storage = self.get(name)
        found = [
            VolumeInfo(volid, volume.content, volume.format, volume.size, volume.vmid, volume.ctime)
            for volid, volume in self._state.volumes.items()
            if volid.startswith(f"{name}:")
        ]
        for kind in split_list(storage.content) if storage.type == "dir" else []:
            folder = self._folder(name, kind) if kind in FOLDERS else None
            for file in sorted(folder.iterdir()) if folder and folder.is_dir() else []:
                if file.is_file() and not file.is_symlink():
                    stat = file.stat()
                    shape = file.suffix.lstrip(".") if kind == "import" else _format_of(kind, file.name)
                    owner = _BACKUP.match(file.name) if kind == "backup" else None
                    vmid, volid = int(owner[1]) if owner else 0, f"{name}:{kind}/{file.name}"
                    found.append(VolumeInfo(volid, kind, shape, stat.st_size, vmid, int(stat.st_mtime)))
        return found

    def volume(self, volid: str) -> VolumeInfo:
        """One volume.

        Raises:
            ApiError: 500, there is none.
        """
        name = volid.partition(":")[0]
        for found in self.volumes(name):
            if found.volid == volid:
                return found
        raise ApiError(500, f"volume '{volid}' does not exist")

    def image_size(self, volid: str) -> int:
        """The size in bytes of the disk in a volume that is imported."""
        file = self.file_of(volid)
        self.volume(volid)
        return virtual_size(file) if file else self._state.volumes[volid].size

    def allocate(self, name: str, vmid: int, size: int, *, volume: str = "", content: str = "images") -> str:
        """Make a block volume of `size` bytes and return its id."""
        self.require_content(name, content)
        number = 0
        while not volume and f"{name}:vm-{vmid}-disk-{number}" in self._state.volumes:
            number += 1
        volid = f"{name}:{volume or f'vm-{vmid}-disk-{number}'}"
        self._state.volumes[volid] = Volume(content, "raw", size, vmid, int(time.time()))
        return volid

    def remove(self, volid: str) -> None:
        """Remove a volume, if it is there."""
        self._state.volumes.pop(volid, None)
        file = self.file_of(volid)
        if file:
            file.unlink(missing_ok=True)

    def remove_guest(self, vmid: int) -> None:
        """Remove every disk of a guest."""
        for volid in [volid for volid, volume in self._state.volumes.items() if volume.vmid == vmid]:
            del self._state.volumes[volid]

    def write_image(self, name: str, content: str, file_name: str) -> None:
        """What a download leaves behind here: for disk images an empty qcow2, else a few bytes. Nothing comes from a network.

        Raises:
            TaskError: It could not be written.
        """
        target = self.file_of(f"{name}:{content}/{file_name}")
        if target is None:
            raise TaskError(f"storage '{name}' has no folder for '{content}'")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(downloaded(content))
        except OSError as error:
            raise TaskError(f"unable to write '{file_name}': {error.strerror}") from error


def downloaded(content: str) -> bytes:
    """The bytes that stand for a downloaded file of a kind of content."""
    return qcow2_image(IMAGE_VIRTUAL_SIZE) if content in {"import", "iso"} else b"labctl sandbox: no such file was downloaded\n"


def _format_of(kind: str, name: str) -> str:
    if kind == "vztmpl":
        return {"zst": "tzst", "xz": "txz", "gz": "tgz"}.get(name.rsplit(".", 1)[-1], "tgz")
    return "snippet" if kind == "snippets" else kind
