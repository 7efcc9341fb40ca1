"""docs/commands.md names every command with its arguments and options, and none that is not there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from labctl.cli._main import COMMANDS, app

ROOT = Path(__file__).parents[3]
Command = tuple[frozenset[str], frozenset[str]]


def in_code() -> dict[str, Command]:
    group: Any = typer.main.get_command(app)
    return dict(_walk(group, ["labctl"]))


def _walk(command: Any, path: list[str]) -> Iterator[tuple[str, Command]]:
    names = command.list_commands(None) if hasattr(command, "list_commands") else []
    for name in names:
        yield from _walk(command.get_command(None, name), [*path, name])
    if not names or command.invoke_without_command:
        shown = [p for p in command.params if p.param_type_name == "option" and not p.hidden]
        options = {o for p in shown for o in (*p.opts, *p.secondary_opts)}
        arguments = {
            str(p.metavar) if p.required else f"[{p.metavar}]" for p in command.params if p.param_type_name == "argument"
        }
        yield " ".join(path), (frozenset(arguments), frozenset(options))


def in_document() -> dict[str, Command]:
    text = (ROOT / "docs" / "commands.md").read_text().split("# What programs read")[0]
    found = {}
    for section in re.split(r"^## ", text, flags=re.MULTILINE)[1:]:
        words = re.match(r"`([^`]+)`", section)
        assert words, section[:60]
        name = [word for word in words[1].split() if word.islower()]
        arguments = frozenset(word for word in words[1].split() if not word.islower())
        (line,) = re.findall(r"^Options: .*?(?:\n\n|\Z)", section, flags=re.MULTILINE | re.DOTALL)
        quoted = [span.split()[0] for span in re.findall(r"`([^`]+)`", line)]
        found[" ".join(name)] = (arguments, frozenset(word for word in quoted if word.startswith("-")))
    return found


def test_the_document_and_the_code_have_the_same_commands_and_options() -> None:
    code, document = in_code(), in_document()
    assert document.keys() == code.keys()
    assert document == code


def test_nothing_refers_to_a_command_that_is_not_there() -> None:
    known = set(COMMANDS)
    for path in [
        *ROOT.glob("*.md"),
        *ROOT.glob("docs/**/*.md"),
        *ROOT.glob("src/**/*.py"),
        *(p for p in ROOT.glob("examples/**/*") if p.is_file()),
    ]:
        for name in re.findall(r"`(?:\.venv/bin/)?labctl ([a-z]+)", path.read_text()):
            assert name in known, f"{path.relative_to(ROOT)}: labctl {name}"
