"""The yard: one process on one machine that serves the part of Kubernetes that a GPU job needs."""

#: The release whose API the yard serves a part of. kubectl shows it, and parses it as one of Kubernetes'.
KUBERNETES_VERSION = "1.37.0"
