"""The user's folder: which of its files go into an image."""
