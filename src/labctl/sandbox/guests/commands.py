"""The commands that a guest of the sandbox knows: a short list, worked out in Python on the guest's files. No shell."""

from __future__ import annotations

import getopt
import json
import os
import stat
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from labctl.sandbox.guests.files import GuestFiles
from labctl.sandbox.guests.journal import journalctl
from labctl.sandbox.guests.runtime import GuestSpec
from labctl.sandbox.guests.systemctl import Result, systemctl
from labctl.sandbox.guests.units import Unit

CLOUD_INIT_STATUS: dict[str, object] = {
    "boot_status_code": "enabled-by-generator",
    "datasource": "nocloud",
    "detail": "DataSourceNoCloud [seed=/dev/sr0]",
    "errors": [],
    "extended_status": "done",
    "init": {"errors": [], "finished": 1.0, "start": 0.5},
    "recoverable_errors": {},
    "schemas": {},
    "stage": None,
    "status": "done",
}


@dataclass(frozen=True, slots=True)
class Context:
    """What a command works on."""

    spec: GuestSpec
    files: GuestFiles
    units: Mapping[str, Unit]


Command = Callable[[Context, list[str]], Result | Awaitable[Result]]


def _true(_context: Context, _arguments: list[str]) -> Result:
    return Result()


def _false(_context: Context, _arguments: list[str]) -> Result:
    return Result(1)


def _hostname(context: Context, arguments: list[str]) -> Result:
    full = arguments[:1] in (["-f"], ["--fqdn"])
    return Result(out=f"{context.spec.fqdn if full else context.spec.name}\n")


def _cloud_init(_context: Context, arguments: list[str]) -> Result:
    if arguments[:1] != ["status"]:
        return Result(2, err=f"cloud-init: unknown in the sandbox: {' '.join(arguments)}\n")
    as_json = "json" in " ".join(arguments[1:])
    return Result(out=json.dumps(CLOUD_INIT_STATUS, indent=1) + "\n" if as_json else "status: done\n")


async def _systemctl(context: Context, arguments: list[str]) -> Result:
    return await systemctl(context.units, arguments)


def _install(context: Context, arguments: list[str]) -> Result:
    options, names = getopt.gnu_getopt(arguments, "dDm:o:g:v", ["directory", "mode=", "owner=", "group="])
    given = dict(options)
    mode = int(given.get("-m", given.get("--mode", "0755")), 8)
    if "-d" in given or "--directory" in given:
        for name in names:
            context.files.make_folder(name, mode, parents=True)
            context.files.chmod(name, mode)
        return Result()
    source, target = names
    if context.files.exists(target) and stat.S_ISDIR(context.files.mode(target)):
        target = f"{target.rstrip('/')}/{PurePosixPath(source).name}"
    if "-D" in given:
        context.files.make_folder(str(PurePosixPath(target).parent), parents=True)
    content = b"" if source == "/dev/null" else context.files.read(source)
    if context.files.exists(target):
        context.files.remove(target)
    context.files.write(target, content, mode)
    return Result()


def _mkdir(context: Context, arguments: list[str]) -> Result:
    options, names = getopt.gnu_getopt(arguments, "pm:v", ["parents", "mode="])
    given = dict(options)
    mode = int(given.get("-m", given.get("--mode", "0755")), 8)
    for name in names:
        context.files.make_folder(name, mode, parents="-p" in given or "--parents" in given)
        if "-m" in given or "--mode" in given:
            context.files.chmod(name, mode)
    return Result()


def _chmod(context: Context, arguments: list[str]) -> Result:
    mode, *names = arguments
    for name in names:
        context.files.chmod(name, int(mode, 8))
    return Result()


def _rm(context: Context, arguments: list[str]) -> Result:
    options, names = getopt.gnu_getopt(arguments, "fv", ["force"])
    for name in names:
        if options and not context.files.exists(name):
            continue
        context.files.remove(name)
    return Result()


def _mv(context: Context, arguments: list[str]) -> Result:
    _, names = getopt.gnu_getopt(arguments, "fTv", ["force", "no-target-directory"])
    source, target = names
    context.files.rename(source, target)
    return Result()


def _cat(context: Context, arguments: list[str]) -> Result:
    return Result(out="".join(context.files.read(name).decode(errors="replace") for name in arguments))


def _tail(context: Context, arguments: list[str]) -> Result:
    options, names = getopt.gnu_getopt(arguments, "n:", ["lines="])
    count = int(options[-1][1]) if options else 10
    return Result(out="".join("".join(_lines(context, name)[-count:]) for name in names))


def _lines(context: Context, name: str) -> list[str]:
    return context.files.read(name).decode(errors="replace").splitlines(keepends=True)


def _journalctl(context: Context, arguments: list[str]) -> Result:
    return journalctl(context.files, tuple(context.units), arguments)


def _ls(context: Context, arguments: list[str]) -> Result:
    _, names = getopt.gnu_getopt(arguments, "1aA", [])
    return Result(out="".join(f"{name}\n" for folder in names for name in context.files.names(folder)))


def _stat(context: Context, arguments: list[str]) -> Result:
    options, names = getopt.gnu_getopt(arguments, "c:", ["format="])
    if [value for _, value in options] != ["%a"]:
        return Result(1, err="stat: the sandbox knows only -c %a\n")
    return Result(out="".join(f"{stat.S_IMODE(context.files.mode(name)):o}\n" for name in names))


def _test(context: Context, arguments: list[str]) -> Result:
    operator, path = arguments
    if not context.files.exists(path):
        return Result(1)
    mode = context.files.mode(path)
    truth: dict[str, Callable[[], bool]] = {
        "-e": lambda: True,
        "-f": lambda: stat.S_ISREG(mode),
        "-d": lambda: stat.S_ISDIR(mode),
        "-s": lambda: bool(context.files.read(path, 1)),
    }
    if operator not in truth:
        return Result(2, err=f"test: {operator}: unknown\n")
    return Result(0 if truth[operator]() else 1)


COMMANDS: dict[str, Command] = {
    "cat": _cat,
    "chmod": _chmod,
    "cloud-init": _cloud_init,
    "false": _false,
    "hostname": _hostname,
    "install": _install,
    "journalctl": _journalctl,
    "ls": _ls,
    "mkdir": _mkdir,
    "mv": _mv,
    "rm": _rm,
    "stat": _stat,
    "sync": _true,
    "systemctl": _systemctl,
    "tail": _tail,
    "test": _test,
    "true": _true,
    "update-ca-certificates": _true,
}


async def run(context: Context, name: str, arguments: list[str]) -> Result:
    """Run a command that is in `COMMANDS` and return how it ended; a wrong call ends with a status, as in a shell."""
    try:
        result = COMMANDS[name](context, arguments)
        return await result if isinstance(result, Awaitable) else result
    except OSError as error:
        return Result(1, err=f"{name}: {error.filename}: {error.strerror or os.strerror(error.errno or 0)}\n")
    except (getopt.GetoptError, ValueError, KeyError) as error:
        return Result(2, err=f"{name}: {error}\n")
