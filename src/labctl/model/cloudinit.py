"""What cloud-init says of itself, judged. The words are those of `cloud-init status --format json` (22.4 to 25.3)."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

STATUS_COMMAND = ("cloud-init", "status", "--format", "json")
"""The command whose output and exit code `judge` takes."""

DEGRADED_CODE = 2
"""The exit code of a boot that ended with complaints (from 23.4 on)."""

STAGES = ("init-local", "init", "modules-config", "modules-final")

_MODULE = re.compile(r"\('(?P<module>[a-z_][a-z0-9_-]*)'")
_WRAPPED = re.compile(r"\('[\w-]+', \w+\((?P<quote>['\"])(?P<text>.*)(?P=quote),?\)\)", re.DOTALL)
_RAN = re.compile(r"(?i)fail(?:ed|ure) (?:to run |running )(?:module )?(?P<module>[a-z_][a-z0-9_-]*)")
_MEANING = {
    "scripts_user": "the commands of the guest's document",
    "scripts-user": "the commands of the guest's document",
    "package_update_upgrade_install": "the packages of the distribution",
    "package-update-upgrade-install": "the packages of the distribution",
    "write_files": "the files of the guest's document",
    "users_groups": "the users of the guest's document",
}


class Boot(StrEnum):
    """How far a guest's first boot is."""

    DONE = "done"
    DEGRADED = "degraded"
    ERROR = "error"
    RUNNING = "running"
    NOT_STARTED = "not started"
    DISABLED = "disabled"
    UNKNOWN = "unknown"

    @property
    def ended(self) -> bool:
        """Whether nothing more is to be waited for."""
        return self in (Boot.DONE, Boot.DEGRADED, Boot.ERROR, Boot.DISABLED)


@dataclass(frozen=True, slots=True)
class BootStatus:
    """cloud-init's verdict.

    Attributes:
        boot: How far it is.
        stage: The stage that it is in, "" for none.
        errors: What went wrong.
        complaints: What it went on after.
    """

    boot: Boot
    stage: str = ""
    errors: tuple[str, ...] = ()
    complaints: tuple[str, ...] = ()

    @property
    def module(self) -> str:
        """The module that failed, "" where the errors name none."""
        for error in self.errors:
            if found := _MODULE.search(error) or _RAN.search(error):
                return found["module"]
        return ""

    @property
    def reason(self) -> str:
        """Why, without the words of Python around it; "" where the errors do not say."""
        for error in self.errors:
            found = _WRAPPED.fullmatch(error.strip())
            return " ".join((found["text"] if found else error).split())
        return ""

    @property
    def failed_part(self) -> str:
        """What failed, for people."""
        module = self.module
        if not module:
            return "cloud-init"
        meaning = _MEANING.get(module)
        return f"module {module} ({meaning})" if meaning else f"module {module}"


def judge(exit_code: int, out: str) -> BootStatus:
    """The verdict from the output of `cloud-init status --format json` and its exit code.

    Broken user-data ends with code 2, `done` and `degraded done`; a failed module with 1 and `error`, also while later ones still
    run.
    """
    try:
        found = json.loads(out)
        status = str(found["status"])
    except (ValueError, KeyError, TypeError):
        return BootStatus(Boot.UNKNOWN)
    errors = _texts(found.get("errors"))
    complaints = _complaints(found.get("recoverable_errors"))
    stage = str(found.get("stage") or "")
    extended = str(found.get("extended_status") or "")
    if status == "error" or extended.startswith("error") or exit_code == 1:
        return BootStatus(Boot.ERROR, stage, errors or (str(found.get("detail") or ""),), complaints)
    if status == "done":
        told = extended.startswith("degraded") or exit_code == DEGRADED_CODE
        degraded = bool(complaints) or (told and not found.get("recoverable_errors"))
        return BootStatus(Boot.DEGRADED if degraded else Boot.DONE, "", errors, complaints)
    if status in ("running", "not run", "not started"):
        boot = Boot.RUNNING if status == "running" else Boot.NOT_STARTED
        return BootStatus(boot, stage or _begun(found), errors, complaints)
    return BootStatus(Boot.DISABLED if status == "disabled" else Boot.UNKNOWN, "", errors, complaints)


def ended_well(status_file: bytes | None) -> bool:
    """Whether `/run/cloud-init/status.json` shows a boot that ended without any error or complaint.

    It lies on a tmpfs and is written by this boot only. Anything else is to be asked of cloud-init itself: this is the quick look
    of a run that has nothing to do, without a process in the guest.
    """
    try:
        found = json.loads(status_file or b"")["v1"]
        stages = [found[name] for name in STAGES]
        clean = all(
            stage["finished"] and not stage["errors"] and not _complaints(stage.get("recoverable_errors")) for stage in stages
        )
        return found.get("stage") is None and clean
    except (ValueError, KeyError, TypeError):
        return False


def _begun(found: Mapping[str, Any]) -> str:
    """The last stage that has begun, as older releases tell it."""
    begun = [name for name in STAGES if isinstance(found.get(name), dict) and found[name].get("start")]
    return begun[-1] if begun else ""


def _texts(value: object) -> tuple[str, ...]:
    return tuple(dict.fromkeys(str(item) for item in value)) if isinstance(value, list) else ()


def _complaints(value: object) -> tuple[str, ...]:
    if not isinstance(value, dict):
        return ()
    # What is merely deprecated works.
    return tuple(text for level, texts in value.items() if level not in ("DEPRECATED", "DEBUG", "INFO") for text in _texts(texts))


def telling_lines(log: str) -> list[str]:
    """The lines of `/var/log/cloud-init-output.log` that say what was done and what went wrong, as a terminal would show them.

    What cloud-init itself printed stands behind what its commands said, whatever came first: it is written when cloud-init ends.
    """
    found: list[str] = []
    for line in re.split(r"[\r\n]+", log):
        text = "".join(sign for sign in re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", line) if sign.isprintable()).strip()
        if text and not _CHATTER.search(text) and text not in found[-1:]:
            found.append(text)
    return found


_CHATTER = re.compile(
    r"^Generating public/private |^Your (identification|public key) has been saved |^The key('s randomart image| fingerprint) is:"
    r"|^SHA256:\S+ \S+$|^\+-*\[[A-Z0-9 ]+\]-*\+$|^\|.{17}\|$|^Cloud-init v\. |log_util\.py\[WARNING\]"
    r"|\[WARNING\]: Failed to run module |^ci-info: "
)
"""How cloud-init makes SSH keys, its tables of keys and addresses, and how it says that it has ended."""
