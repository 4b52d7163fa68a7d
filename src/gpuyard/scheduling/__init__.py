"""Which node takes which pod, and why not: decisions over an immutable snapshot, without I/O."""
