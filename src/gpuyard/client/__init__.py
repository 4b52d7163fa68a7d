"""Talking to any Kubernetes API: configuration, REST, watch, logs. Knows nothing of what objects mean."""
