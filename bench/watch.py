"""Runs a process and watches its own memory, its children's left out."""

from __future__ import annotations

import re
import subprocess
import threading
import time
from collections.abc import Mapping
from pathlib import Path


def run_watched(command: list[str], folder: Path, env: Mapping[str, str] | None = None) -> float:
    """Runs the command to its end, which must be a good one; returns the peak of the process's own resident memory in MiB."""
    process = subprocess.Popen(command, cwd=folder, env=env, stdout=subprocess.DEVNULL)
    peak_kib = [0]
    watcher = threading.Thread(target=_watch, args=(process, peak_kib), daemon=True)
    watcher.start()
    code = process.wait()
    watcher.join()
    if code != 0:
        raise RuntimeError(f"{command} ended with {code}")
    return peak_kib[0] / 1024


def _watch(process: subprocess.Popen[bytes], peak_kib: list[int]) -> None:
    status = Path(f"/proc/{process.pid}/status")
    while process.poll() is None:
        try:
            found = re.search(r"VmHWM:\s+(\d+)", status.read_text())
        except OSError:
            return
        peak_kib[0] = max(peak_kib[0], int(found.group(1)) if found else 0)
        time.sleep(0.02)
