"""The container registry: its configuration from gitlab.rb, and the tokens with which GitLab lets clients in."""

from __future__ import annotations

import base64
import json
import re
import subprocess
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from . import places
from .deploytokens import active, username
from .projects import find_project, registry_access
from .state import Row, State, digest, matches

ISSUER = "omnibus-gitlab-issuer"
SERVICE = "container_registry"
_LIFE_S = 300
_OF_SCOPES = {"read_registry": "pull", "write_registry": "push"}
_SCOPE = re.compile(r"repository:([a-z0-9._/-]+):([a-z*,]+)")


class Refused(Exception):
    """The configuration cannot work."""


def storage(settings: Mapping[str, Any]) -> tuple[Row, list[str]]:
    """The registry's storage as docker-registry takes it, and what GitLab's own registry would complain of.

    From GitLab 19.0 on `s3` is another name for `s3_v2`; Debian's docker-registry knows the older driver, under the name `s3`.

    Raises:
        Refused: There is no S3 in it, or it lacks what it needs.
    """
    given = dict(settings.get("storage") or {})
    driver = next((name for name in ("s3_v2", "s3") if name in given), None)
    if driver is None:
        raise Refused("registry['storage'] names neither s3_v2 nor s3: this stand-in stores nowhere else")
    s3 = dict(given.pop(driver))
    missing = [name for name in ("bucket", "region") if not s3.get(name)]
    if missing:
        raise Refused(f"registry['storage']['{driver}'] has no {' and no '.join(missing)}")
    warnings = []
    if s3.get("regionendpoint"):
        if not re.match(r"https?://[^/\s]+", str(s3["regionendpoint"])):
            raise Refused(
                f"registry['storage']['{driver}']['regionendpoint'] needs its scheme, as https://store.example.com:9000"
            )
        if not s3.get("checksum_disabled"):
            warnings.append("checksum_disabled is not set: S3-compatible stores refuse the push of a large image")
        if not s3.get("pathstyle"):
            warnings.append("pathstyle is not set: buckets are looked for as names of hosts")
    return {"s3": s3, **given}, warnings


def write_config(effective: Mapping[str, Any]) -> bool:
    """Writes the registry's configuration, keys included, as Omnibus does; says whether it changed.

    Raises:
        Refused: It cannot work.
    """
    settings, url = effective["settings"].get("registry") or {}, urlsplit(effective["urls"]["registry_external_url"])
    if url.scheme != "http":
        raise Refused("registry_external_url: this stand-in speaks http only")
    kept = json.loads(places.at(places.SECRETS).read_text())["registry"]
    stored, _warnings = storage(settings)
    config = {
        "version": "0.1",
        "log": {"level": "info", "formatter": "text", "fields": {"service": "registry", "environment": "production"}},
        "storage": {"cache": {"blobdescriptor": "inmemory"}, "delete": {"enabled": True}, **stored},
        "http": {"addr": f":{url.port or 80}", "secret": kept["http_secret"], "headers": {"X-Content-Type-Options": ["nosniff"]}},
        "health": {"storagedriver": {"enabled": True, "interval": "10s", "threshold": 3}},
        "auth": {
            "token": {
                "realm": f"{effective['urls']['external_url'].rstrip('/')}/jwt/auth",
                "service": SERVICE,
                "issuer": ISSUER,
                "rootcertbundle": str(places.at(places.REGISTRY_CERTIFICATE)),
            }
        },
    }
    # JSON is YAML as well.
    changed = places.write(places.REGISTRY_CONFIG, json.dumps(config, indent=2) + "\n", 0o600)
    changed |= _make_key()
    changed |= places.write(places.CA_BUNDLE, _authorities(), 0o644)
    environment = f"SSL_CERT_FILE={places.at(places.CA_BUNDLE)}\nSSL_CERT_DIR=/nonexistent\n"
    return places.write(places.REGISTRY_ENVIRONMENT, environment, 0o644) or changed


def _authorities() -> str:
    """What GitLab trusts: the public authorities of its package, and /etc/gitlab/trusted-certs; never those of the system."""
    public = sorted(places.at("/usr/share/ca-certificates/mozilla").glob("*.crt"))
    own = sorted(file for file in places.at(places.TRUSTED).glob("*") if file.suffix in (".crt", ".pem"))
    return "".join(file.read_text() for file in (*public, *own))


