"""What can go wrong with a Vault, said once: what it means, and what to do."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import requests
from hvac import exceptions

from labctl.model.errors import AdapterError, LabError, UserError

CAS_MISMATCH = "check-and-set parameter did not match"


class Denied(UserError):
    """The token, or the credentials, are refused."""


class Absent(AdapterError):
    """There is nothing at that path."""


class Deleted(AdapterError):
    """The newest version of a secret was deleted by hand.

    Attributes:
        version: That version.
    """

    version: int = 0


class CasMismatch(UserError):
    """The secret was written by somebody else in the meantime, or is there already."""


class Sealed(UserError):
    """The Vault is sealed."""


class Uninitialised(UserError):
    """The Vault was never initialised."""


class HalfInitialised(AdapterError):
    """An initialisation was cut off: Raft has prepared its storage, and nothing lies in it yet."""


class Busy(AdapterError):
    """The Vault is up but not ready to serve yet."""


@contextlib.contextmanager
def explained(address: str) -> Iterator[None]:
    """Turns what hvac and requests raise into LabErrors.

    The messages hold what the server said, which never repeats a value that was sent; they never hold the request.
    """
    try:
        yield
    except exceptions.VaultError as error:
        raise _from_vault(address, error) from error
    except requests.RequestException as error:
        raise _from_transport(address, error) from error
    except OSError as error:
        # requests checks for the authority's file itself and raises a bare OSError.
        raise AdapterError(f"cannot be reached: {error}", where=address) from error


def _from_vault(address: str, error: exceptions.VaultError) -> LabError:
    said = " ".join((str(error.args[0]) if error.args and error.args[0] else "").split())
    low = said.lower()
    path = (error.url or "").partition("/v1/")[2] or "this request"
    if isinstance(error, exceptions.VaultNotInitialized) or "not initialized" in low:
        return Uninitialised("the Vault is not initialised", where=address, hint="Run `labctl up --layer foundation`.")
    if isinstance(error, exceptions.VaultDown) and "sealed" in low:
        return Sealed("the Vault is sealed", where=address, hint="Run `labctl vault unseal --identity FILE`.")
    if isinstance(error, exceptions.Forbidden | exceptions.Unauthorized):
        return Denied(
            f"permission denied for {path}: the token is unknown, expired, used from a wrong address, or lacks the right",
            where=address,
            hint="`labctl vault status` says how labctl is logged in; docs/secrets.md lists what it may do.",
        )
    if isinstance(error, exceptions.InvalidPath):
        return Absent(said if said not in ("", "None") else "there is nothing at this path", where=address)
    if isinstance(error, exceptions.InvalidRequest) and "role or secret id" in low:
        return Denied(
            "the AppRole credentials are refused: unknown, expired, or used up",
            where=address,
            hint="A guest gets new ones by `labctl up`; docs/secrets.md tells how to renew those of labctl.",
        )
    if isinstance(error, exceptions.InvalidRequest) and CAS_MISMATCH in low:
        return CasMismatch("the secret has another version than expected", where=address, hint="Read it again, then write.")
    if isinstance(error, exceptions.VaultDown | exceptions.InternalServerError | exceptions.BadGateway):
        return Busy(f"the Vault cannot answer: {said or 'no reason'}", where=address, hint="See the log of openbao.service.")
    return AdapterError(f"the Vault refused: {said or type(error).__name__}", where=address)


def _from_transport(address: str, error: requests.RequestException) -> LabError:
    reason = str(error)
    if isinstance(error, requests.exceptions.SSLError):
        return _from_tls(address, reason)
    if isinstance(error, requests.exceptions.Timeout):
        return AdapterError("no answer in time", where=address, hint="Is guest vault overloaded, or a firewall in between?")
    if "Connection refused" in reason:
        return AdapterError(
            "connection refused",
            where=address,
            hint="Is guest vault running, and openbao.service on it? `labctl up` starts both.",
        )
    if "Name or service not known" in reason or "Failed to resolve" in reason:
        return UserError("this name is not known", where=address, hint="Add it to your DNS or /etc/hosts, or use the address.")
    return AdapterError("the connection failed", where=address, hint="Is guest vault up and reachable from here?")


def _from_tls(address: str, reason: str) -> LabError:
    if "mismatch" in reason or "doesn't match" in reason:
        problem, hint = "its certificate is for another name or address", "`labctl up` signs a new one for the guest."
    elif "has expired" in reason or "not yet valid" in reason:
        problem, hint = "its certificate is not valid at this time", "Compare the clocks; `labctl up` renews an expired one."
    elif "CERTIFICATE_VERIFY_FAILED" in reason:
        problem, hint = "its certificate is not signed by this lab's authority", "Is this another lab's Vault?"
    else:
        problem, hint = "it does not speak TLS as expected", "The address must be https:// and the port that of OpenBao."
    return UserError(problem, where=address, hint=hint)
