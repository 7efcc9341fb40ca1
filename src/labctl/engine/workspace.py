"""Terraform in a stack's work folder: engine, provider, environment, and when `init` is needed."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from labctl.adapters.terraform import (
    BPG_PROXMOX,
    LOCK_NAME,
    RECORD_NAME,
    Engine,
    MirrorEntry,
    Terraform,
    ensure_launcher,
    ensure_provider,
    find_engine,
    write_cli_config,
    write_lock_file,
)
from labctl.engine.paths import LabPaths, replace_file
from labctl.engine.run import DEFAULT_WORKSPACE, Run, StackRun
from labctl.model.ownprovider import OWN_LAYERS
from labctl.model.secret import Secret

if TYPE_CHECKING:
    from labctl.engine.labrun import LabRun
    from labctl.engine.session import LabSession
    from labctl.engine.target import TargetSession

INIT_STAMP = ".terraform/labctl-init.json"
BACKEND_MEMORY = ".terraform/terraform.tfstate"
"""Where Terraform keeps which backend a folder was initialised with; written in place."""

LOCK_TIMEOUT_S = 10
WORKSPACES = "terraform.tfstate.d"
"""Where the local backend keeps the states of workspaces."""
_OWN_FILES = frozenset({"cdk.tf.json", "metadata.json", "errored.tfstate"})


@dataclass(frozen=True, slots=True)
class Toolchain:
    """What runs the stacks.

    Attributes:
        engine: The Terraform engine.
        cli_config: Terraform's CLI configuration, which names the mirror; None leaves the user's in place.
        provider: The provider in the mirror; None where the stacks bring their own.
        own_provider: labctl's own, likewise.
    """

    engine: Engine
    cli_config: Path | None = None
    provider: MirrorEntry | None = None
    own_provider: MirrorEntry | None = None


def find_toolchain(paths: LabPaths, say: Callable[[str], None]) -> Toolchain:
    """The engine and the provider, which is fetched or built on first use.

    Raises:
        UserError: There is no engine, or the provider can be had neither from a registry nor by building it.
    """
    engine = find_engine(paths.home / "engine-version.json")
    provider = ensure_provider(paths.mirror, BPG_PROXMOX, host=engine.registry_host, progress=say)
    own_provider = ensure_launcher(paths.mirror)
    cli_config = paths.home / "terraform.rc"
    write_cli_config(cli_config, paths.mirror)
    return Toolchain(engine, cli_config, provider, own_provider)


def fill_mirror(paths: LabPaths, say: Callable[[str], None]) -> MirrorEntry:
    """Puts the provider into the mirror, ahead of a run.

    Raises:
        UserError: It can be had neither from a registry nor by building it.
    """
    return ensure_provider(paths.mirror, BPG_PROXMOX, host=find_engine().registry_host, progress=say)


def progress_kind(text: str) -> str:
    """The type of event for a line about the provider: of the modules that a build downloads, only the last counts."""
    return "progress" if text.startswith("go: downloading ") else "note"


def lab_terraform(run: LabRun, stack: StackRun, folder: Path) -> Terraform:
    """Terraform for one stack of a lab, with its provider of the mirror locked in the folder. Not initialised."""
    own = stack.layer in OWN_LAYERS
    provider = run.toolchain.own_provider if own else run.toolchain.provider
    assert provider is not None
    write_lock_file(folder, [provider.lock_entry()])
    return Terraform(
        run.toolchain.engine,
        folder,
        stack=stack.name,
        home=run.paths.home,
        cli_config=run.toolchain.cli_config,
        env=terraform_environment(run.paths, run.target, run.session) | (run.own_provider.environment(run) if own else {}),
        lock_timeout_s=LOCK_TIMEOUT_S,
    )


def terraform(run: Run, stack: StackRun) -> Terraform:
    """Terraform in the stack's folder, initialised: `init` runs where backend, providers, modules, engine or locks changed."""
    tool = run.terraform(stack)
    folder = stack.stack.folder
    stamp = folder / INIT_STAMP
    with stack.init_lock:
        if _stamped(stamp) == _init_hash(run, stack):
            return tool
        run.stack_stage(stack.name, "init")
        if run.owns_backends:
            # Of a killed `init`, what it knows of the backend may be half written, and Terraform would refuse to read it.
            (folder / BACKEND_MEMORY).unlink(missing_ok=True)
        stamp.unlink(missing_ok=True)
        with run.init_turn(), run.interrupts.telling(tool.cancel), stack.timed("init"):
            run.interrupts.check()
            tool.init(reconfigure=run.owns_backends)
        # Only now is the lock file there that a first `init` writes.
        replace_file(stamp, json.dumps({"hash": _init_hash(run, stack)}))
    return tool


