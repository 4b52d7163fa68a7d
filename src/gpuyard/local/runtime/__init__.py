"""Runs containers behind one protocol, as processes of the host (`process`) or by podman (`podman`).

It starts, adopts, signals and reaps them, and knows neither pods nor the API. `runtime` has the protocol,
`runtimes` chooses between the two and adopts, `container` is the handle of one start.
"""
