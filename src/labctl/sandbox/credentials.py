"""The sandbox's own credentials: made once, kept with mode 0600, the same after every restart."""

from __future__ import annotations

import datetime as dt
import ipaddress
import json
import os
import secrets
import uuid
from dataclasses import dataclass
from pathlib import Path

from labctl.model.secret import Secret

VALID_DAYS = 3650
_SERVER_VALID_DAYS = 397


@dataclass(frozen=True, slots=True)
class Credentials:
    """The secrets of a sandbox."""

    root_password: Secret
    token: Secret
    control_token: Secret


@dataclass(frozen=True, slots=True)
class CredentialFiles:
    """Where a sandbox's credentials lie.

    Attributes:
        home: The sandbox's folder.
    """

    home: Path

    @property
    def values(self) -> Path:
        """Password and tokens."""
        return self.home / "credentials.json"

    @property
    def ca(self) -> Path:
        """Certificate of the authority of the API's certificate."""
        return self.home / "tls" / "ca.crt"

    @property
    def server_certificate(self) -> Path:
        """Certificate of the API."""
        return self.home / "tls" / "server.crt"

    @property
    def server_key(self) -> Path:
        """Private key of the API."""
        return self.home / "tls" / "server.key"

    @property
    def ssh_key(self) -> Path:
        """Private key with which a client may log in by SSH."""
        return self.home / "ssh" / "id_ed25519"

    @property
    def ssh_host_key(self) -> Path:
        """Private key of the SFTP server."""
        return self.home / "ssh" / "ssh_host_ed25519_key"

    def fingerprint(self) -> str:
        """SHA-256 of the API's certificate, as PVE writes it."""
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes

        certificate = x509.load_pem_x509_certificate(self.server_certificate.read_bytes())
        return certificate.fingerprint(hashes.SHA256()).hex(":").upper()

    def exist(self) -> bool:
        """Whether they have been made."""
        return self.values.is_file()

    def read(self) -> Credentials:
        """The secrets."""
        raw = json.loads(self.values.read_text())
        return Credentials(Secret(raw["root_password"]), Secret(raw["token"]), Secret(raw["control_token"]))

    def make(self, address: str) -> Credentials:
        """Make what is missing; the API's certificate is made anew when its address changed.

        Args:
            address: IP address of the API.
        """
        self.home.mkdir(parents=True, exist_ok=True, mode=0o700)
        for folder in (self.ca.parent, self.ssh_key.parent):
            folder.mkdir(exist_ok=True, mode=0o700)
        if not self.values.exists():
            # Written last among its kind by a rename, so that a cut-off start never leaves half a file.
            raw = {
                "root_password": secrets.token_urlsafe(18),
                "token": str(uuid.uuid4()),
                "control_token": secrets.token_urlsafe(24),
            }
            write_private(self.values, json.dumps(raw, indent=1).encode())
        for path in (self.ssh_key, self.ssh_host_key):
            if not path.exists():
                _make_ssh_key(path)
        _make_certificates(self, address)
        return self.read()


def write_private(path: Path, content: bytes) -> None:
    """Write a file that only its owner can read, in one step."""
    fresh = path.with_name(f"{path.name}.new")
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(content)
    fresh.replace(path)


def _make_ssh_key(path: Path) -> None:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ed25519

    key = ed25519.Ed25519PrivateKey.generate()
    public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    write_private(path.with_suffix(".pub"), public + b" labctl-sandbox\n")
    write_private(
        path, key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption())
    )


def _make_certificates(files: CredentialFiles, address: str) -> None:
    """Make the API's certificate and an authority for it, unless there is one for this address that lasts another month.

    The authority's key is not kept: a new certificate comes with a new authority, and clients read it from its file each time.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    if files.server_certificate.exists() and files.server_key.exists() and _fits(files.server_certificate.read_bytes(), address):
        return
    now = dt.datetime.now(dt.UTC)

    def builder(name: str, issuer: str, public: ec.EllipticCurvePublicKey, days: int) -> x509.CertificateBuilder:
        subject, issued_by = (x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)]) for text in (name, issuer))
        start = now - dt.timedelta(hours=1)
        return (
            x509.CertificateBuilder(issued_by, subject, public, x509.random_serial_number(), start, now + dt.timedelta(days=days))
            .add_extension(x509.BasicConstraints(ca=name == issuer, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        )

    authority = "labctl sandbox"
    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    names = [
        x509.IPAddress(ipaddress.ip_address(address)),
        x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
        x509.DNSName("localhost"),
    ]
    usage = x509.KeyUsage(
        digital_signature=False, content_commitment=False, key_encipherment=False, data_encipherment=False, key_agreement=False,
        key_cert_sign=True, crl_sign=True, encipher_only=False, decipher_only=False,
    )  # fmt: skip
    ca = (
        builder(authority, authority, ca_key.public_key(), VALID_DAYS)
        .add_extension(usage, critical=True)
        .sign(ca_key, hashes.SHA256())
    )
    certificate = (
        builder(f"{address}", authority, key.public_key(), _SERVER_VALID_DAYS)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.ExtendedKeyUsage([x509.oid.ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    # The certificate last: where it is there and fits, the rest is.
    files.server_certificate.unlink(missing_ok=True)
    write_private(files.server_key, private)
    write_private(files.ca, ca.public_bytes(serialization.Encoding.PEM))
    write_private(files.server_certificate, certificate.public_bytes(serialization.Encoding.PEM))


def _fits(pem: bytes, address: str) -> bool:
    from cryptography import x509

    certificate = x509.load_pem_x509_certificate(pem)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value.get_values_for_type(x509.IPAddress)
    left = certificate.not_valid_after_utc - dt.datetime.now(dt.UTC)
    return ipaddress.ip_address(address) in names and left > dt.timedelta(days=30)
