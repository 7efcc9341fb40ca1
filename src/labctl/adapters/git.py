"""Reads a Git repository: which files a change touches, and the files of another revision."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from labctl.model.errors import AdapterError, UserError

TIMEOUT_S = 300
_MISLEADING = frozenset({"GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_OBJECT_DIRECTORY"})
"""Variables by which a hook's Git means another repository than the one that a folder lies in."""


@dataclass(frozen=True, slots=True)
class Repository:
    """A work tree.

    Attributes:
        top: Its upper folder.
    """

    top: Path

    def merge_base(self, base: str) -> str:
        """The commit that the work tree's branch left `base` at.

        Raises:
            UserError: There is no such revision here, or the two have no common ancestor.
        """
        # A name that begins with a dash would be an option.
        commit = _git(self.top, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{base}^{{commit}}", fine=(0, 1)).strip()
        if not commit:
            raise UserError(
                f"there is no revision {base!r}",
                where=str(self.top),
                hint="Fetch it (`git fetch origin`). In a GitLab job, `GIT_DEPTH: 0` brings the whole history.",
            )
        found = _git(self.top, "merge-base", commit, "HEAD", fine=(0, 1)).strip()
        if not found:
            raise UserError(
                f"{base!r} and HEAD have no common ancestor here",
                where=str(self.top),
                hint="In a GitLab job, `GIT_DEPTH: 0` brings the whole history.",
            )
        return found

    def head(self) -> str:
        """The commit that is checked out."""
        return _git(self.top, "rev-parse", "HEAD").strip()

    def changed(self, since: str) -> tuple[str, ...]:
        """The files that differ between a commit and the work tree, from `top`; those too that Git does not know yet."""
        known = _git(self.top, "diff", "--name-only", "--no-renames", "--no-ext-diff", "-z", since, "--")
        new = _git(self.top, "ls-files", "--others", "--exclude-standard", "-z")
        return tuple(sorted({name for name in (known + new).split("\0") if name}))

    def write_tree(self, commit: str, folder: Path) -> None:
        """Writes a commit's files into a folder.

        By an index of its own: `git archive` leaves out what attributes tell it to.
        """
        index = folder.parent / f".{folder.name}.index"
        try:
            _git(self.top, "read-tree", commit, environment={"GIT_INDEX_FILE": str(index)})
            _git(self.top, "checkout-index", "--all", f"--prefix={folder}/", environment={"GIT_INDEX_FILE": str(index)})
        finally:
            index.unlink(missing_ok=True)


def repository(folder: Path) -> Repository:
    """The work tree that a folder lies in.

    Raises:
        UserError: There is no `git`, or the folder lies in no work tree that it trusts.
    """
    if shutil.which("git") is None:
        raise UserError("git is needed to see what a change touches, and is not on PATH", hint="`apt-get install git`")
    try:
        return Repository(Path(_git(folder, "rev-parse", "--show-toplevel").strip()))
    except AdapterError as error:
        raise UserError(f"is no Git work tree: {error.message}", where=str(folder), hint="Review a clone.") from error


def _git(folder: Path, *arguments: str, fine: tuple[int, ...] = (0,), environment: Mapping[str, str] | None = None) -> str:
    kept = {name: value for name, value in os.environ.items() if name not in _MISLEADING}
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            capture_output=True,
            stdin=subprocess.DEVNULL,
            env={**kept, "LC_ALL": "C", "GIT_OPTIONAL_LOCKS": "0", **(environment or {})},
            timeout=TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise AdapterError(f"git {arguments[0]} did not run: {error}", where=str(folder)) from error
    if done.returncode not in fine:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise AdapterError(f"git {arguments[0]}: {' '.join(said[:3]) or done.returncode}", where=str(folder))
    return done.stdout.decode(errors="surrogateescape")
