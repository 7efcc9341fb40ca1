"""Synthesis: from a `StackContext` to Terraform JSON, in this process, and only when something changed.

`synthesise` runs the package `stacks` under CDKTF; `read_manifest` reads what a synthesis left, of this or any other CDKTF
project. With an unchanged content hash neither Node nor CDKTF nor the stacks are loaded. This room knows CDKTF, and nothing of
Terraform, the target or secrets.
"""

from __future__ import annotations

from labctl.synth.manifest import MANIFEST, Stack, Synthesis, read_manifest
from labctl.synth.synthesis import synthesise

__all__ = ["MANIFEST", "Stack", "Synthesis", "read_manifest", "synthesise"]
