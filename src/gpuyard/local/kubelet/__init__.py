"""The kubelet of the yard: one node, whose pods are processes of this host."""
