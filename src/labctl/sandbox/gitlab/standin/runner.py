"""`gitlab-runner`: registers, writes config.toml as the real one does, and asks GitLab for jobs until it is stopped.

It runs no job: what it is handed ends after the time, and with the result, that the job's variables name.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import ProxyHandler, Request, build_opener

from . import places
from .state import Row

VERSION = "19.3.0"
_HEAD = """\
concurrent = 1
check_interval = 0
connection_max_age = "15m0s"
shutdown_timeout = 0

[session_server]
  session_timeout = 1800
"""
_EXECUTORS = (
    "custom",
    "docker",
    "docker-autoscaler",
    "docker+machine",
    "docker-windows",
    "instance",
    "kubernetes",
    "parallels",
    "shell",
    "ssh",
    "virtualbox",
)
_ENVIRONMENT = {
    "url": "CI_SERVER_URL",
    "token": "CI_SERVER_TOKEN",
    "name": "RUNNER_NAME",
    "executor": "RUNNER_EXECUTOR",
    "docker-image": "DOCKER_IMAGE",
}
_SHORT = {"u": "url", "t": "token", "n": "non-interactive", "c": "config", "description": "name"}
_LISTS = ("docker-extra-hosts", "docker-volumes", "docker-pull-policy", "env")
_SWITCHES = ("non-interactive", "docker-privileged", "all-runners", "delete")
_VALUES = (
    "url",
    "token",
    "name",
    "executor",
    "config",
    "docker-image",
    "docker-host",
    "docker-network-mode",
    "tls-ca-file",
    "limit",
    "clone-url",
    "user",
    "working-directory",
    "service",
)
# With an authentication token these are set on the server.
_RESERVED = ("locked", "access-level", "run-untagged", "maximum-timeout", "paused", "tag-list", "maintenance-note")


class Fatal(Exception):
    """The command ends here, with exit code 1."""


def main(argv: list[str]) -> int:
    """The exit code of `gitlab-runner ARGV`."""
    command = argv[0] if argv else "help"
    if command in ("--version", "-v", "version"):
        print(f"Version:      {VERSION}\nGit revision: standin\nGit branch:\nGO version:\nBuilt:\nOS/Arch:      linux")  # noqa: T201
        return 0
    commands = {"register": _register, "unregister": _unregister, "verify": _verify, "list": _list, "run": _run}
    try:
        if command in ("start", "stop", "restart", "status"):
            return subprocess.run(["systemctl", command, places.RUNNER_UNIT], check=False).returncode
        if command in commands:
            return commands[command](_options(argv[1:]))
    except Fatal as error:
        _log(f"FATAL: {error}")
        return 1
    _log(f"FATAL: Command {command} not found.")
    return 1


def _options(words: Sequence[str]) -> Row:
    found: Row = {name: os.environ[variable] for name, variable in _ENVIRONMENT.items() if os.environ.get(variable)}
    rest = list(words)
    while rest:
        word = rest.pop(0)
        match = re.fullmatch(r"--?([A-Za-z][\w-]*)(?:=(.*))?", word, re.DOTALL)
        if not match:
            raise Fatal(f"unexpected argument {word!r}")
        name, value = _SHORT.get(match[1], match[1]), match[2]
        if name in _RESERVED:
            value = value if value is not None or not rest or rest[0].startswith("-") else rest.pop(0)
            found.setdefault("reserved", []).append(name)
            continue
        if name in _SWITCHES:
            found[name] = value != "false"
            continue
        if name not in (*_LISTS, *_VALUES):
            raise Fatal(f"flag provided but not defined: -{name}")
        if value is None:
            if not rest:
                raise Fatal(f"flag needs an argument: -{name}")
            value = rest.pop(0)
        if name in _LISTS:
            found.setdefault(name, []).append(value)
        else:
            found[name] = value
    return found


# --- config.toml


@dataclass
class Config:
    """config.toml: the text before the runners, and each runner's own piece."""

    head: str = _HEAD
    runners: list[str] = field(default_factory=list)

    @classmethod
    def read(cls) -> Config:
        """The file, or what a fresh one begins with."""
        file = places.at(places.RUNNER_CONFIG)
        if not file.exists():
            return cls()
        head, *runners = re.split(r"(?m)^(?=\[\[runners\]\])", file.read_text())
        return cls(head, runners)

    def write(self) -> None:
        """Writes the file."""
        pieces = [self.head.rstrip("\n"), *(piece.rstrip("\n") for piece in self.runners)]
        places.write(places.RUNNER_CONFIG, "\n\n".join(pieces) + "\n")

    def parsed(self) -> Row:
        """What it says."""
        try:
            return tomllib.loads("\n".join((self.head, *self.runners)))
        except tomllib.TOMLDecodeError as error:
            raise Fatal(f"{places.RUNNER_CONFIG}: {error}") from error

    def drop(self, position: int) -> None:
        """Leaves one runner out."""
        del self.runners[position]


