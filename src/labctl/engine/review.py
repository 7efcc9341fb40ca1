"""`labctl review`: what a change of the lab's repository would do, before it is merged."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from labctl.adapters.git import Repository, repository
from labctl.engine.judging import violations
from labctl.engine.labrun import LabRun
from labctl.engine.planning import plan_stacks
from labctl.engine.preparing import prepare
from labctl.engine.run import StackRun
from labctl.engine.savedplan import export_plan
from labctl.engine.stages import stack_context
from labctl.model.errors import LabError
from labctl.model.plan import StackPlan, StackStatus
from labctl.model.review import Change, Review, ReviewedStack, Why, by_files, compare
from labctl.synth import Revision, revision_documents

_SCRATCH = "labctl-review-"


def review(run: LabRun, base: str, artifact: Path | None = None) -> Review:
    """Plans the stacks that differ from those of a base revision, what follows them, and what they need.

    Args:
        run: The run.
        base: The revision that the change is to be merged into.
        artifact: A folder to keep the plans in, for `labctl up --plan DIR`.

    Raises:
        LabError: The repository cannot be read, or a stage before the plans failed.
    """
    code = repository(run.paths.file.parent)
    since = code.merge_base(base)
    prepare(run, "plan")
    with run.stage("comparing with the base"):
        change = _change(run, code, since)
    concerned = run.graph.downstream(change.reasons)
    wanted = run.graph.upstream(concerned)
    stacks = tuple(stack for stack in run.stacks if stack.name in wanted)
    with run.stage("planning"):
        plan_stacks(run, stacks)
    reviewed = tuple(_reviewed(run, stack, change.reasons, concerned) for stack in stacks)
    found = Review(run.lab.name, since, code.head(), change, reviewed)
    plans = tuple(stack.plan for stack in reviewed)
    for plan in plans:
        run.emit_plan(plan)
    run.emit_picture(plans)
    if artifact is None or not all(stack.planned for stack in reviewed):
        return found
    export_plan(run, stacks, artifact)
    return Review(run.lab.name, since, found.head, change, reviewed, artifact=True)


def _change(run: LabRun, code: Repository, since: str) -> Change:
    """What differs from the base, from its own synthesis. That cannot miss a change, as rules over the names of files may."""
    top = code.top.resolve()
    lab_file = _from(top, run.paths.file)
    files = code.changed(since)
    after = {stack.name: stack.stack.json.read_text(encoding="utf-8") for stack in run.stacks}
    places = {stack.name: _from(top, stack.stack.folder) for stack in run.stacks}
    context = stack_context(run.lab, run.paths)
    scratch = Path(tempfile.mkdtemp(prefix=_SCRATCH))
    try:
        revision = Revision(code.top, scratch / "tree", scratch)
        code.write_tree(since, revision.tree)
        documents = revision_documents(
            revision,
            run.paths.file,
            guests=("container" if run.lab.boots else "appliance") if run.lab.target.sandbox else "",
            authority_pem=context.authority_pem,
            own_ssh_key=context.own_ssh_key,
        )
        before = {Path(path).parent.name: text for path, text in documents.items() if path.endswith("cdk.tf.json")}
        return compare(before, after, files, places, lab_file)
    except LabError as error:
        run.say(f"the base: {error.message}; every stack counts as changed", kind="warning")
        return by_files(after, files, lab_file, error.message)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _from(top: Path, path: Path) -> str:
    return path.resolve().relative_to(top).as_posix()


def _reviewed(run: LabRun, stack: StackRun, reasons: Mapping[str, tuple[str, ...]], concerned: frozenset[str]) -> ReviewedStack:
    why = Why.CHANGED if stack.name in reasons else Why.FOLLOWS if stack.name in concerned else Why.NEEDED
    plan = stack.plan or StackPlan(stack.name, stack.layer, StackStatus.NO_CHANGES)
    found = tuple(violations(run, stack))
    for one in found:
        run.say(f"[{one.rule}] {one.sentence}", stack.name, kind="warning" if one.warns else "error", hint=one.remedy)
    if stack.error is not None:
        run.say(stack.error.message, stack.name, kind="error", hint=stack.error.hint)
    return ReviewedStack(plan, why, reasons.get(stack.name, ()), found, stack.error.hint if stack.error else "")
