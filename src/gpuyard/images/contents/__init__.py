"""What is inside an image: its Python, packages, C library and torch, read from its layers."""
