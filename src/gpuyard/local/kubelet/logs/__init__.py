"""Logs of containers: their files, when their lines were written, and reading them."""
