"""What listens, and who may come in: the unix socket, TLS, connections and tokens."""
