"""The command line: one module a command, loaded when it is called. The only room that prints.

A command parses its arguments, calls one function of the engine and prints what comes back. Errors of the family
`LabError` end here: what, where, what to do, on stderr, and a non-zero exit code.
"""

from __future__ import annotations

from labctl.cli._main import main

__all__ = ["main"]
