"""What can go wrong with an object store, said once: what it means, and what to do."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from botocore import exceptions

from labctl.model.errors import AdapterError, LabError, UserError


class Denied(UserError):
    """The credentials are unknown, wrong, or lack the right."""


class NotThere(AdapterError):
    """There is no such bucket or object."""


class PreconditionFailed(AdapterError):
    """The object is there already, and was to be written only if absent."""


class Unready(AdapterError):
    """The store cannot be reached or cannot serve yet."""


_UNREADY = {"InternalError", "ServiceUnavailable", "SlowDown", "500", "502", "503", "504"}
_DENIED = {
    "AccessDenied": "it lacks the right",
    "403": "it lacks the right",
    "InvalidAccessKeyId": "the store does not know this access key",
    "SignatureDoesNotMatch": "the secret key is wrong",
}


@contextlib.contextmanager
def explained(endpoint: str, what: str) -> Iterator[None]:
    """Turns what botocore raises into LabErrors that name the endpoint and what was tried."""
    try:
        yield
    except exceptions.ClientError as error:
        raise _from_answer(endpoint, what, error) from error
    except exceptions.SSLError as error:
        raise _from_tls(endpoint, str(error)) from error
    except (exceptions.ConnectionError, exceptions.HTTPClientError) as error:
        raise _from_transport(endpoint, error) from error
    except exceptions.BotoCoreError as error:
        raise AdapterError(f"cannot {what}: {error}", where=endpoint) from error
    except OSError as error:
        # botocore hands a missing authority file on as a bare OSError.
        raise AdapterError(f"cannot {what}: {error}", where=endpoint) from error


def _from_answer(endpoint: str, what: str, error: exceptions.ClientError) -> LabError:
    code = str(error.response.get("Error", {}).get("Code", ""))
    said = str(error.response.get("Error", {}).get("Message", ""))
    if code in _DENIED:
        return Denied(
            f"cannot {what}: {_DENIED[code]}",
            where=endpoint,
            hint="`labctl up` delivers the store's credentials again; changed ones count after a restart of seaweedfs.service.",
        )
    if code in ("NoSuchBucket", "NoSuchKey", "404"):
        return NotThere(f"cannot {what}: it is not there", where=endpoint, hint="`labctl up` makes the lab's buckets.")
    if code in ("PreconditionFailed", "412"):
        return PreconditionFailed(f"cannot {what}: it is there already", where=endpoint)
    if code == "RequestTimeTooSkewed":
        return UserError(
            f"cannot {what}: the clocks of this machine and of the store differ",
            where=endpoint,
            hint="Set both by NTP (`timedatectl`).",
        )
    if code in _UNREADY:
        return Unready(f"cannot {what}: the store answers {code}: {said}", where=endpoint, hint="See seaweedfs.service's log.")
    return AdapterError(f"cannot {what}: the store answers {code}: {said}", where=endpoint)


def _from_transport(endpoint: str, error: exceptions.BotoCoreError) -> LabError:
    reason = str(error.kwargs.get("error", ""))
    if isinstance(error, exceptions.ConnectTimeoutError | exceptions.ReadTimeoutError):
        return Unready("no answer in time", where=endpoint, hint="Is guest store overloaded, or a firewall in between?")
    if "Name or service not known" in reason or "Failed to resolve" in reason or "getaddrinfo" in reason:
        return UserError("this name is not known", where=endpoint, hint="Add it to your DNS or /etc/hosts.")
    return Unready(
        "the connection failed",
        where=endpoint,
        hint="Is guest store running, and seaweedfs.service on it? `labctl up` delivers what it waits for.",
    )


def _from_tls(endpoint: str, reason: str) -> LabError:
    if "EOF" in reason:
        # seaweedfs-s3.socket takes connections before SeaweedFS answers behind it, and then ends them.
        return Unready("it ended the connection", where=endpoint, hint="Does seaweedfs.service run on guest store?")
    if "mismatch" in reason or "doesn't match" in reason:
        problem, hint = "its certificate is for another name or address", "`labctl up` signs a new one for the guest."
    elif "has expired" in reason or "not yet valid" in reason:
        problem, hint = "its certificate is not valid at this time", "Compare the clocks; `labctl up` renews an expired one."
    elif "CERTIFICATE_VERIFY_FAILED" in reason:
        problem, hint = "its certificate is not signed by this lab's authority", "Is this another lab's store?"
    else:
        problem, hint = "it does not speak TLS as expected", "The endpoint must be https:// and the port that of S3."
    return UserError(problem, where=endpoint, hint=hint)
