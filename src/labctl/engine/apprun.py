"""A run over any CDKTF project: its stacks and states as they are, with the user's own environment and providers."""

from __future__ import annotations

import json
import os
import re
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from labctl.adapters.terraform import ProjectTerraform, Terraform, find_engine
from labctl.engine.locks import free_dead_lock
from labctl.engine.paths import RunPaths
from labctl.engine.preparing import prepare, take_stacks
from labctl.engine.run import DEFAULT_WORKSPACE, Run, StackRun, Stage
from labctl.engine.waiting import wait_for_earlier
from labctl.engine.workspace import LOCK_TIMEOUT_S, WORKSPACES, Toolchain, terraform
from labctl.model.errors import UserError, nearest
from labctl.model.secret import MASK, Secret
from labctl.model.state import StackState, parse_state
from labctl.synth import PROJECT_FILE, Project, read_project, synthesise_project

NAME = "cdktf"
_DROPPED = re.compile(r"TF_CLI_ARGS.*|TF_DATA_DIR|TF_IN_AUTOMATION|TF_INPUT")
"""Variables that would change the command lines and folders that labctl relies on."""
_SECRET = re.compile(r"TOKEN|SECRET|PASSW|CREDENTIAL|PRIVATE|_KEY$|APIKEY|API_KEY", re.IGNORECASE)
_INSTANCE_ROLE = {"AWS_EC2_METADATA_DISABLED": "false"}
"""A lab has no use for the role of a cloud machine, and does not wait for one; another project may live by it."""
_LOCAL_SETTINGS = ("path", "workspace_dir")
MANY_RESOURCES = 500
"""From here on the local backend, which writes its whole state after each resource, is what takes the time (1,000: 18 s)."""


def open_app(folder: Path) -> tuple[Project, RunPaths]:
    """The CDKTF project in `folder`, and where its runs leave their things.

    Raises:
        UserError: There is no such project, or its `cdktf.json` is damaged.
    """
    project = read_project(folder)
    return project, RunPaths(project.folder / PROJECT_FILE, NAME)


@dataclass(slots=True, kw_only=True)
class AppRun(Run):
    """A run over one CDKTF project."""

    project: Project
    _init_turn: threading.Lock = field(default_factory=threading.Lock)
    _environment: dict[str, str | Secret] = field(default_factory=lambda: _environment(os.environ), repr=False)

    @property
    def name(self) -> str:
        """The name of the project's folder."""
        return self.project.folder.name

    @property
    def may_skip_picture(self) -> bool:
        """As `Run.may_skip_picture`; a stack that imports may change what it imports."""
        return not any("import" in json.loads(stack.stack.json.read_text()) for stack in self.stacks)

    @property
    def work_folders(self) -> Path:
        """As `Run.work_folders`."""
        return self.project.outdir / "stacks"

    @property
    def inits_ahead(self) -> bool:
        """As `Run.inits_ahead`."""
        return True

    def init_turn(self) -> AbstractContextManager[object]:
        """As `Run.init_turn`: Terraform's plugin cache is not safe for two at the same time (its documentation says so)."""
        return self._init_turn if shares_plugin_cache(os.environ) else nullcontext()

    def stages(self, command: str) -> tuple[Stage, ...]:
        """As `Run.stages`: the same before every command."""
        return (
            ("synthesising the stacks", _synthesise),
            ("finding Terraform", _find_engine),
            ("waiting for an earlier Terraform", wait_for_earlier),
            ("reading the states", _read_states),
        )

    def terraform(self, stack: StackRun, folder: Path | None = None) -> Terraform:
        """As `Run.terraform`: with the whole environment of the user, home and CLI configuration included."""
        return ProjectTerraform(
            self.toolchain.engine,
            folder or stack.stack.folder,
            stack=stack.name,
            home=None,
            cli_config=None,
            env=self._environment,
            lock_timeout_s=LOCK_TIMEOUT_S,
        )

    def readable(self, stack: StackRun) -> bool:
        """As `Run.readable`: a backend that does not answer is an error, not a thing to wait for."""
        return True

    def unreadable_reason(self) -> str:
        """As `Run.unreadable_reason`; there is none."""
        return ""

    def read_state(self, stack: StackRun) -> StackState:
        """As `Run.read_state`."""
        return parse_state(self.state_content(stack), f"the state of {stack.name}")

    def state_content(self, stack: StackRun) -> bytes | None:
        """As `Run.state_content`: a local state is read as a file, any other through Terraform."""
        file = self._local_file(stack)
        if file is not None:
            return file.read_bytes() if file.is_file() else None
        document = terraform(self, stack).state_pull()
        return json.dumps(document).encode() if document else None

    def _local_file(self, stack: StackRun) -> Path | None:
        kind, settings = stack.stack.backend
        if kind != "local":
            return None
        workspace = self.workspace(stack)
        if workspace == DEFAULT_WORKSPACE:
            return Path(stack.stack.folder, str(settings.get("path") or "terraform.tfstate"))
        return Path(stack.stack.folder, str(settings.get("workspace_dir") or WORKSPACES), workspace, "terraform.tfstate")

    def workspace(self, stack: StackRun) -> str:
        """As `Run.workspace`: as the user has chosen it."""
        chosen = stack.stack.folder / ".terraform" / "environment"
        return os.environ.get("TF_WORKSPACE") or (chosen.read_text().strip() if chosen.is_file() else "") or DEFAULT_WORKSPACE

    def mend(self, stack: StackRun) -> None:
        """As `Run.mend`."""
        free_dead_lock(self, stack)

    def gone(self, stack: StackRun) -> frozenset[str]:
        """As `Run.gone`: nobody here knows what a provider cannot read."""
        return frozenset()

    def take_over(self, stack: StackRun) -> None:
        """As `Run.take_over`; what a killed provider left nobody here can know."""

    def judge(self, stack: StackRun) -> None:
        """As `Run.judge`: there are no rules; a warning where the backend will be slow."""
        changes = len(stack.plan.summary.changes) if stack.plan and stack.plan.summary else 0
        if stack.stack.backend[0] == "local" and changes >= MANY_RESOURCES:
            text = f"{changes} changes on the local backend, which writes its whole state after each: a remote one is faster"
            self.say(text, stack.name, kind="warning")

    def finish(self, stack: StackRun) -> list[str]:
        """As `Run.finish`; there are no steps."""
        return []

    def before_down(self, stacks: Sequence[StackRun]) -> None:
        """As `Run.before_down`."""

    def close(self) -> None:
        """As `Run.close`."""

    def destroyed(self, stack: StackRun) -> None:
        """As `Run.destroyed`."""


