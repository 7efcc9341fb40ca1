"""Any CDKTF project: its `cdktf.json`, and its `app` command, which is run when something that it may read has changed."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import subprocess
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labctl.model.errors import UserError
from labctl.synth.manifest import MANIFEST, Synthesis, read_manifest

PROJECT_FILE = "cdktf.json"
STAMP = "labctl-synthesis.json"
_TAIL = 30
_PATIENCE_S = 3.0

_SKIPPED_FOLDERS = frozenset({"node_modules", "__pycache__", ".git", ".hg", ".svn", ".terraform", ".labctl", ".venv", "venv"})
_SKIPPED_ENDINGS = (".tfstate", ".tfstate.backup", ".lock.info", ".log", ".pyc", ".swp", "~")
_VOLATILE = frozenset(
    {"_", "SHLVL", "PWD", "OLDPWD", "TERM", "COLUMNS", "LINES", "WINDOWID", "TMUX", "TMUX_PANE", "STY", "LS_COLORS", "COLORTERM"}
)
_VOLATILE_STARTS = ("SSH_", "XDG_", "DBUS_", "GPG_", "VSCODE_", "TERM_", "LABCTL_")
"""Variables that differ from one shell to the next and make no infrastructure. Every other one may be read by the app."""


@dataclass(frozen=True, slots=True)
class Project:
    """A CDKTF project.

    Attributes:
        folder: Where its `cdktf.json` lies; the app runs there.
        app: The command that synthesises, for the shell.
        outdir: Where it writes to.
        context: What the app may read as its context.
    """

    folder: Path
    app: str
    outdir: Path
    context: Mapping[str, Any]


def read_project(folder: Path) -> Project:
    """The project in `folder`.

    Raises:
        UserError: There is no `cdktf.json`, it is damaged, or it names no app.
    """
    file = folder.absolute() / PROJECT_FILE
    try:
        settings = json.loads(file.read_text(encoding="utf-8"))
        app = settings.get("app")
        outdir = file.parent / str(settings.get("output") or os.environ.get("CDKTF_OUTDIR") or "cdktf.out")
        context = {**(settings.get("context") or {}), "cdktfRelativeModules": _relative_modules(settings)}
    except (FileNotFoundError, NotADirectoryError):
        raise UserError("does not exist", where=str(file), hint="Name the folder of a CDKTF project: --app DIR.") from None
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise UserError(f"cannot be read: {error}", where=str(file), hint="It is a JSON object with an `app`.") from error
    if not isinstance(app, str) or not app.strip():
        raise UserError("names no `app`", where=str(file), hint='For example `"app": "python3 main.py"`.')
    return Project(file.parent, app, outdir, context)


def _relative_modules(settings: Mapping[str, Any]) -> list[Any]:
    """Modules of the project's own, whose paths CDKTF makes fit the stacks' folders if it is told of them."""
    entries = settings.get("terraformModules") or []
    sources = [entry if isinstance(entry, str) else str(entry.get("source", "")) for entry in entries]
    return [entry for entry, source in zip(entries, sources, strict=True) if source.startswith(("./", "../"))]


def synthesise_project(project: Project, *, force: bool = False) -> Synthesis:
    """The project's stacks as Terraform JSON in its `outdir`.

    The app command is not run where its sources, its environment and what it wrote the last time are unchanged. Sources are all
    files of the project's folder but states, logs and folders that package managers fill, whose lock files count.

    Raises:
        UserError: The command failed, or wrote nothing that can be read.
    """
    content = _fingerprint(project)
    stamp = project.outdir / STAMP
    if not force and _known(stamp) == {"content": content, "written": _written(project.outdir)}:
        return Synthesis(read_manifest(project.outdir), fresh=False)
    # An app that fails half-way must not leave the stamp of another synthesis behind.
    stamp.unlink(missing_ok=True)
    manifest = project.outdir / MANIFEST
    with contextlib.suppress(FileNotFoundError):
        os.utime(manifest, (0, 0))
    _run_app(project)
    if not manifest.is_file() or manifest.stat().st_mtime == 0:
        raise UserError(
            f"the app ended well, but wrote no {MANIFEST} into {project.outdir}",
            where=_where(project),
            hint="Its last statement must be `app.synth()`, and `App` must be left to find its `outdir` by itself.",
        )
    found = read_manifest(project.outdir)
    stamp.write_text(json.dumps({"content": content, "written": _written(project.outdir)}))
    return Synthesis(found, fresh=True)


def _run_app(project: Project) -> None:
    # CDKTF makes the last folder of its path only.
    project.outdir.parent.mkdir(parents=True, exist_ok=True)
    environment = _app_environment(project)

    def start() -> subprocess.Popen[bytes]:
        return subprocess.Popen(  # noqa: S602 - `app` is a shell command by its definition
            project.app,
            shell=True,
            cwd=project.folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    # Signals interrupt the main thread only. One that came there while the app is being started would lose its process.
    with ThreadPoolExecutor(max_workers=1) as starter:
        starting = starter.submit(start)
        try:
            process = starting.result()
            said, _ = process.communicate()
        except BaseException:
            _end_group(starting.result())
            raise
    if process.returncode != 0:
        tail = "\n".join(said.decode(errors="replace").strip().splitlines()[-_TAIL:])
        code = process.returncode
        how = f"ended with exit code {code}" if code > 0 else f"was killed by {signal.Signals(-code).name}"
        raise UserError(f"the app {how}", where=_where(project), hint=tail or "It said nothing. Run it by hand in that folder.")


def _where(project: Project) -> str:
    return f"{project.folder / PROJECT_FILE}: {project.app}"


def _app_environment(project: Project) -> dict[str, str]:
    """What CDKTF's own CLI gives to an app.

    Source: hashicorp/terraform-cdk 0.21, packages/@cdktf/cli-core/src/lib/synth-stack.ts.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TF_VAR_")}
    try:
        context = json.loads(kept.get("CDKTF_CONTEXT_JSON") or "{}")
    except ValueError as error:
        raise UserError(f"is not JSON: {error}", where="CDKTF_CONTEXT_JSON", hint="Unset it, or set a JSON object.") from error
    return {
        "NODE_OPTIONS": "--max-old-space-size=4096",
        **kept,
        "CDKTF_OUTDIR": str(project.outdir),
        "CDKTF_CONTEXT_JSON": json.dumps({**context, **project.context}),
        "SYNTH_HCL_OUTPUT": "false",
        "CHECKPOINT_DISABLE": "1",
    }


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """Ends the app with all that it has started: asked first, then killed."""
    try:
        with contextlib.suppress(ProcessLookupError, subprocess.TimeoutExpired):
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(_PATIENCE_S)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _known(stamp: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(stamp.read_text())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _fingerprint(project: Project) -> str:
    digest = hashlib.sha256()
    for part in (project.app, json.dumps(dict(project.context), sort_keys=True), json.dumps(_environment(), sort_keys=True)):
        _add(digest, part.encode())
    for path in sorted(_sources(project)):
        _add(digest, str(path.relative_to(project.folder)).encode())
        _add(digest, path.read_bytes())
    return digest.hexdigest()


def _add(digest: hashlib._Hash, part: bytes) -> None:
    digest.update(f"{len(part)}:".encode())
    digest.update(part)


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name not in _VOLATILE and not name.startswith(_VOLATILE_STARTS)}


def _sources(project: Project) -> Iterator[Path]:
    for root, folders, files in os.walk(project.folder):
        here = Path(root)
        folders[:] = [
            name
            for name in folders
            if name not in _SKIPPED_FOLDERS
            and not (here / name / "pyvenv.cfg").exists()
            and (here / name).absolute() != project.outdir.absolute()
        ]
        for name in files:
            path = here / name
            if not name.endswith(_SKIPPED_ENDINGS) and path.is_file():
                yield path


def _written(outdir: Path) -> str:
    """A hash of what the app wrote, so that a folder that something else has changed is written again."""
    digest = hashlib.sha256()
    for path in sorted([outdir / MANIFEST, *outdir.glob("stacks/*/cdk.tf.json")]):
        if path.is_file():
            _add(digest, str(path.relative_to(outdir)).encode())
            _add(digest, path.read_bytes())
    return digest.hexdigest()
