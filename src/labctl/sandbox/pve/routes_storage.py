"""`/storage` and `/nodes/{node}/storage`: datastores, their content, downloads."""

from __future__ import annotations

import re
import time
import urllib.parse

from labctl.sandbox.pve.errors import ApiError, invalid
from labctl.sandbox.pve.formats import digest, parse_size, split_list
from labctl.sandbox.pve.routing import Call, any_check, perm, route
from labctl.sandbox.pve.schema import BOOL, NATURAL, STORAGE_ID, TEXT, VMID, Param
from labctl.sandbox.pve.state import Storage, Task
from labctl.sandbox.pve.storage import FOLDERS, VolumeInfo, downloaded

_USE = perm("/storage/{storage}", "Datastore.Audit", "Datastore.AllocateSpace", any_of=True)
_CONTENT = ("images", "rootdir", "vztmpl", "iso", "backup", "snippets", "import", "none")
_EDITABLE = {
    "content": TEXT,
    "disable": BOOL,
    "nodes": TEXT,
    "shared": BOOL,
    "prune-backups": TEXT,
    "preallocation": TEXT,
    "is_mountpoint": TEXT,
    "mkdir": BOOL,
    "create-base-path": BOOL,
    "create-subdirs": BOOL,
    "content-dirs": TEXT,
    "bwlimit": TEXT,
    "max-protected-backups": TEXT,
    "format": TEXT,
    "delete": TEXT,
    "digest": TEXT,
}


@route("GET", "/storage", {"type": TEXT})
def list_storages(call: Call) -> object:
    """The configured storages that the caller may see."""
    return [
        _configured(name, storage)
        for name, storage in call.host.state.storages.items()
        if _may_see(call, name) and call.text("type") in {"", storage.type}
    ]


@route("GET", "/storage/{storage}", check=perm("/storage/{storage}", "Datastore.Allocate"))
def get_storage(call: Call) -> object:
    """The configuration of one storage."""
    return _configured(call.text("storage"), call.host.datastores.get(call.text("storage")))


@route("PUT", "/storage/{storage}", _EDITABLE, check=perm("/storage/{storage}", "Datastore.Allocate"))
def edit_storage(call: Call) -> object:
    """Change a storage, such as which content it takes."""
    name = call.text("storage")
    storage = call.host.datastores.get(name)
    kinds = split_list(call.text("content"))
    unknown = [kind for kind in kinds if kind not in _CONTENT]
    if unknown:
        raise invalid(content=f"invalid format - invalid content type '{unknown[0]}'\n")
    if "content" in call.args:
        storage.content = ",".join(kinds)
    for key in call.items("delete"):
        storage.options.pop(key, None)
    storage.options.update(
        {key: call.text(key) for key in _EDITABLE if key in call.args and key not in {"content", "delete", "digest"}}
    )
    return {"storage": name, "type": storage.type}


@route("GET", "/nodes/{node}/storage", {"content": TEXT, "enabled": BOOL, "format": BOOL, "storage": STORAGE_ID, "target": TEXT})
def node_storages(call: Call) -> object:
    """The storages of the node with their usage."""
    kinds = split_list(call.text("content"))
    return [
        {"storage": name, **_usage(storage)}
        for name, storage in call.host.state.storages.items()
        if _may_see(call, name)
        and call.text("storage") in {"", name}
        and (not kinds or set(kinds) & set(split_list(storage.content)))
    ]


@route("GET", "/nodes/{node}/storage/{storage}/status", check=_USE)
def storage_status(call: Call) -> object:
    """The usage of one storage."""
    return _usage(call.host.datastores.get(call.text("storage")))


@route("GET", "/nodes/{node}/storage/{storage}/content", {"content": TEXT, "vmid": VMID}, check=_USE)
def list_content(call: Call) -> object:
    """The volumes of a storage, as far as the caller may read them."""
    return [
        _listed(volume)
        for volume in call.host.datastores.volumes(call.text("storage"))
        if call.text("content") in {"", volume.content}
        and (not call.text("vmid") or call.number("vmid") == volume.vmid)
        and _may_read(call, volume)
    ]


