"""Guest `vault`: OpenBao."""

from __future__ import annotations

from labctl.cloudinit.base import UNITS, certificate_request, openbao, private_key, script
from labctl.cloudinit.layerfiles import layer_template, layer_text
from labctl.cloudinit.part import Account, GuestFile, Part
from labctl.cloudinit.quoting import hcl
from labctl.cloudinit.request import UserDataRequest
from labctl.model.guestfiles import VAULT_RESET_UNIT

_USER = "openbao"


def vault_part(request: UserDataRequest) -> Part:
    """OpenBao with raft storage and an audit log; it starts once labctl has delivered its certificate."""
    guest, role = request.guest, request.guest.role
    config = layer_template(
        "vault/openbao.hcl",
        api_address=hcl(f"https://{guest.fqdn}:{role.port}"),
        listen_address=hcl(f"0.0.0.0:{role.port}"),
        node_id=hcl(guest.name),
        cert=hcl(role.cert),
        key=hcl(private_key(request)),
    )
    program = openbao()
    return Part(
        accounts=(Account(_USER, system=True, home="/var/lib/openbao"),),
        packages=("logrotate", "openssl", *program.packages),
        files=(
            GuestFile("/etc/openbao/openbao.hcl", config),
            GuestFile(f"{UNITS}/{role.unit}", layer_template("vault/openbao.service", cert=role.cert)),
            GuestFile(f"{UNITS}/{VAULT_RESET_UNIT}", layer_text("vault/openbao-reset.service")),
            GuestFile("/etc/logrotate.d/openbao", layer_text("vault/openbao.logrotate")),
            *program.files,
            script("base/request-certificate"),
        ),
        commands=(
            # Before the download, so that labctl can sign it meanwhile.
            certificate_request(request, _USER),
            *program.commands,
            ("systemctl", "daemon-reload"),
            ("systemctl", "enable", role.unit),
            ("systemctl", "start", role.unit),
        ),
    )
