"""Downloads a provider from a Terraform registry.

Source: Terraform, "Remote Service Discovery Protocol" and "Provider Registry Protocol".
"""

from __future__ import annotations

import hashlib
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import requests

from labctl.adapters.terraform.provider_spec import ProviderSpec
from labctl.model.errors import AdapterError

_ASK_TIMEOUT_S = (3.0, 10.0)
_FETCH_TIMEOUT_S = (5.0, 60.0)
_LARGEST = 512 * 1024 * 1024


class RegistryUnavailable(AdapterError):
    """The registry, or where it sends us, does not answer usably from this machine."""


def download_provider(
    staging: Path,
    spec: ProviderSpec,
    *,
    host: str,
    platform: str,
    session: requests.Session | None = None,
    progress: Callable[[str], None] = lambda _line: None,
) -> None:
    """Downloads a provider, checks it against the release's SHA256SUMS, and unpacks it into an empty folder.

    Raises:
        RegistryUnavailable: Nothing was downloaded: no answer, no such service, no such version.
        AdapterError: What was downloaded is not what the release names.
    """
    with session or requests.Session() as http:
        url = _providers_url(http, host)
        os_name, _, arch = platform.partition("_")
        package = _json(http, urljoin(url, f"{spec.name}/{spec.version}/download/{os_name}/{arch}"))
        try:
            name, wanted = str(package["filename"]), str(package["shasum"]).lower()
            zip_url, sums_url = str(package["download_url"]), str(package["shasums_url"])
        except KeyError as error:
            raise RegistryUnavailable(f"{host} does not name {error} of {spec}") from error
        listed = _listed_sum(_get(http, sums_url).text, name)
        if listed != wanted:
            raise AdapterError(
                f"{host} and the release disagree about the checksum of {name}: {wanted} and {listed or 'none'}.",
                hint="Do not use it. Try again later, and tell the provider's authors if it stays.",
            )
        progress(f"Downloading {name} from {host} …")
        archive = staging / ".package.zip"
        try:
            _check(name, _fetch(http, zip_url, archive), wanted)
            _unpack(archive, staging, spec)
        finally:
            # What is left in the folder becomes the package, after a build too.
            archive.unlink(missing_ok=True)


def _providers_url(http: requests.Session, host: str) -> str:
    discovery = f"https://{host}/.well-known/terraform.json"
    service = _json(http, discovery).get("providers.v1")
    if not isinstance(service, str):
        raise RegistryUnavailable(f"{host} offers no providers")
    return urljoin(discovery, service if service.endswith("/") else f"{service}/")


def _get(http: requests.Session, url: str) -> requests.Response:
    try:
        response = http.get(url, timeout=_ASK_TIMEOUT_S)
    except requests.RequestException as error:
        raise RegistryUnavailable(f"{type(error).__name__} at {url}") from error
    if not response.ok:
        raise RegistryUnavailable(f"HTTP {response.status_code} at {url}")
    return response


def _json(http: requests.Session, url: str) -> dict[str, Any]:
    try:
        shape = _get(http, url).json()
    except requests.JSONDecodeError as error:
        raise RegistryUnavailable(f"no JSON at {url}") from error
    if not isinstance(shape, dict):
        raise RegistryUnavailable(f"no JSON object at {url}")
    return shape


def _listed_sum(sums: str, name: str) -> str:
    for line in sums.splitlines():
        digest, _, listed = line.strip().partition(" ")
        if listed.lstrip(" *") == name:
            return digest.lower()
    return ""


def _fetch(http: requests.Session, url: str, target: Path) -> str:
    """Downloads into a file and returns its SHA-256 in hex."""
    digest, size = hashlib.sha256(), 0
    try:
        with http.get(url, stream=True, timeout=_FETCH_TIMEOUT_S) as response, target.open("wb") as out:
            if not response.ok:
                raise RegistryUnavailable(f"HTTP {response.status_code} at {url}")
            for chunk in response.iter_content(1 << 16):
                size += len(chunk)
                if size > _LARGEST:
                    raise AdapterError(f"{url} is larger than {_LARGEST >> 20} MiB, which no provider is.")
                digest.update(chunk)
                out.write(chunk)
    except requests.RequestException as error:
        raise RegistryUnavailable(f"{type(error).__name__} at {url}") from error
    return digest.hexdigest()


def _check(name: str, got: str, wanted: str) -> None:
    if got != wanted:
        raise AdapterError(
            f"{name} was downloaded with the wrong checksum: {got} instead of {wanted}.",
            hint="Something on the way changed it. Try again on another network.",
        )


def _unpack(archive: Path, staging: Path, spec: ProviderSpec) -> None:
    try:
        with zipfile.ZipFile(archive) as package:
            for member in package.infolist():
                if member.is_dir():
                    continue
                if Path(member.filename).name != member.filename or member.file_size > _LARGEST:
                    raise AdapterError(f"The package of {spec} holds a file that no package holds: {member.filename!r}.")
                target = staging / member.filename
                with package.open(member) as source, target.open("wb") as out:
                    shutil.copyfileobj(source, out)
                target.chmod(0o755 if member.filename == spec.binary_name else 0o644)
    except zipfile.BadZipFile as error:
        raise AdapterError(f"The package of {spec} is no zip file: {error}") from error
    if not (staging / spec.binary_name).is_file():
        raise AdapterError(f"The package of {spec} does not hold {spec.binary_name}.")
