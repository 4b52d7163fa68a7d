"""Shared libraries of an image: which are there, what needs them, and the loader's cache of them."""
