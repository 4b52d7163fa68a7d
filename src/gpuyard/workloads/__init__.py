"""The user's spec, the manifests that it becomes and what they say of the run afterwards: pure."""
