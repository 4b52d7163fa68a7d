"""What runs on a GPU node: the device plugin and the node's labels. Knows the kubelet only by its sockets."""
