"""`labctl env`: the lab's Terraform environment for another program, as the plain CDKTF CLI."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from labctl.adapters.terraform import PROGRAM_VARIABLE, own_program
from labctl.engine.lab import OpenLab
from labctl.engine.ownprovider import provider_access, provider_login
from labctl.engine.paths import private_files
from labctl.engine.session import local_state
from labctl.engine.status import lab_session
from labctl.engine.target import open_target
from labctl.engine.workspace import find_toolchain, terraform_environment
from labctl.model.errors import LabError, UserError
from labctl.model.secret import Secret


def run_with_environment(found: OpenLab, command: Sequence[str], named: Sequence[Path] = ()) -> int:
    """Runs the command to its end; returns its exit code.

    Raises:
        LabError: The target or the Vault is out of reach, or there is no such command.
    """
    found.paths.create()
    with private_files():
        target = open_target(found.lab, found.paths, lambda _text: None)
        tools = find_toolchain(found.paths, lambda _text: None)
        outputs = local_state(found.paths, "foundation").outputs
        session = lab_session(found, outputs, named) if outputs else None
        needed = terraform_environment(found.paths, target, session)
        login = provider_login(session) if session else None
    own = {
        **needed,
        **(provider_access(session, login, found.paths) if session else {}),
        PROGRAM_VARIABLE: own_program(),
        "LABCTL_LAB": str(found.paths.file),
        "TF_CLI_CONFIG_FILE": str(tools.cli_config),
        "TERRAFORM_BINARY_NAME": str(tools.engine.path),
        "CHECKPOINT_DISABLE": "1",
    }
    clear = {name: value.reveal() if isinstance(value, Secret) else value for name, value in own.items()}
    try:
        return subprocess.run(list(command), env={**os.environ, **clear}, check=False).returncode
    except FileNotFoundError:
        raise UserError(f"there is no command {command[0]!r} on PATH") from None
    finally:
        if login is not None:
            with suppress(LabError):
                login.revoke_self()
        if session is not None:
            session.close()
