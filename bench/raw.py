"""The raw loop: `terraform plan` in each folder in turn, in the environment that is there. Prints wall and processor seconds."""

from __future__ import annotations

import subprocess
import sys

from bench.samples import CPU, Samples


def main() -> None:
    """Plans each folder named on the command line; a plan that fails ends it."""
    samples = Samples()
    samples.time("plans", lambda: _plan(sys.argv[1:]))
    print(f"{samples.median('plans'):.3f} {samples.median(f'{CPU}plans'):.3f}")


def _plan(folders: list[str]) -> None:
    for folder in folders:
        command = ["terraform", f"-chdir={folder}", "plan", "-input=false", "-no-color", "-detailed-exitcode"]
        done = subprocess.run(command, stdout=subprocess.DEVNULL, check=False)
        if done.returncode != 0:
            sys.exit(f"terraform plan in {folder} ended with {done.returncode}: the lab is not as described")


if __name__ == "__main__":
    main()
