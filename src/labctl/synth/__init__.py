"""Synthesis: from a `StackContext` to Terraform JSON, in this process, and only when something changed.

`synthesise` runs the package `stacks` under CDKTF, `synthesise_project` the app of any CDKTF project; `read_manifest` reads what
either left. With an unchanged content hash neither Node nor CDKTF nor the stacks are loaded. This room knows CDKTF, and nothing
of Terraform, the target or secrets.
"""

from __future__ import annotations

from labctl.synth.manifest import MANIFEST, Stack, Synthesis, read_manifest
from labctl.synth.project import PROJECT_FILE, Project, read_project, synthesise_project
from labctl.synth.revision import Revision, revision_documents
from labctl.synth.synthesis import stack_documents, synthesise

__all__ = [
    "MANIFEST",
    "PROJECT_FILE",
    "Project",
    "Revision",
    "Stack",
    "Synthesis",
    "read_manifest",
    "read_project",
    "revision_documents",
    "stack_documents",
    "synthesise",
    "synthesise_project",
]
