"""Starts, adopts, signals and reaps host processes. Knows containers, not pods."""
