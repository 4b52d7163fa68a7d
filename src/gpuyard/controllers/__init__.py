"""Loops that make the yard's objects true: Jobs, garbage, namespaces, nodes."""
