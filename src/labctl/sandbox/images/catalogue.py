"""Which images there are, and the recipe of each: a hash of all that it is built from. Pure but for reading the build files."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable

from labctl.model.errors import UserError, nearest
from labctl.sandbox.guests.recipe import OPTIONS, SUITE, authority_files

NAMESPACE = "lab"
BASE = "base"
BASE_PACKAGES = ("ca-certificates",)
DOCKERFILE, ARTEFACTS = "Dockerfile", "artefacts.txt"
_FORMAT = "1"


@dataclass(frozen=True, slots=True)
class Image:
    """An image.

    Attributes:
        name: Its name, and that of the folder with its build files.
        version: The tag that it is served under; given to its Dockerfile as `VERSION`.
        parent: The image that it is built on; "" for the base, which mmdebstrap makes.
        shares: Folders whose files it is built with besides its own.
        served: Whether guests may take it. Others are only built upon.
    """

    name: str
    version: str
    parent: str
    shares: tuple[str, ...] = ()
    served: bool = True


IMAGES: Mapping[str, Image] = {
    image.name: image
    for image in (
        Image(BASE, SUITE, "", served=False),
        Image("python", "3.13", BASE),
        Image("node", "20", BASE),
        Image("postgres", "18.4", BASE),
        Image("kafka", "4.0.1", BASE),
        Image("mlflow", "3.9.0", "python"),
        Image("standin", "1", "python", shares=("standins",), served=False),
        Image("ollama", "0.18.2", "standin"),
        Image("open_webui", "0.8.12", "standin"),
        Image("portainer", "2.33.6", "standin"),
    )
}
"""Every image, each after the one that it is built on."""

SERVED = tuple(image.name for image in IMAGES.values() if image.served)


@dataclass(frozen=True, slots=True)
class Artefact:
    """A file that an image is built with and that is downloaded, not kept in the repository.

    Attributes:
        sha256: Its digest.
        url: Where it comes from.
    """

    sha256: str
    url: str

    @property
    def name(self) -> str:
        """Its file name."""
        return self.url.rsplit("/", 1)[-1]


def chosen(names: Sequence[str]) -> list[Image]:
    """The images of these names; all that are served where none is named.

    Raises:
        UserError: There is no such image.
    """
    for name in names:
        if name not in SERVED:
            raise UserError(f"there is no image {name!r}", hint=nearest(name, SERVED))
    return [IMAGES[name] for name in SERVED if not names or name in names]


def ancestors(image: Image) -> list[Image]:
    """What an image is built on, the base first."""
    found: list[Image] = []
    while image.parent:
        image = IMAGES[image.parent]
        found.insert(0, image)
    return found


def build_files(image: Image) -> dict[str, tuple[bytes, int]]:
    """An image's build files: by path in the build context, content and mode."""
    here = files("labctl.sandbox.images")
    found: dict[str, tuple[bytes, int]] = {}
    for folder in (*image.shares, image.name):
        prefix = f"{folder}/" if folder in image.shares else ""
        for path, entry in _walk(here / folder):
            content = entry.read_bytes()
            found[prefix + path] = (content, 0o755 if content.startswith(b"#!") else 0o644)
    return found


def artefacts(image: Image) -> tuple[Artefact, ...]:
    """What is downloaded for an image: the lines of its list, a digest and an address each."""
    listed = files("labctl.sandbox.images") / image.name / ARTEFACTS
    if not listed.is_file():
        return ()
    lines = (line.split() for line in listed.read_text().splitlines() if line and not line.startswith("#"))
    return tuple(Artefact(digest, url) for digest, url in lines)


@cache
def recipe(name: str) -> str:
    """The hash of all that an image is built from, its parent's among it."""
    image = IMAGES[name]
    made = hashlib.sha256(f"{_FORMAT}\0{image.version}\0".encode())
    if image.parent:
        made.update(recipe(image.parent).encode())
    else:
        made.update("\0".join((*BASE_PACKAGES, *OPTIONS)).encode())
        for path, (content, mode) in authority_files().items():
            made.update(f"{path}\0{mode:o}\0".encode() + content)
    for path, (content, mode) in build_files(image).items():
        made.update(f"{path}\0{mode:o}\0{len(content)}\0".encode() + content)
    return made.hexdigest()[:12]


def repository(image: Image) -> str:
    """Its repository in the registry."""
    return f"{NAMESPACE}/{image.name}"


def engine_name(image: Image) -> str:
    """Its name in the Docker engine of this machine."""
    return f"labctl-image-{image.name}:{recipe(image.name)}"


def _walk(folder: Traversable, prefix: str = "") -> Iterator[tuple[str, Traversable]]:
    for entry in sorted(folder.iterdir(), key=lambda one: one.name):
        if entry.is_dir():
            if entry.name != "__pycache__":
                yield from _walk(entry, f"{prefix}{entry.name}/")
        else:
            yield prefix + entry.name, entry
