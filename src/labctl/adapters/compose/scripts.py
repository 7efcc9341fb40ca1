"""The scripts that ask and tell the engine: POSIX sh, each value quoted. Pure."""

from __future__ import annotations

import json
import re
import shlex
from base64 import b64encode
from collections.abc import Mapping, Sequence

from labctl.model.compose import RegistryLogin
from labctl.model.errors import UserError
from labctl.model.secret import Secret

SECTION = "\x1e"
"""Begins a part of a script's output; its name follows, up to the end of the line."""

_PROJECT = "com.docker.compose.project"
# Older clients know no `if` over what a container without a health check does not have: hence all of `State`.
_CONTAINER = (
    '{"id":{{json .Id}},"image":{{json .Config.Image}},"image_id":{{json .Image}},"labels":{{json .Config.Labels}},'
    '"state":{{json .State}},"restarts":{{json .RestartCount}},"networks":{{json .NetworkSettings.Networks}},'
    '"ports":{{json .HostConfig.PortBindings}}}'
)
_ANY_CONTAINER = (
    '{"name":{{json .Name}},"image":{{json .Config.Image}},"labels":{{json .Config.Labels}},"state":{{json .State.Status}},'
    # What Docker chooses by itself stands in the second only, and there only while the container runs.
    '"ports":{{json .HostConfig.PortBindings}},"chosen":{{json .NetworkSettings.Ports}},"mode":{{json .HostConfig.NetworkMode}},'
    '"privileged":{{json .HostConfig.Privileged}},"binds":{{json .HostConfig.Binds}}}'
)
_IMAGE = '{"id":{{json .Id}},"digests":{{json .RepoDigests}}}'
_CONFIGURED = '{"id":{{json .Id}},"digests":{{json .RepoDigests}},"config":{{json .Config}}}'
# Older installations have Compose as a program of its own. Where the plugin lies is looked up rather than tried out: each
# question to the engine would begin with a run of it.
_COMPOSE = (
    "lab_compose=\n"
    'for lab_folder in "$HOME/.docker" /usr/local/lib/docker /usr/local/libexec/docker /usr/lib/docker /usr/libexec/docker; do\n'
    "  [ ! -x \"$lab_folder/cli-plugins/docker-compose\" ] || lab_compose='docker compose'\n"
    "done\n"
    "if [ -n \"$lab_compose\" ] || docker compose version >/dev/null 2>&1; then lab_compose='docker compose'\n"
    "elif command -v docker-compose >/dev/null; then lab_compose=docker-compose\n"
    "else lab_compose='docker compose'; fi"
)


def section(name: str) -> str:
    """The command that begins a part of the output."""
    return f"printf '\\036%s\\n' {shlex.quote(name)}"


def sections(output: str) -> dict[str, str]:
    """The parts of a script's output by name; several of one name are put together."""
    found: dict[str, str] = {}
    for part in output.split(SECTION)[1:]:
        name, _, text = part.partition("\n")
        found[name] = found.get(name, "") + text
    return found


def environment(secrets: Mapping[str, Secret]) -> str:
    """Sets variables that are not to be seen in any list of processes.

    Raises:
        UserError: One has a name that no variable can have.
    """
    for name in secrets:
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            raise UserError(f"{name!r} is not a name for a variable", hint="Use letters, digits and _, and begin with no digit.")
    return "\n".join(f"export {name}={shlex.quote(value.reveal())}" for name, value in sorted(secrets.items())) or ":"


def logged_in(logins: Sequence[RegistryLogin]) -> str:
    """Lets `docker` into registries, up to the end of the script: the credentials are in a file in memory, of this user alone."""
    if not logins:
        return ":"
    auths = {one.host: {"auth": b64encode(f"{one.username.reveal()}:{one.token.reveal()}".encode()).decode()} for one in logins}
    return "\n".join(
        (
            "if [ -w /dev/shm ]; then lab_tmp=/dev/shm; else lab_tmp=${TMPDIR:-/tmp}; fi",
            'lab_docker=$(mktemp -d "$lab_tmp/lab-docker.XXXXXX") || return $?',
            "trap 'rm -rf \"$lab_docker\"' EXIT; trap 'exit 129' HUP; trap 'exit 130' INT; trap 'exit 143' TERM",
            # The user's own configuration is left out for as long, and his plugins with it.
            'lab_plugins="${DOCKER_CONFIG:-$HOME/.docker}/cli-plugins"',
            '[ ! -d "$lab_plugins" ] || ln -s "$lab_plugins" "$lab_docker/"',
            f'(umask 077; printf %s {shlex.quote(json.dumps({"auths": auths}))} >"$lab_docker/config.json")',
            'export DOCKER_CONFIG="$lab_docker"',
        )
    )


