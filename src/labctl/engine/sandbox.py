"""The sandbox of a lab: start, stop, look, reset."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from labctl.adapters.keys import Keyring
from labctl.engine.identity import identities
from labctl.engine.journal import lab_lock
from labctl.engine.lab import OpenLab
from labctl.engine.paths import private_files
from labctl.engine.session import local_state
from labctl.engine.status import lab_session
from labctl.engine.steps.vault import KEYS, NOTE, OPERATOR_KEYS, operator_login
from labctl.engine.target import begin_sandbox, sandbox_config
from labctl.model.catalogue import STORE_ROOT
from labctl.model.errors import LabError
from labctl.sandbox import supervisor
from labctl.sandbox.supervisor import SandboxInfo
from labctl.synth import MANIFEST

_LEFT = ("state", "stacks")


def start_sandbox(found: OpenLab, say: Callable[[str], None]) -> SandboxInfo:
    """Starts it, or finds it running.

    Raises:
        UserError: The lab's target is no sandbox, or its port is taken.
    """
    config = sandbox_config(found.lab, found.guests)
    found.paths.create()
    with private_files():
        return begin_sandbox(found.paths, config, found.guests, say)


def build_image(say: Callable[[str], None]) -> str:
    """Builds the base image of container guests where the Docker engine does not have it; its name.

    Raises:
        UserError: mmdebstrap is not installed.
        AdapterError: No Docker engine answers, or the image cannot be built.
    """
    from labctl.sandbox.guests.engine import Engine
    from labctl.sandbox.guests.image import ensure_image

    return ensure_image(Engine(), say)


def build_images(names: Sequence[str], say: Callable[[str], None]) -> list[dict[str, Any]]:
    """Builds and keeps the sandbox's container images of these names, or all, where they are not kept; what is kept.

    Raises:
        UserError: There is no such image, mmdebstrap is not installed, or the disk is full.
        AdapterError: No Docker engine answers, or an image cannot be built.
    """
    from labctl.sandbox.images.build import ensure_images
    from labctl.sandbox.images.catalogue import repository

    return [
        {
            "name": name,
            "image": f"{repository(ready.image)}:{ready.image.version}",
            "digest": ready.kept.digest,
            "size_mib": round(ready.kept.size / 2**20, 1),
            "seconds": ready.kept.seconds,
            "built": ready.built,
        }
        for name, ready in ensure_images(names, say).items()
    ]


def stop_sandbox(found: OpenLab) -> bool:
    """Stops it; says whether it ran."""
    sandbox_config(found.lab)
    return supervisor.stop(found.paths.sandbox)


def reset_sandbox(found: OpenLab) -> None:
    """Deletes the sandbox and the states of what was in it. The keys are kept aside.

    Raises:
        UserError: The lab's target is no sandbox, or a run holds the lab.
    """
    sandbox_config(found.lab)
    if not found.paths.root.is_dir():
        return
    with lab_lock(found.paths, "sandbox reset"):
        supervisor.reset(found.paths.sandbox)
        for name in _LEFT:
            shutil.rmtree(found.paths.root / name, ignore_errors=True)
        # A manifest without the stacks that it names would be taken for a damaged synthesis.
        (found.paths.root / MANIFEST).unlink(missing_ok=True)
        # The next sandbox has another SSH host key, and the provider has pinned this one.
        (found.paths.home / ".ssh" / "known_hosts").unlink(missing_ok=True)
        keyring = Keyring(found.paths.keys)
        keyring.retire((OPERATOR_KEYS, KEYS))
        keyring.clear_note(NOTE)


def sandbox_status(found: OpenLab, named: Sequence[Path] = ()) -> dict[str, Any]:
    """How to reach it, for any other client. Holds the sandbox's credentials in clear."""
    config = sandbox_config(found.lab)
    info = supervisor.status(found.paths.sandbox)
    if info is None or not info.running:
        return {"running": False, "runtime": config.guests, "pve": None, "vault": None, "s3": None, "guests": []}
    return {
        "running": True,
        "runtime": config.guests,
        "pid": info.pid,
        "pve": {
            "endpoint": info.endpoint,
            "node": config.node,
            "token": f"{info.token_id}={info.token.reveal()}",
            "ca_file": str(info.ca_file),
            "ssh": {
                "address": info.ssh_address,
                "port": info.ssh_port,
                "username": info.ssh_username,
                "private_key_file": str(info.ssh_private_key_file),
            },
            "control": {"url": f"{info.endpoint}/_sandbox", "token": info.control_token.reveal()},
        },
        **_services(found, named),
        "guests": [
            {"vmid": guest.vmid, "name": guest.name, "role": guest.role, "status": guest.status, "address": guest.address}
            for guest in info.guests
        ],
    }


def _services(found: OpenLab, named: Sequence[Path]) -> dict[str, Any]:
    outputs = local_state(found.paths, "foundation").outputs or {}
    if not {"vault_address", "s3_endpoint", "s3_region"} <= outputs.keys():
        return {"vault": None, "s3": None}
    vault: dict[str, Any] = {"address": outputs["vault_address"], "ca_file": str(found.paths.authority)}
    s3: dict[str, Any] = {
        "endpoint": outputs["s3_endpoint"],
        "region": outputs["s3_region"],
        "ca_file": str(found.paths.authority),
    }
    try:
        session = lab_session(found, outputs, named)
    except LabError as error:
        return {"vault": vault | {"problem": str(error)}, "s3": s3}
    _version, root = session.vault.read(STORE_ROOT)
    s3 |= {"access_key": root["access_key"].reveal(), "secret_key": root["secret_key"].reveal()}
    login = operator_login(Keyring(found.paths.keys), identities(found.paths, named))
    vault |= {"role_id": login.role_id.reveal(), "secret_id": login.secret_id.reveal()}
    session.close()
    return {"vault": vault, "s3": s3}
