"""Runs a program that dies with the process that asked for it: `python launch.py PARENT PROGRAM ARGUMENT…`.

Started as a file with `-I -S`, so it imports nothing of labctl. On systems without prctl(2) the program simply runs.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    """Ask the kernel for SIGTERM at the parent's death, make sure that it still lives, and become the program."""
    parent = int(sys.argv[1])
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            sys.exit(f"{sys.argv[2]}: its sandbox is gone")
    os.umask(0o077)
    os.execv(sys.argv[2], sys.argv[2:])  # noqa: S606  (the argument list comes from labctl alone)


if __name__ == "__main__":
    main()
