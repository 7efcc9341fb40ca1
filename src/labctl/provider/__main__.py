"""`python -m labctl.provider`, and the program `labctl-provider`: what Terraform runs."""

from __future__ import annotations

import sys

from labctl.provider.framework import serve
from labctl.provider.provider import LabctlProvider


def main() -> None:
    """Serves the provider until it is told to end."""
    provider = LabctlProvider()
    try:
        serve(provider, sys.argv)
    finally:
        provider.close()


if __name__ == "__main__":
    main()
