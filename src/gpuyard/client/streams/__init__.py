"""Streams into pods: WebSockets, and what Kubernetes carries over them."""
