"""What a synthesis left on disk: CDKTF's `manifest.json` and a folder with `cdk.tf.json` for each stack."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
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
        reads: The stacks whose outputs it reads, by the name that their remote state has in the JSON.
        backend: Where its state lies: kind and settings, as in the JSON; `local` where the JSON names none.
    """

    name: str
    layer: str
    folder: Path
    json: Path
    dependencies: tuple[str, ...]
    reads: Mapping[str, str] = field(default_factory=dict)
    backend: tuple[str, Mapping[str, Any]] = ("local", {})

    @property
    def upstreams(self) -> tuple[str, ...]:
        """The stacks whose outputs it reads."""
        return tuple(sorted(set(self.reads.values())))


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

    A stack depends on those that the manifest names, and on each stack of the same synthesis whose state it reads.

    Raises:
        UserError: There is no synthesis in `outdir`, it is damaged, or its stacks depend on each other in a circle.
    """
    path = outdir / MANIFEST
    try:
        entries: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))["stacks"]
        documents = {
            name: json.loads((outdir / entry["synthesizedStackPath"]).read_text("utf-8")) for name, entry in entries.items()
        }
        places = {name: _place(*_backend(documents[name]), outdir / entry["workingDirectory"]) for name, entry in entries.items()}
        stacks = {name: _stack(name, entry, outdir, documents[name], places) for name, entry in entries.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"is not a readable synthesis: {error}", where=str(path), hint="Synthesise again; labctl does so by itself."
        ) from error
    _check_places(stacks, path)
    order = make_graph({name: stack.dependencies for name, stack in stacks.items()}, str(path)).order
    return tuple(stacks[name] for name in order)


def _check_places(stacks: Mapping[str, Stack], path: Path) -> None:
    """Each stack has a state of its own: of two with the same, each would destroy what the other has made."""
    owners: dict[str, str] = {}
    for name, stack in stacks.items():
        kind, settings = stack.backend
        place = _place(kind, settings, stack.folder) if kind == "local" else json.dumps([kind, settings], sort_keys=True)
        other = owners.setdefault(place, name)
        if other != name:
            raise UserError(
                f"stacks {other!r} and {name!r} keep their states at the same place ({kind} backend)",
                where=str(path),
                hint="Give each a path, key or prefix of its own: of two with one state, each destroys what the other made.",
            )


def _stack(name: str, entry: dict[str, Any], outdir: Path, document: dict[str, Any], places: Mapping[str, str]) -> Stack:
    metadata = document.get("//", {}).get("metadata", {})
    folder = outdir / entry["workingDirectory"]
    owners = {place: owner for owner, place in places.items() if owner != name}
    remote = document.get("data", {}).get("terraform_remote_state", {})
    reads = {
        data: owners[place]
        for data, block in remote.items()
        if (place := _place(block.get("backend", "local"), block.get("config") or {}, folder)) in owners
    }
    return Stack(
        name=name,
        layer=metadata.get("layer", name),
        folder=folder,
        json=outdir / entry["synthesizedStackPath"],
        dependencies=tuple(sorted({*entry.get("dependencies", ()), *reads.values()})),
        reads=reads,
        backend=_backend(document),
    )


def _backend(document: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    settings = document.get("terraform", {})
    if "cloud" in settings:
        return "cloud", settings["cloud"]
    return next(iter(settings.get("backend", {}).items()), ("local", {}))


_PLACES = {
    "local": ("path", "workspace_dir"),
    "s3": ("bucket", "key", "endpoint", "workspace_key_prefix"),
    "gcs": ("bucket", "prefix"),
    "azurerm": ("storage_account_name", "container_name", "key"),
    "http": ("address",),
    "pg": ("conn_str", "schema_name"),
    "consul": ("address", "path"),
    "kubernetes": ("namespace", "secret_suffix"),
    "remote": ("hostname", "organization", "workspaces"),
    "cloud": ("hostname", "organization", "workspaces"),
}
"""The settings of each backend that tell one state from another. Source: Terraform, "Backend Configuration"."""


def _place(kind: str, settings: Mapping[str, Any], folder: Path) -> str:
    """Where a state lies, the same text for a backend and for a remote state that reads it."""
    names = _PLACES.get(kind)
    told = {name: settings.get(name) for name in (names or sorted(settings)) if settings.get(name) is not None}
    if kind == "local":
        path = str(told.get("path", "terraform.tfstate")).replace("${path.module}", ".").replace("${path.root}", ".")
        told["path"] = os.path.normpath(folder.absolute() / path)
    kind = "cloud" if kind == "remote" else kind
    return json.dumps([kind, told], sort_keys=True, default=str)
