"""Looks for secret values in every form in which they may have been written down, and watches what comes and goes."""

from __future__ import annotations

import base64
import fnmatch
import hashlib
import json
import os
import re
import stat
import sys
import threading
import time
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

SHORTEST = 8
"""Bytes. Anything shorter would be found by chance."""

_LAYER_LIMIT = 64 * 2**20
_GZIP = re.compile(rb"\x1f\x8b\x08")
_ZEROS = re.compile(rb"\0{64,}")
_BREAKS = re.compile(rb"\\[nrt]|\s+")

SHAPES = {
    "the shape of a private key": re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----"),
    "the shape of an age identity": re.compile(rb"AGE-SECRET-KEY-1[A-Z0-9]{20}"),
    "the shape of a Vault token": re.compile(rb"(?<![A-Za-z0-9_.%-])(?:hv)?[sb]\.[A-Za-z0-9]{24}(?![a-z])"),
}
"""For values that nobody kept, such as the tokens of logins: what they look like."""


@dataclass(frozen=True)
class Canary:
    """A secret. Each of `values` alone would give it away."""

    name: str
    values: tuple[bytes, ...] = field(repr=False)

    @classmethod
    def of_text(cls, name: str, text: str) -> Canary:
        """A secret that is a text; base64 of bytes counts as those bytes too."""
        values = [text.encode()]
        if re.fullmatch(r"[A-Za-z0-9+/]{40,}={1,2}", text):
            values.append(base64.b64decode(text))
        return cls(name, tuple(values))

    @classmethod
    def of_private_key(cls, name: str, pem: bytes) -> Canary:
        """A private key: its number, which every file format has inside, and the file as it is."""
        load = serialization.load_ssh_private_key if b"OPENSSH" in pem else serialization.load_pem_private_key
        key = load(pem, password=None)
        if isinstance(key, ed25519.Ed25519PrivateKey):
            number = key.private_bytes_raw()
        else:
            assert isinstance(key, ec.EllipticCurvePrivateKey)
            number = key.private_numbers().private_value.to_bytes(32, "big")
        return cls(name, (number, pem.strip()))


@dataclass(frozen=True)
class Finding:
    """A secret at a place where it may not be. Never holds the value: it is printed when a test fails."""

    place: str
    canary: str
    form: str


@dataclass(frozen=True)
class Allowed:
    """A place that may hold certain secrets. `place` and `canary` are shell patterns."""

    place: str
    canary: str
    reason: str

    def covers(self, finding: Finding) -> bool:
        """Whether this is the place and the secret."""
        return fnmatch.fnmatchcase(finding.place, self.place) and fnmatch.fnmatchcase(finding.canary, self.canary)


def forms(value: bytes) -> dict[str, bytes]:
    """The value as it is and as encoders write it; base64 for each place that it can have in what is encoded."""
    found = {"plain": value, "hex": value.hex().encode(), "HEX": value.hex().upper().encode()}
    found["URL"] = quote(value, safe="").encode()
    text = value.decode("utf-8", "ignore")
    if text.encode() == value:
        found["JSON"] = json.dumps(text)[1:-1].encode()
    for shift, skipped in enumerate((0, 2, 3)):
        whole = (shift + len(value)) * 8 // 6
        padded = bytes(shift) + value
        found[f"base64+{shift}"] = base64.b64encode(padded)[skipped:whole]
        found[f"base64url+{shift}"] = base64.urlsafe_b64encode(padded)[skipped:whole]
    return found


