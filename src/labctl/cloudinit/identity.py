"""The agent of OpenBao in guests that read secrets: how it logs in, and what it renders."""

from __future__ import annotations

from collections.abc import Sequence

from labctl.cloudinit.base import ETC, UNITS, environment_file, openbao, script
from labctl.cloudinit.layerfiles import layer_template
from labctl.cloudinit.part import GuestFile, Part
from labctl.cloudinit.quoting import hcl
from labctl.cloudinit.request import UserDataRequest
from labctl.model.guestfiles import (
    AGENT_CONFIG,
    CA_FILE,
    IDENTITY_READY,
    IDENTITY_UNIT,
    ROLE_ID,
    RUN_DIR,
    WRAPPED_SECRET_ID,
)
from labctl.model.rendered import Template, templates
from labctl.model.vaultroles import guest_role

_PATH_UNIT = IDENTITY_UNIT.removesuffix(".service") + ".path"


def identity_part(request: UserDataRequest) -> Part:
    """Where the guest finds the Vault, and the agent that waits for the guest's one-time identity.

    That is delivered under `/run/lab` through the guest agent, never from here.
    """
    if not request.vault_address:
        return Part()
    variables = {"VAULT_ADDR": request.vault_address, "VAULT_CACERT": CA_FILE}
    files = {"role_id_file": ROLE_ID, "wrapped_file": WRAPPED_SECRET_ID}
    made = templates(request.lab, request.guest)
    service = layer_template(
        "identity/lab-identity.service",
        **files,
        ready_file=IDENTITY_READY,
        config=AGENT_CONFIG,
        run_dir=RUN_DIR,
        files=" ".join(template.path for template in made),
    )
    program = openbao()
    return Part(
        packages=program.packages,
        files=(
            GuestFile(f"{ETC}/vault.env", environment_file(variables)),
            GuestFile(AGENT_CONFIG, _agent_config(request, made)),
            GuestFile(f"{UNITS}/{IDENTITY_UNIT}", service),
            GuestFile(f"{UNITS}/{_PATH_UNIT}", layer_template("identity/lab-identity.path", wrapped_file=WRAPPED_SECRET_ID)),
            *program.files,
            script("identity/wait-identity"),
        ),
        commands=(
            *program.commands,
            ("systemctl", "daemon-reload"),
            ("systemctl", "enable", "--now", _PATH_UNIT),
        ),
    )


def _agent_config(request: UserDataRequest, made: Sequence[Template]) -> str:
    head = layer_template(
        "identity/agent.hcl",
        address=hcl(request.vault_address),
        ca_file=hcl(CA_FILE),
        role_id_file=hcl(ROLE_ID),
        wrapped_file=hcl(WRAPPED_SECRET_ID),
        wrapping_path=hcl(f"auth/approle/role/{guest_role(request.guest)}/secret-id"),
    )
    # One line each: a quoted string has no line breaks.
    return head + "".join(
        layer_template("identity/template.hcl", destination=hcl(template.path), text=hcl(template.text)) for template in made
    )
