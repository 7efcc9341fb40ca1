"""What a synthesis left on disk: CDKTF's `manifest.json` and a folder with `cdk.tf.json` for each stack."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labctl.model.errors import UserError
from labctl.model.graph import make_graph

MANIFEST = "manifest.json"


@dataclass(frozen=True, slots=True)
class Stack:
    """A stack as Terraform will read it.

    Attributes:
        name: Its name.
        layer: The layer that it belongs to; its name where the stack does not say.
        folder: Its root module, which Terraform runs in.
        json: `cdk.tf.json` in there.
        dependencies: Names of the stacks that must be applied first.
    """

    name: str
    layer: str
    folder: Path
    json: Path
    dependencies: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Synthesis:
    """All stacks of a lab.

    Attributes:
        stacks: Every stack after the stacks that it depends on.
        fresh: Whether this call synthesised; False if nothing had changed.
    """

    stacks: tuple[Stack, ...]
    fresh: bool

    def stack(self, name: str) -> Stack:
        """One stack by name.

        Raises:
            KeyError: No stack has this name.
        """
        return {stack.name: stack for stack in self.stacks}[name]


def read_manifest(outdir: Path) -> tuple[Stack, ...]:
    """The stacks that were synthesised into `outdir`, each after those that it depends on.

    Raises:
        UserError: There is no synthesis in `outdir`, it is damaged, or its stacks depend on each other in a circle.
    """
    path = outdir / MANIFEST
    try:
        entries: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))["stacks"]
        stacks = {name: _stack(name, entry, outdir) for name, entry in entries.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"is not a readable synthesis: {error}", where=str(path), hint="Synthesise again; labctl does so by itself."
        ) from error
    order = make_graph({name: stack.dependencies for name, stack in stacks.items()}, str(path)).order
    return tuple(stacks[name] for name in order)


def _stack(name: str, entry: dict[str, Any], outdir: Path) -> Stack:
    document = outdir / entry["synthesizedStackPath"]
    metadata = json.loads(document.read_text(encoding="utf-8")).get("//", {}).get("metadata", {})
    return Stack(
        name=name,
        layer=metadata.get("layer", name),
        folder=outdir / entry["workingDirectory"],
        json=document,
        dependencies=tuple(sorted(entry.get("dependencies", ()))),
    )
