"""Keeps built images as files: blobs by digest, and a record for each image. What two images have in common is kept once.

A record is written when all that it names is there, so that an image is whole or not there at all.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import json
import os
import shutil
import tarfile
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

from labctl.model.errors import AdapterError

MANIFEST_TYPE = "application/vnd.docker.distribution.manifest.v2+json"
CONFIG_TYPE = "application/vnd.docker.container.image.v1+json"
LAYER_TYPE = "application/vnd.docker.image.rootfs.diff.tar.gzip"
_CHUNK = 2**20
_KEPT = 3
"""Records of an image: another labctl on this machine may be of another version."""
_STALE_S = 3600


@dataclass(frozen=True, slots=True)
class Kept:
    """An image that is kept.

    Attributes:
        name: Its name.
        recipe: What it was built from.
        digest: The digest of its manifest.
        size: Its compressed size in bytes, with what it shares.
        layers: The digests of its layers, each with its compressed size.
        seconds: How long it took to build and keep.
    """

    name: str
    recipe: str
    digest: str
    size: int
    layers: Mapping[str, int]
    seconds: float


class ImageStore:
    """A folder with images. Safe for many readers beside a writer; writers take turns (see `build`).

    Args:
        folder: The folder; it is made when something is kept.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._blobs = folder / "blobs" / "sha256"
        self._layers = folder / "layers"
        self._records = folder / "images"

    def find(self, name: str, recipe: str) -> Kept | None:
        """An image that was built from this recipe; None where it is not kept whole."""
        record = self._read(self._record(name, recipe))
        if record is None or not all(self.blob(digest) for digest in (record["digest"], record["config"], *record["layers"])):
            return None
        return Kept(name, recipe, record["digest"], record["size"], record["layers"], record["seconds"])

    def manifest(self, digest: str) -> bytes | None:
        """A manifest by its digest."""
        for path in self._records.glob("*/*.json"):
            record = self._read(path)
            if record is not None and record["digest"] == digest and (blob := self.blob(digest)):
                return blob.read_bytes()
        return None

    def blob(self, digest: str) -> Path | None:
        """The file of a blob."""
        kind, _, value = digest.partition(":")
        if kind != "sha256" or len(value) != 64 or not set(value) <= set("0123456789abcdef"):
            return None
        path = self._blobs / value
        return path if path.is_file() else None

    def keep(self, name: str, recipe: str, archive: IO[bytes], began: float) -> Kept:
        """Keeps an image.

        Args:
            name: Its name.
            recipe: What it was built from.
            archive: What `docker save` says of it.
            began: When its build began, by `time.monotonic`.

        Raises:
            AdapterError: The archive is not one.
            OSError: The disk is full.
        """
        for folder in (self._blobs, self._layers, self._record(name, recipe).parent):
            folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="new-", dir=self.folder) as work:
            config, diffs = self._unpack(archive, Path(work))
            layers = {}
            for diff in diffs:
                digest = self._layer_of(diff)
                layers[digest] = (self._blobs / digest.removeprefix("sha256:")).stat().st_size
            described = {
                "schemaVersion": 2,
                "mediaType": MANIFEST_TYPE,
                "config": {"mediaType": CONFIG_TYPE, "size": len(config), "digest": _digest(config)},
                "layers": [
                    {"mediaType": LAYER_TYPE, "size": layers[digest], "digest": digest} for digest in map(self._layer_of, diffs)
                ],
            }
            manifest = json.dumps(described, indent=2).encode()
            self._put(config, Path(work))
            self._put(manifest, Path(work))
            size = len(config) + sum(layers.values())
            kept = Kept(name, recipe, _digest(manifest), size, layers, round(time.monotonic() - began, 1))
            record = {
                "digest": kept.digest,
                "config": _digest(config),
                "layers": layers,
                "size": size,
                "seconds": kept.seconds,
            }
            _write(self._record(name, recipe), json.dumps(record, indent=2).encode(), Path(work))
        return kept

    def clean(self, name: str, recipe: str) -> None:
        """Removes what no image needs any more: older records of this image but a few, blobs without a record, what was cut off."""
        current = self._record(name, recipe)
        others = sorted((path for path in current.parent.glob("*.json") if path != current), key=_age, reverse=True)
        for path in others[_KEPT - 1 :]:
            path.unlink(missing_ok=True)
        used = set()
        for path in self._records.glob("*/*.json"):
            if record := self._read(path):
                used |= {record["digest"], record["config"], *record["layers"]}
        for path in self._blobs.glob("*"):
            if f"sha256:{path.name}" not in used:
                path.unlink(missing_ok=True)
        for path in self._layers.glob("*"):
            if path.read_text() not in used:
                path.unlink(missing_ok=True)
        for path in self.folder.glob("new-*"):
            if time.time() - _age(path) > _STALE_S:
                shutil.rmtree(path, ignore_errors=True)

    def _record(self, name: str, recipe: str) -> Path:
        return self._records / name / f"{recipe}.json"

    @staticmethod
    def _read(path: Path) -> Any:
        try:
            return json.loads(path.read_text())
        except (OSError, ValueError):
            return None

    def _layer_of(self, diff: str) -> str:
        return (self._layers / diff.removeprefix("sha256:")).read_text()

    def _has_layer(self, diff: str) -> bool:
        with contextlib.suppress(OSError):
            return self.blob(self._layer_of(diff)) is not None
        return False

    def _unpack(self, archive: IO[bytes], work: Path) -> tuple[bytes, list[str]]:
        """The image's configuration and the digests of its layers as they are unpacked; the layers become blobs."""
        texts: dict[str, bytes] = {}
        with tarfile.open(fileobj=archive, mode="r|") as entries:
            for entry in entries:
                # A layer that the image has twice comes as a link the second time.
                if not entry.isfile():
                    continue
                content = cast("IO[bytes]", entries.extractfile(entry))
                if entry.name.endswith(".json") or entry.size < _CHUNK:
                    texts[entry.name] = content.read()
                if entry.name.endswith("/layer.tar") or (entry.name.startswith("blobs/") and entry.size >= _CHUNK):
                    given = texts.get(entry.name)
                    self._layer(_pieces(content) if given is None else iter((given,)), work)
        try:
            listed = json.loads(texts["manifest.json"])
            config = texts[listed[0]["Config"]]
            diffs = [str(diff) for diff in json.loads(config)["rootfs"]["diff_ids"]]
        except (KeyError, IndexError, ValueError) as error:
            raise AdapterError(f"the Docker engine gave an image in a form that labctl does not know ({error!r})") from error
        for text in texts.values():
            # In archives of newer engines, small layers look like any other blob.
            if _digest(text) in diffs and not self._has_layer(_digest(text)):
                self._layer(iter((text,)), work)
        for diff in diffs:
            if not self._has_layer(diff):
                raise AdapterError(f"the Docker engine gave an image without its layer {diff}")
        return config, diffs

    def _layer(self, pieces: Iterator[bytes], work: Path) -> None:
        """Keeps a layer, unless it is kept already."""
        raw = hashlib.sha256()
        with tempfile.TemporaryFile(dir=work) as plain:
            for piece in pieces:
                raw.update(piece)
                plain.write(piece)
            diff = f"sha256:{raw.hexdigest()}"
            if self._has_layer(diff):
                return
            plain.seek(0)
            with tempfile.NamedTemporaryFile(dir=work, delete=False) as packed:
                # Guests unpack it on the same machine: time counts, size does not.
                with gzip.GzipFile(filename="", mode="wb", compresslevel=1, fileobj=packed, mtime=0) as zipped:
                    shutil.copyfileobj(plain, zipped, _CHUNK)
                packed.flush()
                os.fsync(packed.fileno())
        with Path(packed.name).open("rb") as done:
            value = hashlib.file_digest(done, "sha256").hexdigest()
        Path(packed.name).replace(self._blobs / value)
        _write(self._layers / diff.removeprefix("sha256:"), f"sha256:{value}".encode(), work)

    def _put(self, content: bytes, work: Path) -> None:
        _write(self._blobs / _digest(content).removeprefix("sha256:"), content, work)


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _pieces(content: IO[bytes]) -> Iterator[bytes]:
    while piece := content.read(_CHUNK):
        yield piece


def _write(path: Path, content: bytes, work: Path) -> None:
    with tempfile.NamedTemporaryFile(dir=work, delete=False) as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    Path(file.name).replace(path)


def _age(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
