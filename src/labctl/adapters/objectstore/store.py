"""An S3 object store as labctl uses it."""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import boto3
import botocore.session
from botocore.config import Config
from botocore.exceptions import ClientError

from labctl.adapters.objectstore._errors import Denied, NotThere, PreconditionFailed, Unready, explained
from labctl.model.errors import AdapterError, LabError, UserError
from labctl.model.secret import Secret

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

T = TypeVar("T")

CONNECT_TIMEOUT_S = 5.0
READ_TIMEOUT_S = 30.0
_POLL_S = 0.2
_PROBE_PREFIX = ".labctl/lock-probe-"

# Each variable: its name in a profile, in the environment, its default. None twice: neither file nor environment is looked at.
_ISOLATED = {
    "profile": (None, None, None, None),
    "config_file": (None, None, os.devnull, None),
    "credentials_file": (None, None, os.devnull, None),
    "ca_bundle": (None, None, None, None),
}


@cache
def _session() -> boto3.session.Session:
    """One for all stores: reading S3's service model takes botocore 0.1 s each time."""
    return boto3.session.Session(botocore_session=botocore.session.Session(session_vars=_ISOLATED))


class ObjectStore:
    """A connection with one pair of credentials.

    Every method raises LabErrors: `Denied` when the credentials do not do, `Unready` when the store cannot be reached or serve
    yet, `UserError` for a certificate that is not the lab's. Each names the endpoint and what to do.

    Args:
        endpoint: `https://host:port`.
        region: The region that requests are signed for.
        access_key: Access key.
        secret_key: Secret key.
        ca_file: PEM of the authority that signed its certificate.

    Raises:
        UserError: The authority's certificate is not there.
    """

    def __init__(self, endpoint: str, region: str, access_key: Secret, secret_key: Secret, ca_file: Path) -> None:
        if not ca_file.is_file():
            raise UserError("the lab's authority is not there", where=str(ca_file), hint="`labctl up` makes it.")
        self.endpoint = endpoint
        self.region = region
        self._client: S3Client = _session().client(
            "s3",
            endpoint_url=endpoint,
            region_name=region,
            aws_access_key_id=access_key.reveal(),
            aws_secret_access_key=secret_key.reveal(),
            verify=str(ca_file),
            config=_config(),
        )

    def wait_ready(self, timeout_s: float = 60.0) -> None:
        """Waits until the store answers these credentials.

        A store that was just started knows its identities a moment after it opens its port, so a refusal is waited out too.

        Raises:
            UserError: At the end the credentials are still refused, or (at once) its certificate is not the lab's.
            AdapterError: It does not answer in time.
        """
        _patiently(self.buckets, timeout_s, Denied, Unready)

    def buckets(self) -> tuple[str, ...]:
        """The buckets that these credentials see, by name."""
        with explained(self.endpoint, "list the buckets"):
            found = self._client.list_buckets()
        return tuple(sorted(bucket["Name"] for bucket in found.get("Buckets", [])))

    def ensure_bucket(self, name: str, *, versioned: bool) -> bool:
        """Makes the bucket, and turns its versioning on if wanted; says whether anything was changed.

        Versioning that is on but not asked for is left: turning it off would not free anything.
        """
        changed = False
        if name not in self.buckets():
            with explained(self.endpoint, f"make bucket {name!r}"):
                try:
                    self._client.create_bucket(Bucket=name)
                    changed = True
                except (self._client.exceptions.BucketAlreadyOwnedByYou, self._client.exceptions.BucketAlreadyExists):
                    changed = False
        if versioned and not self.versioning(name):
            with explained(self.endpoint, f"turn the versioning of bucket {name!r} on"):
                self._client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
            changed = True
        return changed

    def versioning(self, name: str) -> bool:
        """Whether the bucket keeps old versions."""
        with explained(self.endpoint, f"read the versioning of bucket {name!r}"):
            return self._client.get_bucket_versioning(Bucket=name).get("Status") == "Enabled"

    def policy(self, name: str) -> str:
        """The bucket's policy (JSON), "" without one."""
        with explained(self.endpoint, f"read the policy of bucket {name!r}"):
            return str(_or_none(lambda: self._client.get_bucket_policy(Bucket=name)["Policy"], "NoSuchBucketPolicy") or "")

    def grants(self, name: str) -> tuple[str, ...]:
        """The groups that the bucket's access list lets in, each with its right, as `AllUsers: READ`."""
        with explained(self.endpoint, f"read the access list of bucket {name!r}"):
            found = self._client.get_bucket_acl(Bucket=name).get("Grants", [])
        groups = ((str(one.get("Grantee", {}).get("URI", "")), one.get("Permission", "")) for one in found)
        return tuple(sorted(f"{uri.rpartition('/')[2]}: {right}" for uri, right in groups if uri))

    def lifecycle(self, name: str) -> tuple[str, ...]:
        """The names of the rules in force by which the store itself deletes or moves the bucket's objects."""
        with explained(self.endpoint, f"read the lifecycle of bucket {name!r}"):
            found = _or_none(
                lambda: self._client.get_bucket_lifecycle_configuration(Bucket=name)["Rules"], "NoSuchLifecycleConfiguration"
            )
        return tuple(sorted(str(rule.get("ID") or "without a name") for rule in found or [] if rule.get("Status") == "Enabled"))

    def lock_probe(self, bucket: str, timeout_s: float = 60.0) -> None:
        """Shows that the store can lock: of two writes of one object, both `If-None-Match: *`, the second must be refused.

        Terraform's `use_lockfile` rests on that. A store that was just started may need a while before it can write at all; that
        is waited out. Nothing of the probe stays, no old version either.

        Raises:
            AdapterError: The second write was taken: two applies at once would overwrite each other's state.
        """
        key = f"{_PROBE_PREFIX}{secrets.token_hex(8)}"
        try:
            # A first write that was answered with an error may have been taken all the same.
            with contextlib.suppress(PreconditionFailed):
                _patiently(lambda: self.put(bucket, key, b"first", only_if_absent=True), timeout_s, Unready)
            try:
                self.put(bucket, key, b"second", only_if_absent=True)
            except PreconditionFailed:
                return
            raise AdapterError(
                "the store does not honour If-None-Match, so it cannot lock Terraform's state",
                where=self.endpoint,
                hint="Use a store that does: SeaweedFS from 4.48, or AWS.",
            )
        finally:
            self._purge(bucket, key)

    def put(self, bucket: str, key: str, content: bytes, *, only_if_absent: bool = False) -> None:
        """Writes an object.

        Raises:
            AdapterError: It is there already and was to be absent (`PreconditionFailed`), or the bucket is not there.
        """
        with explained(self.endpoint, f"write {bucket}/{key}"):
            if only_if_absent:
                self._client.put_object(Bucket=bucket, Key=key, Body=content, IfNoneMatch="*")
            else:
                self._client.put_object(Bucket=bucket, Key=key, Body=content)

    def get(self, bucket: str, key: str, patience_s: float = 0.0) -> bytes:
        """An object's content.

        A store that was just started answers errors while it still gathers its volumes; `patience_s` waits that out.

        Raises:
            AdapterError: It is not there (`NotThere`).
        """

        def read() -> bytes:
            with explained(self.endpoint, f"read {bucket}/{key}"):
                return self._client.get_object(Bucket=bucket, Key=key)["Body"].read()

        return _patiently(read, patience_s, Unready)

    def delete(self, bucket: str, key: str) -> None:
        """Deletes an object, if it is there. In a versioned bucket its old versions stay."""
        with explained(self.endpoint, f"delete {bucket}/{key}"):
            self._client.delete_object(Bucket=bucket, Key=key)

    def keys(self, bucket: str, prefix: str = "") -> tuple[str, ...]:
        """The names of the objects that begin with `prefix`.

        Raises:
            AdapterError: The bucket is not there (`NotThere`).
        """
        found: list[str] = []
        with explained(self.endpoint, f"list bucket {bucket!r}"):
            for page in self._client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
                found += [entry["Key"] for entry in page.get("Contents", [])]
        return tuple(found)

    def _purge(self, bucket: str, key: str) -> None:
        """Removes every version of an object."""
        try:
            with explained(self.endpoint, f"remove the versions of {bucket}/{key}"):
                found = self._client.list_object_versions(Bucket=bucket, Prefix=key)
                for version in [*found.get("Versions", []), *found.get("DeleteMarkers", [])]:
                    self._client.delete_object(Bucket=bucket, Key=key, VersionId=version["VersionId"])
        except NotThere:
            return


def _or_none(read: Callable[[], T], absent: str) -> T | None:
    """What `read` gives; None where the store answers that there is none."""
    try:
        return read()
    except ClientError as error:
        if error.response.get("Error", {}).get("Code") == absent:
            return None
        raise


def _config() -> Config:
    return Config(
        connect_timeout=CONNECT_TIMEOUT_S,
        read_timeout=READ_TIMEOUT_S,
        retries={"mode": "standard", "max_attempts": 3},
        proxies={},
        signature_version="s3v4",
        s3={"addressing_style": "path"},
        use_dualstack_endpoint=False,
        use_fips_endpoint=False,
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )


def _patiently(action: Callable[[], T], patience_s: float, *passing: type[LabError]) -> T:
    """The action's result, tried again while it fails with an error that passes by itself."""
    deadline = time.monotonic() + patience_s
    while True:
        try:
            return action()
        except passing:
            if time.monotonic() > deadline:
                raise
            time.sleep(_POLL_S)
