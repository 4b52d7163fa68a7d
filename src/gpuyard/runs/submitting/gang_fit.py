"""Whether all pods of a run fit beside one another: ever, and now."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from gpuyard import errors
from gpuyard.advice import advice
from gpuyard.kube.objects import Manifest
from gpuyard.runs.notices import Notice, Notify
from gpuyard.scheduling.amounts import in_words
from gpuyard.scheduling.decide import place_copies
from gpuyard.scheduling.requests import PodRequest
from gpuyard.scheduling.snapshot import Snapshot

_MAX_NAMED = 4


def refuse_gang(request: PodRequest, count: int, nodes: Sequence[Manifest]) -> None:
    """Raises UsageError for more pods than would fit were all nodes empty, ready and healthy."""
    places = place_copies(request, count, Snapshot.of(nodes, ()).at_its_best())
    if len(places) == count:
        return
    raise errors.UsageError(
        f"the run asks for {count} pods, each with {_each(request)}, and the nodes have room for "
        f"{len(places)}: {_by_node(places)}",
        remedy=advice("ask for fewer (--nodes), or for less in each")
        + "; "
        + advice("--wait submits it all the same, for when more nodes come"),
    )


def tell_gang(
    request: PodRequest,
    count: int,
    snapshot: Snapshot,
    start_within: str,
    notify: Notify,
    *,
    least: int,
    all_or_none: bool,
) -> None:
    """Says how many of its pods fit now, where not all do, and what becomes of them.

    Args:
        request: of one pod.
        count: how many there are.
        snapshot: of all nodes with their pods.
        start_within: how long pods of a cluster wait for the others, in words.
        notify: hears of it.
        least: with how many it starts.
        all_or_none: whether none is placed before all (or `least`) fit.
    """
    places = place_copies(request, count, snapshot)
    if len(places) == count:
        return
    devices = [resource for resource in request.resources if "/" in resource] or list(request.resources)
    free = _free_by_node(snapshot, devices)
    there = f"{len(places)} of {count} pods fit now" + (f": {free}" if free else "")
    holders = Counter(
        f"{kind} {name}"
        for node in snapshot.nodes.values()
        for pod in node.pods
        if any(pod.resources.get(resource) for resource in devices)
        for kind, name in [pod.holder]
    )
    names = sorted(holders, key=lambda name: -holders[name])
    more = f" and {len(names) - _MAX_NAMED} more" if len(names) > _MAX_NAMED else ""
    waits = f"; the others wait for {', '.join(names[:_MAX_NAMED])}{more}" if names else ""
    if len(places) >= least:
        then = ". It starts with those, and the others join when they fit"
    elif least < count and (all_or_none or not places):
        then = f". It starts as soon as {least} of them {'fits' if least == 1 else 'fit'}"
    elif all_or_none or not places:
        then = ". None starts without the others"
    else:
        then = f". Those that start wait {start_within} for the others, then give their place back"
    notify(Notice(there + waits + then))


def _free_by_node(snapshot: Snapshot, resources: Sequence[str]) -> str:
    """`node a 8 free, node b 2 free`: of the first of the resources that a node has, most of it first."""
    free = [
        (max(node.free(resource), 0), resource, name)
        for name, node in snapshot.nodes.items()
        for resource in [r for r in resources if node.allocatable.get(r)][:1]
    ]
    free.sort(key=lambda found: (-found[0], found[2]))
    named = [
        f"node {name} {amount if '/' in resource else in_words(resource, amount)} free"
        for amount, resource, name in free[:_MAX_NAMED]
    ]
    more = f" and {len(free) - _MAX_NAMED} more nodes" if len(free) > _MAX_NAMED else ""
    return ", ".join(named) + more


def _each(request: PodRequest) -> str:
    amounts = [in_words(name, amount) for name, amount in request.resources.items() if name != "pods"]
    return ", ".join(amounts) or "no resources"


def _by_node(places: Sequence[str]) -> str:
    counts = Counter(places)
    named = [f"node {name}: {number}" for name, number in sorted(counts.items())[:_MAX_NAMED]]
    more = f" and {len(counts) - _MAX_NAMED} more nodes" if len(counts) > _MAX_NAMED else ""
    return (", ".join(named) or "no node has any") + more
