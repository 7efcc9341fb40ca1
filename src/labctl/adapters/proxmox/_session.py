"""The one door to the API: a session that trusts what it is told to, asks again where that is safe, and explains failures."""

from __future__ import annotations

import json
import re
import ssl
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import requests
from proxmoxer.backends.https import Backend
from proxmoxer.core import ProxmoxResource, ResourceException
from requests.adapters import HTTPAdapter
from requests.utils import DEFAULT_CA_BUNDLE_PATH

from labctl.adapters.proxmox.errors import (
    CA_HINT,
    CREDENTIALS_HINT,
    CertificateUnknown,
    Refusal,
    Unreachable,
    explain,
    not_the_api,
    permanent,
)
from labctl.model.errors import LabError, UserError
from labctl.model.secret import MASK, Secret

TOKEN_ID = re.compile(r"^(?P<user>[^\s:/!@]+@[A-Za-z][A-Za-z0-9._-]+)!(?P<name>[A-Za-z][A-Za-z0-9._-]+)$")
CONNECT_TIMEOUT_S = 5.0
RETRY_PAUSES_S = (0.2, 0.6)
"""Reads are asked once more after each of these pauses: three times in all, within a second."""


def parse_token(api_token: Secret) -> tuple[str, Secret]:
    """Splits `user@realm!name=value`, as in PROXMOX_VE_API_TOKEN, into the token's id and its value.

    Raises:
        UserError: It does not have that form. The message does not show it.
    """
    token_id, equals, value = api_token.reveal().partition("=")
    if not equals or not value or not TOKEN_ID.match(token_id):
        raise UserError(
            "the API token does not have the form user@realm!name=value", where="PROXMOX_VE_API_TOKEN", hint=CREDENTIALS_HINT
        )
    return token_id, Secret(value)


def path_of(*segments: str | int) -> str:
    """An API path of these segments, each quoted, so that none can lead elsewhere."""
    return "/".join(quote(str(segment), safe="") for segment in segments)


class NotJson(Exception):
    """An answer of 2xx whose body is not an API answer."""


class Serializer:
    """Reads bodies. proxmoxer's own takes anything that is not JSON for an answer."""

    def get_accept_types(self) -> str:
        """The value of the Accept header."""
        return "application/json"

    def loads(self, response: requests.Response) -> Any:
        """The field `data` of an answer of 2xx."""
        try:
            body = json.loads(response.content)
        except (UnicodeDecodeError, ValueError) as error:
            raise NotJson(_sort_of_body(response)) from error
        if not isinstance(body, dict) or "data" not in body:
            raise NotJson("JSON without the field data")
        return body["data"]

    def loads_errors(self, response: requests.Response) -> Refusal:
        """What an answer of 400 and above says: PVE puts its sentence into the status line and, since 9, into the body too."""
        reason = (response.reason or "").strip()
        try:
            body = json.loads(response.content) if response.content else {}
        except (UnicodeDecodeError, ValueError):
            return Refusal(response.status_code, reason, is_json=False)
        fields = body if isinstance(body, dict) else {}
        errors = fields.get("errors")
        return Refusal(
            response.status_code,
            str(fields.get("message") or "").strip() or reason,
            {str(name): str(text).strip() for name, text in errors.items()} if isinstance(errors, dict) else {},
        )


def _sort_of_body(response: requests.Response) -> str:
    kind = response.headers.get("Content-Type", "").split(";")[0]
    return f"a page of type {kind}" if kind else "an answer without a type"


class TrustingAdapter(HTTPAdapter):
    """Connects with a TLS context of ours."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._context = context
        super().__init__()

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Hands the context to urllib3."""
        super().init_poolmanager(*args, ssl_context=self._context, **kwargs)


def system_authorities() -> str | None:
    """The system's certificate authorities, a file or a folder, as OpenSSL was built to find them; None where it finds none.

    Not `ssl.get_default_verify_paths().cafile`: that follows SSL_CERT_FILE, which says nothing about this endpoint.
    """
    paths = ssl.get_default_verify_paths()
    if Path(paths.openssl_cafile).is_file():
        return paths.openssl_cafile
    folder = Path(paths.openssl_capath)
    return str(folder) if folder.is_dir() and any(folder.iterdir()) else None


