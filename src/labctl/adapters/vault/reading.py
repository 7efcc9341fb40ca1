"""How a Vault is set up and which secrets it has, read without a value of any."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any, TypeVar

from labctl.adapters.vault._errors import Absent, explained
from labctl.adapters.vault.client import Vault
from labctl.model.catalogue import MOUNT
from labctl.model.drift.vault import FoundSecret, Mount

_T = TypeVar("_T")

AT_ONCE = 8
"""Requests. hvac's connection pool holds ten."""


class Reading:
    """Reads of one Vault, each of which may be refused by itself.

    Every method raises LabErrors, as those of `Vault`.

    Args:
        vault: Logged in as somebody who may read: labctl, or its nightly check.
    """

    def __init__(self, vault: Vault) -> None:
        self.vault = vault
        self._client = vault.client

    def policies(self, expected: frozenset[str]) -> dict[str, str | None]:
        """Every policy by name, with the text of those that are expected; None for the others, which are not read."""
        with explained(self.vault.address):
            names = list(self._client.sys.list_acl_policies()["data"]["keys"])
        return dict(zip(names, self._each(lambda name: self._policy(name) if name in expected else None, names), strict=True))

    def _policy(self, name: str) -> str:
        with explained(self.vault.address):
            return str(self._client.sys.read_acl_policy(name)["data"]["policy"])

    def mounts(self) -> dict[str, Mount]:
        """The secrets engines by path."""
        with explained(self.vault.address):
            return _mounts(self._client.sys.list_mounted_secrets_engines()["data"])

    def logins(self) -> dict[str, Mount]:
        """The auth methods by path."""
        with explained(self.vault.address):
            return _mounts(self._client.sys.list_auth_methods()["data"])

    def kv_settings(self) -> Mapping[str, Any]:
        """The settings of the lab's KV mount."""
        with explained(self.vault.address):
            return dict(self._client.secrets.kv.v2.read_configuration(mount_point=MOUNT)["data"])

    def audit_devices(self) -> tuple[str, ...]:
        """Where requests are written down, by path."""
        with explained(self.vault.address):
            return tuple(sorted(self._client.sys.list_enabled_audit_devices()["data"]))

    def roles(self) -> dict[str, Mapping[str, Any]]:
        """The settings of every AppRole by name."""
        try:
            with explained(self.vault.address):
                names = list(self._client.auth.approle.list_roles()["data"]["keys"])
        except Absent:
            return {}
        return dict(zip(names, self._each(self._role, names), strict=True))

    def _role(self, name: str) -> Mapping[str, Any]:
        with explained(self.vault.address):
            return dict(self._client.auth.approle.read_role(name)["data"])

    def secret_ids(self, role: str) -> tuple[datetime, ...]:
        """When each secret-id of a role ends that is out; those that never end are left out."""
        try:
            with explained(self.vault.address):
                accessors = list(self._client.auth.approle.list_secret_id_accessors(role)["data"]["keys"])
        except Absent:
            return ()
        ends = (self._secret_id(role, accessor) for accessor in accessors)
        return tuple(sorted(end for end in ends if end is not None))

    def _secret_id(self, role: str, accessor: str) -> datetime | None:
        try:
            with explained(self.vault.address):
                about = self._client.auth.approle.read_secret_id_accessor(role, accessor)["data"]
        except Absent:
            return None  # it ended between the list and now
        end = _moment(str(about["expiration_time"]))
        return end if end is not None and end.year > 1 else None

    def secrets(self) -> tuple[FoundSecret, ...]:
        """Every secret of the lab by path: its versions and the names of its fields."""
        paths = self._paths("")
        found = self._each(self._secret, paths)
        return tuple(sorted((one for one in found if one is not None), key=lambda one: one.path))

    def _paths(self, folder: str) -> list[str]:
        try:
            with explained(self.vault.address):
                keys = self._client.secrets.kv.v2.list_secrets(folder, mount_point=MOUNT)["data"]["keys"]
        except Absent:
            return []
        within = [self._paths(f"{folder}{key}") if key.endswith("/") else [f"{folder}{key}"] for key in keys]
        return [path for paths in within for path in paths]

    def _secret(self, path: str) -> FoundSecret | None:
        try:
            with explained(self.vault.address):
                about = self._client.secrets.kv.v2.read_secret_metadata(path, mount_point=MOUNT)["data"]
        except Absent:
            return None
        version = int(about["current_version"])
        versions: Mapping[str, Any] = about.get("versions") or {}
        newest = versions.get(str(version), {})
        deleted, destroyed = bool(newest.get("deletion_time")), bool(newest.get("destroyed"))
        alive = (int(n) for n, one in versions.items() if not one.get("destroyed") and not one.get("deletion_time"))
        fields = self._fields(path) if version and not deleted and not destroyed else None
        return FoundSecret(path, version, fields, deleted, destroyed, max(alive, default=0))

    def _fields(self, path: str) -> frozenset[str] | None:
        """The names of its fields: this call of the API answers without values. None where it was deleted meanwhile."""
        try:
            with explained(self.vault.address):
                answer = self._client.read(f"{MOUNT}/subkeys/{path}")
        except Absent:
            return None
        return frozenset(answer["data"]["subkeys"] or ()) if answer else None

    def _each(self, read: Callable[[str], _T], names: Sequence[str]) -> list[_T]:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            return list(pool.map(read, names))


def _mounts(data: Mapping[str, Mapping[str, Any]]) -> dict[str, Mount]:
    return {
        path: Mount(str(one["type"]), str((one.get("options") or {}).get("version", ""))) for path, one in sorted(data.items())
    }


def _moment(text: str) -> datetime | None:
    """A time as Go writes it; fractions of a second are cut to what Python reads."""
    head, point, fraction = text.removesuffix("Z").partition(".")
    try:
        return datetime.fromisoformat(f"{head}{point}{fraction[:6].ljust(6, '0') if point else ''}+00:00")
    except ValueError:
        return None
