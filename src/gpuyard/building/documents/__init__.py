"""The documents of an image: its config with entry point and labels, and the list of what is in it."""
