"""Builds the guests' base image: Debian by mmdebstrap, imported into the Docker engine. No image registry is needed.

Its name holds a hash of what it is built from, so it is built once for each recipe. The engine gives the name when it has
the whole, so that a half-built one is never used.
"""

from __future__ import annotations

import contextlib
import fcntl
import io
import os
import shlex
import subprocess
import tarfile
import tempfile
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from labctl.model.errors import AdapterError, UserError
from labctl.sandbox.guests.engine import Engine
from labctl.sandbox.guests.recipe import (
    CHANGES,
    CUSTOMIZE,
    IMAGE,
    INSTALL,
    OPTIONS,
    PACKAGES,
    SUITE,
    cannot_build,
    image_files,
    image_name,
)

_LAST_LINES = 15

Say = Callable[[str], None]


def ensure_image(engine: Engine, say: Say) -> str:
    """The name of the base image, which is built where the engine does not have it.

    Raises:
        UserError: mmdebstrap is not installed.
        AdapterError: It cannot be built.
    """
    name = image_name()
    if engine.has_image(name):
        return name
    if problem := cannot_build():
        raise UserError(problem, where="the guests' base image", hint=f"Install it: `{INSTALL}`")
    with alone("image", "the guests' base image", say):
        # Another may have built it meanwhile.
        if not engine.has_image(name):
            _build(engine, name, say)
    return name


def _build(engine: Engine, name: str, say: Say) -> None:
    say(f"building the guests' base image {name} from Debian {SUITE}: once, about a minute")
    with tempfile.TemporaryDirectory(prefix="labctl-image-", dir=cache_folder()) as folder:
        overlay, root = Path(folder) / "overlay.tar", Path(folder) / "root.tar"
        write_overlay(overlay, image_files(), CUSTOMIZE.read_bytes())
        mmdebstrap("the guests' base image", PACKAGES, overlay, root, say)
        say(f"importing {root.stat().st_size // 2**20} MiB into the Docker engine")
        engine.import_image(root, name, CHANGES)
    for old in engine.images(IMAGE):
        if old != name:
            # One that a guest still uses stays.
            engine.remove_image(old)
    say(f"the guests' base image {name} is built")


def write_overlay(path: Path, files: Mapping[str, tuple[bytes, int]], customize: bytes) -> None:
    """An archive of what is laid over Debian's files, with the script that runs inside at the end."""
    with tarfile.open(path, "w") as archive:
        for name, (content, mode) in {**files, "customize": (customize, 0o755)}.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), mode
            archive.addfile(entry, io.BytesIO(content))


def mmdebstrap(what: str, packages: Sequence[str], overlay: Path, target: Path, say: Say) -> None:
    """Debian's minimal system with these packages and what `write_overlay` wrote, as an archive of its root.

    Raises:
        AdapterError: mmdebstrap says no.
    """
    command = [
        *("mmdebstrap", *OPTIONS, f"--include={','.join(packages)}"),
        f"--customize-hook=tar-in {shlex.quote(str(overlay))} /",
        '--customize-hook=chroot "$1" sh /customize',
        '--customize-hook=rm "$1/customize"',
        *(SUITE, str(target)),
    ]
    last: deque[str] = deque(maxlen=_LAST_LINES)
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    ) as process:
        try:
            for line in process.stdout or ():
                if line.strip():
                    last.append(line.rstrip())
                if line.startswith("I: ") and "running --" not in line:
                    say(f"mmdebstrap: {line[3:].strip()}")
        except BaseException:
            process.terminate()
            raise
    if process.returncode != 0:
        raise AdapterError(
            f"{what} cannot be built: mmdebstrap ended with {process.returncode}",
            hint="Does this machine reach deb.debian.org? The end of what mmdebstrap said:\n" + "\n".join(last),
        )


@contextlib.contextmanager
def alone(lock_name: str, what: str, say: Say) -> Iterator[None]:
    """One build at a time."""
    with (cache_folder() / f"{lock_name}.lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            say(f"waiting for another labctl that builds {what}")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def cache_folder() -> Path:
    """A private folder on a disk: the image is too large for a tmpfs."""
    folder = Path("/var/tmp") / f"labctl-{os.getuid()}"  # noqa: S108  (made private, and checked to be)
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.is_symlink() or folder.stat().st_uid != os.getuid():
        raise UserError(f"{folder} belongs to somebody else", hint="Remove it.")
    return folder
