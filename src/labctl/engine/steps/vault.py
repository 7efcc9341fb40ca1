"""Brings the Vault from nothing to ready, from wherever it stands, and logs labctl in."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from labctl.adapters.keys import Keyring
from labctl.adapters.vault import (
    AppRoleCredentials,
    Denied,
    Desired,
    HalfInitialised,
    SeedResult,
    Vault,
    VaultStatus,
    bootstrap,
    login_jwt,
    seed,
)
from labctl.engine.steps.logins import ROLE_ID_VARIABLE, SECRET_ID_VARIABLE, given_login, job_login
from labctl.engine.steps.vault_actions import Action, Operator, Root, Situation, proves_unused, vault_actions
from labctl.model.catalogue import catalogue
from labctl.model.errors import AdapterError, UserError
from labctl.model.lab import Lab
from labctl.model.secret import Secret
from labctl.model.vaultroles import approles, jobs_login, policies

KEYS = "vault"
"""The key file with the unseal keys and, until it is revoked, the root token."""

OPERATOR_KEYS = "labctl"
"""The key file with the credentials of labctl's own AppRole."""

NOTE = "vault-initialisation"

RESET_TIMEOUT_S = 60.0
_MOST_ACTIONS = 60


@dataclass(frozen=True, slots=True)
class VaultSession:
    """A Vault that is ready.

    Attributes:
        client: Logged in as labctl's own AppRole. End with `client.revoke_self()`.
        changes: What this run changed, a line each.
        seeded: What seeding found and did.
    """

    client: Vault
    changes: tuple[str, ...]
    seeded: SeedResult


@dataclass(frozen=True, slots=True)
class _Keys:
    unseal: tuple[Secret, ...]
    root: Secret | None


def ensure_vault(
    vault_factory: Callable[[], Vault],
    keyring: Keyring,
    recipients: Sequence[str],
    identities: Sequence[Path],
    lab: Lab,
    reset: Callable[[], None],
    progress: Callable[[str], None],
    *,
    audit_log: Callable[[], str] | None = None,
) -> VaultSession:
    """Initialises, unseals, configures and seeds the Vault as far as it needs it, and logs in.

    It may be killed at any point and run again.

    Args:
        vault_factory: Gives a connection without a token.
        keyring: The lab's keys.
        recipients: The operators' public keys.
        identities: Private key files that are at hand; not needed while the Vault is first brought up in one go.
        lab: Whose secrets, policies and roles.
        reset: Empties the Vault's storage and starts it again. Called only if the initialisation was cut off before the keys were
            kept.
        progress: Takes a line for each action. Lines never hold values.
        audit_log: Gives the Vault's audit log, as a second proof before `reset` that nobody used it.

    Raises:
        UserError: No identity fits, keys are missing or wrong, or somebody else's Vault is there. Nothing is destroyed.
        AdapterError: The Vault cannot be reached, or fails.
    """
    life = _Life(vault_factory(), keyring, tuple(recipients), tuple(identities), lab, reset, audit_log)
    life.vault.wait_reachable()
    for _ in range(_MOST_ACTIONS):
        left = vault_actions(life.situation())
        if not left:
            return life.finish()
        progress(left[0].value)
        life.do(left[0])
    raise AdapterError("the Vault does not settle", where=life.vault.address, hint="See its log, then run again.")


def unseal_vault(vault: Vault, keyring: Keyring, identities: Sequence[Path]) -> bool:
    """Unseals the Vault with the kept keys; says whether it had to.

    Raises:
        UserError: No identity fits, the keys are missing or those of another Vault.
        AdapterError: The Vault cannot be reached.
    """
    if not _initialised(vault).sealed:
        return False
    if not keyring.exists(KEYS):
        raise UserError("the unseal keys are not in the lab's folder", where=str(keyring.directory), hint="Copy them there.")
    vault.unseal(_read_keys(keyring, identities).unseal)
    return True


def open_vault(vault: Vault, keyring: Keyring, identities: Sequence[Path]) -> Vault:
    """Logs labctl in to a Vault that is up.

    Raises:
        UserError: It is sealed or not initialised, labctl's credentials are missing or refused, or no identity fits.
        AdapterError: The Vault cannot be reached.
    """
    if _initialised(vault).sealed:
        raise UserError("the Vault is sealed", where=vault.address, hint="Run `labctl vault unseal --identity FILE`.")
    if (job := job_login()) is not None:
        return login_jwt(vault, *job)
    if (given := given_login()) is not None:
        try:
            return vault.login_approle(given.role_id, given.secret_id)
        except Denied as error:
            error.hint = (
                f"`labctl schedule install` makes a new login. {ROLE_ID_VARIABLE} and {SECRET_ID_VARIABLE} name this one."
            )
            raise
    if not keyring.exists(OPERATOR_KEYS):
        raise UserError(
            "labctl has no credentials for the Vault yet", where=vault.address, hint="Run `labctl up --layer foundation`."
        )
    credentials = operator_login(keyring, identities)
    return vault.login_approle(credentials.role_id, credentials.secret_id)


