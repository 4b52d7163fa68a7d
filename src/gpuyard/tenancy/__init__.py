"""The manifests of gpuyard's own install and what it marks nodes with (pure). Sends nothing."""
