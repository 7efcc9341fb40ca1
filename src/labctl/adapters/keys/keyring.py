"""The lab's `keys/` folder."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from labctl.adapters.keys import _files
from labctl.adapters.keys.age import decrypt, encrypt
from labctl.model.errors import AdapterError
from labctl.model.secret import Secret

Payload = Mapping[str, Secret | tuple[Secret, ...]]
"""What a key file holds: every value is secret."""

_USUAL_SIZE = 2048
_NAME = re.compile(r"^[a-z][a-z0-9-]{0,40}$")


class Keyring:
    """Encrypted key files, and the notes that labctl leaves itself before a step that cannot be undone.

    Args:
        directory: `.labctl/<lab>/keys`; made when first written to.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    @property
    def directory(self) -> Path:
        """Where the files lie."""
        return self._directory

    def exists(self, name: str) -> bool:
        """Whether the key file is there; it need not be readable with a key at hand."""
        return self._file(name).exists()

    def write(self, name: str, payload: Payload, recipients: Sequence[str]) -> None:
        """Writes a key file: whole or not at all, durable, mode 0600.

        The recipients are kept inside, so that a later change of the operators is noticed (`rewrap`).

        Raises:
            UserError: A recipient is not a public key.
            AdapterError: The file cannot be written.
        """
        plain = {
            key: value.reveal() if isinstance(value, Secret) else [v.reveal() for v in value] for key, value in payload.items()
        }
        envelope = json.dumps({"recipients": sorted(recipients), "payload": plain}).encode()
        _files.replace(self._file(name), encrypt(recipients, envelope))

    def read(self, name: str, identities: Sequence[Path]) -> dict[str, Secret | tuple[Secret, ...]]:
        """What the key file holds.

        Args:
            name: The key file.
            identities: The operator's private key files.

        Raises:
            UserError: None of the identities fits; says which were tried.
            AdapterError: The file is missing or damaged.
        """
        payload = self._envelope(name, identities)["payload"]
        return {key: Secret(value) if isinstance(value, str) else tuple(map(Secret, value)) for key, value in payload.items()}

    def rewrap(self, name: str, recipients: Sequence[str], identities: Sequence[Path]) -> bool:
        """Encrypts the file anew if the operators changed; says whether it did.

        Raises:
            UserError: None of the identities fits, or a recipient is not a public key.
            AdapterError: The file is missing, damaged or cannot be written.
        """
        if self._envelope(name, identities)["recipients"] == sorted(recipients):
            return False
        self.write(name, self.read(name, identities), recipients)
        return True

    def rehearse(self, recipients: Sequence[str]) -> None:
        """Writes and removes a key file of usual size: what cannot be kept must not be made.

        Raises:
            UserError: A recipient is not a public key.
            AdapterError: The folder cannot be written, or the disk is full.
        """
        self.write("rehearsal", {"text": Secret(" " * _USUAL_SIZE)}, recipients)
        _files.remove(self._file("rehearsal"))

    def retire(self, names: Sequence[str], now: datetime | None = None) -> Path | None:
        """Moves the named key files to `retired/<UTC time>/`. Nothing is ever deleted: a backup of the Vault may still need them.

        Returns:
            The folder that they went to, or None if there was none of them.
        """
        present = [name for name in names if self.exists(name)]
        if not present:
            return None
        stamp = (now or datetime.now(UTC)).astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")
        folder = self._directory / "retired" / stamp
        for count in range(1, 1000):
            if not any((folder / self._file(name).name).exists() for name in present):
                break
            folder = folder.with_name(f"{stamp}-{count}")
        for name in present:
            _files.move(self._file(name), folder / self._file(name).name)
        return folder

    def note(self, name: str, text: str) -> None:
        """Leaves a durable note. A note is not encrypted: nothing secret belongs into it.

        Raises:
            AdapterError: It cannot be written.
        """
        _files.replace(self._note(name), text.encode())

    def read_note(self, name: str) -> str | None:
        """The note's text, or None.

        Raises:
            AdapterError: It is there but cannot be read.
        """
        try:
            return _files.read(self._note(name)).decode()
        except FileNotFoundError:
            return None

    def clear_note(self, name: str) -> None:
        """Removes the note, if it is there.

        Raises:
            AdapterError: It cannot be removed.
        """
        _files.remove(self._note(name))

    def _envelope(self, name: str, identities: Sequence[Path]) -> dict[str, Any]:
        file = self._file(name)
        try:
            content = _files.read(file)
        except FileNotFoundError as error:
            raise AdapterError("the key file does not exist", where=str(file)) from error
        try:
            envelope = json.loads(decrypt(content, identities))
        except ValueError as error:
            raise AdapterError("the key file does not hold what labctl writes", where=str(file)) from error
        if not isinstance(envelope, dict) or not {"recipients", "payload"} <= envelope.keys():
            raise AdapterError("the key file does not hold what labctl writes", where=str(file))
        return envelope

    def _file(self, name: str) -> Path:
        return self._directory / f"{_checked(name)}.age"

    def _note(self, name: str) -> Path:
        return self._directory / f"{_checked(name)}.note"


def _checked(name: str) -> str:
    if not _NAME.match(name):
        raise AdapterError(f"{name!r} cannot name a key file")
    return name
