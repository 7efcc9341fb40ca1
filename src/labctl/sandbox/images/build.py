"""Builds images that are not kept yet, in the Docker engine of this machine, and keeps them.

The engine gives a name when the image is whole, the store writes its record when all files are there: one that was cut off is
built again. What others are built on stays in the engine; an image that is kept does not.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import os
import re
import tarfile
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from configparser import ConfigParser, Error
from dataclasses import dataclass
from pathlib import Path

import requests

from labctl.model.errors import AdapterError, UserError
from labctl.sandbox.guests.engine import Engine, EngineError
from labctl.sandbox.guests.image import alone, cache_folder, mmdebstrap, write_overlay
from labctl.sandbox.guests.recipe import INSTALL, authority_files, cannot_build
from labctl.sandbox.images.catalogue import (
    BASE_PACKAGES,
    DOCKERFILE,
    IMAGES,
    Artefact,
    Image,
    ancestors,
    artefacts,
    build_files,
    chosen,
    engine_name,
    recipe,
    repository,
)
from labctl.sandbox.images.store import ImageStore, Kept

WORKERS = 2
DOWNLOADS = 8
DOWNLOAD_TIMEOUT_S = 60
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy")
INDEXES = ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "PIP_INDEX_URL")
PIP_FILES = (Path("/etc/pip.conf"), Path("~/.config/pip/pip.conf"), Path("~/.pip/pip.conf"))
_FULL = re.compile(r"no space left on device|not enough free space", re.IGNORECASE)
_UNREACHED = re.compile(
    r"temporary failure resolving|could not resolve|failed to fetch|could not connect|connection (timed out|refused)"
    r"|network is unreachable|name resolution|dns error|failed to establish a new connection|error sending request",
    re.IGNORECASE,
)
_STEP = re.compile(r"Step \d+/\d+ : (\S+)")

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Ready:
    """An image that is kept.

    Attributes:
        image: The image.
        kept: Its files.
        built: Whether it was built just now.
    """

    image: Image
    kept: Kept
    built: bool


def image_store() -> ImageStore:
    """Where this user's images are kept."""
    return ImageStore(cache_folder() / "images")


def kept_images(names: Sequence[str] = (), store: ImageStore | None = None) -> dict[str, Kept | None]:
    """What is kept of the images of these names, or of all. Asks no engine.

    Raises:
        UserError: There is no such image.
    """
    store = store or image_store()
    return {image.name: store.find(image.name, recipe(image.name)) for image in chosen(names)}


def ensure_images(
    names: Sequence[str], say: Say, *, store: ImageStore | None = None, engine: Engine | None = None
) -> dict[str, Ready]:
    """Builds and keeps the images of these names that are not kept yet; all where none is named.

    Args:
        names: Names of the catalogue.
        say: Is told what goes on, in lines.
        store: Where they are kept, by default `image_store()`.
        engine: What builds them.

    Raises:
        UserError: There is no such image, mmdebstrap is not installed, or the disk is full.
        AdapterError: The engine or a package registry does not answer, or a build fails.
    """
    wanted = chosen(names)
    store = store or image_store()
    there = {image.name: kept for image in wanted if (kept := store.find(image.name, recipe(image.name)))}
    missing = [image for image in wanted if image.name not in there]
    if missing:
        with alone("images", "images", say):
            # Another may have built some meanwhile.
            missing = [image for image in missing if store.find(image.name, recipe(image.name)) is None]
            _Build(engine or Engine(), store, say).run(missing)
    found = {}
    for image in wanted:
        kept = there.get(image.name) or store.find(image.name, recipe(image.name))
        if kept is None:
            raise AdapterError(f"image {image.name} is gone from {store.folder}", hint="Run `labctl sandbox images` again.")
        found[image.name] = Ready(image, kept, image.name not in there)
    return found


