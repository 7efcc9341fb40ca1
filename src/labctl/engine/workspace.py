"""Terraform in a stack's work folder: engine, provider, environment, and when `init` is needed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from labctl.adapters.terraform import (
    BPG_PROXMOX,
    Engine,
    MirrorEntry,
    Terraform,
    ensure_provider,
    find_engine,
    write_cli_config,
    write_lock_file,
)
from labctl.engine.paths import LabPaths, replace_file
from labctl.engine.run import Run, StackRun
from labctl.engine.session import LabSession
from labctl.engine.target import TargetSession, trust_bundle
from labctl.model.secret import Secret

INIT_STAMP = ".terraform/labctl-init.json"
BACKEND_MEMORY = ".terraform/terraform.tfstate"
"""Where Terraform keeps which backend a folder was initialised with; written in place."""

LOCK_TIMEOUT_S = 10


@dataclass(frozen=True, slots=True)
class Toolchain:
    """What runs the stacks.

    Attributes:
        engine: The Terraform engine.
        cli_config: Terraform's CLI configuration, which names the mirror.
        provider: The provider in the mirror.
    """

    engine: Engine
    cli_config: Path
    provider: MirrorEntry


def find_toolchain(paths: LabPaths, say: Callable[[str], None]) -> Toolchain:
    """The engine and the provider, which is fetched or built on first use.

    Raises:
        UserError: There is no engine, or the provider can be had neither from a registry nor by building it.
    """
    engine = find_engine(paths.home / "engine-version.json")
    provider = ensure_provider(paths.mirror, BPG_PROXMOX, host=engine.registry_host, progress=say)
    cli_config = paths.home / "terraform.rc"
    write_cli_config(cli_config, paths.mirror)
    return Toolchain(engine, cli_config, provider)


def fill_mirror(paths: LabPaths, say: Callable[[str], None]) -> MirrorEntry:
    """Puts the provider into the mirror, ahead of a run.

    Raises:
        UserError: It can be had neither from a registry nor by building it.
    """
    return ensure_provider(paths.mirror, BPG_PROXMOX, host=find_engine().registry_host, progress=say)


def progress_kind(text: str) -> str:
    """The type of event for a line about the provider: of the modules that a build downloads, only the last counts."""
    return "progress" if text.startswith("go: downloading ") else "note"


def terraform(run: Run, stack: StackRun) -> Terraform:
    """Terraform for one stack, with the environment that its provider and backend need, initialised."""
    tool = _terraform(run, stack, stack.stack.folder)
    ensure_init(run, stack, tool)
    return tool


def scratch_terraform(run: Run, stack: StackRun, folder: Path) -> Terraform:
    """Terraform in a scratch folder that holds a copy of the stack, initialised."""
    tool = _terraform(run, stack, folder)
    write_lock_file(folder, [run.toolchain.provider.lock_entry()])
    tool.init()
    return tool


def _terraform(run: Run, stack: StackRun, folder: Path) -> Terraform:
    return Terraform(
        run.toolchain.engine,
        folder,
        stack=stack.name,
        home=run.paths.home,
        cli_config=run.toolchain.cli_config,
        env=terraform_environment(run.paths, run.target, run.session),
        lock_timeout_s=LOCK_TIMEOUT_S,
    )


def terraform_environment(paths: LabPaths, target: TargetSession, session: LabSession | None) -> dict[str, str | Secret]:
    """What the provider and the S3 backend read, besides the folder."""
    authorities = tuple(file for file in (target.ca_file, paths.authority) if file)
    bundle = str(trust_bundle(paths, authorities))
    found: dict[str, str | Secret] = {"SSL_CERT_FILE": bundle, "AWS_CA_BUNDLE": bundle}
    found |= target.provider_environment()
    if session is not None:
        found |= session.environment()
    return found


def ensure_init(run: Run, stack: StackRun, tool: Terraform) -> None:
    """Runs `init` where backend, providers, engine or lock file changed since the last time."""
    folder = stack.stack.folder
    write_lock_file(folder, [run.toolchain.provider.lock_entry()])
    stamp, wanted = folder / INIT_STAMP, _init_hash(run, stack)
    if _stamped(stamp) == wanted:
        return
    run.stack_stage(stack.name, "init")
    # Of a killed `init`, what it knows of the backend may be half written, and Terraform would refuse to read it.
    for old in (stamp, folder / BACKEND_MEMORY):
        old.unlink(missing_ok=True)
    tool.init(reconfigure=True)
    replace_file(stamp, json.dumps({"hash": wanted}))


def _stamped(stamp: Path) -> str:
    """The hash of the last `init`, "" where none ended."""
    try:
        return str(json.loads(stamp.read_text())["hash"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _init_hash(run: Run, stack: StackRun) -> str:
    document = json.loads(stack.stack.json.read_text())
    parts = {
        "terraform": document.get("terraform"),
        "engine": str(run.toolchain.engine),
        "lock": (stack.stack.folder / ".terraform.lock.hcl").read_text(),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
