"""`drift:` in lab.yaml: whom the nightly check tells, and what it counts as the lab's."""

from __future__ import annotations

import re
from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from labctl.model.secret import Secret
from labctl.model.settings import Settings

WEBHOOK_VARIABLE = "LABCTL_DRIFT_WEBHOOK"
"""Overrides `drift.webhook`: a URL with a token in it does not belong into a repository."""
_PROJECT = re.compile(r"[A-Za-z0-9_.][A-Za-z0-9_.-]*(/[A-Za-z0-9_.][A-Za-z0-9_.-]*)+")


class DriftSettings(Settings):
    """Whom a check tells, and what it counts as the lab's."""

    gitlab_project: str = Field(
        "", description="full path of the project of the lab's GitLab that gets an issue for each finding"
    )
    webhook: str = Field(
        "", description=f"URL that gets the JSON report of each check; {WEBHOOK_VARIABLE} overrides it", repr=False
    )
    unmanaged: Literal["lab", "all"] = Field(
        "lab",
        description="which guests nobody declared are findings: those in the lab's pool and VMID range, or all of the cluster",
    )

    @field_validator("gitlab_project")
    @classmethod
    def _path(cls, value: str) -> str:
        if value and not _PROJECT.fullmatch(value):
            raise ValueError(f"{value!r} is no full path of a project: write group/name")
        return value.lower()

    @field_validator("webhook")
    @classmethod
    def _url(cls, value: str) -> str:
        if value and (problem := webhook_problem(value)):
            raise ValueError(problem)
        return value


def webhook_problem(url: str) -> str:
    """Why a URL cannot be a webhook, without a part of it, which may be a secret; empty where it can."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    return "" if usable else "it is no URL: write https://host/path"


def webhook_of(settings: DriftSettings, environment: str | None) -> Secret | None:
    """The URL to call, None for none.

    Args:
        settings: Of lab.yaml.
        environment: The value of `WEBHOOK_VARIABLE`; an empty one turns the webhook of lab.yaml off.
    """
    url = settings.webhook if environment is None else environment
    return Secret(url) if url else None
