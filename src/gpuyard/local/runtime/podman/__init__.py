"""Containers from images, run by podman."""
