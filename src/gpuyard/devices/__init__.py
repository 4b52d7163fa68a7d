"""The GPUs of one node: what is there, how it is linked, whether it is healthy. Knows no Kubernetes."""
