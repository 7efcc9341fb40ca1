"""A Vault (OpenBao) as labctl uses it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hvac
import requests

from labctl.adapters.vault._errors import Absent, Busy, Deleted, Denied, HalfInitialised, explained
from labctl.model.catalogue import MOUNT, OPERATOR
from labctl.model.errors import AdapterError, LabError, UserError
from labctl.model.secret import Secret

TIMEOUT_S = 15.0
INITIALISE_TIMEOUT_S = 120.0
"""A first initialisation waits for Raft to elect a leader: 5 to 9 s on an idle machine."""

_POLL_S = 0.05


@dataclass(frozen=True, slots=True)
class VaultStatus:
    """How a Vault is.

    Attributes:
        address: Its URL.
        reachable: It answers, and its certificate is the lab's.
        initialised: It has keys.
        sealed: It needs them.
        version: The server's version.
        shares: How many unseal keys there are.
        threshold: How many of them open it.
        problem: Why it is not reachable, "" if it is.
        hint: What to do about the problem.
    """

    address: str
    reachable: bool
    initialised: bool = False
    sealed: bool = True
    version: str = ""
    shares: int = 0
    threshold: int = 0
    problem: str = ""
    hint: str = ""


@dataclass(frozen=True, slots=True)
class InitResult:
    """What an initialisation gives, once: keep it before anything else."""

    unseal_keys: tuple[Secret, ...]
    root_token: Secret


@dataclass(frozen=True, slots=True)
class TokenInfo:
    """Whose token it is. Its time to live is in seconds, 0 for ever."""

    policies: tuple[str, ...]
    display_name: str
    ttl_s: int


@dataclass(frozen=True, slots=True)
class SecretEntry:
    """A secret that is there, without its values; `deleted` where its newest version was deleted by hand."""

    path: str
    version: int
    updated: str
    deleted: bool = False


@dataclass(frozen=True, slots=True)
class AppRoleCredentials:
    """What an AppRole logs in with."""

    role_id: Secret
    secret_id: Secret


class Vault:
    """A connection to one Vault. Environment variables and `~/.vault-token` are not looked at.

    Every method raises LabErrors: `UserError` when it is sealed, not initialised or refuses the token, `AdapterError` when it
    cannot be reached or answers something unusable. Each names the address and what to do.

    Args:
        address: `https://host:port`.
        ca_file: PEM of the authority that signed its certificate.
        token: Whom to act as; None for what needs no token.
        timeout_s: How long to wait for an answer.

    Raises:
        UserError: The authority's certificate is not there.
    """

    def __init__(self, address: str, ca_file: Path, token: Secret | None = None, timeout_s: float = TIMEOUT_S) -> None:
        if not ca_file.is_file():
            raise UserError("the lab's authority is not there", where=str(ca_file), hint="`labctl up` makes it.")
        self.address = address
        self._ca_file = ca_file
        self._timeout_s = timeout_s
        session = requests.Session()
        session.trust_env = False
        session.verify = str(ca_file)
        # An empty token is not None: hvac would search the environment and the home folder for one.
        self.client = hvac.Client(
            url=address, token=token.reveal() if token else "", session=session, timeout=timeout_s, allow_redirects=False
        )

    @property
    def token(self) -> Secret:
        """The token that it acts with; empty without one."""
        return Secret(self.client.token or "")

    def with_token(self, token: Secret) -> Vault:
        """The same Vault, acting as somebody else."""
        return type(self)(self.address, self._ca_file, token, self._timeout_s)

    # --- its life

    def status(self) -> VaultStatus:
        """How it is; works sealed, uninitialised and unreachable, and raises nothing for those."""
        try:
            with explained(self.address):
                found = self.client.sys.read_seal_status()
        except LabError as error:
            return VaultStatus(self.address, reachable=False, problem=error.message, hint=error.hint)
        if not isinstance(found, dict):
            hint = "Is something else listening on this port?"
            return VaultStatus(self.address, reachable=False, problem="it does not answer as a Vault does", hint=hint)
        return VaultStatus(
            self.address,
            reachable=True,
            initialised=found["initialized"],
            sealed=found["sealed"],
            version=found["version"],
            shares=found["n"],
            threshold=found["t"],
        )

    def wait_reachable(self, timeout_s: float = 60.0) -> VaultStatus:
        """Waits until it answers at all.

        Raises:
            AdapterError: It did not in time.
            UserError: It has a certificate that is not the lab's; waiting would not help.
        """
        deadline = time.monotonic() + timeout_s
        while not (status := self.status()).reachable:
            if "certificate" in status.problem:
                raise UserError(status.problem, where=self.address, hint=status.hint)
            if time.monotonic() > deadline:
                raise AdapterError(f"{status.problem}, for {timeout_s:.0f} s", where=self.address, hint=status.hint)
            time.sleep(_POLL_S * 4)
        return status

    def initialise(self, shares: int = 1, threshold: int = 1) -> InitResult:
        """Initialises it. The result exists nowhere else: keep it at once.

        Raises:
            HalfInitialised: An initialisation was cut off before it did anything of use; the storage must be emptied first.
            AdapterError: It is initialised already, or the answer was lost. A lost answer leaves a Vault that nobody can open.
        """
        patient = type(self)(self.address, self._ca_file, None, INITIALISE_TIMEOUT_S)
        with explained(self.address):
            try:
                answer = patient.client.sys.initialize(secret_shares=shares, secret_threshold=threshold)
            except hvac.exceptions.VaultError as error:
                if "cluster already has state" not in str(error):
                    raise
                raise HalfInitialised("its initialisation was cut off, and cannot begin again", where=self.address) from error
        return InitResult(tuple(map(Secret, answer["keys_base64"])), Secret(answer["root_token"]))

    def unseal(self, keys: Sequence[Secret], timeout_s: float = 60.0) -> None:
        """Unseals it, and waits until it serves.

        Raises:
            UserError: These keys are not this Vault's, or they are too few.
            AdapterError: It does not get ready in time.
        """
        for key in keys:
            with explained(self.address):
                try:
                    answer = self.client.sys.submit_unseal_key(key.reveal())
                except hvac.exceptions.InvalidRequest as error:
                    raise UserError(
                        "the unseal key that was kept does not open this Vault",
                        where=self.address,
                        hint="Is it another Vault, or one restored from elsewhere? Older keys lie in keys/retired/.",
                    ) from error
            if not answer["sealed"]:
                return self._wait_active(timeout_s)
        raise UserError(
            f"{len(keys)} unseal keys are not enough, {answer['t'] if keys else 'more'} are needed",
            where=self.address,
            hint="Unseal it by hand with the keys that were kept elsewhere.",
        )

    def _wait_active(self, timeout_s: float) -> None:
        """Unsealed is not yet serving: Raft elects a leader first, and until then requests fail."""
        deadline = time.monotonic() + timeout_s
        while True:
            with explained(self.address):
                if self.client.sys.read_leader_status()["is_self"]:
                    break
            if time.monotonic() > deadline:
                raise AdapterError(f"unsealed, but not active after {timeout_s:.0f} s", where=self.address, hint="See its log.")
            time.sleep(_POLL_S)
        while True:
            try:
                self.lookup_self()
                return
            except Denied:
                return
            except Busy:
                if time.monotonic() > deadline:
                    raise
                time.sleep(_POLL_S)

    # --- who

    def login_approle(self, role_id: Secret, secret_id: Secret) -> Vault:
        """The same Vault, acting as an AppRole.

        Raises:
            UserError: The credentials are refused: unknown, expired or used up.
        """
        fresh = type(self)(self.address, self._ca_file, None, self._timeout_s)
        with explained(self.address):
            answer = fresh.client.auth.approle.login(role_id.reveal(), secret_id.reveal(), use_token=False)
        return self.with_token(Secret(answer["auth"]["client_token"]))

    def lookup_self(self) -> TokenInfo:
        """Whose token this is.

        Raises:
            UserError: The token is refused.
        """
        with explained(self.address):
            found = self.client.auth.token.lookup_self()["data"]
        return TokenInfo(tuple(found["policies"]), found["display_name"], found["ttl"])

    def token_alive(self) -> bool:
        """Whether the token is accepted."""
        try:
            self.lookup_self()
        except Denied:
            return False
        return True

    def revoke_self(self) -> None:
        """Revokes the own token; one that is not alive is taken as revoked."""
        try:
            with explained(self.address):
                self.client.auth.token.revoke_self()
        except Denied:
            return

    def role_id(self, role: str) -> Secret:
        """The role-id of an AppRole."""
        with explained(self.address):
            return Secret(self.client.auth.approle.read_role_id(role)["data"]["role_id"])

    def wrapped_secret_id(self, role: str, ttl_s: int) -> Secret:
        """A new secret-id of the role, response-wrapped: the token that is returned unwraps it once, within `ttl_s` seconds."""
        with explained(self.address):
            answer = self.client.auth.approle.generate_secret_id(role, wrap_ttl=f"{ttl_s}s")
        return Secret(answer["wrap_info"]["token"])

    def wrapping_alive(self, wrapping_token: Secret) -> bool:
        """Whether a wrapping token is still unused and within its life. Looking does not use it up."""
        with explained(self.address):
            try:
                self.client.write_data("sys/wrapping/lookup", data={"token": wrapping_token.reveal()})
            except (hvac.exceptions.InvalidRequest, hvac.exceptions.Forbidden):
                return False
        return True

    def withdraw_secret_ids(self, role: str) -> int:
        """Destroys every secret-id of the role that is out, by its accessor; returns how many there were."""
        return sum(self.withdraw_secret_id(role, accessor) for accessor in self._accessors(role))

    def withdraw_secret_id(self, role: str, accessor: str) -> bool:
        """Destroys one secret-id of the role; False where there is none of this accessor any more."""
        with explained(self.address):
            try:
                self.client.auth.approle.destroy_secret_id_accessor(role, accessor)
            except hvac.exceptions.VaultError as error:
                # OpenBao 2.7 answers 500.
                if "failed to find accessor entry" not in str(error):
                    raise
                return False
        return True

    def end_logins(self, role: str) -> int:
        """Revokes every token that was handed out to the AppRole; returns how many there were."""
        with explained(self.address):
            listed = self.client.auth.token.list_accessors()["data"]["keys"]
        return sum(self._end_login(accessor, role) for accessor in listed)

    def _end_login(self, accessor: str, role: str) -> bool:
        with explained(self.address):
            try:
                about = self.client.auth.token.lookup_accessor(accessor)["data"]
                if (about.get("meta") or {}).get("role_name") != role:
                    return False
                self.client.auth.token.revoke_accessor(accessor)
            except hvac.exceptions.InvalidRequest as error:
                if "invalid accessor" not in str(error):
                    raise
                # It ended between the list and now.
                return False
        return True

    def unwrap(self, wrapping_token: Secret) -> dict[str, Secret]:
        """What a wrapping token holds; works once.

        Raises:
            AdapterError: It was unwrapped already, expired, or never was. Somebody else may have read it: do not use it.
        """
        with explained(self.address):
            try:
                answer = self.with_token(wrapping_token).client.sys.unwrap()
            except (hvac.exceptions.InvalidRequest, hvac.exceptions.Forbidden) as error:
                raise AdapterError(
                    "the wrapping token is used up or expired", where=self.address, hint="`labctl up` hands out a new one."
                ) from error
        return {name: Secret(str(value)) for name, value in answer["data"].items()}

    def operator_credentials(self) -> AppRoleCredentials:
        """New credentials of labctl's own AppRole. Every earlier secret-id is destroyed, kept or lost: only the new one works."""
        self.withdraw_secret_ids(OPERATOR)
        with explained(self.address):
            secret_id = self.client.auth.approle.generate_secret_id(OPERATOR)["data"]["secret_id"]
        return AppRoleCredentials(self.role_id(OPERATOR), Secret(secret_id))

    def _accessors(self, role: str) -> list[str]:
        try:
            with explained(self.address):
                return list(self.client.auth.approle.list_secret_id_accessors(role)["data"]["keys"])
        except Absent:
            return []

    # --- secrets

    def read(self, path: str) -> tuple[int, dict[str, Secret]]:
        """The newest version of a secret, and its fields.

        Raises:
            AdapterError: There is none (`Absent`), or it was deleted (`Deleted`).
        """
        with explained(self.address):
            try:
                answer = self.client.secrets.kv.v2.read_secret_version(path, mount_point=MOUNT, raise_on_deleted_version=False)
            except hvac.exceptions.InvalidPath as error:
                raise Absent(
                    f"there is no secret {path!r}", where=self.address, hint="`labctl secrets list` shows what there is."
                ) from error
        found = answer["data"]
        version = int(found["metadata"]["version"])
        if found["data"] is None:
            deleted = Deleted(
                f"secret {path!r} was deleted, version {version}",
                where=self.address,
                hint=f"`bao kv undelete -mount={MOUNT} -versions={version} {path}` restores it; it is not generated anew.",
            )
            deleted.version = version
            raise deleted
        return version, {name: Secret(str(value)) for name, value in found["data"].items()}

    def write(self, path: str, data: Mapping[str, Secret], cas: int) -> int:
        """Writes a new version of a secret.

        Args:
            path: Which.
            data: All its fields.
            cas: The version that it has now; 0 when it must be absent.

        Returns:
            The new version.

        Raises:
            UserError: It has another version than `cas` (`CasMismatch`).
        """
        plain = {name: value.reveal() for name, value in data.items()}
        with explained(self.address):
            answer = self.client.secrets.kv.v2.create_or_update_secret(path, plain, cas=cas, mount_point=MOUNT)
        return int(answer["data"]["version"])

    def list_secrets(self, folder: str = "") -> tuple[SecretEntry, ...]:
        """Every secret of the lab, or of a folder (`name/`), by path, without values."""
        return tuple(sorted(self._entries(folder), key=lambda entry: entry.path))

    def _entries(self, folder: str) -> list[SecretEntry]:
        try:
            with explained(self.address):
                keys = self.client.secrets.kv.v2.list_secrets(folder, mount_point=MOUNT)["data"]["keys"]
        except Absent:
            return []
        found: list[SecretEntry] = []
        for key in keys:
            path = f"{folder}{key}"
            if path.endswith("/"):
                found += self._entries(path)
                continue
            with explained(self.address):
                about: dict[str, Any] = self.client.secrets.kv.v2.read_secret_metadata(path, mount_point=MOUNT)["data"]
            version = int(about["current_version"])
            newest = (about.get("versions") or {}).get(str(version), {})
            found.append(SecretEntry(path, version, about["updated_time"], deleted=bool(newest.get("deletion_time"))))
        return found
