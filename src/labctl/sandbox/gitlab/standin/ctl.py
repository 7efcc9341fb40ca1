"""`gitlab-ctl`: checks gitlab.rb, writes the registry's configuration, starts the units."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from . import places, registry, state

RUBY_CHECK = Path(__file__).parent.parent / "check.rb"
UNITS = {"gitlab": places.API_UNIT, "registry": places.REGISTRY_UNIT}
_SECRET_WORDS = ("password", "secret", "key", "token")


class Failed(Exception):
    """The command cannot do it."""


def main(argv: list[str]) -> int:
    """The exit code of `gitlab-ctl ARGV`."""
    command, rest = (argv[0] if argv else "help"), argv[1:]
    commands = {"reconfigure": _reconfigure, "status": _status, "show-config": _show_config, "tail": _tail}
    try:
        if command in commands:
            return commands[command](rest)
        if command in ("start", "stop", "restart", "hup", "kill"):
            return _act(command, rest)
    except Failed as error:
        _say(f"Running handlers:\n{error}\nRunning handlers complete", sys.stderr)
        _say("There was an error running gitlab-ctl reconfigure. Please check the output for more details.", sys.stderr)
        return 1
    _say(f"{command}: this stand-in knows {', '.join([*commands, 'start', 'stop', 'restart'])}", sys.stderr)
    return 1


def _reconfigure(_rest: Sequence[str]) -> int:
    lines = []
    try:
        effective = evaluate()
        lines += _apply(effective)
    except Failed as error:
        lines.append(f"FATAL: {error}")
        raise
    finally:
        stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S-%f")
        places.write(f"{places.LOGS}/{stamp}.log", "\n".join(lines) + "\n")
    _say("\n".join(lines))
    _say("gitlab Reconfigured!")
    return 0


def evaluate() -> dict[str, Any]:
    """What gitlab.rb sets: `urls` and `settings`, secrets included.

    Raises:
        Failed: It is missing, is not Ruby, or has what Omnibus refuses.
    """
    file = places.at(places.GITLAB_RB)
    if not file.exists():
        raise Failed(f"{places.GITLAB_RB} is not there")
    for argv in (["ruby", "-c", str(file)], ["ruby", str(RUBY_CHECK), str(file)]):
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise Failed(done.stderr.strip() or done.stdout.strip())
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _apply(effective: Mapping[str, Any]) -> list[str]:
    settings = effective["settings"]
    url = urlsplit(effective["urls"]["external_url"])
    if url.scheme != "http":
        raise Failed("external_url: this stand-in speaks http only")
    rails = settings.get("gitlab_rails") or {}
    state.seed(str(rails.get("initial_root_password") or ""))
    lines = [f"gitlab.rb: external_url {effective['urls']['external_url']}"]
    registry_url = effective["urls"].get("registry_external_url", "")
    config = {
        "external_url": effective["urls"]["external_url"].rstrip("/"),
        "port": url.port or 80,
        "registry_host": urlsplit(registry_url).netloc,
        "monitoring_whitelist": rails.get("monitoring_whitelist"),
        "boot_s": float(os.environ.get("STANDIN_BOOT_S", "2")),
    }
    changed = {places.API_UNIT: places.write(places.CONFIG, json.dumps(config, indent=2) + "\n")}
    if registry_url:
        try:
            changed[places.REGISTRY_UNIT] = registry.write_config(effective)
            stored, warnings = registry.storage(settings.get("registry") or {})
        except registry.Refused as error:
            raise Failed(str(error)) from error
        lines.append(f"registry: storage {json.dumps(_shown(stored), sort_keys=True)}")
        lines += [f"registry: WARNING: {warning}" for warning in warnings]
    _systemctl("daemon-reload")
    for unit, differs in changed.items():
        _systemctl("enable", "--quiet", unit)
        _systemctl("restart" if differs else "start", unit)
        lines.append(f"{unit}: {'restarted' if differs else 'unchanged'}")
    return lines


def _shown(value: Any) -> Any:
    """Settings for a log: values of secret keys are left out."""
    if isinstance(value, dict):
        return {
            k: "***" if any(word in k for word in _SECRET_WORDS) and isinstance(v, str) else _shown(v) for k, v in value.items()
        }
    return value


def _status(_rest: Sequence[str]) -> int:
    down = 0
    for name, unit in UNITS.items():
        done = subprocess.run(
            ["systemctl", "show", "--property=ActiveState,MainPID", unit], capture_output=True, text=True, check=False
        )
        shown = dict(line.partition("=")[::2] for line in done.stdout.splitlines())
        if shown.get("ActiveState") == "active":
            _say(f"run: {name}: (pid {shown.get('MainPID')})")
        else:
            down += 1
            _say(f"down: {name}: {shown.get('ActiveState', 'unknown')}")
    return down


def _act(command: str, names: Sequence[str]) -> int:
    verb = {"hup": "restart", "kill": "kill"}.get(command, command)
    failed = 0
    for name, unit in UNITS.items():
        if not names or name in names:
            done = subprocess.run(["systemctl", verb, unit], check=False)
            failed += done.returncode != 0
            _say(f"{'ok' if done.returncode == 0 else 'timeout'}: {verb}: {name}")
    return failed


def _show_config(_rest: Sequence[str]) -> int:
    _say(json.dumps(_shown(evaluate()), indent=2))
    return 0


def _tail(_rest: Sequence[str]) -> int:
    units = [word for unit in UNITS.values() for word in ("--unit", unit)]
    return subprocess.run(["journalctl", "--follow", *units], check=False).returncode


def _systemctl(*arguments: str) -> None:
    done = subprocess.run(["systemctl", *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Failed(f"systemctl {' '.join(arguments)}: {done.stderr.strip()}")


def _say(text: str, where: Any = None) -> None:
    print(text, file=where or sys.stdout)