def adopt_root_token(
    vault: Vault, keyring: Keyring, recipients: Sequence[str], identities: Sequence[Path], token: Secret
) -> None:
    """Keeps a root token that was generated by hand; the next `up` makes labctl's credentials anew with it and revokes it.

    Raises:
        UserError: It is not a root token of this Vault, or no identity fits.
        AdapterError: The Vault cannot be reached.
    """
    if "root" not in vault.with_token(token).lookup_self().policies:
        raise UserError("this is not a root token", where=vault.address, hint="docs/secrets.md tells how to generate one.")
    unseal = _read_keys(keyring, identities).unseal
    keyring.write(KEYS, {"unseal_keys": unseal, "root_token": token}, recipients)


def _initialised(vault: Vault) -> VaultStatus:
    status = vault.status()
    if not status.reachable:
        raise AdapterError(status.problem, where=vault.address, hint=status.hint)
    if not status.initialised:
        raise UserError("the Vault is not initialised", where=vault.address, hint="Run `labctl up --layer foundation`.")
    return status


def _read_keys(keyring: Keyring, identities: Sequence[Path]) -> _Keys:
    held = keyring.read(KEYS, identities)
    unseal, root = held.get("unseal_keys"), held.get("root_token")
    if not isinstance(unseal, tuple) or not isinstance(root, Secret | None):
        raise AdapterError("the key file lacks the unseal keys", where=str(keyring.directory / f"{KEYS}.age"))
    return _Keys(unseal, root)


def operator_login(keyring: Keyring, identities: Sequence[Path]) -> AppRoleCredentials:
    """What labctl's own AppRole logs in with.

    Raises:
        UserError: No identity fits.
        AdapterError: The key file is missing or damaged.
    """
    held = keyring.read(OPERATOR_KEYS, identities)
    role_id, secret_id = held.get("role_id"), held.get("secret_id")
    if not isinstance(role_id, Secret) or not isinstance(secret_id, Secret):
        raise AdapterError("the key file lacks labctl's credentials", where=str(keyring.directory / f"{OPERATOR_KEYS}.age"))
    return AppRoleCredentials(role_id, secret_id)


