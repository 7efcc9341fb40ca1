"""`python -m labctl.sandbox --home DIR`: what `labctl sandbox start` runs in the background."""

import argparse
import sys
from pathlib import Path

from labctl.sandbox.daemon import run

if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m labctl.sandbox", description="Serves a sandbox until SIGTERM.")
    parser.add_argument("--home", type=Path, required=True, help="the sandbox's folder, made by `labctl sandbox start`")
    sys.exit(run(parser.parse_args().home))
