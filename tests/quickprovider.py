"""The provider with less patience: `python -m tests.quickprovider`."""

from __future__ import annotations

from labctl.adapters.compose import deploying
from labctl.provider import framework
from labctl.provider.__main__ import main
from tests.dockercompose import POLL_S, SETTLE_S

if __name__ == "__main__":
    deploying.SETTLE_S, deploying.POLL_S = SETTLE_S, POLL_S
    framework.QUIET_S = 2.0
    main()
