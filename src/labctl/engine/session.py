"""Access to what foundation holds: the Vault, logged in, and the state's bucket."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labctl.engine.paths import LabPaths
from labctl.model.catalogue import bucket_secrets
from labctl.model.errors import AdapterError
from labctl.model.lab import Lab
from labctl.model.secret import Secret
from labctl.model.state import STATE_BUCKET, StackState, parse_state, state_key

if TYPE_CHECKING:
    from labctl.adapters.objectstore import ObjectStore
    from labctl.adapters.vault import Vault


LOCAL_LAYER = "foundation"
"""The layer whose state cannot lie in the object store, because it makes it."""


@dataclass(frozen=True)
class LabSession:
    """What a run may reach once foundation is up.

    Attributes:
        vault: Logged in as labctl.
        endpoint: The object store's URL.
        region: Its region.
        access_key: The state bucket's access key.
        secret_key: The state bucket's secret key.
        ca_file: The lab's authority.
    """

    vault: Vault
    endpoint: str
    region: str
    access_key: Secret
    secret_key: Secret
    ca_file: Path

    def environment(self) -> dict[str, str | Secret]:
        """Variables for Terraform's S3 backend and remote states."""
        return {
            "AWS_ENDPOINT_URL_S3": self.endpoint,
            "AWS_REGION": self.region,
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
        }

    @cached_property
    def state_store(self) -> ObjectStore:
        """The state bucket's store, as Terraform sees it: one for all stacks, as making one takes botocore a while."""
        from labctl.adapters.objectstore import ObjectStore

        return ObjectStore(self.endpoint, self.region, self.access_key, self.secret_key, self.ca_file)

    def close(self) -> None:
        """Ends the Vault login; a Vault that is gone by now ends it by itself."""
        try:
            self.vault.revoke_self()
        except AdapterError:
            return


def published(foundation: Mapping[str, Any], name: str) -> str:
    """One of foundation's outputs.

    Raises:
        AdapterError: Foundation's last apply was cut off before it published it, or its contract is broken.
    """
    if name not in foundation:
        raise AdapterError(f"its output {name} is missing", where="foundation", hint="Run `labctl up --layer foundation`.")
    return str(foundation[name])


def open_session(lab: Lab, paths: LabPaths, vault: Vault, foundation: Mapping[str, Any]) -> LabSession:
    """A session from a Vault login and foundation's outputs."""
    _version, credentials = vault.read(bucket_secrets(lab)[STATE_BUCKET])
    return LabSession(
        vault=vault,
        endpoint=published(foundation, "s3_endpoint"),
        region=published(foundation, "s3_region"),
        access_key=credentials["access_key"],
        secret_key=credentials["secret_key"],
        ca_file=paths.authority,
    )


def state_content(session: LabSession | None, paths: LabPaths, stack: str, layer: str, patience_s: float = 0.0) -> bytes | None:
    """A stack's state as it is stored, None where there is none.

    Foundation's lies in the lab's own folder, the others' in the bucket. A store that was just started answers errors for a
    moment; `patience_s` waits that out.

    Raises:
        AdapterError: The store does not answer, or its bucket is gone.
    """
    if layer == LOCAL_LAYER:
        file = paths.state / f"{stack}.tfstate"
        return file.read_bytes() if file.is_file() else None
    return _stored(session, state_key(stack), patience_s) if session is not None else None


def _stored(session: LabSession, key: str, patience_s: float) -> bytes | None:
    from labctl.adapters.objectstore import NotThere

    store = session.state_store
    try:
        return store.get(STATE_BUCKET, key, patience_s)
    except NotThere:
        # A bucket that is gone is an error, not a stack that was never deployed.
        if key in store.keys(STATE_BUCKET, key):
            raise
        return None


def local_state(paths: LabPaths, stack: str) -> StackState:
    """A state in the lab's own folder."""
    return parse_state(state_content(None, paths, stack, LOCAL_LAYER), str(paths.state / f"{stack}.tfstate"))


def remote_state(session: LabSession, paths: LabPaths, stack: str, patience_s: float = 0.0) -> StackState:
    """A state in the bucket."""
    return parse_state(state_content(session, paths, stack, "", patience_s), f"s3://{STATE_BUCKET}/{state_key(stack)}")
