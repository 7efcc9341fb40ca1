"""Where the stand-ins keep their files. `STANDIN_ROOT` moves all of them, for tests."""

from __future__ import annotations

import os
from pathlib import Path

VERSION = "19.3.0"
"""The version of GitLab whose interfaces these are."""

GITLAB_RB = "/etc/gitlab/gitlab.rb"
SECRETS = "/etc/gitlab/gitlab-secrets.json"
TRUSTED = "/etc/gitlab/trusted-certs"
DATA = "/var/opt/gitlab/standin"
CONFIG = f"{DATA}/config.json"
STATE = f"{DATA}/state.json"
RAILS_SOCKET = f"{DATA}/rails.socket"
REGISTRY = "/var/opt/gitlab/registry"
REGISTRY_CONFIG = f"{REGISTRY}/config.yml"
REGISTRY_ENVIRONMENT = f"{REGISTRY}/env"
REGISTRY_KEY = f"{REGISTRY}/gitlab-registry.key"
REGISTRY_CERTIFICATE = f"{REGISTRY}/gitlab-registry.crt"
CA_BUNDLE = f"{REGISTRY}/ca-bundle.pem"
LOGS = "/var/log/gitlab/reconfigure"
RUNNER_CONFIG = "/etc/gitlab-runner/config.toml"

API_UNIT = "gitlab-runsvdir.service"
"""Omnibus' own unit: all of GitLab runs below it."""
REGISTRY_UNIT = "gitlab-registry.service"
RUNNER_UNIT = "gitlab-runner.service"


def at(path: str) -> Path:
    """A path of the guest on this file system."""
    return Path(os.environ.get("STANDIN_ROOT", "/")) / path.lstrip("/")


def write(path: str, text: str, mode: int = 0o600) -> bool:
    """Writes a file whole or not at all, never readable wider than `mode`; says whether its content changed."""
    target = at(path)
    if target.exists() and target.read_text() == text:
        return False
    target.parent.mkdir(parents=True, exist_ok=True)
    new = target.with_name(f".{target.name}.new")
    new.unlink(missing_ok=True)
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    new.replace(target)
    return True
