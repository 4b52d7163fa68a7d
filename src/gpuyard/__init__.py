"""gpuyard takes a PyTorch script to a scheduled GPU."""

__version__ = "0.1.0"
