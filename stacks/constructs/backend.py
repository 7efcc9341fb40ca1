"""Where states lie: foundation's in the lab's folder, the others' in the object store that foundation brings.

Neither endpoint nor credentials are written here. Terraform's S3 backend takes them from its environment: `AWS_ENDPOINT_URL_S3`,
`AWS_REGION`, `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_CA_BUNDLE`.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from labctl.model.state import STATE_BUCKET, state_key
from stacks.cdk import (
    DataTerraformRemoteStateLocal,
    DataTerraformRemoteStateS3,
    LocalBackend,
    S3Backend,
    TerraformRemoteState,
    TerraformStack,
)

# An S3 server that is not AWS: no account to look up, no region list, no instance metadata, no CRC trailers.
_S3_DIALECT: dict[str, Any] = {
    "use_path_style": True,
    "skip_credentials_validation": True,
    "skip_metadata_api_check": True,
    "skip_region_validation": True,
    "skip_requesting_account_id": True,
    "skip_s3_checksum": True,
}


def local_path(stack: str, state_dir: Path, outdir: Path, reader: str = "") -> str:
    """The local state of `stack`, relative to the folder of stack `reader` (itself by default), so that a lab can be moved."""
    folder = outdir.absolute() / "stacks" / (reader or stack)
    return os.path.relpath(state_dir.absolute() / f"{stack}.tfstate", folder)


def local_backend(stack: TerraformStack, path: str) -> None:
    """Keeps the stack's state in a file."""
    LocalBackend(stack, path=path)


def s3_backend(stack: TerraformStack, name: str) -> None:
    """Keeps the stack's state in the object store, under a lock that the store itself holds."""
    S3Backend(stack, bucket=STATE_BUCKET, key=state_key(name), **_S3_DIALECT)
    stack.add_override("terraform.backend.s3.use_lockfile", True)


def local_state(stack: TerraformStack, name: str, path: str) -> TerraformRemoteState:
    """The outputs of the stack `name`, whose state lies in a file."""
    return DataTerraformRemoteStateLocal(stack, f"state.{name}", path=path)


def s3_state(stack: TerraformStack, name: str) -> TerraformRemoteState:
    """The outputs of the stack `name`, whose state lies in the object store."""
    return DataTerraformRemoteStateS3(stack, f"state.{name}", bucket=STATE_BUCKET, key=state_key(name), **_S3_DIALECT)