class Search:
    """Finds canaries, and what looks like a secret, in bytes."""

    def __init__(self, canaries: Iterable[Canary]) -> None:
        self._needles: dict[bytes, tuple[str, str]] = {}
        self._known: dict[bytes, frozenset[tuple[str, str]]] = {}
        for canary in canaries:
            for value in canary.values:
                assert len(value) >= SHORTEST, f"{canary.name} is too short to look for"
                for form, needle in forms(value).items():
                    self._needles.setdefault(needle, (canary.name, form))

    def look(self, place: str, content: bytes) -> set[Finding]:
        """Every canary in the content, also in what is compressed in it, and through line breaks."""
        key = hashlib.blake2b(content).digest()
        if key not in self._known:
            self._known[key] = frozenset(self._in(content))
        return {Finding(place, name, form) for name, form in self._known[key]}

    def _in(self, content: bytes) -> Iterator[tuple[str, str]]:
        for layer in layers(content):
            short = _ZEROS.sub(b"\0", layer)
            joined = _BREAKS.sub(b"", short)
            for needle, found in self._needles.items():
                if needle in short or needle in joined:
                    yield found
            yield from ((shape, "shape") for shape, pattern in SHAPES.items() if pattern.search(short))

    def look_at_all(self, things: Iterable[tuple[str, bytes]]) -> set[Finding]:
        """As `look`, for several places."""
        return {finding for place, content in things for finding in self.look(place, content)}


def layers(content: bytes) -> Iterator[bytes]:
    """The content, what a zip archive holds (a saved plan is one), and every gzip stream in it (SeaweedFS packs objects so)."""
    yield content
    if content.startswith(b"PK\x03\x04"):
        with zipfile.ZipFile(BytesIO(content)) as archive:
            for name in archive.namelist():
                yield archive.read(name)
    for match in _GZIP.finditer(content):
        stream = zlib.decompressobj(31)
        try:
            yield stream.decompress(content[match.start() :], _LAYER_LIMIT)
        except zlib.error:
            continue


def files_below(
    root: Path, changed_after: float = 0.0, without: Iterable[Path] = (), largest: int = sys.maxsize
) -> Iterator[tuple[str, bytes]]:
    """Every regular file below a folder, by its path from there. Links are not followed; what vanishes meanwhile is left out."""
    left_out = {str(path) for path in without}
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if str(Path(folder, name)) not in left_out]
        for name in names:
            path = Path(folder, name)
            try:
                about = path.lstat()
                if stat.S_ISREG(about.st_mode) and about.st_ctime >= changed_after and about.st_size <= largest:
                    yield str(path.relative_to(root)), path.read_bytes()
            except FileNotFoundError:
                continue


class Watch:
    """Calls `look` over and over in a thread while the block runs; what it raises comes out at the end."""

    def __init__(self, look: Callable[[], None], pause_s: float = 0.005) -> None:
        self._look = look
        self._pause_s = pause_s
        self._stop = threading.Event()
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        try:
            while not self._stop.wait(self._pause_s):
                self._look()
        except Exception as error:  # noqa: BLE001  (handed to the test, whatever it is)
            self._error = error

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join()
        if self._error is not None and error is None:
            raise self._error


class CommandLines:
    """Collects the command lines of every process. A process is read again for a while, since it may still be about to exec."""

    _FRESH_S = 1.0
    _AGAIN_S = 1.0

    def __init__(self) -> None:
        self.seen: set[bytes] = set()
        self._first: dict[str, float] = {}
        self._all_read = 0.0

    def look(self) -> None:
        """Reads `/proc/*/cmdline` once."""
        now = time.monotonic()
        everything = now - self._all_read > self._AGAIN_S
        self._all_read = now if everything else self._all_read
        pids = {name for name in os.listdir("/proc") if name.isdigit()}  # noqa: PTH208  (the fastest way)
        self._first = {pid: self._first.get(pid, now) for pid in pids}
        for pid in pids:
            if everything or now - self._first[pid] < self._FRESH_S:
                self._read(pid)

    def _read(self, pid: str) -> None:
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:  # noqa: PTH123  (hundreds a second)
                line = file.read()
        except (FileNotFoundError, ProcessLookupError):
            return
        if line:
            self.seen.add(line)

    def places(self) -> list[tuple[str, bytes]]:
        """Each command line under the name of its program."""
        return [(f"the command line of {Path(line.split(bytes(1))[0].decode()).name}", line) for line in self.seen]
