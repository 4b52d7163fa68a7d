"""What pods use of their GPUs: counted by the exporter, written onto the pods by the labeller."""
