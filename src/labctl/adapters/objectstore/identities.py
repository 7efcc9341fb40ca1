"""Who may do what in the object store, as SeaweedFS reads it at its start."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from labctl.model.secret import Secret

ADMINISTRATOR = "root"
_ALL = ("Admin", "Read", "Write", "List", "Tagging")
_OWN_BUCKET = ("Read", "Write", "List", "Tagging")


@dataclass(frozen=True, slots=True)
class Credentials:
    """An S3 key pair."""

    access_key: Secret
    secret_key: Secret


def identities(
    administrator: Credentials, buckets: Mapping[str, Credentials], provisioned: Mapping[str, Credentials] | None = None
) -> Secret:
    """The content of SeaweedFS's `-s3.config` file (JSON).

    An action `Read:NAME` holds for that bucket alone, `Read` for all (github.com/seaweedfs/seaweedfs/wiki/Amazon-S3-API). Without
    `Admin` an identity can neither make nor remove buckets, nor set policies. It can suspend the versioning of its own bucket,
    which SeaweedFS counts as `Write`; `ObjectStore.ensure_bucket` turns it on again.

    Args:
        administrator: May do everything.
        buckets: For each bucket, who may use it and nothing else.
        provisioned: The same for buckets of projects. One that the lab has taken for its own since is in both.
    """
    entries = [_identity(ADMINISTRATOR, administrator, _ALL)]
    entries += [_identity(bucket, buckets[bucket], _own(bucket)) for bucket in sorted(buckets)]
    others = provisioned or {}
    entries += [_identity(f"project:{bucket}", others[bucket], _own(bucket)) for bucket in sorted(others)]
    return Secret(json.dumps({"identities": entries}, indent=2, sort_keys=True))


def _own(bucket: str) -> tuple[str, ...]:
    return tuple(f"{action}:{bucket}" for action in _OWN_BUCKET)


def _identity(name: str, credentials: Credentials, actions: tuple[str, ...]) -> dict[str, object]:
    pair = {"accessKey": credentials.access_key.reveal(), "secretKey": credentials.secret_key.reveal()}
    return {"name": name, "credentials": [pair], "actions": list(actions)}
