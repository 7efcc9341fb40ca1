"""Runs Graphviz's `dot`."""

from __future__ import annotations

import shutil
import subprocess

from labctl.model.errors import AdapterError, UserError

TIMEOUT_S = 120


def svg(graph: str) -> str:
    """The graph, in Graphviz's language, as SVG.

    Raises:
        UserError: There is no `dot` on PATH.
        AdapterError: `dot` failed.
    """
    program = shutil.which("dot")
    if program is None:
        raise UserError(
            "Graphviz is needed for SVG, and its program `dot` is not on PATH",
            hint="`apt-get install graphviz` brings it. `--format mermaid` needs no program.",
        )
    try:
        done = subprocess.run([program, "-Tsvg"], input=graph.encode(), capture_output=True, timeout=TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise AdapterError(f"did not draw the graph: {error}", where=program) from error
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise AdapterError(f"failed with exit code {done.returncode}: {' '.join(said[:2])}", where=program)
    return done.stdout.decode(errors="replace")