def forget_init(stack: StackRun) -> None:
    """Lets the next command of the stack run `init` again: something else has been at its folder."""
    (stack.stack.folder / INIT_STAMP).unlink(missing_ok=True)


@contextmanager
def scratch_folder(stack: StackRun, name: str) -> Iterator[Path]:
    """A folder beside the stack's own, so that paths that lead out of it lead to the same places. It is removed at the end.

    Args:
        stack: The stack.
        name: What the folder is for.
    """
    folder = stack.stack.folder.with_name(f".{stack.name}.{name}")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700)
    try:
        yield folder
    finally:
        # Outputs and state may be sensitive; nothing of them stays.
        shutil.rmtree(folder, ignore_errors=True)


def scratch_terraform(run: Run, stack: StackRun, folder: Path) -> Terraform:
    """Terraform in a scratch folder that holds a changed copy of the stack, ready to plan.

    The stack's other files are linked into it, and where the stack is initialised, its providers and modules too.
    """
    origin = stack.stack.folder
    for path in origin.iterdir():
        if path.name not in _OWN_FILES and not path.name.startswith((".terraform", "terraform.tfstate", RECORD_NAME)):
            (folder / path.name).symlink_to(path)
    tool = run.terraform(stack, folder)
    workspace = run.workspace(stack)
    (folder / ".terraform").mkdir(mode=0o700)
    if workspace != DEFAULT_WORKSPACE:
        (folder / ".terraform" / "environment").write_text(workspace)
    if _stamped(origin / INIT_STAMP) == _init_hash(run, stack):
        for name in ("providers", "modules"):
            if (origin / ".terraform" / name).exists():
                (folder / ".terraform" / name).symlink_to(origin / ".terraform" / name)
        lock = origin / LOCK_NAME
        if lock.is_file():
            shutil.copyfile(lock, folder / LOCK_NAME)
    else:
        with run.interrupts.telling(tool.cancel), stack.timed("init"):
            tool.init()
    return tool


def write_scratch_state(run: Run, stack: StackRun, folder: Path, content: bytes) -> None:
    """Puts the stack's state where Terraform looks for it in a scratch folder: the local backend, the stack's workspace."""
    workspace = run.workspace(stack)
    place = folder if workspace == DEFAULT_WORKSPACE else folder / WORKSPACES / workspace
    place.mkdir(parents=True, exist_ok=True)
    (place / "terraform.tfstate").write_bytes(content)


def _stamped(stamp: Path) -> str:
    try:
        return str(json.loads(stamp.read_text())["hash"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def terraform_environment(paths: LabPaths, target: TargetSession, session: LabSession | None) -> dict[str, str | Secret]:
    """What the provider and the S3 backend read, besides the folder."""
    from labctl.engine.target import trust_bundle

    authorities = tuple(file for file in (target.ca_file, paths.authority) if file)
    bundle = str(trust_bundle(paths, authorities))
    found: dict[str, str | Secret] = {"SSL_CERT_FILE": bundle, "AWS_CA_BUNDLE": bundle}
    found |= target.provider_environment()
    if session is not None:
        found |= session.environment()
    return found


def _init_hash(run: Run, stack: StackRun) -> str:
    """What `init` depends on."""
    document = json.loads(stack.stack.json.read_text())
    lock = stack.stack.folder / LOCK_NAME
    parts = {
        "terraform": document.get("terraform"),
        "modules": document.get("module"),
        "engine": str(run.toolchain.engine),
        "lock": lock.read_text() if lock.is_file() else "",
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
