"""The files under `layers/`, from the checkout or from the installed package."""

from __future__ import annotations

from importlib.resources import files
from string import Template


def layer_text(path: str) -> str:
    """The text of `layers/<path>`.

    Raises:
        FileNotFoundError: There is no such file: the package is not whole.
    """
    return files("layers").joinpath(path).read_text(encoding="utf-8")


def layer_template(path: str, **values: str) -> str:
    """The text of `layers/<path>` with its placeholders filled. The values must be quoted for the file's language.

    Raises:
        FileNotFoundError: There is no such file: the package is not whole.
        KeyError: A placeholder has no value.
    """
    return Template(layer_text(path)).substitute(values)
