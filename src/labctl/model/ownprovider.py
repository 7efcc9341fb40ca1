"""labctl's own Terraform provider, as Terraform knows it."""

from __future__ import annotations

OWN_PROVIDER = "labctl.internal/lab/labctl"
"""Its source address. The domain is one that is never in the public DNS."""

OWN_PROVIDER_VERSION = "0.1.0"

OWN_LAYERS = frozenset({"services", "apps"})
"""Layers whose stacks have resources of labctl's own provider, and none of bpg/proxmox."""
