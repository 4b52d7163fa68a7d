"""Loops over any Kubernetes API that bring its objects to the state they call for.

`job/` makes the pods of Jobs, `deployment/` and `replica_set/` those of Deployments, with what
`owned_pods/` has. `endpoint_slice/` writes down which pods are behind a Service, `disruption/` how many
pods may be evicted. `scheduler` binds pods to nodes, `garbage` follows owner references, `namespaces`
empties what is being deleted, `node_lifecycle` watches for silent nodes, `pod_collector` removes the pods
of nodes that are gone, `event_expiry` removes old events. `manager` composes all of them but the
scheduler. They know the API by `client.api` alone, so that a yard and a cluster are the same to them.
"""