@dataclass
class _Life:
    """What one run knows, and how each action is done."""

    vault: Vault
    keyring: Keyring
    recipients: tuple[str, ...]
    identities: tuple[Path, ...]
    lab: Lab
    reset: Callable[[], None]
    audit_log: Callable[[], str] | None
    keys: _Keys | None = None
    credentials: AppRoleCredentials | None = None
    session: Vault | None = None
    refused: bool = False
    half: bool = False
    root_alive: bool | None = None
    done: set[Action] = field(default_factory=set)
    written: set[str] = field(default_factory=set)
    changes: list[str] = field(default_factory=list)
    seeded: SeedResult = field(default_factory=SeedResult)

    # --- observing

    def situation(self) -> Situation:
        status = self.vault.status()
        if not status.reachable:
            raise AdapterError(status.problem, where=self.vault.address, hint=status.hint)
        kept = self.keyring.exists(KEYS)
        # A job has no key of an operator's, and needs none where the Vault is open.
        if status.initialised and kept and self.keys is None and (status.sealed or job_login() is None):
            self.keys = _read_keys(self.keyring, self.identities)
        return Situation(
            initialised=status.initialised,
            sealed=status.sealed,
            keys_kept=kept,
            root=self._root(status) if status.initialised and kept else Root.NONE,
            operator=self._operator(),
            marked=self._marked(),
            done=frozenset(self.done),
            half=self.half,
        )

    def _root(self, status: VaultStatus) -> Root:
        if self.keys is None or self.keys.root is None:
            return Root.NONE
        if status.sealed:
            return Root.UNKNOWN
        if self.root_alive is None:
            self.root_alive = self.vault.with_token(self.keys.root).token_alive()
        return Root.LIVE if self.root_alive else Root.REVOKED

    def _operator(self) -> Operator:
        if not self.keyring.exists(OPERATOR_KEYS):
            return Operator.NONE
        return Operator.REFUSED if self.refused else Operator.KEPT

    def _marked(self) -> bool:
        # A note about another address says nothing about this Vault.
        return (self.keyring.read_note(NOTE) or "").split(" ")[0] == self.vault.address

    # --- doing

    def do(self, action: Action) -> None:
        {
            Action.RETIRE: self._retire,
            Action.RESET: self._reset,
            Action.MARK: self._mark,
            Action.INITIALISE: self._initialise,
            Action.UNMARK: lambda: self.keyring.clear_note(NOTE),
            Action.UNSEAL: self._unseal,
            Action.CONFIGURE: self._configure,
            Action.SEED: self._seed,
            Action.KEEP_OPERATOR: self._keep_operator,
            Action.LOGIN: self._login,
            Action.REVOKE_ROOT: self._revoke_root,
            Action.FORGET_ROOT: self._forget_root,
        }[action]()

    def _retire(self) -> None:
        folder = self.keyring.retire((OPERATOR_KEYS, KEYS))
        self.keys = None
        self.changes.append(f"keys of an earlier Vault moved to {folder.name if folder else 'retired'}")

    def _reset(self) -> None:
        if self.audit_log and not proves_unused(self.audit_log()):
            raise UserError(
                "this Vault was initialised and used by somebody else; its keys are not in the lab's folder",
                where=self.vault.address,
                hint="Copy the folder keys/ from where the lab was brought up. labctl does not reset it.",
            )
        self.reset()
        deadline = time.monotonic() + RESET_TIMEOUT_S
        while not (status := self.vault.status()).reachable or status.initialised:
            if time.monotonic() > deadline:
                raise AdapterError("the Vault is not empty after its reset", where=self.vault.address, hint=status.hint)
            time.sleep(0.2)
        self.half = False
        self.changes.append("a cut-off initialisation was undone")

    def _mark(self) -> None:
        started = datetime.now(UTC).isoformat(timespec="seconds")
        self.keyring.note(NOTE, f"{self.vault.address} {started}\n")

    def _initialise(self) -> None:
        self.keyring.rehearse(self.recipients)
        try:
            result = self.vault.initialise()
        except HalfInitialised:
            self.half = True
            return
        self.keys = _Keys(result.unseal_keys, result.root_token)
        self._write_keys()
        self.root_alive = None
        self.changes.append("initialised")

    def _unseal(self) -> None:
        self.vault.unseal(self._held().unseal)
        self.changes.append("unsealed")

    def _configure(self) -> None:
        self.changes += bootstrap(self._acting(), Desired(policies(self.lab), approles(self.lab), jwt=jobs_login(self.lab)))
        self.done.add(Action.CONFIGURE)

    def _seed(self) -> None:
        self.seeded = seed(self._acting(), catalogue(self.lab))
        self.changes += [f"secret {path} generated" for path in (*self.seeded.created, *self.seeded.completed)]
        self.done.add(Action.SEED)

    def _keep_operator(self) -> None:
        self.credentials = self._acting().operator_credentials()
        payload = {"role_id": self.credentials.role_id, "secret_id": self.credentials.secret_id}
        self.keyring.write(OPERATOR_KEYS, payload, self.recipients)
        self.written.add(OPERATOR_KEYS)
        self.refused = False
        self.changes.append("labctl's own credentials made")

    def _login(self) -> None:
        if (job := job_login()) is not None:
            self.session = login_jwt(self.vault, *job)
            self.done.add(Action.LOGIN)
            return
        credentials = self.credentials or operator_login(self.keyring, self.identities)
        try:
            self.session = self.vault.login_approle(credentials.role_id, credentials.secret_id)
        except Denied:
            self.refused, self.credentials = True, None
            return
        self.done.add(Action.LOGIN)

    def _revoke_root(self) -> None:
        self._root_client().revoke_self()
        self.root_alive = False
        self.done.add(Action.REVOKE_ROOT)
        self.changes.append("root token revoked")

    def _forget_root(self) -> None:
        self.keys = _Keys(self._held().unseal, None)
        self._write_keys()
        self.root_alive = None

    def finish(self) -> VaultSession:
        """Follows a change of the operators, and hands the session over."""
        if self.session is None:
            raise AdapterError("labctl is not logged in", where=self.vault.address)
        # A job cannot read the key files; the next `up` of an operator follows the change.
        for name in () if job_login() else (KEYS, OPERATOR_KEYS):
            if name not in self.written and self.keyring.rewrap(name, self.recipients, self.identities):
                self.changes.append(f"key file {name} encrypted to the operators that lab.yaml lists now")
        return VaultSession(self.session, tuple(self.changes), self.seeded)

    def _write_keys(self) -> None:
        keys = self._held()
        root = {} if keys.root is None else {"root_token": keys.root}
        self.keyring.write(KEYS, {"unseal_keys": keys.unseal, **root}, self.recipients)
        self.written.add(KEYS)

    def _held(self) -> _Keys:
        if self.keys is None:
            raise AdapterError("the Vault's keys were not read", where=self.vault.address)
        return self.keys

    def _root_client(self) -> Vault:
        root = self._held().root
        if root is None:
            raise AdapterError("there is no root token", where=self.vault.address)
        return self.vault.with_token(root)

    def _acting(self) -> Vault:
        """Who configures: the root token as long as it lives, then labctl itself."""
        if self.root_alive:
            return self._root_client()
        if self.session is None:
            raise AdapterError("labctl is not logged in", where=self.vault.address)
        return self.session
