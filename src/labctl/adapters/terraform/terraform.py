"""Terraform on one stack's work folder: every command through one door, typed results out of it."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import python_terraform
from python_terraform import IsFlagged

from labctl.adapters.terraform.binary import Engine
from labctl.adapters.terraform.diagnostics import Diagnostic, diagnostics_from_text, plain
from labctl.adapters.terraform.environment import Environment, late_collection, masking, terraform_environment
from labctl.adapters.terraform.errors import TerraformCancelled, TerraformError
from labctl.adapters.terraform.events import ChangeSummary, Complaint, Event, PlannedChange, parse_line
from labctl.adapters.terraform.process import Child, Ended
from labctl.adapters.terraform.records import RECORD_NAME, running_child
from labctl.adapters.terraform.result import CommandResult
from labctl.model.errors import AdapterError, UserError

EventSink = Callable[[Event], None]

_STDERR_TAIL = 4000
_UNHEARD = '"type":"refresh_'
"""In the lines, two a resource, that tell that it is being read and was: of use only to who looks on."""
_LOCKING = frozenset({"init", "plan", "apply", "untaint", "state push", "force-unlock"})
"""Commands that write, or hold a lock while they run."""
_SHORT = frozenset({"init", "plan", "show"})
"""Commands that end before their garbage matters. An apply may wait for hours, beside others."""


@dataclass(frozen=True, slots=True)
class PlanOutcome:
    """What a plan found.

    Attributes:
        changes: Whether applying it would change anything, outputs included (`-detailed-exitcode`).
        planfile: The saved plan.
        result: The command behind it, with all events and warnings.
    """

    changes: bool
    planfile: Path
    result: CommandResult

    @property
    def planned(self) -> tuple[PlannedChange, ...]:
        """The resources that it would change."""
        return tuple(event for event in self.result.events if isinstance(event, PlannedChange))

    @property
    def summary(self) -> ChangeSummary | None:
        """The totals, None when the plan only changes outputs or nothing was said."""
        return next((event for event in self.result.events if isinstance(event, ChangeSummary)), None)


@dataclass(frozen=True, slots=True)
class OutputValue:
    """One output of a stack; `type` is Terraform's type as JSON ("string", ["list", "string"] …)."""

    value: Any = field(repr=False)
    sensitive: bool = False
    type: Any = None


