"""The pods of runs and services: what all have in common, whatever starts them (pure)."""
