"""labctl's own provider for Terraform: a launcher in the mirror, and one running process that many Terraforms attach to.

The package in the mirror is a launcher, the same on every machine, because the lock file hashes what is in the package. Attaching
saves a Python process for each Terraform (docs/decisions/009-terraform-provider.md).
"""

from __future__ import annotations

import json
import os
import re
import selectors
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Mapping
from pathlib import Path

from labctl.adapters.terraform.lockfile import package_hash
from labctl.adapters.terraform.mirror import MirrorEntry, this_platform
from labctl.model.errors import AdapterError
from labctl.model.ownprovider import OWN_PROVIDER, OWN_PROVIDER_VERSION
from labctl.model.secret import Secret

PROGRAM_VARIABLE = "LABCTL_PROVIDER"
"""The provider's program, for the launcher; without it, `labctl-provider` on PATH."""

REATTACH_VARIABLE = "TF_REATTACH_PROVIDERS"

START_TIMEOUT_S = 30.0
_MODULE = "labctl.provider"
_LAUNCHER = f'#!/bin/sh\nexec "${{{PROGRAM_VARIABLE}:-labctl-provider}}" "$@"\n'
_LINES = 10


def own_program() -> str:
    """The provider's program, beside the Python that runs this."""
    return str(Path(sys.executable).with_name("labctl-provider"))


def ensure_launcher(mirror: Path) -> MirrorEntry:
    """The provider's package in the mirror.

    Raises:
        AdapterError: The mirror cannot be written.
    """
    platform = this_platform()
    package = mirror / OWN_PROVIDER / OWN_PROVIDER_VERSION / platform
    program = package / f"terraform-provider-labctl_v{OWN_PROVIDER_VERSION}"
    try:
        if not program.is_file() or program.read_text() != _LAUNCHER or not os.access(program, os.X_OK):
            package.mkdir(parents=True, exist_ok=True)
            # Complete and executable before it has its name; in the folder above, as the package's hash is over all files in it.
            descriptor, part = tempfile.mkstemp(dir=package.parent, prefix=".launcher-")
            with os.fdopen(descriptor, "w") as stream:
                stream.write(_LAUNCHER)
                os.fchmod(stream.fileno(), 0o755)
            Path(part).replace(program)
    except OSError as error:
        raise AdapterError(
            f"The provider mirror {mirror} cannot be written: {error}", hint="Check its owner and the free space there."
        ) from error
    return MirrorEntry(OWN_PROVIDER, OWN_PROVIDER_VERSION, platform, package, package_hash(package))


class RunningProvider:
    """The provider as a process of its own. It ends with `close`, and also when this process ends in whatever way.

    Args:
        environment: What it reads, besides the environment of this process.

    Raises:
        AdapterError: It does not come up.
    """

    def __init__(self, environment: Mapping[str, str | Secret]) -> None:
        given = {name: value.reveal() if isinstance(value, Secret) else value for name, value in environment.items()}
        self._said: deque[str] = deque(maxlen=_LINES)
        self._process = subprocess.Popen(
            [sys.executable, "-u", "-m", _MODULE, "--dev"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, **given},
            start_new_session=True,
        )
        # What it says must be read, or it would wait for that some time.
        threading.Thread(target=self._listen, daemon=True).start()
        try:
            self.reattach = self._handshake()
        except AdapterError:
            self.close()
            raise

    def close(self) -> None:
        """Ends it."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()

    def _handshake(self) -> str:
        """The value of `TF_REATTACH_PROVIDERS`."""
        assert self._process.stdout is not None
        deadline, said = time.monotonic() + START_TIMEOUT_S, b""
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            while (left := deadline - time.monotonic()) > 0 and selector.select(left):
                # Not by lines: what a line's reader has taken beyond the line, the selector no longer sees.
                part = os.read(self._process.stdout.fileno(), 4096)
                if not part:
                    break
                said += part
                if found := re.search(rf"{REATTACH_VARIABLE}='(.*)'\n".encode(), said):
                    return json.dumps(json.loads(found[1]))
        raise AdapterError("labctl's own provider does not start", hint="\n".join(self._said))

    def _listen(self) -> None:
        assert self._process.stderr is not None
        with self._process.stderr as stream:
            self._said.extend(line.decode(errors="replace").rstrip() for line in stream)
