"""The key that signs the stand-ins' repository: made on this machine, known to nobody else.

By Sequoia (`pysequoia`): apt refuses an unsigned repository that has a key, and neither gpg nor sqv need be on this machine.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from pysequoia import Profile, SignatureMode, Tsk, sign

NAME = "labctl's sandbox <sandbox@labctl.invalid>"


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A key that signs."""

    public: bytes
    _secret: Tsk

    def clearsigned(self, content: bytes) -> bytes:
        """The text with its signature around it, as `InRelease` has it."""
        return bytes(sign(self._secret.signer(), content, mode=SignatureMode.CLEAR))

    def detached(self, content: bytes) -> bytes:
        """The signature alone, as `Release.gpg` has it."""
        return bytes(sign(self._secret.signer(), content, mode=SignatureMode.DETACHED))


def signing_key(file: Path) -> SigningKey:
    """The key in `file`, made where there is none: guests keep the public half, so a new one would lock them out."""
    if not file.exists():
        made = Tsk.generate(NAME, profile=Profile.RFC4880)
        descriptor = os.open(file.with_suffix(".new"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as target:
            target.write(bytes(made))
        file.with_suffix(".new").replace(file)
    secret = Tsk.from_file(str(file))
    return SigningKey(str(secret.extract_certificate()).encode(), secret)
