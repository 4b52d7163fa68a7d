"""The user's own Python projects: what they are, read without running them, and how they lie in an image."""
