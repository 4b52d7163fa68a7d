"""One Service's proxy, a process of its own.

    client ─▶ ClientConnection ─▶ Exchange ─▶ ReplicaConnection ─▶ replica

A client's connection reads requests, one exchange carries one of them to a replica and its answer back, and
`Replicas` says which replica, over which connection. A request for which no replica is ready is held.
Nothing is kept of a body but what is on its way: who doesn't read stops who writes.
"""
