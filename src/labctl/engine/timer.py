"""`labctl schedule`: the nightly check, by systemd."""

from __future__ import annotations

import os
import pwd
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labctl.adapters.systemd import Systemd, TimerState
from labctl.engine.drift.vault import nightly_credentials
from labctl.engine.lab import OpenLab
from labctl.engine.paths import cannot_write, private_files, replace_file
from labctl.engine.session import LOCAL_LAYER, local_state
from labctl.engine.status import foundation_outputs, lab_session
from labctl.engine.steps.logins import GITLAB_TOKEN_VARIABLE, ROLE_ID_VARIABLE, SECRET_ID_VARIABLE
from labctl.engine.target import TOKEN_VARIABLE
from labctl.model.catalogue import DRIFT
from labctl.model.errors import LabError, UserError
from labctl.model.timer import Nightly, credentials_in, credentials_text

if TYPE_CHECKING:
    from labctl.adapters.vault import AppRoleCredentials, Vault

_ACCESSOR = "LABCTL_VAULT_SECRET_ID_ACCESSOR"
"""Takes the secret-id of the file back. It is no secret, and no command reads it but `labctl schedule`."""


@dataclass(frozen=True, slots=True)
class Installed:
    """What an installation did.

    Attributes:
        nightly: The check.
        changed: Whether a unit changed.
        login: Whether a login of its own was made for it.
    """

    nightly: Nightly
    changed: bool
    login: bool


def nightly(found: OpenLab, hour: int, minute: int, *, user: bool, credentials: bool) -> Nightly:
    """The check of a lab as it would be installed.

    Args:
        found: The lab.
        hour: When.
        minute: When.
        user: For the user's own systemd.
        credentials: It has a credentials file.
    """
    file = found.paths.file
    mirror = os.environ.get("LABCTL_MIRROR", "")
    command = _command()
    owner = pwd.getpwuid(file.stat().st_uid).pw_name
    return Nightly(
        lab=found.lab.name,
        lab_file=str(file),
        labctl=command,
        hour=hour,
        minute=minute,
        credentials=str(credentials_file(found)) if credentials else "",
        writes=(str(found.paths.root.parent), *((str(found.paths.mirror),) if found.paths.mirror.is_dir() else ())),
        user="" if user else owner,
        path=f"{Path(command).parent}:/usr/local/bin:/usr/bin:/bin",
        mirror=str(Path(mirror).absolute()) if mirror else "",
    )


def install(found: OpenLab, systemd: Systemd, wanted: Nightly, named: Sequence[Path] = ()) -> Installed:
    """Makes the check a login of its own where it has a credentials file, and installs the units.

    Raises:
        LabError: The login cannot be made, or systemd refuses.
    """
    login = bool(wanted.credentials)
    if login:
        write_credentials(found, named)
    return Installed(wanted, systemd.install(wanted.units, f"{wanted.name}.timer"), login)


def remove(
    found: OpenLab, systemd: Systemd | None, wanted: Nightly, named: Sequence[Path] = (), *, everywhere: bool = False
) -> bool:
    """Removes the units, and takes the check's login back; says whether there was anything.

    Args:
        found: The lab.
        systemd: Where the units are; None where cron does the check.
        wanted: The check.
        named: Operators' keys to open the lab's Vault with.
        everywhere: Take back the logins of every other machine too.

    Raises:
        LabError: systemd refuses; or the Vault does not answer, and the login's file stays for the next try.
    """
    there = systemd is not None and systemd.remove(tuple(wanted.units), f"{wanted.name}.timer")
    file = credentials_file(found)
    login = file.is_file()
    if login or everywhere:
        # With the layer went the Vault, and each login in it.
        if foundation := local_state(found.paths, LOCAL_LAYER).outputs:
            login |= _take_back(found, foundation, named, everywhere=everywhere)
        file.unlink(missing_ok=True)
    return there or login


def timer_state(systemd: Systemd, wanted: Nightly) -> TimerState | None:
    """Where the check stands; None where it is not installed."""
    if not all((systemd.folder / name).is_file() for name in wanted.units):
        return None
    return systemd.state(wanted.name)


def credentials_file(found: OpenLab) -> Path:
    """What the check logs in with: readable by its owner only."""
    return found.paths.root / "nightly.env"


def write_credentials(found: OpenLab, named: Sequence[Path] = ()) -> None:
    """Writes the credentials file: a new secret-id of AppRole `drift`, and the tokens of this environment.

    The secret-id that the file had is taken back then.

    The Proxmox token is needed where the target is one; GitLab's only where the check is to make issues.

    Raises:
        LabError: The Vault does not answer, has no such role, or the token is not set.
    """
    values = {}
    if found.lab.target.proxmox:
        token = os.environ.get(TOKEN_VARIABLE, "")
        if not token:
            raise UserError(
                f"{TOKEN_VARIABLE} is not set",
                hint="Set it to a token with role PVEAuditor, which the check will use; docs/nightly.md says how to make one.",
            )
        values[TOKEN_VARIABLE] = token
    if os.environ.get(GITLAB_TOKEN_VARIABLE):
        values[GITLAB_TOKEN_VARIABLE] = os.environ[GITLAB_TOKEN_VARIABLE]
    before = _accessor(found)
    session = lab_session(found, foundation_outputs(found), named)
    try:
        login, accessor = _login(session.vault)
        values |= {ROLE_ID_VARIABLE: login.role_id.reveal(), SECRET_ID_VARIABLE: login.secret_id.reveal(), _ACCESSOR: accessor}
        _write(credentials_file(found), values)
        if before:
            session.vault.withdraw_secret_id(DRIFT, before)
    finally:
        session.close()


def _login(vault: Vault) -> tuple[AppRoleCredentials, str]:
    try:
        return nightly_credentials(vault)
    except LabError as error:
        raise UserError(
            f"the check gets no login for the Vault: {error.message}",
            where=error.where,
            hint="`labctl up` makes its role. With --as-operator it uses the operator's key that lies on this machine.",
        ) from error


def _write(path: Path, values: dict[str, str]) -> None:
    try:
        with private_files():
            replace_file(path, credentials_text(values))
    except OSError as error:
        raise cannot_write(path, error) from error


def _take_back(found: OpenLab, foundation: Mapping[str, Any], named: Sequence[Path], *, everywhere: bool) -> bool:
    try:
        session = lab_session(found, foundation, named)
        try:
            if everywhere:
                return session.vault.withdraw_secret_ids(DRIFT) > 0
            accessor = _accessor(found)
            return bool(accessor) and session.vault.withdraw_secret_id(DRIFT, accessor)
        finally:
            session.close()
    except LabError as error:
        raise UserError(
            f"no timer is left, but the check's login is not taken back: {error.message}",
            where=error.where,
            hint=f"{error.hint} Then `labctl schedule remove` again.".strip(),
        ) from error


def _accessor(found: OpenLab) -> str:
    """Of the secret-id in the credentials file; "" where there is none."""
    try:
        return credentials_in(credentials_file(found).read_text()).get(_ACCESSOR, "")
    except (OSError, UnicodeDecodeError):
        return ""


def no_systemd() -> UserError:
    """What to do on a machine without it."""
    return UserError(
        "systemd does not run this machine",
        hint="`labctl schedule install --cron` makes the check's login and prints the line for `crontab -e`.",
    )


def _command() -> str:
    """The `labctl` that runs now."""
    beside = Path(sys.executable).with_name("labctl")
    return str(beside if beside.is_file() else Path(shutil.which("labctl") or sys.argv[0]).absolute())
