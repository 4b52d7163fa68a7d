"""What labels say of a node's GPUs: by vendor, and all together."""