class Terraform(python_terraform.Terraform):  # type: ignore[misc]  # python-terraform has no types
    """The commands of Terraform on one work folder.

    `python_terraform.Terraform` builds the argument lists; `cmd`, its only door to a process, is replaced, because the original
    inherits the whole environment, collects output instead of streaming it, and leaves variable files behind. One instance runs
    one command at a time; several instances may run in parallel.

    Args:
        engine: What `find_engine` found.
        work_dir: The folder with the stack's `cdk.tf.json`.
        stack: The stack's name, for errors.
        home: A private home folder (0700), kept between runs: the provider pins SSH host keys there. None leaves the user's.
        cli_config: What `write_cli_config` wrote. None leaves the user's.
        env: Set for every command, on top of a short list of inherited names; secret values as `Secret`.
        lock_timeout_s: How long to wait for a state lock, in whole seconds.
        parallelism: How many resources at once; None leaves it to Terraform (10).
    """

    of_a_lab: ClassVar[bool] = True

    def __init__(
        self,
        engine: Engine,
        work_dir: Path,
        *,
        stack: str,
        home: Path | None,
        cli_config: Path | None,
        env: Environment | None = None,
        lock_timeout_s: int = 0,
        parallelism: int | None = None,
    ) -> None:
        super().__init__(working_dir=str(work_dir), terraform_bin_path=str(engine.path))
        self.engine = engine
        self.work_dir = work_dir
        self.stack = stack
        self._home = home
        self._cli_config = cli_config
        self._env = dict(env or {})
        self._lock_timeout = f"{lock_timeout_s}s"
        # Not `parallelism`: the base class would pass it to `init`, which does not know it.
        self._parallelism = parallelism
        self._child: Child | None = None
        self._cancel_next = False
        self._cancelling = threading.Lock()

    def __getattr__(self, name: str) -> Any:
        # The base class turns any unknown name, a typing error too, into a Terraform command.
        raise AttributeError(name)

    def read_state_file(self, file_path: str | None = None) -> None:
        """Does nothing: the base class would load the state, sensitive values included, after every command."""

    def cmd(
        self,
        cmd: str,
        *args: str,
        sink: EventSink | None = None,
        env: Environment | None = None,
        ok: Sequence[int] = (0,),
        events: bool = False,
        **options: Any,
    ) -> CommandResult:
        """Runs one command to its end. The only place that knows environment, signals and exit codes.

        Args:
            cmd: The command, "state pull" for example.
            args: Its arguments.
            sink: Gets each event as it comes. Without one, reads of single resources are not kept either.
            env: Set for this command only.
            ok: The exit codes that are no failure.
            events: Whether stdout is `-json` lines; without it stdout is one document.
            options: Options as python-terraform takes them.

        Raises:
            TerraformError: The exit code is not in `ok`.
            TerraformCancelled: It was interrupted.
            UserError: A Terraform of an earlier run still works here.
            AdapterError: It could not be started.
        """
        argv = self._argv(cmd, args, options)
        given = self._env | dict(env or {})
        masked = masking(given)
        parsed: list[Event] = []

        def on_line(line: str) -> None:
            if sink is None and _UNHEARD in line:
                return
            event = parse_line(masked(line))
            if event is not None:
                parsed.append(event)
                if sink is not None:
                    sink(event)

        child = self._start(cmd, argv, given)
        with self._cancelling:
            self._child = child
            late, self._cancel_next = self._cancel_next, False
        if late:
            child.interrupt()
        try:
            ended = child.wait(on_line if events else None)
        finally:
            self._child = None
        result = _result(argv, ended, tuple(parsed), masked(ended.stderr), interrupted=child.interrupted)
        if child.interrupted or (result.cancelled and result.exit_code not in ok):
            raise TerraformCancelled(self.stack, result, lab=self.of_a_lab)
        if result.exit_code not in ok:
            raise TerraformError(self.stack, result, lab=self.of_a_lab)
        return result

    def cancel(self) -> bool:
        """Interrupts the running command: Terraform finishes what it has begun and keeps its state. False if none runs.

        The next one is then interrupted as it starts. May be called from another thread. Asked twice, Terraform gives up at once.
        """
        with self._cancelling:
            told = self._child is not None and self._child.interrupt()
            self._cancel_next = not told
        return told

    # -- commands ----------------------------------------------------------------------------------------------------

    def init(self, *, reconfigure: bool = False, upgrade: bool = False, sink: EventSink | None = None) -> CommandResult:
        """Prepares the folder: backend and providers. `reconfigure` takes a changed backend as it is."""
        return self.cmd(
            "init",
            sink=sink,
            events=True,
            json=IsFlagged,
            no_color=IsFlagged,
            input=False,
            lock_timeout=self._lock_timeout,
            reconfigure=_flag(reconfigure),
            upgrade=_flag(upgrade),
        )

    def plan(
        self,
        out: Path,
        *,
        destroy: bool = False,
        refresh_only: bool = False,
        refresh: bool = True,
        lock: bool = True,
        targets: Iterable[str] = (),
        sink: EventSink | None = None,
    ) -> PlanOutcome:
        """Plans into a file (mode 0600, it holds sensitive values). Without `lock` the state may change meanwhile."""
        result = self.cmd(
            "plan",
            sink=sink,
            events=True,
            ok=(0, 2),
            json=IsFlagged,
            no_color=IsFlagged,
            input=False,
            detailed_exitcode=IsFlagged,
            lock=None if lock else False,
            lock_timeout=self._lock_timeout if lock else None,
            parallelism=self._parallelism,
            out=str(out),
            destroy=_flag(destroy),
            refresh_only=_flag(refresh_only),
            refresh=None if refresh else False,
            target=list(targets),
        )
        return PlanOutcome(result.exit_code == 2, out, result)

    def apply(self, planfile: Path, sink: EventSink | None = None) -> CommandResult:
        """Applies a saved plan, a destroy plan too."""
        return self.cmd(
            "apply",
            str(planfile),
            sink=sink,
            events=True,
            json=IsFlagged,
            no_color=IsFlagged,
            input=False,
            lock_timeout=self._lock_timeout,
            parallelism=self._parallelism,
        )

    def apply_unplanned(self, sink: EventSink | None = None) -> CommandResult:
        """Plans and applies in one process. Only for a stack without a state: it has nothing to change or destroy."""
        return self.cmd(
            "apply",
            sink=sink,
            events=True,
            json=IsFlagged,
            no_color=IsFlagged,
            input=False,
            auto_approve=IsFlagged,
            lock_timeout=self._lock_timeout,
            parallelism=self._parallelism,
        )

    def show_plan(self, planfile: Path) -> dict[str, Any]:
        """A saved plan as Terraform's JSON (format 1.x)."""
        return self._document("show", str(planfile), json=IsFlagged, no_color=IsFlagged)

    def state_show(self) -> dict[str, Any]:
        """The state as Terraform's JSON for readers (`show -json`); `{"format_version": …}` alone when there is none."""
        return self._document("show", json=IsFlagged, no_color=IsFlagged)

    def state_pull(self) -> dict[str, Any]:
        """The state as stored; empty when there is none."""
        return self._document("state pull")

    def state_push(self, file: Path) -> CommandResult:
        """Stores a state. Terraform refuses one of another lineage or with a serial that is not above the stored one."""
        return self.cmd("state push", str(file), lock_timeout=self._lock_timeout)

    def output(self) -> dict[str, OutputValue]:
        """The stack's outputs by name; empty before the first apply."""
        shape = self._document("output", json=IsFlagged, no_color=IsFlagged)
        return {
            name: OutputValue(entry.get("value"), bool(entry.get("sensitive")), entry.get("type"))
            for name, entry in shape.items()
        }

    def providers_schema(self) -> dict[str, Any]:
        """The schemas of the providers that the folder is initialised with."""
        return self._document("providers schema", json=IsFlagged)

    def untaint(self, address: str) -> CommandResult:
        """Takes the mark off a resource that would be replaced because its creation was cut short."""
        return self.cmd("untaint", address, no_color=IsFlagged, lock_timeout=self._lock_timeout)

    def force_unlock(self, lock_id: str) -> CommandResult:
        """Breaks a state lock. Only for one whose holder is certainly dead."""
        return self.cmd("force-unlock", lock_id, force=IsFlagged)

    def providers_lock(self, fs_mirror: Path, platforms: Iterable[str] = ()) -> CommandResult:
        """Lets Terraform write the lock file from a mirror (`write_lock_file` does the same without a process)."""
        return self.cmd("providers lock", fs_mirror=str(fs_mirror), platform=list(platforms), no_color=IsFlagged)

    # -- the door's parts --------------------------------------------------------------------------------------------

    def _argv(self, cmd: str, args: Sequence[str], options: Mapping[str, Any]) -> tuple[str, ...]:
        mappings = [name for name, value in options.items() if isinstance(value, Mapping)]
        if mappings:
            # The base class would write them to a file in the temporary folder and leave it there.
            raise ValueError(f"options that are mappings are not passed to Terraform: {', '.join(mappings)}")
        built = self.generate_cmd_string(cmd, *args, **options)
        return (*self.engine.argv, *(str(part) for part in built[1:]))

    def _start(self, cmd: str, argv: Sequence[str], given: Environment) -> Child:
        changing = cmd in _LOCKING
        record = self.work_dir / RECORD_NAME if changing else None
        left = running_child(record) if record else None
        if left is not None:
            raise UserError(
                f"A Terraform of an earlier run still works here ({left.command}, process {left.pid}, since {left.since}).",
                hint=f"Wait for it to end, or ask it to finish: `kill -INT {left.pid}`.",
                where=self.stack,
            )
        env = terraform_environment(os.environ, given, home=self._home, cli_config=self._cli_config)
        if cmd in _SHORT:
            env |= late_collection(os.environ, given, self.work_dir / "cdk.tf.json")
        try:
            if self._home is not None:
                self._home.mkdir(mode=0o700, parents=True, exist_ok=True)
            return Child(argv, cwd=self.work_dir, env=env, record=record, command=cmd)
        except OSError as error:
            raise AdapterError(f"{self.engine.kind} could not be started: {error}", where=self.stack) from error

    def _document(self, cmd: str, *args: str, **options: Any) -> dict[str, Any]:
        result = self.cmd(cmd, *args, **options)
        if not result.stdout.strip():
            return {}
        try:
            shape = json.loads(result.stdout)
        except ValueError as error:
            raise AdapterError(f"`{cmd}` of {self.engine.kind} did not answer in JSON: {error}", where=self.stack) from error
        return dict(shape)


class ProjectTerraform(Terraform):
    """Terraform on a stack of a project that is no lab: what helps in a lab does not help there."""

    of_a_lab = False


def _flag(wanted: bool) -> Any:
    return IsFlagged if wanted else None


def _result(argv: tuple[str, ...], ended: Ended, events: tuple[Event, ...], stderr: str, *, interrupted: bool) -> CommandResult:
    said = tuple(event.diagnostic for event in events if isinstance(event, Complaint))
    diagnostics: tuple[Diagnostic, ...] = said + diagnostics_from_text(stderr)
    stopped = any("Interrupt received" in text for text in (stderr, *(event.message for event in events)))
    return CommandResult(
        argv=argv,
        exit_code=ended.exit_code,
        events=events,
        diagnostics=diagnostics,
        stdout="" if events else ended.stdout,
        stderr_tail=plain(stderr)[-_STDERR_TAIL:].strip(),
        seconds=round(ended.seconds, 3),
        cancelled=interrupted or stopped,
    )
