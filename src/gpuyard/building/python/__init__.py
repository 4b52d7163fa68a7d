"""The Python environment of an image: requirements to wheels, and wheels to files."""
