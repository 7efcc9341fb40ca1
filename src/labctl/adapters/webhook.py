"""Tells a web address of something."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import requests

from labctl.model.errors import AdapterError
from labctl.model.secret import Secret

CONNECT_TIMEOUT_S = 5.0
READ_TIMEOUT_S = 10.0
AGENT = "labctl"


def post(url: Secret, document: dict[str, Any]) -> None:
    """Posts a JSON document. What the address answers, beyond its status, is not read, and it is asked once.

    The proxies of the environment are used, its `.netrc` is not.

    Args:
        url: The whole of it may be a secret; of it, messages have the host only.
        document: What JSON can hold.

    Raises:
        AdapterError: It cannot be reached, or does not answer with 2xx.
    """
    whole = url.reveal()
    host = urlsplit(whole).hostname or "it"
    with requests.Session() as session:
        session.trust_env = False
        try:
            with session.post(
                whole,
                json=document,
                headers={"User-Agent": AGENT},
                proxies=requests.utils.get_environ_proxies(whole),
                timeout=(CONNECT_TIMEOUT_S, READ_TIMEOUT_S),
                allow_redirects=False,
                stream=True,
            ) as answer:
                status = answer.status_code
        except (requests.RequestException, ValueError) as error:
            # Its words have the path, in which the token stands.
            raise AdapterError(_reason(error), where=f"webhook at {host}") from None
    if not 200 <= status < 300:
        raise AdapterError(
            f"it answers {status}", where=f"webhook at {host}", hint="Is drift.webhook, or its token, still right?"
        )


def _reason(error: Exception) -> str:
    if isinstance(error, requests.exceptions.ConnectTimeout):
        return f"no connection within {CONNECT_TIMEOUT_S:.0f} s"
    if isinstance(error, requests.exceptions.Timeout):
        return f"no answer within {READ_TIMEOUT_S:.0f} s"
    if isinstance(error, requests.exceptions.SSLError):
        return "its certificate is not trusted"
    return "it cannot be reached"
