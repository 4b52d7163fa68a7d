"""The yard's process: what it starts, in which order, and what it looks after meanwhile."""
