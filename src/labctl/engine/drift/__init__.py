"""A drift check: what the world has against what is described."""
