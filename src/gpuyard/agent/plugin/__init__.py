"""The device plugins of the GPUs, one for each resource (device plugin API v1beta1)."""
