"""Options are read without pydantic, and to the same values as typer reads them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import pytest
import typer
import typer.core

from labctl.cli import _params

CASES: list[list[str]] = [
    [],
    ["one", "two"],
    ["--path", "some/where", "--paths", "a", "--paths", "b"],
    ["--name", "x", "--number", "3", "--flag"],
    ["--no-flag", "--number", "0"],
    ["--number", "many"],
    ["--name"],
]


def read(args: list[str]) -> Any:
    """What a command gets, or the words with which its arguments are refused."""
    app = typer.Typer()
    seen: list[Any] = []

    @app.command()
    def command(
        names: Annotated[list[str] | None, typer.Argument()] = None,
        path: Annotated[Path | None, typer.Option()] = None,
        paths: Annotated[list[Path] | None, typer.Option()] = None,
        name: Annotated[str, typer.Option()] = "default",
        number: Annotated[int | None, typer.Option(min=1)] = None,
        flag: Annotated[bool, typer.Option()] = False,
    ) -> None:
        seen.append((names, path, paths, name, number, flag))

    try:
        app(args=args, standalone_mode=False)
    except Exception as error:  # noqa: BLE001 - its words are what is compared
        return f"{type(error).__name__}: {error}"
    return seen


@pytest.mark.parametrize("args", CASES)
def test_plain_reading_gives_what_typer_gives(args: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(typer.core, "build_runtime_param", _params._typers_way)
    expected = read(args)
    _params.read_plainly()
    assert read(args) == expected
