"""Docker Compose for tests on this machine's own engine: the version that guests have, Debian trixie's 2.26, not installed."""

from __future__ import annotations

import hashlib
import subprocess
import urllib.request
from pathlib import Path

from tests.needs import lacking, needed

URL = "http://deb.debian.org/debian/pool/main/d/docker-compose/docker-compose_2.26.1-4_amd64.deb"
SHA256 = "47681197cb2b1ab88206b42a1a92fc75f50d9530a6322d03494a473eed0408ea"
CACHE = Path(__file__).parents[1] / ".cache" / "labctl" / "compose-2.26.1-4"


def compose_folder() -> Path:
    """The folder with the program `docker-compose`; fetched once (13 MB)."""
    folder = CACHE / "usr" / "bin"
    if (folder / "docker-compose").exists():
        return folder
    unpack = needed("dpkg-deb", "dpkg")
    CACHE.parent.mkdir(parents=True, exist_ok=True)
    package = CACHE.with_suffix(".deb")
    try:
        with urllib.request.urlopen(URL, timeout=60) as answer:
            content = answer.read()
    except OSError as error:
        lacking(f"{URL} cannot be fetched ({error})")
    assert hashlib.sha256(content).hexdigest() == SHA256
    package.write_bytes(content)
    subprocess.run([unpack, "-x", str(package), str(CACHE)], check=True)
    package.unlink()
    plugin = CACHE / "usr" / "libexec" / "docker" / "cli-plugins" / "docker-compose"
    if not (folder / "docker-compose").exists() and plugin.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "docker-compose").symlink_to(plugin)
    return folder


def engine_client() -> str:
    """The `docker` of this machine's engine package: a newer client may send what an old engine refuses."""
    return "/usr/bin/docker" if Path("/usr/bin/docker").is_file() else needed("docker", "docker.io")


def base_image() -> str:
    """An image of this machine's engine to run things in: that of the sandbox's guests, which `labctl sandbox image` builds."""
    from labctl.sandbox.guests.engine import Engine
    from labctl.sandbox.guests.image import ensure_image

    return ensure_image(Engine(), lambda _text: None)