def _entry(options: Row, runner_id: int) -> str:
    moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    quoted = json.dumps
    lines = [
        "[[runners]]",
        f"  name = {quoted(options['name'])}",
        f"  url = {quoted(options['url'])}",
        f"  id = {runner_id}",
        f"  token = {quoted(options['token'])}",
        f"  token_obtained_at = {moment}",
        "  token_expires_at = 0001-01-01T00:00:00Z",
        f"  executor = {quoted(options['executor'])}",
        "  [runners.cache]",
        "    MaxUploadedArchiveSize = 0",
        "    [runners.cache.s3]",
        "    [runners.cache.gcs]",
        "    [runners.cache.azure]",
    ]
    if options["executor"].startswith("docker"):
        lines += [
            "  [runners.docker]",
            "    tls_verify = false",
            f"    image = {quoted(options['docker-image'])}",
            f"    privileged = {str(bool(options.get('docker-privileged'))).lower()}",
            "    disable_entrypoint_overwrite = false",
            "    oom_kill_disable = false",
            "    disable_cache = false",
            f"    volumes = {quoted(options.get('docker-volumes') or ['/cache'])}",
            *([f"    extra_hosts = {quoted(options['docker-extra-hosts'])}"] if options.get("docker-extra-hosts") else []),
            "    shm_size = 0",
            "    network_mtu = 0",
        ]
    return "\n".join(lines)


# --- commands


def _register(options: Row) -> int:
    if not options.get("non-interactive"):
        raise Fatal("this stand-in asks nothing: --non-interactive is missing")
    for name in ("url", "token", "executor"):
        if not options.get(name):
            raise Fatal(f"The {name} can't be empty")
    if not re.match(r"https?://", options["url"]):
        raise Fatal(f"parse {options['url']!r}: the URL needs its scheme")
    if options["executor"] not in _EXECUTORS:
        raise Fatal(f"Invalid executor specified: {options['executor']}")
    if options["executor"].startswith("docker") and not options.get("docker-image"):
        raise Fatal("The docker-image needs to be entered")
    if not options["token"].startswith("glrt-"):
        raise Fatal("registration tokens are gone: this needs an authentication token (glrt-…)")
    if options.get("reserved"):
        raise Fatal(
            "Runner configuration other than name and executor configuration is reserved "
            f"(specifically --{', --'.join(options['reserved'])}) and cannot be specified when registering with a runner "
            "authentication token. This configuration is specified on the GitLab server."
        )
    options.setdefault("name", os.uname().nodename)
    status, answer = _post(options["url"], "/runners/verify", {"token": options["token"], "system_id": _system_id()})
    if status != 200:
        problem = "is not valid" if status == 403 else f"failed ({status})"
        _log(f"ERROR: Verifying runner... {problem}  runner={options['token'][5:14]}")
        raise Fatal("Failed to verify the runner.")
    config = Config.read()
    config.runners.append(_entry(options, int(answer["id"])))
    config.write()
    _log("Runner registered successfully. Feel free to start it, but if it's running already the config should be reloaded!")
    _log(f'Configuration (with the authentication token) was saved in "{places.RUNNER_CONFIG}"')
    return 0


def _chosen(options: Row) -> list[tuple[int, Row]]:
    rows = list(enumerate(Config.read().parsed().get("runners", [])))
    if options.get("all-runners") or not (options.get("name") or options.get("token")):
        return rows
    found = [(n, row) for n, row in rows if row["name"] == options.get("name") or row["token"] == options.get("token")]
    if not found:
        raise Fatal(f'Could not find a runner with the name "{options.get("name", "")}"')
    return found


def _unregister(options: Row) -> int:
    failed = []
    for position, row in reversed(_chosen(options)):
        status, _answer = _post(row["url"], "/runners", {"token": row["token"]}, method="DELETE")
        if status != 204:
            _log(f"ERROR: Unregistering runner from GitLab forbidden  runner={row['token'][5:14]}")
            failed.append(row["name"])
            continue
        config = Config.read()
        config.drop(position)
        config.write()
        _log(f"Unregistering runner from GitLab succeeded  runner={row['token'][5:14]}")
    if failed:
        raise Fatal(f"Failed to unregister runner {', '.join(failed)}")
    return 0


