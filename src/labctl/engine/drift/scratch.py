"""A copy of a stack and its state in a scratch folder: to plan what must not be written anywhere."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from labctl.engine.labrun import LabRun
from labctl.engine.run import StackRun
from labctl.engine.workspace import scratch_folder, scratch_terraform, write_scratch_state

if TYPE_CHECKING:
    from labctl.adapters.terraform import Terraform


@contextmanager
def scratch_copy(run: LabRun, stack: StackRun, name: str) -> Iterator[Terraform]:
    """Terraform in a copy of the stack, with its state without what is `gone`. The folder is removed at the end.

    Args:
        run: The run.
        stack: The stack.
        name: What the folder is for.
    """
    with scratch_folder(stack, name) as folder:
        document = json.loads(stack.stack.json.read_text())
        document.get("terraform", {}).pop("backend", None)
        (folder / "cdk.tf.json").write_text(json.dumps(document))
        content = run.state_content(stack)
        if content is not None:
            write_scratch_state(run, stack, folder, content)
        yield scratch_terraform(run, stack, folder)