def _begin(name: str, text: str, secrets: Mapping[str, Secret]) -> str:
    """Defines `compose`, which has the Compose file on standard input: nothing of it is ever a file there."""
    # Compose's own defaults for the folder would enter the hash of a service; `/` is the same everywhere.
    return (
        f"{environment(secrets)}\n{_COMPOSE}\nlab_text={shlex.quote(text)}\n"
        f'compose() {{ printf %s "$lab_text" | $lab_compose -p {shlex.quote(name)} --project-directory / -f - "$@"; }}'
    )


def wanted(name: str, text: str, secrets: Mapping[str, Secret]) -> str:
    """What Compose makes of the file, its hashes, and which of the images are there."""
    return "\n".join(
        (
            _begin(name, text, secrets),
            "lab_config=$(compose config --format json) || return $?",
            section("config"),
            "printf '%s\\n' \"$lab_config\"",
            section("hashes"),
            "compose config --hash '*' || return $?",
            section("images"),
            "compose config --images | sort -u | while read -r lab_image; do",
            f'  if ! lab_found=$(docker image inspect --format {shlex.quote(_CONFIGURED)} "$lab_image" 2>/dev/null); then',
            # Compose reads a file without an engine: whether there is one, an image that is missing leaves open.
            "    docker version --format . >/dev/null || exit $?; continue",
            "  fi",
            '  printf \'%s %s\\n\' "$lab_image" "$lab_found"',
            "done",
        )
    )


def found(name: str = "") -> str:
    """What there is of a project, or of all of them."""
    label = f"{_PROJECT}={name}" if name else _PROJECT
    listed = shlex.quote(f"label={label}")
    shown = shlex.quote(f'{{{{.Name}}}} {{{{.Label "{_PROJECT}"}}}}')
    return "\n".join(
        (
            f"lab_ids=$(docker ps -aq --no-trunc --filter {listed}) || return $?",
            # One that goes in this moment is no error: what is left of it counts.
            f'lab_found=$([ -z "$lab_ids" ] || docker inspect --format {shlex.quote(_CONTAINER)} $lab_ids 2>/dev/null || :)',
            section("containers"),
            "printf '%s\\n' \"$lab_found\"",
            section("networks"),
            f"docker network ls --filter {listed} --format {shown} || return $?",
            section("volumes"),
            f"docker volume ls --filter {listed} --format {shown} || return $?",
            section("images"),
            # What stands within a string has other quotes.
            r"""lab_images=$(printf '%s\n' "$lab_found" | sed -n 's/.*"image_id":"\([^"]*\)".*/\1/p' | sort -u)""",
            f'[ -z "$lab_images" ] || docker image inspect --format {shlex.quote(_IMAGE)} $lab_images 2>/dev/null || :',
        )
    )


def inventory() -> str:
    """Every container, network and volume of the engine, whosever it is."""
    shown = shlex.quote(f'{{{{.Name}}}} {{{{.Label "{_PROJECT}"}}}}')
    return "\n".join(
        (
            "lab_ids=$(docker ps -aq --no-trunc) || return $?",
            # One that goes in this moment is no error.
            f'lab_found=$([ -z "$lab_ids" ] || docker inspect --format {shlex.quote(_ANY_CONTAINER)} $lab_ids 2>/dev/null || :)',
            section("containers"),
            "printf '%s\\n' \"$lab_found\"",
            section("networks"),
            f"docker network ls --format {shown} || return $?",
            section("volumes"),
            f"docker volume ls --format {shown} || return $?",
        )
    )


def pull(name: str, text: str, secrets: Mapping[str, Secret], logins: Sequence[RegistryLogin] = ()) -> str:
    """Fetches the images that are missing."""
    return "\n".join(
        (
            logged_in(logins),
            _begin(name, text, secrets),
            "compose config --images | sort -u | while read -r lab_image; do",
            '  docker image inspect "$lab_image" >/dev/null 2>&1 && continue',
            '  docker pull -q "$lab_image" >/dev/null || exit $?',
            "done",
        )
    )


