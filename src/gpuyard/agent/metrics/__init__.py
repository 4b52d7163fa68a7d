"""What an agent's exporter says of its node's GPUs to Prometheus, and to gpuyard's own commands."""
