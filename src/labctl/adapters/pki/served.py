"""Which certificate a server shows."""

from __future__ import annotations

import socket
import ssl

from cryptography import x509

TIMEOUT_S = 5.0


def serves(address: str, port: int, cert_pem: str) -> bool | None:
    """Whether the server at `address:port` shows this certificate; None where nothing answers TLS there.

    Args:
        address: An IP address.
        port: A TCP port.
        cert_pem: The certificate; the authority's may follow.
    """
    pem = shown(address, port)
    return (
        None if pem is None else x509.load_pem_x509_certificate(pem.encode()) == x509.load_pem_x509_certificate(cert_pem.encode())
    )


def shown(address: str, port: int) -> str | None:
    """The certificate (PEM) that the server at `address:port` shows; None where nothing answers TLS there."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # the question is what it shows, not whether to trust it
    try:
        with socket.create_connection((address, port), TIMEOUT_S) as plain, context.wrap_socket(plain) as secured:
            found = secured.getpeercert(binary_form=True)
    except OSError:
        return None
    return ssl.DER_cert_to_PEM_cert(found) if found else None
