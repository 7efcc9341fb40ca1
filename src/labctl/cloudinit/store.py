"""Guest `store`: SeaweedFS with S3."""

from __future__ import annotations

from labctl.cloudinit.base import UNITS, certificate_request, private_key, python_tool, script
from labctl.cloudinit.layerfiles import layer_template, layer_text
from labctl.cloudinit.part import Account, GuestFile, Part
from labctl.cloudinit.request import UserDataRequest

_USER = "seaweedfs"
_REQUIREMENTS = "/opt/seaweedfs/requirements.txt"


def store_part(request: UserDataRequest) -> Part:
    """SeaweedFS on loopback and its S3 port on the network; it starts once its certificate and credentials are delivered."""
    role = request.guest.role
    unit = layer_template("store/seaweedfs.service", cert=role.cert, key=private_key(request), credentials=role.credentials)
    socket = layer_template("store/seaweedfs-s3.socket", cert=role.cert, credentials=role.credentials, port=str(role.port))
    return Part(
        accounts=(Account(_USER, system=True, home="/var/lib/seaweedfs"),),
        packages=("openssl", "python3-venv"),
        files=(
            GuestFile(f"{UNITS}/{role.unit}", unit),
            GuestFile(f"{UNITS}/seaweedfs-s3.socket", socket),
            GuestFile(f"{UNITS}/seaweedfs-s3.service", layer_text("store/seaweedfs-s3.service")),
            GuestFile(_REQUIREMENTS, layer_text("store/requirements.txt")),
            script("base/request-certificate"),
        ),
        commands=(
            # Before the download, so that labctl can sign it meanwhile.
            certificate_request(request, _USER),
            *python_tool("/opt/seaweedfs", _REQUIREMENTS),
            ("systemctl", "daemon-reload"),
            ("systemctl", "enable", role.unit),
            ("systemctl", "start", role.unit),
        ),
    )
