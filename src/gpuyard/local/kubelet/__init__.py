"""The kubelet of the yard: the one node, and the pods that are bound to it.

`kubelet` gives each pod a worker; `pods.worker` takes it from admission to its end; `containers` makes a
container's manifest what `runtime` starts, as a process of this host or from an image; `devices` speaks with
device plugins; `logs` reads what containers printed.
"""
