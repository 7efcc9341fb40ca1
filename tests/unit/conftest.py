"""Properties are checked without a time limit: a machine under load is no counterexample."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("labctl", settings(), deadline=None)
settings.load_profile("labctl")
