"""Packages as files of an image: what dpkg would have made of them."""
