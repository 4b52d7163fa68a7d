"""Requests that become streams: exec, attach and port-forward. Imported with the first of them."""
