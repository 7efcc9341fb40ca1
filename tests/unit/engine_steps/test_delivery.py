"""Certificates and credentials reach their services, wherever an earlier run was cut off."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from labctl.adapters.pki import create_authority
from labctl.adapters.proxmox import ExecResult
from labctl.engine.steps import certificates
from labctl.engine.steps.certificates import ensure_certificate
from labctl.engine.steps.store import deliver_credentials
from labctl.model.contracts import GuestOutput
from labctl.model.labfile import parse_lab
from labctl.model.secret import Secret

STORE = parse_lab("name: lab\ntarget: {sandbox: {}}\n").guest("store")
OUTPUT = GuestOutput(vmid=101, address="127.86.0.101")
AUTHORITY = create_authority("test")


class Cut(Exception):
    """The run ends here."""


class Guest:
    """A guest at its agent: files, and one unit that reads its files when it starts."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {STORE.role.csr: request()}
        self.loaded: dict[str, bytes] | None = None
        self.calls = 0
        self.cut_at: int | None = None

    def _call(self) -> None:
        self.calls += 1
        if self.calls == self.cut_at:
            raise Cut

    def file_read(self, _vmid: int, path: str, *, missing_ok: bool = False) -> bytes | None:
        self._call()
        assert missing_ok or path in self.files
        return self.files.get(path)

    def file_write(self, _vmid: int, path: str, content: Secret | str, mode: int = 0o600) -> None:
        self._call()
        self.files[path] = (content.reveal() if isinstance(content, Secret) else content).encode()

    def exec(self, _vmid: int, argv: Sequence[str]) -> ExecResult:
        self._call()
        _systemctl, verb, _unit = argv
        if verb == "is-active":
            return ExecResult(0 if self.loaded is not None else 3, "", "")
        if verb == "stop":
            self.loaded = None
        elif verb != "start" or self.loaded is None:
            ready = STORE.role.cert in self.files and STORE.role.credentials in self.files
            self.loaded = dict(self.files) if ready else None
        return ExecResult(0, "", "")

    def serves(self, _address: str, _port: int, pem: str) -> bool | None:
        return None if self.loaded is None else self.loaded[STORE.role.cert].decode() == pem


def request() -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "store")])
    return (
        x509.CertificateSigningRequestBuilder()
        .subject_name(name)
        .sign(key, hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM)
    )


class Up:
    """A guest whose first boot was done long ago."""

    def waiting(self) -> AbstractContextManager[None]:
        return nullcontext()

    def require_no_failure(self) -> None:
        return

    def wait_for_boot(self) -> None:
        return


def step(guest: Any, value: str) -> tuple[bool, bool]:
    signed = ensure_certificate(
        guest, STORE, OUTPUT, AUTHORITY.cert_pem, lambda: AUTHORITY, timeout_s=1, say=lambda _text: None, booting=Up()
    )
    return signed, deliver_credentials(guest, STORE, OUTPUT, Secret(value), lambda _text: None)


def whole_calls(prepare: Callable[[Guest], None], value: str) -> int:
    guest = Guest()
    prepare(guest)
    guest.calls = 0
    certificates.serves = guest.serves
    step(guest, value)
    return guest.calls


def nothing(_guest: Guest) -> None:
    """A guest on its first boot."""


def up_with_old_credentials(guest: Guest) -> None:
    certificates.serves = guest.serves
    step(guest, "old")


@pytest.mark.parametrize("prepare", [nothing, up_with_old_credentials])
def test_cut_off_anywhere_the_next_run_ends_with_the_service_on_what_was_delivered(
    prepare: Callable[[Guest], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(certificates, "serves", certificates.serves)
    for cut in range(1, whole_calls(prepare, "new") + 1):
        guest = Guest()
        prepare(guest)
        monkeypatch.setattr(certificates, "serves", guest.serves)
        guest.calls, guest.cut_at = 0, cut
        with pytest.raises(Cut):
            step(guest, "new")
        guest.cut_at = None
        step(guest, "new")
        assert guest.loaded is not None, f"cut at call {cut}: the service is off"
        assert guest.loaded[STORE.role.credentials] == b"new"
        assert guest.loaded[STORE.role.cert] == guest.files[STORE.role.cert]
        assert step(guest, "new") == (False, False)


def test_a_certificate_that_lies_there_but_is_not_shown_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    guest = Guest()
    monkeypatch.setattr(certificates, "serves", guest.serves)
    step(guest, "value")
    assert guest.loaded is not None
    guest.loaded[STORE.role.cert] = b"an old one"
    assert step(guest, "value") == (False, False)
    assert guest.loaded[STORE.role.cert] == guest.files[STORE.role.cert]
