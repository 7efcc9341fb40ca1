"""The authority: what it signs, and what it refuses. Chains are checked by OpenSSL too."""

from __future__ import annotations

import subprocess
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from labctl.adapters.pki import Authority, covers, create_authority, expires_in, sign
from labctl.model.errors import AdapterError

NAMES = ("vault", "vault.lab.internal")
ADDRESSES = ("192.0.2.12",)


def request(
    common_name: str = "vault",
    names: tuple[str, ...] = NAMES,
    addresses: tuple[str, ...] = ADDRESSES,
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | None = None,
) -> str:
    san = [*map(x509.DNSName, names), *(x509.IPAddress(ip_address(a)) for a in addresses)]
    builder = x509.CertificateSigningRequestBuilder().subject_name(
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    )
    if san:
        builder = builder.add_extension(x509.SubjectAlternativeName(san), critical=False)
    signed = builder.sign(key or ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    return signed.public_bytes(serialization.Encoding.PEM).decode()


@pytest.fixture(scope="module")
def authority() -> Authority:
    return create_authority("datalab")


def test_openssl_accepts_the_chain(tmp_path: Path, authority: Authority) -> None:
    cert = sign(request(), authority, names=NAMES, addresses=ADDRESSES)
    (tmp_path / "ca.pem").write_text(authority.cert_pem)
    (tmp_path / "cert.pem").write_text(cert)
    for check in (["-verify_hostname", "vault.lab.internal"], ["-verify_ip", "192.0.2.12"]):
        command = ["openssl", "verify", "-x509_strict", "-purpose", "sslserver", "-CAfile", "ca.pem", *check, "cert.pem"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    command = ["openssl", "verify", "-CAfile", "ca.pem", "-verify_hostname", "other.example.com", "cert.pem"]
    assert subprocess.run(command, cwd=tmp_path, capture_output=True, check=False).returncode != 0


def test_lifetimes(authority: Authority) -> None:
    now = datetime(2026, 5, 1, tzinfo=UTC)
    cert = sign(request(), authority, names=NAMES, addresses=ADDRESSES, now=now)
    assert expires_in(cert, now) == timedelta(days=397)
    assert expires_in(cert, now + timedelta(days=400)) < timedelta(0)
    assert timedelta(days=3649) < expires_in(authority.cert_pem) <= timedelta(days=3650)


def test_names_are_labctls_not_the_requests(authority: Authority) -> None:
    cert = sign(request("vault", names=(), addresses=()), authority, names=NAMES, addresses=ADDRESSES)
    assert covers(cert, NAMES, ADDRESSES, authority.cert_pem)
    loaded = x509.load_pem_x509_certificate(cert.encode())
    assert loaded.extensions.get_extension_for_class(x509.BasicConstraints).value.ca is False


@pytest.mark.parametrize(
    ("asked", "stranger"),
    [
        (request("vault", names=(*NAMES, "gitlab.lab.internal")), "gitlab.lab.internal"),
        (request("root"), "root"),
        (request("vault", addresses=("192.0.2.99",)), "192.0.2.99"),
    ],
    ids=["alternative name", "common name", "address"],
)
def test_foreign_names_are_refused_with_both_shown(authority: Authority, asked: str, stranger: str) -> None:
    with pytest.raises(AdapterError) as caught:
        sign(asked, authority, names=NAMES, addresses=ADDRESSES)
    assert stranger in str(caught.value)
    assert "vault.lab.internal" in str(caught.value).split("this guest is")[1]


def test_altered_weak_and_unreadable_requests(authority: Authority) -> None:
    der = bytearray(x509.load_pem_x509_csr(request().encode()).public_bytes(serialization.Encoding.DER))
    der[-1] ^= 1
    altered = x509.load_der_x509_csr(bytes(der)).public_bytes(serialization.Encoding.PEM).decode()
    weak = request(key=rsa.generate_private_key(public_exponent=65537, key_size=1024))
    for text, says in ((altered, "not signed by its own key"), (weak, "too weak"), ("hello", "not a certificate request")):
        with pytest.raises(AdapterError, match=says):
            sign(text, authority, names=NAMES, addresses=ADDRESSES)


def test_covers_says_no_to_each_difference(authority: Authority) -> None:
    now = datetime.now(UTC)
    csr = request()
    cert = sign(csr, authority, names=NAMES, addresses=ADDRESSES, now=now)
    good = authority.cert_pem
    assert covers(cert + good, NAMES, ADDRESSES, good, csr_pem=csr, now=now)
    assert not covers(cert, (*NAMES, "more"), ADDRESSES, good)
    assert not covers(cert, NAMES, ("192.0.2.13",), good)
    assert not covers(cert, NAMES, ADDRESSES, create_authority("datalab").cert_pem)
    assert not covers(cert, NAMES, ADDRESSES, good, csr_pem=request())
    assert not covers(cert, NAMES, ADDRESSES, good, now=now + timedelta(days=398))
    assert not covers(cert, NAMES, ADDRESSES, good, now=now - timedelta(days=1))
    with pytest.raises(AdapterError, match="not a certificate"):
        covers("hello", NAMES, ADDRESSES, good)


def test_the_key_does_not_show(authority: Authority) -> None:
    assert "PRIVATE" not in repr(authority)
    assert "PRIVATE KEY" in authority.key_pem.reveal()
