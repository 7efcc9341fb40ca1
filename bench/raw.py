"""The raw loop: `terraform plan` in each folder in turn, with the environment that is there. Prints the seconds."""

from __future__ import annotations

import subprocess
import sys
import time


def main() -> None:
    """Plans each folder named on the command line; a plan that fails ends it."""
    began = time.perf_counter()
    for folder in sys.argv[1:]:
        command = ["terraform", f"-chdir={folder}", "plan", "-input=false", "-no-color", "-detailed-exitcode"]
        done = subprocess.run(command, stdout=subprocess.DEVNULL, check=False)
        if done.returncode != 0:
            sys.exit(f"terraform plan in {folder} ended with {done.returncode}: the lab is not as described")
    print(f"{time.perf_counter() - began:.3f}")


if __name__ == "__main__":
    main()
