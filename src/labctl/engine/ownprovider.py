"""labctl's own provider in a run over a lab: one process, to which the Terraforms of all stacks that need it attach.

What it may read it gets here: labctl's SSH key with the guest's host key for the Docker engine, and a login to the Vault in
a role of its own for the secrets of services.
"""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import TYPE_CHECKING

from labctl.adapters.terraform import PROGRAM_VARIABLE, REATTACH_VARIABLE, RunningProvider, own_program
from labctl.model.catalogue import PLATFORM_SSH, PROVIDER
from labctl.model.errors import LabError
from labctl.model.guestfiles import DOCKER
from labctl.model.secret import Secret

if TYPE_CHECKING:
    from labctl.adapters.vault import Vault
    from labctl.engine.labrun import LabRun
    from labctl.engine.paths import LabPaths
    from labctl.engine.session import LabSession

LOGIN_TTL_S = 60


class OwnProvider:
    """The process, started when a stack first needs it, and again when the Vault was opened since."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: RunningProvider | None = None
        self._login: Vault | None = None
        self._session: LabSession | None = None

    def environment(self, run: LabRun) -> dict[str, str | Secret]:
        """What a Terraform needs to attach to it.

        Raises:
            AdapterError: It does not start.
        """
        with self._lock:
            if self._running is None or self._session is not run.session:
                self._end()
                self._session = run.session
                self._login = provider_login(run.session) if run.session else None
                # Before the Vault is open, nothing that it could connect to is up either.
                access = provider_access(run.session, self._login, run.paths) if run.session else {}
                self._running = RunningProvider(access)
            return {REATTACH_VARIABLE: self._running.reattach, PROGRAM_VARIABLE: own_program()}

    def close(self) -> None:
        """Ends it, and its login."""
        with self._lock:
            self._end()

    def _end(self) -> None:
        if self._running is not None:
            self._running.close()
            self._running = None
        if self._login is not None:
            with suppress(LabError):
                self._login.revoke_self()
            self._login = None


def provider_login(session: LabSession) -> Vault | None:
    """A login in the provider's own role; None where the Vault does not have that yet, because foundation's steps are to come."""
    vault = session.vault
    try:
        secret_id = vault.unwrap(vault.wrapped_secret_id(PROVIDER, LOGIN_TTL_S))["secret_id"]
        return vault.login_approle(vault.role_id(PROVIDER), secret_id)
    except LabError:
        return None


def provider_access(session: LabSession, login: Vault | None, paths: LabPaths) -> dict[str, str | Secret]:
    """What the provider reads from its environment: how it gets to the Docker engine, and where it reads secrets."""
    found: dict[str, str | Secret] = {
        "LABCTL_SSH_PRIVATE_KEY": session.vault.read(PLATFORM_SSH)[1]["private_key"],
        "LABCTL_SSH_KNOWN_HOSTS": str(paths.known_hosts),
        "LABCTL_SSH_HOST_ALIAS": DOCKER.name,
    }
    if login is not None:
        found |= {"VAULT_ADDR": login.address, "VAULT_TOKEN": login.token, "VAULT_CACERT": str(paths.authority)}
    return found