def _make_key() -> bool:
    key, certificate = places.at(places.REGISTRY_KEY), places.at(places.REGISTRY_CERTIFICATE)
    if key.exists() and certificate.exists():
        return False
    argv = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-noenc", "-days", "3650", "-subj", f"/CN={ISSUER}"]
    subprocess.run([*argv, "-keyout", str(key), "-out", str(certificate)], check=True, capture_output=True)
    key.chmod(0o600)
    return True


@dataclass(frozen=True)
class Login:
    """Who asks for a token: a user, else a deploy token, else nobody in particular."""

    user: Row | None = None
    deploy_token: Row | None = None

    @property
    def name(self) -> str:
        """What the token for the registry calls it."""
        if self.deploy_token:
            return username(self.deploy_token)
        return str(self.user["username"]) if self.user else ""


ANYBODY = Login()


def login(state: State, authorization: str) -> Login:
    """Whose Basic login it is: by personal access token, deploy token or password; `ANYBODY` without one.

    Raises:
        PermissionError: The login is wrong.
    """
    scheme, _, coded = authorization.partition(" ")
    if scheme.lower() != "basic":
        return ANYBODY
    try:
        name, _, password = base64.b64decode(coded).decode().partition(":")
    except ValueError as error:
        raise PermissionError from error
    token = state.find("tokens", digest=digest(password))
    if token and not token["revoked"] and {"api", "write_registry", "read_registry"} & set(token["scopes"]):
        return Login(state.find("users", id=token["user_id"]))
    deploy_token = state.find("deploy_tokens", digest=digest(password))
    if deploy_token and active(deploy_token) and username(deploy_token) == name:
        return Login(deploy_token=deploy_token)
    user = state.find("users", username=name)
    if user is None or not matches(password, user["password"]):
        raise PermissionError
    return Login(user)


def granted(state: State, who: Login, scopes: Sequence[str]) -> list[Row]:
    """What a client may do of what it asks: a repository belongs to a project, which must be there and have a registry."""
    found = []
    for scope in scopes:
        if match := _SCOPE.fullmatch(scope):
            name, asked = match[1], match[2].split(",")
            parts = name.split("/")
            project = next((p for n in range(len(parts), 1, -1) if (p := find_project(state, "/".join(parts[:n])))), None)
            may = _allowed(who, project) if project and registry_access(project) != "disabled" else ()
            found.append({"type": "repository", "name": name, "actions": [action for action in asked if action in may]})
    return found


def _allowed(who: Login, project: Row) -> tuple[str, ...]:
    if who.user:
        return ("pull", "push", "delete", "*")
    public = ("pull",) if project["visibility"] == "public" else ()
    if token := who.deploy_token:
        own = _OF_SCOPES if token["project_id"] == project["id"] else {}
        return tuple(action for scope, action in own.items() if scope in token["scopes"]) or public
    return public


def access_token(subject: str, audience: str, access: Sequence[Row]) -> str:
    """A token for the registry, signed with GitLab's key (RS256)."""
    moment = int(time.time())
    pem = places.at(places.REGISTRY_CERTIFICATE).read_text()
    chain = "".join(line for line in pem.splitlines() if not line.startswith("-----"))
    header = {"typ": "JWT", "alg": "RS256", "x5c": [chain]}
    claims = {
        "iss": ISSUER,
        "sub": subject,
        "aud": audience,
        "exp": moment + _LIFE_S,
        "nbf": moment - 5,
        "iat": moment,
        "jti": str(uuid.uuid4()),
        "access": list(access),
    }
    text = f"{_coded(json.dumps(header).encode())}.{_coded(json.dumps(claims).encode())}"
    signing = ["openssl", "dgst", "-sha256", "-sign", str(places.at(places.REGISTRY_KEY))]
    signature = subprocess.run(signing, input=text.encode(), check=True, capture_output=True).stdout
    return f"{text}.{_coded(signature)}"


def _coded(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).decode().rstrip("=")