def up(name: str, text: str, secrets: Mapping[str, Secret], recreate: Sequence[str] = (), dropped: Sequence[str] = ()) -> str:
    """Brings the project to what the file says; the services of `recreate` in any case anew, the networks of `dropped` gone."""
    common = "up --detach --remove-orphans --no-build --quiet-pull"
    forced = " ".join(shlex.quote(service) for service in recreate)
    first = [f"compose {common} --no-deps --force-recreate {forced} || return $?"] if recreate else []
    # Compose itself leaves a network that the file no longer has.
    last = [f"docker network rm {shlex.quote(network)} >/dev/null || return $?" for network in dropped]
    return "\n".join((_begin(name, text, secrets), *first, f"compose {common} || return $?", *last))


def replace(name: str, text: str, secrets: Mapping[str, Secret], service: str, *, forced: bool, orphans: bool) -> str:
    """Brings one service to what the file says, and leaves the others alone; with `orphans`, what the file lacks goes first."""
    words = ["up", "--detach", "--no-deps", "--no-build", "--quiet-pull"]
    words += ["--force-recreate"] * forced + ["--remove-orphans"] * orphans
    return f"{_begin(name, text, secrets)}\ncompose {' '.join(words)} {shlex.quote(service)}"


def down(name: str, *, volumes: bool) -> str:
    """Removes the project by its label alone: its file is not needed."""
    return f"{_COMPOSE}\n$lab_compose -p {shlex.quote(name)} down --remove-orphans{' --volumes' if volumes else ''}"


def logs(container: str, lines: int) -> str:
    """The last lines of a container, what it said to standard error among them."""
    return f"docker logs --tail {lines} {shlex.quote(container)} 2>&1"


def execute(container: str, argv: Sequence[str], stdin: str, env: Mapping[str, Secret]) -> str:
    """Runs a command in a container. What it reads and its variables are in the script, not in an argument."""
    names = " ".join(f"--env {name}" for name in sorted(env))
    words = " ".join(shlex.quote(word) for word in argv)
    return f"{environment(env)}\nprintf %s {shlex.quote(stdin)} | docker exec -i {names} {shlex.quote(container)} {words}"


def build(tag: str, dockerfile: str, args: Mapping[str, str], platforms: Sequence[str]) -> str:
    """Builds an image from a context on standard input."""
    words = ["--tag", tag, "--file", dockerfile]
    for name, value in sorted(args.items()):
        words += ["--build-arg", f"{name}={value}"]
    if platforms:
        words += ["--platform", ",".join(platforms)]
    given = " ".join(shlex.quote(word) for word in words)
    return (
        "if docker buildx version >/dev/null 2>&1; then\n"
        "lab_build='docker buildx build --load --provenance=false --progress=plain'\n"
        # Of a step that fails, the classic builder would leave the container.
        "else lab_build='docker build --force-rm'; fi\n"
        f"$lab_build {given} - 2>&1"
    )


def push(tag: str, logins: Sequence[RegistryLogin] = ()) -> str:
    """Pushes an image, and says by which digest the registry knows it."""
    return f"{logged_in(logins)}\ndocker push -q {shlex.quote(tag)} >/dev/null || return $?\n{digest(tag)}"


def fetch(reference: str, logins: Sequence[RegistryLogin] = ()) -> str:
    """Fetches an image, unless it is there."""
    image = shlex.quote(reference)
    return f"{logged_in(logins)}\ndocker image inspect {image} >/dev/null 2>&1 || docker pull -q {image} >/dev/null"


def digest(reference: str) -> str:
    """What the engine knows of an image."""
    return f"docker image inspect --format {shlex.quote(_IMAGE)} {shlex.quote(reference)}"


def follow(container: str, lines: int) -> str:
    """A container's lines as they come."""
    return f"exec docker logs --follow --tail {lines} {shlex.quote(container)}"


def enter(container: str, argv: Sequence[str]) -> str:
    """Runs a command in a container on the terminal, where there is one."""
    words = " ".join(shlex.quote(word) for word in argv)
    terminal = "if [ -t 0 ] && [ -t 1 ]; then lab_terminal=-it; else lab_terminal=-i; fi"
    return f"{terminal}\nexec docker exec $lab_terminal {shlex.quote(container)} {words}"
