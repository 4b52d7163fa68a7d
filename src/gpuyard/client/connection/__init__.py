"""Where an API is and how to prove who we are, from a kubeconfig or from within a pod."""
