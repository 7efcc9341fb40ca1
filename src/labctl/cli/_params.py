"""Reads options without pydantic: typer's own way loads it for every option, which takes as long as a whole plan.

Only names, paths, lists of them and flags are read here, and what was not given at all; all else goes typer's way.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer.core

_typers_way = getattr(typer.core, "build_runtime_param", None)
_LISTS: dict[Any, type] = {list[str]: str, list[Path]: Path}


class PlainParam:
    """Turns the words of one option or argument into what the command takes."""

    def __init__(self, descriptor: Any) -> None:
        self._descriptor = descriptor

    def coerce(self, value: Any, param: Any, ctx: Any) -> Any:
        """The value; `None` and `()` where nothing was given, as typer has it."""
        kind = self._descriptor.annotation
        if value is None:
            return () if param.multiple or param.nargs == -1 else None
        if kind in _LISTS and isinstance(value, (list, tuple)):
            return [_LISTS[kind](one) for one in value]
        if kind is bool and isinstance(value, bool):
            return value
        if kind in (str, Path) and isinstance(value, str):
            return kind(value)
        assert _typers_way is not None
        return _typers_way(self._descriptor).coerce(value, param=param, ctx=ctx)


def read_plainly() -> None:
    """Lets typer read options by way of `PlainParam`.

    typer has no public place for that. Should it keep this elsewhere one day, options are read as ever, and `test_startup` says
    that it has become slow.
    """
    if _typers_way is not None:
        typer.core.build_runtime_param = _build  # type: ignore[attr-defined]  # it is imported there, not made


def _build(descriptor: Any) -> Any:
    info = descriptor.parameter_info
    checked = info.parser or info.exists or info.resolve_path or info.allow_dash or not info.file_okay or not info.dir_okay
    assert _typers_way is not None
    return _typers_way(descriptor) if checked else PlainParam(descriptor)
