"""The yard: one process on one machine that serves the part of Kubernetes that a GPU job needs."""