def _may_read(call: Call, volume: VolumeInfo) -> bool:
    """Who may read a volume (PVE::Storage, check_volume_access). What nobody allows is left out of a listing, in silence."""
    path, guest = f"/storage/{volume.volid.partition(':')[0]}", f"/vms/{volume.vmid}"
    if call.allowed(path, "Datastore.Allocate"):
        return True
    if volume.content in {"iso", "vztmpl", "import"}:
        return call.allowed(path, "Datastore.Audit", "Datastore.AllocateSpace", any_of=True)
    if not volume.vmid or volume.content == "snippets":
        return False
    if volume.vmid == call.number("vmid"):
        return True
    if volume.content == "backup":
        return call.allowed(path, "Datastore.AllocateSpace") and call.allowed(guest, "VM.Backup")
    return call.allowed(path, "Datastore.Audit") and call.allowed(guest, "VM.Config.Disk")


@route(
    "POST",
    "/nodes/{node}/storage/{storage}/content",
    {
        "filename": TEXT.must(),
        "format": Param(choices=("raw", "qcow2", "subvol", "vmdk")),
        "size": Param(pattern=r"\d+[MG]?", required=True),
        "vmid": VMID.must(),
    },
    check=perm("/storage/{storage}", "Datastore.AllocateSpace"),
)
def allocate(call: Call) -> object:
    """Make a disk image that no guest has yet. Without a unit its size is in KiB."""
    name, storage, size = call.text("filename"), call.text("storage"), call.text("size")
    if not re.fullmatch(rf"vm-{call.number('vmid')}-[\w.+-]+", name):
        raise ApiError(500, f"illegal name '{name}' - should be 'vm-{call.number('vmid')}-*'")
    if f"{storage}:{name}" in call.host.state.volumes:
        raise ApiError(500, f"lvcreate '{name}' error: Logical Volume \"{name}\" already exists")
    size_b = parse_size(size if size[-1] in "MG" else f"{size}K")
    return call.host.datastores.allocate(storage, call.number("vmid"), size_b, volume=name)


@route("GET", "/nodes/{node}/storage/{storage}/content/{volume:rest}", check=_USE)
def get_content(call: Call) -> object:
    """One volume."""
    volid = _volid(call)
    volume = call.host.datastores.volume(volid)
    return {"path": call.host.datastores.path_of(volid), "size": volume.size, "used": volume.size, "format": volume.format}


@route(
    "DELETE",
    "/nodes/{node}/storage/{storage}/content/{volume:rest}",
    {"delay": NATURAL},
    check=perm("/storage/{storage}", "Datastore.Allocate", "Datastore.AllocateSpace", "Datastore.AllocateTemplate", any_of=True),
)
def remove_content(call: Call) -> object:
    """Remove a volume."""
    volid = _volid(call)
    volume = call.host.datastores.volume(volid)
    if not volid.startswith(f"{call.text('storage')}:snippets/") and not call.allowed(
        f"/storage/{call.text('storage')}", "Datastore.Allocate"
    ):
        call.require(f"/storage/{call.text('storage')}", "Datastore.AllocateTemplate")

    def body(task: Task) -> None:
        call.host.datastores.remove(volid)
        task.log.append(f"Removed volume '{volid}'")

    owner = f"{volume.vmid}@" if volume.vmid else ""
    return call.host.tasks.start("imgdel", f"{owner}{call.text('storage')}", call.caller, body)


@route(
    "GET",
    "/nodes/{node}/query-url-metadata",
    {"url": Param(pattern=r"https?://.+", required=True), "verify-certificates": BOOL},
    check=any_check(perm("/nodes/{node}", "Sys.AccessNetwork"), perm("/", "Sys.Audit", "Sys.Modify")),
)
def url_metadata(call: Call) -> object:
    """What a server would say about a file. The sandbox asks nobody: it names the size that its own download has."""
    name = urllib.parse.urlsplit(call.text("url")).path.rsplit("/", 1)[-1]
    image = name.endswith((".qcow2", ".img", ".raw", ".iso", ".vmdk", ".ova"))
    kind = "import" if image else "vztmpl"
    return {"filename": name, "mimetype": "application/octet-stream", "size": len(downloaded(kind))}


