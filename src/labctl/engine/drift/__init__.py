"""A check for drift: looks at stacks and at the world, remembers, and tells."""
