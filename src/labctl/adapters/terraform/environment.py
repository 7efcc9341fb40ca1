"""The environment of a Terraform process: stated, never inherited whole.

What a shell happens to carry (`TF_CLI_ARGS`, `TF_WORKSPACE`, `TF_DATA_DIR`, `TF_LOG`, `AWS_PROFILE`, `PROXMOX_VE_*` …) would
change what a stack is or where its state lies, so only the names below pass.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

from labctl.model.secret import MASK, Secret

Environment = Mapping[str, str | Secret]

INHERITED = (
    "PATH",
    "HOME",
    "TMPDIR",
    "LANG",
    "LC_ALL",
    "USER",
    "LOGNAME",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
)

FIXED = {"CHECKPOINT_DISABLE": "1", "TF_IN_AUTOMATION": "1", "TF_INPUT": "0", "AWS_EC2_METADATA_DISABLED": "true"}

SMALL_STACK_BYTES = 256 * 2**10
COLLECT_LATE = {"GOGC": "off", "GOMEMLIMIT": "512MiB"}
"""What lets a Go program collect no garbage until it has taken that much: a fifth to a third less processor time (measured)."""

_SHORTEST_MASKED = 8
_SHORTEST_LINE_MASKED = 16


def base_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """What a foreign program gets of this process's environment: where programs, certificates and proxies are."""
    return {name: environ[name] for name in INHERITED if name in environ} | FIXED


def terraform_environment(
    environ: Mapping[str, str], given: Environment, *, home: Path | None, cli_config: Path | None
) -> dict[str, str]:
    """The whole environment of one Terraform process, secrets in clear: hand it to the process and drop it.

    Args:
        environ: This process's environment.
        given: What the caller sets; it wins over everything else.
        home: A private home: the provider pins SSH host keys in `$HOME/.ssh/known_hosts`. None leaves the user's.
        cli_config: The CLI configuration with the mirror. None leaves the user's.
    """
    env = base_environment(environ)
    if "SSL_CERT_FILE" in given or "SSL_CERT_DIR" in given:
        # Go reads both: a caller that pins one would still trust what the other, inherited, names.
        env = {name: value for name, value in env.items() if name not in {"SSL_CERT_FILE", "SSL_CERT_DIR"}}
    env |= {"HOME": str(home)} if home else {}
    env |= {"TF_CLI_CONFIG_FILE": str(cli_config)} if cli_config else {}
    return env | {name: value.reveal() if isinstance(value, Secret) else value for name, value in given.items()}


def late_collection(environ: Mapping[str, str], given: Environment, document: Path) -> dict[str, str]:
    """The variables that let a short command on a small stack run without garbage collection; none where the user has set one.

    Args:
        environ: This process's environment.
        given: What the caller sets.
        document: The stack's JSON. How long a command runs, and what it keeps in memory, goes with its size.
    """
    if any(name in environ or name in given for name in COLLECT_LATE):
        return {}
    try:
        small = document.stat().st_size <= SMALL_STACK_BYTES
    except OSError:
        return {}
    return dict(COLLECT_LATE) if small else {}


def masking(given: Environment) -> Callable[[str], str]:
    """What takes the secret values of the environment out of a text, for providers that quote what they were given."""
    quotable = _quotable(given)

    def masked(text: str) -> str:
        for shown in quotable:
            text = text.replace(shown, MASK)
        return text

    return masked


def _quotable(given: Environment) -> list[str]:
    """What a program may quote of each secret value, the longest first.

    Besides the value: as JSON writes it, each line of one with several (Terraform frames what it prints), and of `id=value`, the
    form of an API token, the value alone.
    """
    found: set[str] = set()
    for secret in given.values():
        if not isinstance(secret, Secret):
            continue
        value = secret.reveal().strip()
        found |= {part for part in (secret.reveal(), value) if len(part) >= _SHORTEST_MASKED}
        if "\n" in value:
            lines = (line.strip() for line in value.splitlines())
            found |= {line for line in lines if len(line) >= _SHORTEST_LINE_MASKED and not line.startswith("-----")}
        elif len(after := value.partition("=")[2]) >= _SHORTEST_MASKED:
            found.add(after)
    found |= {json.dumps(part)[1:-1] for part in found}
    return sorted(found, key=len, reverse=True)
