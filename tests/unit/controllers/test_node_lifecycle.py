from __future__ import annotations

from typing import Any

from gpuyard.controllers.node_lifecycle import NodeLifecycle, is_unreachable
from gpuyard.kube.conditions import find_condition
from gpuyard.kube.objects import LEASES, NODES, ObjectKey
from gpuyard.kube.timestamps import format_micro_time

# conftest's classes, which test files can't import.
Yard = Any
Clock = Any

LEASE = ObjectKey("kube-node-lease", "a")


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


async def seen(yard: Yard) -> None:
    """Waits until the informers have the node and its lease."""
    await yard.until(lambda: ObjectKey("", "a") in yard.informers[NODES].objects)
    await yard.until(lambda: LEASE in yard.informers[LEASES].objects)


async def poke(yard: Yard, value: str) -> None:
    """Makes the controller look at the node again, as its timer would."""
    await yard.api.patch(NODES, "a", {"metadata": {"annotations": {"poke": value}}})


async def test_a_silent_node_becomes_unknown_until_its_kubelet_is_back(yard: Yard, clock: Clock) -> None:
    lifecycle = NodeLifecycle(yard.api, clock, clock.seconds, yard.informers[NODES], yard.informers[LEASES])
    async with yard.running(lifecycle):
        await beat(yard)
        await node(yard)
        await seen(yard)
        assert await lifecycle.look("a") == 40
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
        await seen(yard)
        assert await lifecycle.look("a") == 40
        clock.advance(39)
        assert await lifecycle.look("a") == 1
        old = yard.informers[LEASES].objects[LEASE]
        await beat(yard)
        await yard.until(lambda: yard.informers[LEASES].objects[LEASE] != old)
        assert await lifecycle.look("a") == 40
        clock.advance(39)
        assert await lifecycle.look("a") == 1
    assert ready(yard) == "True"
