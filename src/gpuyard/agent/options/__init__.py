"""Values of how GPUs are to be offered and handed over."""
