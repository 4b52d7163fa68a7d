"""Runs of many tasks: which values each has, and how far they are."""
