from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from typing import Any, cast

import pytest

from gpuyard.kube.conditions import condition_is_true
from gpuyard.kube.objects import LEASES, NODES, Manifest, annotations_of, labels_of
from gpuyard.kube.quantity import to_int
from gpuyard.local.kubelet.devices.manager import DeviceCount, DeviceManager
from gpuyard.local.kubelet.node import NodeReporter
from tests.waiting import until_async

from .conftest import Host


class Devices:
    """As much of a device manager as a node looks at."""

    def __init__(self) -> None:
        self.counts: dict[str, DeviceCount] = {}
        self.tell: list[Callable[[], None]] = []

    def resources(self) -> Mapping[str, DeviceCount]:
        return self.counts

    def on_change(self, callback: Callable[[], None]) -> None:
        self.tell.append(callback)


@pytest.fixture
def devices() -> Devices:
    return Devices()


@asynccontextmanager
async def _reporting(host: Host, devices: Devices, heartbeat_s: float = 60.0) -> AsyncIterator[None]:
    manager = cast(DeviceManager, devices)
    node = NodeReporter(host.api, "here", manager, host.runtime, _now, heartbeat_s=heartbeat_s)
    task = asyncio.create_task(node.run(), name="node")
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def _until(host: Host, condition: Callable[[Manifest], Any]) -> Manifest:
    nodes = await until_async(
        lambda: host.api.list(NODES), "the node is as wanted", lambda nodes: any(map(condition, nodes.items))
    )
    return next(filter(condition, nodes.items))


async def test_registration(host: Host, devices: Devices) -> None:
    async with _reporting(host, devices):
        node = await _until(host, lambda node: condition_is_true(node, "Ready"))
    assert labels_of(node)["kubernetes.io/hostname"] == "here"
    assert labels_of(node)["kubernetes.io/arch"] in ("amd64", "arm64")
    assert annotations_of(node) == {
        "gpuyard.io/isolation": host.runtime.process.isolation.level,
        "gpuyard.io/enforced": "none",
        "gpuyard.io/containers": "none: podman isn't installed on this machine",
    }
    status = node["status"]
    assert to_int(status["allocatable"]["cpu"]) >= 1
    assert to_int(status["allocatable"]["memory"]) > 1 << 28
    assert status["allocatable"]["pods"] == "500"
    assert {"type": "InternalIP", "address": "127.0.0.1"} in status["addresses"]
    assert status["nodeInfo"]["kubeletVersion"].startswith("v1.37.0+gpuyard-")


def _gpus(node: Manifest) -> tuple[str | None, str | None]:
    status = node["status"]
    return status["capacity"].get("nvidia.com/gpu"), status["allocatable"].get("nvidia.com/gpu")


def _has(capacity: str, allocatable: str, node: Manifest) -> bool:
    return _gpus(node) == (capacity, allocatable)


async def test_devices_follow_at_once(host: Host, devices: Devices) -> None:
    async with _reporting(host, devices):
        await _until(host, lambda node: _gpus(node) == (None, None))
        for count in (DeviceCount(8, 8), DeviceCount(8, 7), DeviceCount(0, 0)):
            devices.counts["nvidia.com/gpu"] = count
            for tell in devices.tell:
                tell()
            await _until(host, partial(_has, str(count.capacity), str(count.allocatable)))


async def test_what_others_set_stays(host: Host, devices: Devices) -> None:
    async with _reporting(host, devices):
        await _until(host, lambda node: condition_is_true(node, "Ready"))
        patch = {"metadata": {"labels": {"gpuyard.io/gpu-model": "H100"}}, "spec": {"unschedulable": True}}
        await host.api.patch(NODES, "here", patch)
    devices.counts["nvidia.com/gpu"] = DeviceCount(2, 2)
    async with _reporting(host, devices):
        node = await _until(host, lambda node: "nvidia.com/gpu" in node["status"]["capacity"])
    assert labels_of(node)["gpuyard.io/gpu-model"] == "H100"
    assert node["spec"]["unschedulable"]


async def test_heartbeat(host: Host, devices: Devices) -> None:
    async with _reporting(host, devices, heartbeat_s=0.01):
        await _until(host, lambda node: condition_is_true(node, "Ready"))
        seen: set[str] = set()

        async def renewals() -> set[str]:
            for lease in (await host.api.list(LEASES, "kube-node-lease")).items:
                assert lease["spec"]["holderIdentity"] == lease["metadata"]["name"] == "here"
                seen.add(lease["spec"]["renewTime"])
            return seen

        await until_async(renewals, "three renewals", lambda seen: len(seen) >= 3)


async def test_a_node_that_was_deleted_registers_again(host: Host, devices: Devices) -> None:
    async with _reporting(host, devices, heartbeat_s=0.01):
        first = await _until(host, lambda node: condition_is_true(node, "Ready"))
        await host.api.delete(NODES, "here")
        await _until(host, lambda node: node["metadata"]["uid"] != first["metadata"]["uid"])


def _now() -> datetime:
    return datetime.now(UTC)


async def test_a_kubelet_that_comes_back_takes_back_what_was_said_of_its_silence(
    host: Host, devices: Devices
) -> None:
    async with _reporting(host, devices, heartbeat_s=0.01):
        await _until(host, lambda node: condition_is_true(node, "Ready"))
        unknown = {"type": "Ready", "status": "Unknown", "reason": "NodeStatusUnknown"}
        await host.api.patch(NODES, "here", {"status": {"conditions": [unknown]}}, subresource="status")
        await _until(host, lambda node: condition_is_true(node, "Ready"))


async def test_a_kubelet_that_was_suspended_says_at_once_that_it_lives(host: Host, devices: Devices) -> None:
    """The next heartbeat would come in an hour."""
    manager = cast(DeviceManager, devices)
    node = NodeReporter(host.api, "here", manager, host.runtime, _now, heartbeat_s=3600)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(node.run())
        await _until(host, lambda node: condition_is_true(node, "Ready"))
        unknown = {"type": "Ready", "status": "Unknown", "reason": "NodeStatusUnknown"}
        await host.api.patch(NODES, "here", {"status": {"conditions": [unknown]}}, subresource="status")
        node.wake()
        await _until(host, lambda node: condition_is_true(node, "Ready"))
        task.cancel()
