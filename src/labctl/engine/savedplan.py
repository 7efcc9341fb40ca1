"""Keeps a plan in its run's folder, and takes it up again: review first, apply later, and exactly that."""

from __future__ import annotations

import hashlib
import json
import shutil
import zipfile
from collections.abc import Sequence
from pathlib import Path

from labctl.engine.journal import KEPT_SUFFIX, PLAN_DOCUMENT, PLAN_SUFFIX
from labctl.engine.paths import cannot_write
from labctl.engine.run import Run, StackRun
from labctl.engine.workspace import terraform
from labctl.model.errors import UserError, nearest
from labctl.model.plan import PlanSummary, StackPlan, StackStatus, parse_plan
from labctl.model.propagation import planned_outputs
from labctl.model.savedplan import SavedStack, as_document, from_document, stale

_DESCRIBED = "tfconfig/m-/cdk.tf.json"
"""The root module's JSON in Terraform's plan file."""


def save_plan(run: Run, stacks: Sequence[StackRun]) -> str:
    """Keeps the plans of the run; returns the run's id. Terraform's plan files hold every value of their stacks, mode 0600.

    Raises:
        UserError: A plan could not be made, or the disk is full.
    """
    saved = []
    for stack in stacks:
        if stack.plan is None or stack.plan.status in (StackStatus.ERROR, StackStatus.BLOCKED):
            raise UserError(
                "cannot be planned, so there is nothing to keep", where=stack.name, hint="Mend that, then plan again."
            )
        name = ""
        if stack.plan_file is not None:
            kept = stack.plan_file.with_name(stack.plan_file.name.removesuffix(PLAN_SUFFIX) + KEPT_SUFFIX)
            stack.plan_file = stack.plan_file.rename(kept)
            name = kept.name
        saved.append(SavedStack(stack.plan, _content(stack), stack.state.serial, stack.state.lineage, name))
    try:
        (run.journal.folder / PLAN_DOCUMENT).write_text(json.dumps(as_document(run.journal.run_id, saved), indent=1))
    except OSError as error:
        raise cannot_write(run.journal.folder, error) from error
    return run.journal.run_id


def export_plan(run: Run, stacks: Sequence[StackRun], folder: Path) -> None:
    """Keeps the plans of the run in a folder that can be carried elsewhere, readable by its owner only.

    Terraform's plan files hold every value of their stacks. What the folder held of an earlier plan is replaced.

    Raises:
        UserError: A plan could not be made, the folder holds something else, or the disk is full.
    """
    save_plan(run, stacks)
    kept = [path for path in run.journal.folder.iterdir() if path.name == PLAN_DOCUMENT or path.name.endswith(KEPT_SUFFIX)]
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        strange = [path.name for path in folder.iterdir() if path.name != PLAN_DOCUMENT and not path.name.endswith(KEPT_SUFFIX)]
        if strange:
            raise UserError(
                f"it holds something else ({', '.join(sorted(strange)[:3])})", where=str(folder), hint="Name a new folder."
            )
        folder.chmod(0o700)
        for old in folder.iterdir():
            old.unlink()
        for path in kept:
            shutil.copyfile(path, folder / path.name)
            (folder / path.name).chmod(0o600)
            path.unlink()
    except OSError as error:
        raise cannot_write(folder, error) from error


def load_plan(run: Run) -> tuple[StackRun, ...]:
    """The stacks of the saved plan that the options name, each with its plan as it was shown.

    Raises:
        UserError: There is no such plan, or a part of it is stale: each such stack is named.
    """
    folder = _folder(run)
    try:
        saved = from_document(json.loads((folder / PLAN_DOCUMENT).read_text()))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"the saved plan cannot be read: {error}", where=str(folder), hint="Run `labctl plan --save` again."
        ) from error
    known = {stack.name: stack for stack in run.stacks}
    gone = [one.plan.stack for one in saved if one.plan.stack not in known]
    reasons = [f"{name}: there is no such stack any more" for name in gone]
    for one in saved:
        if one.plan.stack in known:
            stack = known[one.plan.stack]
            if one.serial >= 0 and not run.readable(stack):
                raise UserError(
                    f"the saved plan cannot be held against the state: {run.unreadable_reason()}",
                    where=stack.name,
                    hint="Nothing was applied.",
                )
            reason = stale(one, _content(stack), stack.state.serial, stack.state.lineage) or _wrong(one, folder)
            reasons += [f"{stack.name}: {reason}"] if reason else []
    if reasons:
        raise UserError(
            f"the saved plan {folder.name} is stale: {'; '.join(reasons)}",
            hint="Nothing was applied. Plan again (`labctl plan --save`), and look at what it would do now.",
        )
    for one in saved:
        _take(run, known[one.plan.stack], one, folder)
    names = {one.plan.stack for one in saved}
    return tuple(stack for stack in run.stacks if stack.name in names)


def _wrong(saved: SavedStack, folder: Path) -> str:
    """Why Terraform's plan file is not the one that the document names, "" where it is.

    A plan file is a ZIP archive that holds the description that it was made from.
    """
    if not saved.file:
        return ""
    if Path(saved.file).name != saved.file:
        return "its plan file lies elsewhere"
    try:
        with zipfile.ZipFile(folder / saved.file) as archive:
            described = archive.read(_DESCRIBED)
    except (OSError, KeyError, zipfile.BadZipFile):
        return "its plan file is missing or damaged"
    return "" if hashlib.sha256(described).hexdigest() == saved.content else "its plan file is of another description"


def _take(run: Run, stack: StackRun, saved: SavedStack, folder: Path) -> None:
    stack.plan = saved.plan
    if not saved.file:
        return
    stack.plan_file = folder / saved.file
    shown = terraform(run, stack).show_plan(stack.plan_file) if saved.plan.status is not StackStatus.NO_CHANGES else {}
    summary = parse_plan(stack.name, shown) if shown else PlanSummary(stack.name)
    stack.plan = StackPlan(stack.name, stack.layer, saved.plan.status, summary, known_after=saved.plan.known_after)
    stack.planned = planned_outputs(shown) if shown else None


def _folder(run: Run) -> Path:
    wanted = run.options.saved_plan
    named = Path(wanted)
    if (named / PLAN_DOCUMENT).is_file():
        return named.absolute()
    if named.is_dir() or "/" in wanted:
        raise UserError(
            "there is no saved plan in it" if named.is_dir() else "does not exist",
            where=wanted,
            hint="Name the folder that `labctl review --artifact DIR` wrote.",
        )
    kept = [path.parent for path in run.paths.runs.glob(f"*/{PLAN_DOCUMENT}")]
    hits = [folder for folder in kept if folder.name == wanted] or [
        folder for folder in kept if folder.name.startswith(wanted) or folder.name.endswith(f"-{wanted}")
    ]
    if len(hits) == 1:
        return hits[0]
    names = sorted((folder.name for folder in kept), reverse=True)
    if hits:
        raise UserError(
            f"{wanted!r} is the beginning of {len(hits)} saved plans", hint=f"Write more of it: {', '.join(names[:4])}"
        )
    raise UserError(
        f"there is no saved plan {wanted!r}", hint=nearest(wanted, names) if names else "`labctl plan --save` makes one."
    )


def _content(stack: StackRun) -> str:
    return hashlib.sha256(stack.stack.json.read_bytes()).hexdigest()
