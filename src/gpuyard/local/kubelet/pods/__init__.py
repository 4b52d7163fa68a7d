"""One pod on this node: whether it may run, what it needs next, and what is written of it."""
