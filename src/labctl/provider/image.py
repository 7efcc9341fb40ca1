"""`labctl_image`: an image that is built on the lab's Docker engine and pushed to its registry."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from labctl.model.buildcontext import in_context
from labctl.model.errors import LabError, UserError
from labctl.provider.access import registry_logins
from labctl.provider.framework import STOP, Attribute, List, Map, Resource, Schema, String, Unknown, changed

if TYPE_CHECKING:
    from labctl.provider.provider import LabctlProvider

State = dict[str, Any]

_BUILT_FROM = ("name", "tag", "context_hash", "dockerfile", "platforms", "build_args")


class ImageResource(Resource):  # type: ignore[misc]
    """An image. It is known by the digest that the registry gave it."""

    def __init__(self, provider: LabctlProvider) -> None:
        self._provider = provider

    @classmethod
    def get_name(cls) -> str:
        """As the framework asks."""
        return "image"

    @classmethod
    def get_schema(cls) -> Any:
        """As the framework asks."""
        return Schema(
            version=1,
            attributes=[
                Attribute("name", String(), required=True, requires_replace=True, description="Repository, with registry."),
                Attribute("tag", String(), required=True),
                Attribute("context", String(), required=True, description="Folder that is built."),
                Attribute("context_hash", String(), required=True, description="Changes when the folder's content does."),
                Attribute("dockerfile", String(), optional=True, description="In the folder; `Dockerfile` by default."),
                Attribute("platforms", List(String()), optional=True),
                Attribute("build_args", Map(String()), optional=True),
                Attribute(
                    "registry_auth", Map(String()), optional=True, description="Registry `host:port` to a path in the Vault."
                ),
                Attribute("id", String(), computed=True),
                Attribute("digest", String(), computed=True),
                Attribute("reference", String(), computed=True, description="`name@digest`."),
            ],
        )

    def plan(self, _context: Any, current: State | None, planned: State) -> State:
        """The digest stays as long as nothing changes that the image is built from.

        Where the folder lies is not among that: a checkout elsewhere, as a job of the pipeline has it, is no change. A plan may
        have the value of the state in place of the configured one (Terraform, docs/resource-instance-change-lifecycle.md).
        """
        if changed(current, planned, *_BUILT_FROM):
            planned |= {"id": Unknown, "digest": Unknown, "reference": Unknown}
        elif current is not None:
            planned |= {"context": current["context"]}
        return planned

    def read(self, context: Any, current: State) -> State | None:
        """Gone where neither the engine nor the registry has it."""
        try:
            logins = registry_logins(current["registry_auth"] or {})
            return current if self._provider.engine().has_image(current["reference"], logins) else None
        except LabError as error:
            context.diagnostics.add_error(error.message, error.hint)
            return current

    def create(self, context: Any, planned: State) -> State | None:
        """Builds and pushes it."""
        return self._build(context, planned, None)

    def update(self, context: Any, current: State, planned: State) -> State | None:
        """As `create`, unless only the login to the registry is another."""
        return self._build(context, planned, current) if planned["reference"] is Unknown else planned

    def delete(self, _context: Any, _current: State) -> None:
        """Leaves it in the registry, whose own clean-up knows what else uses its layers."""

    def upgrade(self, _context: Any, _version: int, old: State) -> State:
        """As the framework asks; there is one version."""
        return old

    def _build(self, context: Any, planned: State, before: State | None) -> State | None:
        tag = f"{planned['name']}:{planned['tag']}"
        try:
            engine = self._provider.engine()
            engine.build(
                tag,
                packed(Path(planned["context"])),
                dockerfile=planned["dockerfile"] or "Dockerfile",
                args=planned["build_args"] or {},
                platforms=planned["platforms"] or (),
                stop=STOP,
            )
            digest = engine.push(tag, registry_logins(planned["registry_auth"] or {}), stop=STOP)
        except LabError as error:
            context.diagnostics.add_error(f"{tag}: {error.message}", error.hint, path=["context"])
            return before
        reference = f"{planned['name']}@{digest}"
        return {**planned, "id": reference, "digest": digest, "reference": reference}


def packed(folder: Path) -> bytes:
    """The folder as a tar archive that depends on nothing but its content.

    Raises:
        UserError: There is no such folder.
    """
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder", hint="`context` is the folder with the Dockerfile.")
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for path in sorted(folder.rglob("*")):
            name = PurePosixPath(path.relative_to(folder))
            if in_context(name) and (path.is_file() or path.is_symlink()):
                archive.add(path, str(name), recursive=False, filter=_plain)
    return content.getvalue()


def _plain(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.mtime, entry.uid, entry.gid, entry.uname, entry.gname = 0, 0, 0, "", ""
    return entry
