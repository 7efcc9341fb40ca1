"""What to do about a diagnostic in a project that is no lab, where the lab's own remedy would lead astray."""

from __future__ import annotations

import re

from labctl.adapters.terraform.remedies import Remedy

_HINTS: dict[str, str] = {
    "disk-full": "Free space where the project, its states and the temporary folder lie (`df -h`), then run the command again.",
    "backend-changed": (
        "Nothing was changed, and the state lies where it lay. In the stack's work folder (`stacks/NAME` of the output folder), "
        "`terraform init -migrate-state` moves it to the new place, and `terraform init -reconfigure` takes what lies there. "
        "Then run the command again."
    ),
    "s3-no-credentials": "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, in this shell.",
    "s3-credentials-refused": "Check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, and the backend's endpoint.",
    "s3-bucket-missing": "Make it, or mend its name in the stack's backend: Terraform makes no buckets for states.",
    "s3-certificate": "Let AWS_CA_BUNDLE name the authority that signed it. Do not switch the check off.",
    "s3-unreachable": "Check the endpoint in the stack's backend, and that the store runs.",
    "provider-checksum": (
        "If it was changed on purpose, remove `.terraform.lock.hcl` in the stack's work folder; if not, find out who changed it."
    ),
    "provider-missing": "Check the provider's name in the code, and the mirror or network that Terraform's configuration names.",
    "provider-not-installed": "Run the command again: it initialises the folder.",
    "state-locked": (
        "Wait for that run to end. Only if it is certainly dead: `terraform force-unlock {lock}` in the stack's work folder "
        "(`stacks/NAME` of the output folder)."
    ),
    "destroy-prevented": "If it must go, take `prevent_destroy` out of its code first.",
    "certificate": "Name the authority that signed it to the provider, or in SSL_CERT_FILE. Do not switch the check off.",
    "connection-refused": "Check the address and the port, and that the server runs.",
    "host-unknown": "Check the name in the code, and the name server of this machine.",
    "provider-crash": "Run the command again; what was made is in the state. If it stays, it is a defect of the provider.",
    "connection-dropped": "Run the command again. If it happens each time, look at the server's log.",
}
_OF_A_LAB = re.compile(r"labctl|lab\.yaml|`?target\.|Vault|sandbox")
_MEND = "Mend that, then run the command again: what was made is in the state."


def hint_elsewhere(remedy: Remedy, lock: str = "ID") -> str:
    """The hint for a project that is no lab; `lock` is the id of the lock, where that is what is wrong."""
    return _HINTS.get(remedy.rule, "").replace("{lock}", lock) or (_MEND if _OF_A_LAB.search(remedy.hint) else remedy.hint)
