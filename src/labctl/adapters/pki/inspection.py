"""Reads certificates: for whom, by whom, for how long."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import NameOID

from labctl.model.errors import AdapterError


def subject_names(thing: x509.Certificate | x509.CertificateSigningRequest) -> set[str]:
    """Every DNS name and address that a certificate is for or a request asks for, the subject's common name included."""
    found = {str(attribute.value) for attribute in thing.subject.get_attributes_for_oid(NameOID.COMMON_NAME)}
    try:
        alternatives = thing.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return found
    return found | {str(name.value) for name in alternatives}


def expires_in(cert_pem: str, now: datetime | None = None) -> timedelta:
    """How long the certificate is still valid; negative when it has expired.

    Raises:
        AdapterError: It is not a certificate.
    """
    return _load(cert_pem).not_valid_after_utc - (now or datetime.now(UTC))


def covers(
    cert_pem: str,
    names: Sequence[str],
    addresses: Sequence[str],
    authority_pem: str,
    *,
    csr_pem: str = "",
    now: datetime | None = None,
) -> bool:
    """Whether the certificate is valid now, signed by the authority, and for all these names and addresses.

    Args:
        cert_pem: The certificate; the authority's may follow.
        names: DNS names.
        addresses: IP addresses.
        authority_pem: The authority's certificate.
        csr_pem: The guest's request, if it is known: the certificate must then be for its key. A rebuilt guest has a new one.
        now: The time to judge by; the clock by default.

    Raises:
        AdapterError: One of them is not what it should be.
    """
    cert, authority, moment = _load(cert_pem), _load(authority_pem), now or datetime.now(UTC)
    if not cert.not_valid_before_utc <= moment < cert.not_valid_after_utc:
        return False
    try:
        cert.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return False
    if csr_pem and _public(cert) != _public(load_request(csr_pem)):
        return False
    return {*names, *(str(ip_address(a)) for a in addresses)} <= subject_names(cert)


def _load(pem: str) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(pem.encode())
    except ValueError as error:
        raise AdapterError("this is not a certificate in PEM form") from error


def load_request(pem: str) -> x509.CertificateSigningRequest:
    """The request that `pem` holds.

    Raises:
        AdapterError: It is not one.
    """
    try:
        return x509.load_pem_x509_csr(pem.encode())
    except ValueError as error:
        raise AdapterError(
            "this is not a certificate request in PEM form",
            hint="Remove the guest's request file and restart the guest: it makes a new one.",
        ) from error


def _public(thing: x509.Certificate | x509.CertificateSigningRequest) -> bytes:
    return thing.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
