"""The key `service` of a spec (pure)."""
