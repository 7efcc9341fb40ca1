"""An emulated Proxmox VE on this machine, with real services behind its guests.

`supervisor` starts, stops and describes it (light; everything else needs the extra `labctl[sandbox]`). The daemon is
`python -m labctl.sandbox`: `pve` is the hypervisor's API, `guests` is what runs behind a guest. May use `model`, and nothing
above it. Which calls are served, and how the emulation differs from a real host: docs/sandbox.md.
"""

from labctl.sandbox.supervisor import (
    GuestInfo,
    SandboxConfig,
    SandboxInfo,
    control,
    reset,
    start,
    status,
    stop,
    wait_ready,
)

__all__ = ["GuestInfo", "SandboxConfig", "SandboxInfo", "control", "reset", "start", "status", "stop", "wait_ready"]
