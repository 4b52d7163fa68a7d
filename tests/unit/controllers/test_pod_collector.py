from __future__ import annotations

from typing import Any

import pytest

from gpuyard.controllers.pod_collector import PodCollector
from gpuyard.kube.objects import NODES, PODS

from .conftest import Clock, Yard


async def pod(yard: Yard, name: str, on: str, **more: Any) -> None:
    container = {"name": "main", "image": "gpuyard.io/host-process", "command": ["true"]}
    spec = {"containers": [container], "runtimeClassName": "gpuyard-process", **more}
    await yard.api.create(PODS, {"metadata": {"name": name, "namespace": "default"}, "spec": spec})
    await yard.api.bind("default", name, on)


async def test_a_deleted_pod_without_a_node_ends_so_that_its_job_lets_it_go(yard: Yard, clock: Clock) -> None:
    """A Job that replaces only what has failed would wait for its end for ever."""
    container = {"name": "main", "image": "gpuyard.io/host-process", "command": ["true"]}
    spec = {"containers": [container], "runtimeClassName": "gpuyard-process"}
    metadata = {"name": "p", "namespace": "default", "finalizers": ["example.com/held"]}
    await yard.api.create(PODS, {"metadata": metadata, "spec": spec})
    collector = PodCollector(yard.api, clock, clock.seconds, yard.informers[NODES], yard.informers[PODS])
    async with yard.running(collector):
        await yard.api.delete(PODS, "p", "default")
        await yard.until(lambda: [pod["status"]["phase"] for pod in yard.objects(PODS)] == ["Failed"])
        await yard.api.patch(PODS, "p", {"metadata": {"finalizers": None}}, "default")
    assert yard.objects(PODS) == []


@pytest.mark.parametrize("returns", [False, True])
async def test_pods_of_a_vanished_node_go_when_it_stays_away(yard: Yard, clock: Clock, returns: bool) -> None:
    await yard.api.create(NODES, {"metadata": {"name": "a"}})
    for name in ("running", "done"):
        await pod(yard, name, on="a")
    await yard.api.patch(PODS, "done", {"status": {"phase": "Succeeded"}}, "default", subresource="status")
    collector = PodCollector(yard.api, clock, clock.seconds, yard.informers[NODES], yard.informers[PODS])
    async with yard.running(collector):
        await yard.until(lambda: len(yard.informers[PODS].objects) == 2)
        await yard.api.delete(NODES, "a")
        await yard.until(lambda: not yard.informers[NODES].objects)
        assert await collector.look("a") == 40
        if returns:
            await yard.api.create(NODES, {"metadata": {"name": "a"}})
            await yard.until(lambda: len(yard.informers[NODES].objects) == 1)
        clock.advance(41)
        await yard.api.patch(PODS, "running", {"metadata": {"labels": {"poke": "1"}}}, "default")
        if returns:
            assert await collector.look("a") is None
            assert len(yard.objects(PODS)) == 2
        else:
            await yard.until(lambda: [p["metadata"]["name"] for p in yard.objects(PODS)] == ["done"])


TAINT = {"key": "node.kubernetes.io/out-of-service", "value": "nodeshutdown", "effect": "NoExecute"}


@pytest.mark.parametrize("is_ready", [False, True])
async def test_pods_of_a_node_that_is_confirmed_to_be_down_go_at_once(
    yard: Yard, clock: Clock, is_ready: bool
) -> None:
    """But those that are over or tolerate it; and none while the node is ready."""
    await yard.api.create(NODES, {"metadata": {"name": "a"}})
    for name in ("running", "done", "stays"):
        await pod(
            yard, name, on="a", tolerations=[{"key": TAINT["key"], "operator": "Exists"}] * (name == "stays")
        )
    await yard.api.patch(PODS, "done", {"status": {"phase": "Succeeded"}}, "default", subresource="status")
    collector = PodCollector(yard.api, clock, clock.seconds, yard.informers[NODES], yard.informers[PODS])
    async with yard.running(collector):
        status = {"conditions": [{"type": "Ready", "status": str(is_ready)}]}
        await yard.api.patch(NODES, "a", {"status": status}, subresource="status")
        await yard.api.patch(NODES, "a", {"spec": {"taints": [TAINT]}})
        if is_ready:
            await yard.until(lambda: yard.node("a")["spec"].get("taints"))
            assert await collector.look("a") is None
            assert len(yard.objects(PODS)) == 3
        else:
            await yard.until(
                lambda: sorted(p["metadata"]["name"] for p in yard.objects(PODS)) == ["done", "stays"]
            )
            assert {"NodeNotReady", "TaintManagerEviction"} <= set(yard.reasons())


async def test_pods_of_a_node_that_is_known_not_to_come_back_go_at_once(yard: Yard, clock: Clock) -> None:
    """As one that the yard simulates no more: others of a gang would start meanwhile, and wait for them."""
    await yard.api.create(NODES, {"metadata": {"name": "a"}})
    await pod(yard, "running", on="a")
    collector = PodCollector(
        yard.api, clock, clock.seconds, yard.informers[NODES], yard.informers[PODS], is_gone="a".__eq__
    )
    async with yard.running(collector):
        await yard.until(lambda: len(yard.informers[PODS].objects) == 1)
        await yard.api.delete(NODES, "a")
        await yard.until(lambda: yard.objects(PODS) == [])
    assert yard.objects(PODS) == []
