"""The Python environment of an image: requirements to wheels, wheels to layers."""
