"""The lab's Vault (OpenBao, the API of HashiCorp Vault).

The only room that knows hvac. It speaks to one Vault with one token, over TLS checked against the lab's own authority, and
looks at no environment variable and no file in the home folder. Values come and go as `Secret`. When to initialise, unseal or
revoke is decided elsewhere (`labctl.engine.steps.vault`); here is how.
"""

from labctl.adapters.vault._errors import (
    Absent,
    Busy,
    CasMismatch,
    Conflict,
    Deleted,
    Denied,
    HalfInitialised,
    Sealed,
    Uninitialised,
)
from labctl.adapters.vault.bootstrap import Desired, bootstrap, require_audit
from labctl.adapters.vault.client import AppRoleCredentials, InitResult, SecretEntry, TokenInfo, Vault, VaultStatus
from labctl.adapters.vault.jwt import differing_jwt, login_jwt
from labctl.adapters.vault.reading import Reading
from labctl.adapters.vault.seed import Kept, SeedResult, generate, keep, seed
from labctl.model.approle import differing, role_parameters

__all__ = [
    "Absent",
    "AppRoleCredentials",
    "Busy",
    "CasMismatch",
    "Conflict",
    "Deleted",
    "Denied",
    "Desired",
    "HalfInitialised",
    "InitResult",
    "Kept",
    "Reading",
    "Sealed",
    "SecretEntry",
    "SeedResult",
    "TokenInfo",
    "Uninitialised",
    "Vault",
    "VaultStatus",
    "bootstrap",
    "differing",
    "differing_jwt",
    "generate",
    "keep",
    "login_jwt",
    "require_audit",
    "role_parameters",
    "seed",
]
