"""A service as Kubernetes objects (pure)."""
