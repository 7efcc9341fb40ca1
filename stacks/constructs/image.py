"""Images that the lab builds from source and keeps in its own registry."""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path, PurePosixPath

from constructs import Construct

from labctl.model.buildcontext import context_hash, in_context
from stacks.constructs.literal import Expression, quoted
from stacks.constructs.resource import Resource

TAG_LENGTH = 12


class Image(Resource):
    """An image built on the Docker guest, pushed to the lab's registry, and named by its digest.

    Its tag is the beginning of the hash of what it is built from: a source has one tag, and a tag one source.

    Args:
        scope: The stack.
        name: Its name in Terraform.
        repository: Where it goes, with the registry's host; may be a reference.
        source: The folder under `layers/` that it is built from.
        module: The folder that the stack's JSON lies in; the source is named from there, so that a moved lab has the same JSON.
        build_args: As `docker build` takes them; `VERSION` is added.
        registry_auth: The path in the Vault's mount of each registry's credentials; a host may be a reference.

    Attributes:
        version: Its tag.
    """

    def __init__(
        self,
        scope: Construct,
        name: str,
        *,
        repository: str,
        source: str,
        module: Path,
        build_args: Mapping[str, str],
        registry_auth: Mapping[str, str],
    ) -> None:
        folder = Path(str(files("layers"))) / source
        digest = context_hash(read_context(folder), build_args)
        self.version = digest[:TAG_LENGTH]
        super().__init__(
            scope,
            "labctl_image",
            name,
            {
                "name": repository,
                "tag": self.version,
                # Terraform makes it absolute: a provider that several runs share has a working folder of its own.
                "context": Expression(f"abspath({quoted(os.path.relpath(folder.absolute(), module.absolute()))})"),
                "context_hash": digest,
                "build_args": {**build_args, "VERSION": self.version},
                "registry_auth": registry_auth,
            },
        )

    @property
    def reference(self) -> str:
        """`name@sha256:…`, as a reference: what uses it is made after it."""
        return self.get_string_attribute("reference")


def read_context(folder: Path) -> dict[str, bytes]:
    """The files of a source, by their path from its folder with `/`."""
    names = [PurePosixPath(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()]
    return {str(name): (folder / name).read_bytes() for name in names if in_context(name)}