def _verify(options: Row) -> int:
    invalid = False
    for position, row in reversed(_chosen(options)):
        status, _answer = _post(row["url"], "/runners/verify", {"token": row["token"], "system_id": _system_id()})
        if status == 403:
            _log(f"ERROR: Verifying runner... is removed  runner={row['token'][5:14]}")
            if options.get("delete"):
                config = Config.read()
                config.drop(position)
                config.write()
            else:
                invalid = True
        else:
            _log(f"Verifying runner... is {'valid' if status == 200 else f'unknown ({status})'}  runner={row['token'][5:14]}")
    if invalid:
        raise Fatal("Failed to verify runners")
    return 0


def _list(_options: Row) -> int:
    _log(f"Listing configured runners  ConfigFile={places.RUNNER_CONFIG}")
    for row in Config.read().parsed().get("runners", []):
        _log(f"{row['name']}  Executor={row['executor']} Token={row['token'][:9]}… URL={row['url']}")
    return 0


# --- at work


class Worker:
    """Asks for jobs, at most `concurrent` at once."""

    def __init__(self) -> None:
        self.stopping = threading.Event()
        self.jobs: list[threading.Thread] = []
        self.seen: float | None = None
        self.config: Row = {}

    def run(self) -> None:
        """Until it is told to stop."""
        while not self.stopping.wait(self._interval_s()):
            self._reload()
            self.jobs = [job for job in self.jobs if job.is_alive()]
            for row in self.config.get("runners", []):
                if len(self.jobs) < int(self.config.get("concurrent", 1)):
                    self._ask(row)

    def _interval_s(self) -> float:
        if self.seen is None:
            return 0.0
        return float(self.config.get("check_interval") or 3)

    def _reload(self) -> None:
        file = places.at(places.RUNNER_CONFIG)
        changed = file.stat().st_mtime if file.exists() else 0.0
        if changed != self.seen:
            self.seen = changed
            try:
                self.config = Config.read().parsed()
            except Fatal as error:
                _log(f"ERROR: Failed to load config {error}")
                return
            runners = len(self.config.get("runners", []))
            _log(f"Configuration loaded  concurrent={self.config.get('concurrent', 1)} runners={runners}")

    def _ask(self, row: Row) -> None:
        info = {
            "name": "gitlab-runner",
            "version": VERSION,
            "platform": "linux",
            "architecture": "amd64",
            "executor": row["executor"],
        }
        status, job = _post(row["url"], "/jobs/request", {"token": row["token"], "info": info, "system_id": _system_id()})
        if status == 201:
            thread = threading.Thread(target=_work, args=(row, job), daemon=True)
            thread.start()
            self.jobs.append(thread)
        elif status not in (204, 0, 502):
            problem = "forbidden" if status == 403 else "failed"
            _log(f"WARNING: Checking for jobs... {problem}  runner={row['token'][5:14]} status={status}")


def _work(row: Row, job: Row) -> None:
    told = {one["key"]: one["value"] for one in job["variables"]}
    _log(f"Checking for jobs... received  job={job['id']} runner={row['token'][5:14]}")
    time.sleep(min(float(told.get("STANDIN_SECONDS", "0.2")), 600))
    state = "failed" if told.get("STANDIN_RESULT") == "failed" else "success"
    _post(row["url"], f"/jobs/{job['id']}", {"token": job["token"], "state": state}, method="PUT")
    _log(f"Job {'succeeded' if state == 'success' else 'failed'}  job={job['id']}")


def _run(_options: Row) -> int:
    worker = Worker()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
        signal.signal(number, lambda *_: worker.stopping.set())
    _log(f"Starting multi-runner from {places.RUNNER_CONFIG}...  version={VERSION}")
    worker.run()
    _log("All workers stopped.")
    return 0


# --- the API


def _post(url: str, path: str, body: Row, method: str = "POST") -> tuple[int, Any]:
    if not url.startswith(("http://", "https://")):
        return 0, None
    headers = {"Content-Type": "application/json"}
    request = Request(f"{url.rstrip('/')}/api/v4{path}", json.dumps(body).encode(), headers, method=method)  # noqa: S310
    try:
        with build_opener(ProxyHandler({})).open(request, timeout=15) as answer:
            content = answer.read()
            kind = answer.headers.get("Content-Type") or ""
            return answer.status, json.loads(content) if content and kind.startswith("application/json") else None
    except HTTPError as error:
        return error.code, None
    except (URLError, OSError) as error:
        _log(f"ERROR: couldn't execute {method} against {url}: {error}")
        return 0, None


def _system_id() -> str:
    file = places.at("/etc/gitlab-runner/.runner_system_id")
    if not file.exists():
        places.write("/etc/gitlab-runner/.runner_system_id", "s_" + os.urandom(6).hex() + "\n")
    return file.read_text().strip()


def _log(text: str) -> None:
    print(text, file=sys.stderr, flush=True)  # noqa: T201 (the log of a command)
