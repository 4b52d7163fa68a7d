"""Containers that are processes of this host, in a sandbox where there is one."""
