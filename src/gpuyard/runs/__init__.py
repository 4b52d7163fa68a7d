"""What can be done with a run, over any Kubernetes API: no printing here, notices go to a callback."""
