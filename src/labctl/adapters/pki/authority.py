"""Makes the authority and signs what guests ask for."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address, ip_address
from typing import NamedTuple

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from labctl.adapters.pki.inspection import load_request, subject_names
from labctl.model.errors import AdapterError
from labctl.model.secret import Secret

AUTHORITY_DAYS = 3650
CERTIFICATE_DAYS = 397
"""Clients of Apple refuse server certificates over 398 days (https://support.apple.com/en-us/102028)."""

_CLOCK_SKEW = timedelta(hours=1)
_MIN_RSA_BITS = 2048


class Authority(NamedTuple):
    """A certificate authority: its certificate (PEM) and private key (PEM, PKCS 8)."""

    cert_pem: str
    key_pem: Secret


def create_authority(common_name: str, now: datetime | None = None) -> Authority:
    """Makes an authority that is valid for ten years and may sign leaf certificates only.

    The key is P-256: Go, OpenSSL and botocore all take it.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    builder = _builder(name, name, key.public_key(), AUTHORITY_DAYS, now or datetime.now(UTC))
    cert = (
        builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return Authority(cert.public_bytes(serialization.Encoding.PEM).decode(), Secret(pem.decode()))


def sign(
    csr_pem: str,
    authority: Authority,
    *,
    names: Sequence[str],
    addresses: Sequence[str],
    days: int = CERTIFICATE_DAYS,
    now: datetime | None = None,
) -> str:
    """Signs a server certificate (PEM) for exactly these names and addresses.

    Args:
        csr_pem: The guest's request. Only its key is used, and its signature shows that the guest has it.
        authority: Who signs.
        names: DNS names; the first becomes the subject.
        addresses: IP addresses.
        days: How long it is valid.
        now: The time to count from; the clock by default.

    Raises:
        AdapterError: The request is unreadable, badly signed, has a weak key, or asks for a name that the guest is not to have.
    """
    request = _checked_request(csr_pem)
    asked, allowed = subject_names(request), {*names, *(str(ip_address(a)) for a in addresses)}
    if not asked <= allowed:
        raise AdapterError(
            f"the certificate request asks for {', '.join(sorted(asked))}; this guest is {', '.join(sorted(allowed))}",
            hint="The guest's name, domain or address differs from lab.yaml: correct it, or recreate the guest.",
        )
    issuer = x509.load_pem_x509_certificate(authority.cert_pem.encode())
    key = serialization.load_pem_private_key(authority.key_pem.reveal().encode(), password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise AdapterError("the authority's key is not an EC key", hint="It was not made by labctl.")
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])] if names else [])
    public = request.public_key()
    san = x509.SubjectAlternativeName([*map(x509.DNSName, names), *(x509.IPAddress(IPv4Address(a)) for a in addresses)])
    cert = (
        _builder(subject, issuer.subject, public, days, now or datetime.now(UTC))
        .add_extension(san, critical=not names)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return cert.public_bytes(serialization.Encoding.PEM).decode()


def _checked_request(csr_pem: str) -> x509.CertificateSigningRequest:
    request = load_request(csr_pem)
    try:
        valid, public = request.is_signature_valid, request.public_key()
    except (ValueError, UnsupportedAlgorithm) as error:
        raise AdapterError(f"the certificate request has a key that cannot be used: {error}") from error
    if not valid:
        raise AdapterError(
            "the certificate request is not signed by its own key", hint="It was altered on its way; do not trust that guest."
        )
    strong = (
        isinstance(public, ed25519.Ed25519PublicKey)
        or (isinstance(public, ec.EllipticCurvePublicKey) and public.key_size >= 256)
        or (isinstance(public, rsa.RSAPublicKey) and public.key_size >= _MIN_RSA_BITS)
    )
    if not strong:
        raise AdapterError("the certificate request's key is too weak", hint="Use EC P-256, Ed25519 or RSA of 2048 bits.")
    return request


def _builder(subject: x509.Name, issuer: x509.Name, key: object, days: int, now: datetime) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)  # type: ignore[arg-type]  # a request's key type is wider than what a builder's signature names
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_SKEW)
        .not_valid_after(now + timedelta(days=days))
    )


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )
