"""The provider, which looks at containers more often and is sure of them sooner: `python -m tests.quickprovider`."""

from __future__ import annotations

from labctl.adapters.compose import engine
from labctl.provider.__main__ import main

if __name__ == "__main__":
    engine.SETTLE_S, engine.POLL_S = 0.3, 0.1
    main()
