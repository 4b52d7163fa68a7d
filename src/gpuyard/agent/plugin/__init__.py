"""The device plugin of nvidia.com/gpu (device plugin API v1beta1)."""
