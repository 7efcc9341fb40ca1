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
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # the question is what it shows, not whether to trust it
    try:
        with socket.create_connection((address, port), TIMEOUT_S) as plain, context.wrap_socket(plain) as secured:
            shown = secured.getpeercert(binary_form=True)
    except OSError:
        return None
    return shown is not None and x509.load_der_x509_certificate(shown) == x509.load_pem_x509_certificate(cert_pem.encode())
