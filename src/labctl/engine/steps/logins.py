"""Logins that the environment brings, instead of labctl's own: a job's, the nightly check's."""

from __future__ import annotations

import os
from collections.abc import Mapping

from labctl.adapters.vault import AppRoleCredentials
from labctl.model.ci import DRIFT, REVIEW, UP
from labctl.model.errors import UserError
from labctl.model.secret import Secret

JWT_VARIABLE, ROLE_VARIABLE = "LABCTL_VAULT_JWT", "LABCTL_VAULT_ROLE"
"""A token that GitLab signed for a job, and the role that the job takes with it."""

ROLE_ID_VARIABLE, SECRET_ID_VARIABLE = "LABCTL_VAULT_ROLE_ID", "LABCTL_VAULT_SECRET_ID"
"""An AppRole to log in with instead of labctl's own: that of the nightly check."""

GITLAB_TOKEN_VARIABLE = "LABCTL_GITLAB_TOKEN"  # noqa: S105 - the name of a variable
"""A token of GitLab's for notes and issues, where the login may not read labctl's own."""


def job_login(environment: Mapping[str, str] = os.environ) -> tuple[str, Secret] | None:
    """Role and token of a job of the lab's repository; None where labctl logs in as itself.

    Raises:
        UserError: There is a token, and no role.
    """
    token, role = environment.get(JWT_VARIABLE, ""), environment.get(ROLE_VARIABLE, "")
    if not token:
        return None
    if not role:
        raise UserError(
            f"{JWT_VARIABLE} is set, and {ROLE_VARIABLE} is not",
            hint=f"Set it to {REVIEW}, {DRIFT} or {UP}; docs/review.md says which job takes which.",
        )
    return role, Secret(token)


def given_login(environment: Mapping[str, str] = os.environ) -> AppRoleCredentials | None:
    """The AppRole that the environment names, as that of the nightly check; None where labctl logs in as itself."""
    role_id, secret_id = environment.get(ROLE_ID_VARIABLE, ""), environment.get(SECRET_ID_VARIABLE, "")
    return AppRoleCredentials(Secret(role_id), Secret(secret_id)) if role_id and secret_id else None
