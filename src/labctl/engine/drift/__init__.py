"""A drift check: what is there, held against what is described."""