@route(
    "POST",
    "/nodes/{node}/storage/{storage}/download-url",
    {
        "content": Param(choices=("iso", "vztmpl", "import"), required=True),
        "filename": Param(max_length=255, required=True),
        "url": Param(pattern=r"https?://.+", required=True),
        "checksum": TEXT,
        "checksum-algorithm": Param(choices=("md5", "sha1", "sha224", "sha256", "sha384", "sha512")),
        "compression": TEXT,
        "verify-certificates": BOOL,
    },
)
def download(call: Call) -> object:
    """Stand in for a download: the file appears, but nothing comes from a network (see `storage.write_image`)."""
    name, content, file_name = call.text("storage"), call.text("content"), call.text("filename")
    call.require(f"/storage/{name}", "Datastore.AllocateTemplate")
    any_check(perm("/nodes/{node}", "Sys.AccessNetwork"), perm("/", "Sys.Audit", "Sys.Modify"))(call)
    storage = call.host.datastores.get(name)
    if content not in split_list(storage.content):
        raise ApiError(500, f"storage '{name}' is not configured for content-type '{content}'")
    if "/" in file_name or not file_name.endswith(_SUFFIXES[content]):
        raise invalid(filename="wrong file extension")
    if bool(call.text("checksum")) != bool(call.text("checksum-algorithm")):
        raise invalid(checksum="missing checksum or checksum-algorithm")
    volid = f"{name}:{content}/{file_name}"
    if any(volume.volid == volid for volume in call.host.datastores.volumes(name)):
        raise ApiError(500, f"refusing to override existing file '{file_name}'")

    def body(task: Task) -> None:
        task.log.append(f"downloading {call.text('url')} to {call.host.datastores.path_of(volid)}")
        task.log.append("sandbox: nothing is downloaded, an empty image takes its place; a checksum is not compared")
        call.host.datastores.write_image(name, content, file_name)

    return call.host.tasks.start("download", file_name, call.caller, body)


_SUFFIXES = {
    "iso": (".iso", ".img"),
    "vztmpl": (".tar.gz", ".tar.xz", ".tar.zst", ".tar.bz2"),
    "import": (".qcow2", ".raw", ".vmdk", ".ova"),
}


def _may_see(call: Call, name: str) -> bool:
    return call.allowed(f"/storage/{name}", "Datastore.Audit", "Datastore.AllocateSpace", any_of=True)


def _configured(name: str, storage: Storage) -> dict[str, object]:
    shown: dict[str, object] = {"storage": name, "type": storage.type, "content": storage.content, **storage.options}
    if storage.path:
        shown["path"] = storage.path
    return {**shown, "digest": digest(shown)}


def _usage(storage: Storage) -> dict[str, object]:
    used = storage.total // 50
    return {
        "type": storage.type,
        "content": storage.content,
        "active": 1,
        "enabled": 0 if storage.options.get("disable") else 1,
        "shared": 0,
        "total": storage.total,
        "used": used,
        "avail": storage.total - used,
        "used_fraction": 0.02,
    }


def _listed(volume: VolumeInfo) -> dict[str, object]:
    entry: dict[str, object] = {
        "volid": volume.volid,
        "content": volume.content,
        "format": volume.format,
        "size": volume.size,
        "ctime": volume.ctime or int(time.time()),
    }
    return {**entry, "vmid": volume.vmid} if volume.vmid else entry


def _volid(call: Call) -> str:
    volume, storage = call.text("volume"), call.text("storage")
    if ":" not in volume:
        volume = f"{storage}:{volume}"
    name, _, rest = volume.partition(":")
    if name != storage:
        raise ApiError(
            400, "Parameter verification failed.", {"volume": f"storage mismatch - volume is on '{name}', not on '{storage}'"}
        )
    if "/" in rest and rest.split("/")[0] not in FOLDERS:
        raise ApiError(500, f"unable to parse volume ID '{volume}'")
    return volume
