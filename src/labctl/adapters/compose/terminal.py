"""What a command gets that runs on this terminal: Ctrl-C, and, for ssh, a private key that no file keeps."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from labctl.model.secret import Secret


@contextmanager
def key_file(key: Secret) -> Iterator[str]:
    """A path at which ssh finds the key as long as the block runs: in memory without a name where the system has that."""
    content = (key.reveal().rstrip("\n") + "\n").encode()
    if hasattr(os, "memfd_create") and Path("/proc/self/fd").is_dir():
        descriptor = os.memfd_create("labctl-ssh", os.MFD_CLOEXEC)
        try:
            os.fchmod(descriptor, 0o600)
            os.write(descriptor, content)
            # ssh closes what it inherits: it opens the descriptor of this process, which waits for it.
            yield f"/proc/{os.getpid()}/fd/{descriptor}"
        finally:
            os.close(descriptor)
        return
    with tempfile.TemporaryDirectory(prefix="labctl-") as folder:
        file = Path(folder) / "key"
        file.touch(mode=0o600)
        file.write_bytes(content)
        yield str(file)


def follow(command: Sequence[str], env: Mapping[str, str] | None = None) -> int:
    """Runs a command on this terminal. Ctrl-C is the command's, which may hand it on; returns its exit code.

    Args:
        command: The command.
        env: Its environment, None for this process's own.
    """
    # Not SIG_IGN: that would be the command's too.
    before = signal.signal(signal.SIGINT, lambda _number, _frame: None)
    try:
        code = subprocess.run(list(command), env=dict(env) if env is not None else None, check=False).returncode
    finally:
        signal.signal(signal.SIGINT, before)
    return code if code >= 0 else 128 - code
