"""Keys of a spec that a service has no use for, each with what it has in their place (pure)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from gpuyard.advice import advice
from gpuyard.workloads.spec.text_tree import Node, Path

_OF_RUNS = {
    "nodes": "a service's replicas are service.replicas (--replicas); leave it out",
    "start_within": "a service's replicas don't wait for one another; leave it out",
    "sweep": "a service has no tasks; leave it out, or `gpuyard run` it without `service`",
    "sweep_file": "a service has no tasks; leave it out, or `gpuyard run` it without `service`",
    "at_once": "a service's replicas are service.replicas (--replicas); leave it out",
    "retries": "a service's replicas are started again whenever they end; leave it out",
    "timeout": "a service goes on until you stop it; leave it out",
    "signal": "comes before a timeout, which a service hasn't; leave it out",
    "idle": "a service goes on until you stop it; service.scale_to_zero (--scale-to-zero) lets it have no "
    "replica while nobody asks",
    "grace": "how long a replica may take to finish what it has is service.drain (--drain); write it there",
}
#: A run may have one pod in words.
_NOTHING = {"nodes": "1", "retries": "0"}


def across_service(root: Mapping[str, Node]) -> Iterator[tuple[Path, str]]:
    """What a spec with `service` mustn't say besides: place and message."""
    for key, message in _OF_RUNS.items():
        if root.get(key) is not None and root[key] != _NOTHING.get(key):
            yield (key,), advice(message)
    name = root.get("name")
    if isinstance(name, str) and name[:1].isdigit():
        yield ("name",), f"{name!r} can't name a service, whose name begins with a letter"
    service, env = root.get("service"), root.get("env")
    port = service.get("port") if isinstance(service, dict) else None
    own = env.get("PORT") if isinstance(env, dict) else None
    if own is not None and own != port:
        yield ("env", "PORT"), "is set for a service's program: to service.port; leave it out"
