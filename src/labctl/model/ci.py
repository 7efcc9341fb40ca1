"""Logins of GitLab's jobs to the Vault: which job of which project may do what. Pure.

A job shows a token that GitLab has signed for it and for the time that it runs (`id_tokens`); no secret is kept anywhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field, StringConstraints, field_validator

from labctl.model.settings import Settings

MOUNT = "jwt"
REVIEW, DRIFT, UP = "ci-review", "ci-drift", "ci-up"
TOKEN_TTL_S = 3600
UP_TOKEN_TTL_S = 4 * 3600

ProjectPath = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.][A-Za-z0-9_.-]*(/[A-Za-z0-9_.][A-Za-z0-9_.-]*)+$")]
Ref = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_./-]+$")]


class Ci(Settings):
    """Where the lab's own repository is, whose jobs may log in to the Vault."""

    project: ProjectPath = Field(description="the lab's own repository, by its full path in GitLab")
    branch: Ref = Field("main", description="the protected branch whose jobs may run `labctl up`")
    gitlab: str = Field("", description="GitLab's address; empty: that of the lab's own GitLab")
    ca_file: str = Field("", description="PEM of the authority that signed its certificate; empty: the system's")
    audience: str = Field("labctl", pattern=r"^[\x21-\x7e]+$", description="`aud` of the jobs' tokens")

    @field_validator("gitlab")
    @classmethod
    def _address(cls, value: str) -> str:
        if value and not value.startswith(("https://", "http://")):
            raise ValueError("write GitLab's address with its scheme, as https://gitlab.example.com")
        return value.rstrip("/")


@dataclass(frozen=True, slots=True)
class JwtRole:
    """A role of the Vault's JWT login.

    Attributes:
        name: Its name.
        policies: What its tokens may do.
        claims: What the job's token must say, each with the values that will do.
        ttl_s: How long the Vault's token lives.
    """

    name: str
    policies: tuple[str, ...]
    claims: tuple[tuple[str, tuple[str, ...]], ...]
    ttl_s: int = TOKEN_TTL_S


@dataclass(frozen=True, slots=True)
class JwtLogin:
    """The Vault's JWT login as it should be.

    Attributes:
        keys_url: Where GitLab publishes the keys that it signs with.
        issuer: `iss` of its tokens.
        audience: `aud` of the jobs' tokens.
        ca_file: PEM of the authority that signed GitLab's certificate, "" for the system's.
        roles: Who may log in.
    """

    keys_url: str
    issuer: str
    audience: str
    ca_file: str
    roles: tuple[JwtRole, ...]


def jwt_login(ci: Ci, gitlab: str, *, read: str, drift: str, write: str) -> JwtLogin:
    """The login for the jobs of the lab's repository.

    A job of an unprotected branch runs what anybody with the role Developer has written. It gets what a plan needs, and nothing
    that changes the lab. Sources: GitLab, "OpenID Connect (OIDC) authentication using ID tokens", payload of the tokens.

    Args:
        ci: What lab.yaml says.
        gitlab: The address of the lab's own GitLab.
        read: The policy of a job that plans.
        drift: The policy of the nightly check.
        write: The policy of a job that applies.
    """
    address = ci.gitlab or gitlab.rstrip("/")
    project = ("project_path", (ci.project,))
    protected = (project, ("ref_protected", ("true",)), ("ref_type", ("branch",)), ("ref", (ci.branch,)))
    roles = (
        JwtRole(REVIEW, (read,), (project,)),
        JwtRole(DRIFT, (drift,), protected),
        JwtRole(UP, (write,), protected, UP_TOKEN_TTL_S),
    )
    return JwtLogin(f"{address}/oauth/discovery/keys", address, ci.audience, ci.ca_file, roles)


def role_body(role: JwtRole, audience: str) -> dict[str, Any]:
    """The role as the Vault's API takes it."""
    return {
        "role_type": "jwt",
        "user_claim": "project_path",
        "bound_audiences": [audience],
        "bound_claims_type": "string",
        "bound_claims": {name: list(values) for name, values in role.claims},
        "token_policies": list(role.policies),
        "token_ttl": role.ttl_s,
        "token_max_ttl": role.ttl_s,
        "token_no_default_policy": False,
    }