def _tls_context(authorities: str) -> ssl.SSLContext:
    folder = Path(authorities).is_dir()
    context = ssl.create_default_context(cafile=None if folder else authorities, capath=authorities if folder else None)
    # On by default from Python 3.13; a PVE node's own authority does not pass it (prometheus-pve-exporter issue 494).
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context


class Session:
    """Requests to one endpoint with one token.

    Args:
        endpoint: `https://host[:port]`; without a port 443, as the Terraform provider takes it.
        token_id: `user@realm!name`.
        token: The token's value.
        ca_file: PEM of the authority of the API's certificate; None: the system's.
        timeout_s: How long one answer may take, in seconds.
        sleep: Waits between two tries.
    """

    def __init__(
        self,
        endpoint: str,
        token_id: str,
        token: Secret,
        ca_file: Path | None,
        timeout_s: float,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.endpoint = endpoint.rstrip("/")
        self.token_id = token_id
        self._timeout_s = timeout_s
        self._sleep = sleep
        if not (match := TOKEN_ID.match(token_id)):
            raise UserError(f"{token_id!r} is not a token id; it has the form user@realm!name", hint=CREDENTIALS_HINT)
        authorities = str(ca_file) if ca_file else system_authorities() or DEFAULT_CA_BUNDLE_PATH
        try:
            context = _tls_context(authorities)
        except OSError as error:
            message = f"{authorities} cannot be read as PEM certificates: {error.strerror or error}"
            raise UserError(message, where="target.proxmox.ca_file", hint=CA_HINT) from error
        address = urlsplit(self.endpoint)
        if address.scheme != "https" or not address.hostname:
            raise UserError(f"{endpoint!r} is not an address of the form https://host:8006", where="target.proxmox.endpoint")
        host = f"[{address.hostname}]" if ":" in address.hostname else address.hostname
        backend = Backend(
            host,
            port=address.port or 443,
            user=match["user"],
            token_name=match["name"],
            token_value=token.reveal(),
            verify_ssl=authorities,
            timeout=(min(CONNECT_TIMEOUT_S, timeout_s), timeout_s),
        )
        http = backend.get_session()
        http.mount("https://", TrustingAdapter(context))
        # Else REQUESTS_CA_BUNDLE replaces `verify`, and proxies and .netrc of the environment come in.
        http.trust_env = False
        # A redirect would carry the token to another place.
        http.max_redirects = 0
        self._token = token
        self._api = ProxmoxResource(base_url=backend.get_base_url(), session=http, serializer=Serializer())
        self._http = http

    def close(self) -> None:
        """Closes the connections."""
        self._http.close()

    def get(self, path: str, **params: Any) -> Any:
        """Reads; asked again (see RETRY_PAUSES_S) when the connection drops or the answer is a passing 5xx.

        Raises:
            LabError: As `labctl.adapters.proxmox.errors` names them.
        """
        return self._repeated("GET", path, lambda: self._api.get(path, **params))

    def ask(self, path: str, **fields: Any) -> Any:
        """A POST that changes nothing (PVE wants some questions as POST); repeated like `get`."""
        return self._repeated("POST", path, lambda: self._api.post(path, **fields))

    def post(self, path: str, **fields: Any) -> Any:
        """Changes something; sent exactly once."""
        return self._once("POST", path, lambda: self._api.post(path, **fields))

    def _repeated(self, method: str, path: str, send: Callable[[], Any]) -> Any:
        for pause in RETRY_PAUSES_S:
            try:
                return self._once(method, path, send)
            except LabError as error:
                if not _may_pass(error.__cause__):
                    raise
            self._sleep(pause)
        return self._once(method, path, send)

    def _once(self, method: str, path: str, send: Callable[[], Any]) -> Any:
        doing = f"{method} /{path}"
        try:
            return send()
        except ResourceException as error:
            raise explain(self._without_token(_refusal_of(error)), doing=doing, endpoint=self.endpoint) from error
        except NotJson as error:
            raise not_the_api(self.endpoint, str(error)) from error
        except requests.exceptions.TooManyRedirects as error:
            raise not_the_api(self.endpoint, "it redirects elsewhere") from error
        except requests.exceptions.RequestException as error:
            raise self._not_reached(error, doing) from error

    def _without_token(self, refusal: Refusal) -> Refusal:
        """The refusal without the token, should a proxy on the way quote the request's headers."""
        value = self._token.reveal()
        errors = {name: text.replace(value, MASK) for name, text in refusal.errors.items()}
        return replace(refusal, message=refusal.message.replace(value, MASK), errors=errors)

    def _not_reached(self, error: requests.exceptions.RequestException, doing: str) -> LabError:
        text = str(error)
        if isinstance(error, requests.exceptions.SSLError):
            return self._tls(text)
        if isinstance(error, requests.exceptions.ConnectTimeout):
            message, hint = (
                f"does not answer within {min(CONNECT_TIMEOUT_S, self._timeout_s):g} s",
                "Is the address right, the node on, a firewall between?",
            )
        elif isinstance(error, requests.exceptions.Timeout):
            message, hint = (
                f"no answer to {doing} within {self._timeout_s:g} s",
                "The node is busy or hangs: `systemctl status pvedaemon` there.",
            )
        elif "NameResolutionError" in text or "getaddrinfo" in text:
            message, hint = (
                f"the name {urlsplit(self.endpoint).hostname!r} is not known",
                "Correct target.proxmox.endpoint, or your DNS or /etc/hosts.",
            )
        elif "refused" in text:
            message, hint = (
                "the connection is refused: nothing listens there",
                "Is the port right (8006)? `systemctl status pveproxy` on the node.",
            )
        elif "unreachable" in text or "No route" in text:
            message, hint = "there is no route to it", "Is the address right, the node on, this machine in its network?"
        else:
            message, hint = (
                f"the connection was lost during {doing}",
                "Try again; `systemctl status pveproxy` on the node if it stays so.",
            )
        return Unreachable(message, where=self.endpoint, hint=hint)

    def _tls(self, text: str) -> LabError:
        if "WRONG_VERSION_NUMBER" in text or "record layer failure" in text.lower():
            return not_the_api(self.endpoint, "it does not speak TLS")
        if "doesn't match" in text or "mismatch" in text.lower():
            return CertificateUnknown("its certificate is for another name or address", where=self.endpoint, hint=CA_HINT)
        if "expired" in text or "not yet valid" in text:
            hint = "`pvecm updatecerts --force` on the node renews it; also compare the clocks."
            return CertificateUnknown("its certificate is expired or not valid yet", where=self.endpoint, hint=hint)
        if "CERTIFICATE_VERIFY_FAILED" in text or "certificate verify failed" in text:
            return CertificateUnknown(
                "its certificate is signed by an authority that is not trusted here", where=self.endpoint, hint=CA_HINT
            )
        return Unreachable(
            f"the TLS handshake failed: {text}", where=self.endpoint, hint="Try `openssl s_client -connect HOST:8006`."
        )


def _refusal_of(error: ResourceException) -> Refusal:
    found = error.errors
    return found if isinstance(found, Refusal) else Refusal(error.status_code, str(error.content))


def _may_pass(cause: BaseException | None) -> bool:
    if isinstance(cause, ResourceException):
        return not permanent(_refusal_of(cause))
    lasting = (requests.exceptions.SSLError, requests.exceptions.Timeout)
    if not isinstance(cause, requests.exceptions.ConnectionError | requests.exceptions.ChunkedEncodingError) or isinstance(
        cause, lasting
    ):
        return False
    return not any(word in str(cause) for word in ("refused", "NameResolutionError", "getaddrinfo", "unreachable", "No route"))
