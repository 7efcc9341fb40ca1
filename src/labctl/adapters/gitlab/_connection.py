"""How GitLab is connected to, and what of its answers is JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gitlab
import requests

from labctl.adapters.gitlab._errors import not_json
from labctl.model.secret import Secret

Answer = dict[str, Any]


def connected(url: str, token: Secret, ca_file: Path | None, timeout_s: float) -> gitlab.Gitlab:
    """A client that nothing of the environment has a say in.

    Args:
        url: GitLab's address.
        token: An access token.
        ca_file: PEM of the authority that signed its certificate; None for the system's.
        timeout_s: How long to wait for an answer.
    """
    session = requests.Session()
    session.trust_env = False
    return gitlab.Gitlab(
        url,
        private_token=token.reveal(),
        session=session,
        ssl_verify=str(ca_file) if ca_file else True,
        timeout=timeout_s,
        # The address here may be another than GitLab's own idea of it, which its links have.
        keep_base_url=True,
    )


def json_object(url: str, found: Answer | requests.Response) -> Answer:
    """The answer, which is an object.

    Raises:
        UserError: Something else than GitLab answers.
    """
    if not isinstance(found, dict):
        raise not_json(url)
    return found