class _Build:
    """One round of building: each image once the one that it is built on is there, two at a time."""

    def __init__(self, engine: Engine, store: ImageStore, say: Say) -> None:
        self._engine = engine
        self._store = store
        self._told = threading.Lock()
        self._tell = say
        self._keeping = threading.Lock()
        self._ended = threading.Event()

    def run(self, missing: Sequence[Image]) -> None:
        needed = {image.name for wanted in missing for image in (*ancestors(wanted), wanted)}
        waiting = [image for image in IMAGES.values() if image.name in needed]
        done: set[str] = {""}
        running: dict[Future[None], Image] = {}
        with ThreadPoolExecutor(WORKERS, thread_name_prefix="images") as pool:
            try:
                while waiting or running:
                    for image in [one for one in waiting if one.parent in done]:
                        waiting.remove(image)
                        running[pool.submit(self._one, image)] = image
                    ended, _rest = wait(running, return_when=FIRST_COMPLETED)
                    for future in ended:
                        image = running.pop(future)
                        future.result()
                        done.add(image.name)
            except BaseException:
                self._ended.set()
                pool.shutdown(cancel_futures=True)
                raise

    def _say(self, text: str) -> None:
        if self._ended.is_set():
            raise AdapterError("another image failed")
        with self._told:
            self._tell(text)

    def _one(self, image: Image) -> None:
        began = time.monotonic()
        with _explained(f"image {image.name}"):
            self._built(image)
            if not image.served:
                return
            took = time.monotonic() - began
            with self._keeping, self._engine.saved_image(engine_name(image)) as archive:
                kept = self._store.keep(image.name, recipe(image.name), archive, began)
                self._store.clean(image.name, recipe(image.name))
        if not any(other.parent == image.name for other in IMAGES.values()):
            self._engine.remove_image(engine_name(image))
        self._say(
            f"image {repository(image)}:{image.version} is built: {kept.size // 2**20} MiB, {took:.0f} s and"
            f" {time.monotonic() - began - took:.0f} s to keep it"
        )

    def _built(self, image: Image) -> None:
        name = engine_name(image)
        if self._engine.has_image(name):
            return
        if image.parent:
            self._say(f"building image {repository(image)}:{image.version}")
            self._from_dockerfile(image, name)
        else:
            self._base(name)
        for old in self._engine.images(name.partition(":")[0]):
            if old != name:
                self._engine.remove_image(old)

    def _base(self, name: str) -> None:
        if problem := cannot_build():
            raise UserError(problem, where="images", hint=f"Install it: `{INSTALL}`")
        image = IMAGES["base"]
        self._say(f"building the images' base from Debian {image.version}")
        with tempfile.TemporaryDirectory(prefix="labctl-image-", dir=cache_folder()) as folder:
            overlay, root = Path(folder) / "overlay.tar", Path(folder) / "root.tar"
            write_overlay(overlay, authority_files(), build_files(image)["customize"][0])
            mmdebstrap("the images' base", BASE_PACKAGES, overlay, root, self._say)
            self._engine.import_image(root, name, ())

    def _from_dockerfile(self, image: Image, name: str) -> None:
        arguments = {key: os.environ[key] for key in PROXIES if os.environ.get(key)}
        content = build_files(image)
        arguments |= {"PARENT": engine_name(IMAGES[image.parent]), "VERSION": image.version}
        arguments["PACKAGE_INDEX"] = package_index()
        # The engine complains about what a Dockerfile does not ask for.
        asked = content[DOCKERFILE][0].decode()
        arguments = {key: value for key, value in arguments.items() if key in PROXIES or f"ARG {key}" in asked}
        with tempfile.TemporaryFile(dir=cache_folder()) as context:
            with tarfile.open(fileobj=context, mode="w") as archive:
                for path, (data, mode) in content.items():
                    entry = tarfile.TarInfo(path)
                    entry.size, entry.mode = len(data), mode
                    archive.addfile(entry, io.BytesIO(data))
                for file in self._downloaded(image):
                    archive.add(file, f"artefacts/{file.name}")
            context.seek(0)
            self._engine.build_image(context, name, arguments, lambda line: self._step(image, line))

    def _step(self, image: Image, line: str) -> None:
        if (step := _STEP.match(line)) and step[1] in {"RUN", "COPY"}:
            self._say(f"{image.name}: {line[:100]}")
        elif self._ended.is_set():
            raise AdapterError("another image failed")

    def _downloaded(self, image: Image) -> list[Path]:
        listed = artefacts(image)
        folder = self._store.folder / "downloads" / image.name
        if listed:
            folder.mkdir(parents=True, exist_ok=True)
            self._say(f"{image.name}: {len(listed)} files to download, unless they are there")
        for path in folder.glob("*"):
            if path.name not in {one.name for one in listed}:
                path.unlink()
        with ThreadPoolExecutor(DOWNLOADS) as pool:
            return list(pool.map(lambda one: download(one, folder), listed))


def download(artefact: Artefact, folder: Path) -> Path:
    """An artefact's file in a folder, downloaded unless it is there.

    Raises:
        AdapterError: It cannot be had, or is another.
    """
    path = folder / artefact.name
    if path.is_file() and _sha256(path) == artefact.sha256:
        return path
    part = path.with_name(f"{path.name}.part")
    try:
        with requests.get(artefact.url, stream=True, timeout=DOWNLOAD_TIMEOUT_S) as answer, part.open("wb") as file:
            answer.raise_for_status()
            for piece in answer.iter_content(2**20):
                file.write(piece)
    except requests.RequestException as error:
        raise AdapterError(
            f"{artefact.url} cannot be downloaded: {error}",
            hint="Does this machine reach it? A proxy goes into HTTPS_PROXY, its authority into REQUESTS_CA_BUNDLE.",
        ) from error
    if (found := _sha256(part)) != artefact.sha256:
        part.unlink()
        raise AdapterError(
            f"{artefact.url} is not what labctl knows: its SHA-256 is {found}, not {artefact.sha256}",
            hint="Does something on the way change it? Look at it with `curl`, and try again.",
        )
    part.replace(path)
    return path


def package_index() -> str:
    """The Python package index that this machine is set to; "" for PyPI."""
    for name in INDEXES:
        if value := os.environ.get(name):
            return value
    for file in PIP_FILES:
        settings = ConfigParser(interpolation=None)
        with contextlib.suppress(Error, OSError, UnicodeDecodeError):
            settings.read(file.expanduser())
            if value := settings.get("global", "index-url", fallback=""):
                return value
    return ""


@contextlib.contextmanager
def _explained(what: str) -> Iterator[None]:
    """Errors of a build say what to do about a full disk and a network that is not there."""
    try:
        yield
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise _full(what, error) from error
        raise AdapterError(f"{what} cannot be kept: {error}", hint=f"Look at {cache_folder()}.") from error
    except (EngineError, AdapterError) as error:
        text = f"{error} {error.hint}"
        if _FULL.search(text):
            raise _full(what, error) from error
        if _UNREACHED.search(text):
            hint = "Does this machine, and do containers on it, reach deb.debian.org, pypi.org and repo1.maven.org? Then try again."
            raise AdapterError(f"{what} cannot be built: no network. {error}", hint=hint) from error
        raise


def _full(what: str, error: object) -> UserError:
    return UserError(
        f"{what} cannot be built: the disk is full ({error})",
        hint=f"All images take about 3 GiB while they are built: make room under {cache_folder()} and in Docker's folder"
        " (`docker system df`), then try again.",
    )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
