from __future__ import annotations

from typing import Any

import pytest

from gpuyard.controllers.nodes import NodeLifecycle, PodCollector, is_unreachable
from gpuyard.kube.conditions import find_condition
from gpuyard.kube.objects import LEASES, NODES, PODS
from gpuyard.kube.timestamps import format_micro_time

# conftest's classes, which test files can't import.
Yard = Any
Clock = Any


async def node(yard: Yard, name: str = "a") -> None:
    await yard.api.create(NODES, {"metadata": {"name": name}})
    await report_ready(yard, name)


async def report_ready(yard: Yard, name: str = "a") -> None:
    ready = {"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "up"}
    await yard.api.patch(NODES, name, {"status": {"conditions": [ready]}}, subresource="status")


async def beat(yard: Yard, name: str = "a") -> None:
    """Renews the node's lease."""
    spec = {"holderIdentity": name, "renewTime": format_micro_time(yard.clock())}
    if yard.object(LEASES, name, "kube-node-lease") is None:
        metadata = {"name": name, "namespace": "kube-node-lease"}
        await yard.api.create(LEASES, {"metadata": metadata, "spec": spec})
    else:
        await yard.api.patch(LEASES, name, {"spec": spec}, "kube-node-lease")


def ready(yard: Yard) -> Any:
    return (find_condition(yard.object(NODES, "a") or {}, "Ready") or {}).get("status")


def unreachable(yard: Yard) -> bool:
    return is_unreachable(yard.object(NODES, "a") or {})


async def poke(yard: Yard, value: str) -> None:
    """Makes the controller look at the node again, as its timer would."""
    await yard.api.patch(NODES, "a", {"metadata": {"annotations": {"poke": value}}})


async def test_a_silent_node_becomes_unknown_until_its_kubelet_is_back(yard: Yard, clock: Clock) -> None:
    lifecycle = NodeLifecycle(yard.api, clock, clock.seconds, yard.informers[NODES], yard.informers[LEASES])
    async with yard.running(lifecycle):
        await beat(yard)
        await node(yard)
        await yard.until(lambda: lifecycle.watches("a"))
        clock.advance(41)
        await poke(yard, "1")
        await yard.until(lambda: ready(yard) == "Unknown" and unreachable(yard))
        condition = find_condition(yard.object(NODES, "a") or {}, "Ready") or {}
        assert condition["reason"] == "NodeStatusUnknown"
        assert condition["message"] == "Kubelet stopped posting node status."
        effects = [t["effect"] for t in (yard.object(NODES, "a") or {})["spec"]["taints"]]
        assert effects == ["NoSchedule", "NoExecute"]
        await beat(yard)
        await report_ready(yard)
        await yard.until(lambda: ready(yard) == "True" and not unreachable(yard))


async def test_an_old_lease_condemns_nobody_after_a_restart(yard: Yard, clock: Clock) -> None:
    await beat(yard)
    await node(yard)
    clock.advance(3600)
    lifecycle = NodeLifecycle(yard.api, clock, clock.seconds, yard.informers[NODES], yard.informers[LEASES])
    async with yard.running(lifecycle):
        await yard.until(lambda: lifecycle.watches("a"))
        clock.advance(39)
        await beat(yard)
        await poke(yard, "1")
        clock.advance(39)
        await poke(yard, "2")
        await yard.api.create(NODES, {"metadata": {"name": "b"}})
        await yard.until(lambda: lifecycle.watches("b"))
    assert ready(yard) == "True"


async def pod(yard: Yard, name: str, on: str) -> None:
    container = {"name": "main", "image": "gpuyard.io/host-process", "command": ["true"]}
    spec = {"containers": [container], "runtimeClassName": "gpuyard-process"}
    await yard.api.create(PODS, {"metadata": {"name": name, "namespace": "default"}, "spec": spec})
    await yard.api.bind("default", name, on)


@pytest.mark.parametrize("returns", [False, True])
async def test_pods_of_a_vanished_node_go_when_it_stays_away(yard: Yard, clock: Clock, returns: bool) -> None:
    await node(yard)
    for name in ("running", "done"):
        await pod(yard, name, on="a")
    await yard.api.patch(PODS, "done", {"status": {"phase": "Succeeded"}}, "default", subresource="status")
    collector = PodCollector(yard.api, clock, clock.seconds, yard.informers[NODES], yard.informers[PODS])
    async with yard.running(collector):
        await yard.until(lambda: len(yard.informers[PODS].objects) == 2)
        await yard.api.delete(NODES, "a")
        await yard.until(lambda: collector.misses("a"))
        if returns:
            await node(yard)
            await yard.until(lambda: len(yard.informers[NODES].objects) == 1)
        clock.advance(41)
        await yard.api.patch(PODS, "running", {"metadata": {"labels": {"poke": "1"}}}, "default")
        if returns:
            await pod(yard, "stranded", on="b")
            await yard.until(lambda: collector.misses("b"))
            assert len(yard.objects(PODS)) == 3
        else:
            await yard.until(lambda: [p["metadata"]["name"] for p in yard.objects(PODS)] == ["done"])
