"""Everything that the stacks are made from. Nothing in here is secret."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from labctl.model.lab import Lab


@dataclass(frozen=True, slots=True)
class StackContext:
    """Input of the stacks.

    Attributes:
        lab: The lab.
        authority_pem: Certificate (PEM) of the lab's own authority, which guests trust; "" before the first `up`.
        state_dir: The folder of local states, `.labctl/<lab>/state`.
        outdir: The folder that CDKTF writes to; a stack's JSON lies in `outdir/stacks/<stack>/cdk.tf.json`, and paths in it
            are relative to that folder, so that a lab can be moved.
        prevent_destroy: Whether protected guests carry Terraform's `prevent_destroy`. labctl itself leaves it out, because its
            own policy asks for consent by name; for the plain CDKTF CLI it is on.
        own_ssh_key: Public half of labctl's own SSH key; "" before the first `up`.
    """

    lab: Lab
    authority_pem: str
    state_dir: Path
    outdir: Path
    prevent_destroy: bool = False
    own_ssh_key: str = ""

    @property
    def ssh_keys(self) -> tuple[str, ...]:
        """The SSH public keys that may log in to guests as user `ops`: the operators', and labctl's own."""
        own = (self.own_ssh_key,) if self.own_ssh_key else ()
        return (*(key for key in self.lab.operators if key.startswith("ssh-")), *own)
