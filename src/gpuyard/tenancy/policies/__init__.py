"""Admission without a webhook: rules in CEL that the API server itself holds requests to (pure)."""
