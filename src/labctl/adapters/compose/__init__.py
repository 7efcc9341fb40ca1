"""The adapter of Docker Compose: projects on an engine, wherever that is.

`LocalShell` and `SshShell` are places where `docker` is; `ComposeEngine` looks at projects there and brings them to what is
wanted. Nothing else in labctl knows how `docker` is called. Secrets go in scripts on standard input, never in an argument.
"""

from labctl.adapters.compose.engine import ComposeEngine
from labctl.adapters.compose.errors import ComposeInvalid, EngineUnreachable, Interrupted, NotConverged, ReleaseFailed, ShellError
from labctl.adapters.compose.shell import LocalShell, Shell, SshShell

__all__ = [
    "ComposeEngine",
    "ComposeInvalid",
    "EngineUnreachable",
    "Interrupted",
    "LocalShell",
    "NotConverged",
    "ReleaseFailed",
    "Shell",
    "ShellError",
    "SshShell",
]
