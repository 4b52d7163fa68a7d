"""Probes of containers: `health` decides (pure), `handlers` ask, a `Prober` does both in time."""