def _environment(environ: Mapping[str, str]) -> dict[str, str | Secret]:
    kept = {name: value for name, value in environ.items() if not _DROPPED.fullmatch(name)}
    return _INSTANCE_ROLE | {name: Secret(value) if _SECRET.search(name) else value for name, value in kept.items()}


def shares_plugin_cache(environ: Mapping[str, str]) -> bool:
    """Whether the user keeps providers in a plugin cache, by the variable or the CLI configuration of Terraform or OpenTofu."""
    if environ.get("TF_PLUGIN_CACHE_DIR"):
        return True
    named = environ.get("TF_CLI_CONFIG_FILE")
    home = Path(environ.get("HOME") or "/")
    files = [Path(named)] if named else [home / ".terraformrc", home / ".tofurc"]
    return any("plugin_cache_dir" in file.read_text(errors="replace") for file in files if file.is_file())


def read_app_outputs(run: Run, stack: str, name: str | None, *, masked: bool = False) -> Any:
    """A stack's outputs, or one of them. Reads states, changes nothing.

    Args:
        run: The run.
        stack: The stack's name.
        name: An output's; all outputs by name without it.
        masked: Among all, those that are sensitive are masked.

    Raises:
        UserError: No stack or output has this name, or the stack is not deployed.
    """
    prepare(run, "output")
    if stack not in run.graph.needs:
        raise UserError(f"there is no stack {stack!r}", hint=nearest(stack, run.graph.order))
    if not run.stack(stack).state.deployed:
        raise UserError(f"stack {stack!r} is not deployed", hint="Run `labctl up` first.")
    outputs = dict(run.outputs(stack))
    if name is None:
        hidden = run.stack(stack).state.sensitive if masked else frozenset()
        return {key: MASK if key in hidden else value for key, value in outputs.items()}
    if name not in outputs:
        raise UserError(f"stack {stack!r} has no output {name!r}", hint=nearest(name, outputs))
    return outputs[name]


def _synthesise(run: AppRun) -> None:
    with run.interrupts.raising():
        found = synthesise_project(run.project, force=run.options.resynthesise)
    take_stacks(run, found.stacks)


def _find_engine(run: AppRun) -> None:
    run.use_toolchain(Toolchain(find_engine(run.paths.home / "engine-version.json")))


def _check_backend(stack: StackRun) -> None:
    """Refuses a local backend in the place of another one, which would look as if nothing was deployed.

    Terraform itself would say so at `init`, but a local state is read as a file before that.
    """
    kind, settings = stack.stack.backend
    folder = stack.stack.folder
    try:
        before = json.loads((folder / ".terraform" / "terraform.tfstate").read_text())["backend"]
        unchanged = before["type"] == kind and all(before["config"][name] == settings.get(name) for name in _LOCAL_SETTINGS)
    except (OSError, ValueError, KeyError, TypeError):
        return
    if kind == "local" and not unchanged:
        terraform = f"terraform -chdir={os.path.relpath(folder)} init"
        raise UserError(
            "The stack's work folder is set up for another state backend.",
            where=stack.name,
            hint=f"Nothing was changed, and the state lies where it lay. `{terraform} -migrate-state` moves it to the new place, "
            f"`{terraform} -reconfigure` takes what lies there. Then run the command again.",
        )


def _read_states(run: AppRun) -> None:
    def read(stack: StackRun) -> StackState:
        _check_backend(stack)
        return run.read_state(stack)

    stacks: Sequence[StackRun] = run.stacks
    with ThreadPoolExecutor(max_workers=run.parallelism) as pool:
        for stack, state in zip(stacks, pool.map(read, stacks), strict=True):
            stack.state = state
