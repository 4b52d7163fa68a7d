"""The Kubernetes API of the local yard: verbs over the store, and their HTTP side."""
