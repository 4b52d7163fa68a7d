"""NVIDIA's GPUs, as the driver reports them through NVML."""
