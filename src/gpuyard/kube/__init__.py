"""Kubernetes-shaped values: pure, no I/O."""
