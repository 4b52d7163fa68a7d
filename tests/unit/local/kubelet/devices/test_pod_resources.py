from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from gpuyard._proto import pod_resources_pb2 as pb
from gpuyard._proto import pod_resources_pb2_grpc as rpc
from gpuyard.local.kubelet.devices.manager import DeviceManager
from gpuyard.local.kubelet.devices.pod_resources import PodResourcesServer

from .conftest import Node, wait_for_devices

OTHER = "example.com/other"


@asynccontextmanager
async def asking(manager: DeviceManager, socket: Path) -> AsyncIterator[Any]:
    server = PodResourcesServer(manager, socket)
    await server.start()
    async with grpc.aio.insecure_channel(
        f"unix:{socket}", [("grpc.use_local_subchannel_pool", 1)]
    ) as channel:
        yield rpc.PodResourcesListerStub(channel)
    await server.stop()


async def test_says_who_holds_what(node: Node) -> None:
    async with node.manager() as manager, asking(manager, node.folder / "pr/kubelet.sock") as stub:
        plugin = await node.plugin(a=True, b=True, c=False)
        await plugin.register()
        await wait_for_devices(manager, 3, 2)
        assert not (await stub.List(pb.ListPodResourcesRequest())).pod_resources
        await manager.allocate("u", "ns", "p", "main", {OTHER: 2})

        (pod,) = (await stub.List(pb.ListPodResourcesRequest())).pod_resources
        (container,) = pod.containers
        assert (pod.namespace, pod.name, container.name) == ("ns", "p", "main")
        assert [list(one.device_ids) for one in container.devices] == [["a"], ["b"]]
        assert {one.resource_name for one in container.devices} == {OTHER}
        assert [[n.ID for n in one.topology.nodes] for one in container.devices] == [[1], [1]]

        found = await stub.Get(pb.GetPodResourcesRequest(pod_name="p", pod_namespace="ns"))
        assert found.pod_resources == pod


async def test_a_pod_without_devices_is_not_found(node: Node) -> None:
    async with node.manager() as manager, asking(manager, node.folder / "kubelet.sock") as stub:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.Get(pb.GetPodResourcesRequest(pod_name="p", pod_namespace="ns"))
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def test_lists_healthy_devices_as_allocatable(node: Node) -> None:
    async with node.manager() as manager, asking(manager, node.folder / "kubelet.sock") as stub:
        plugin = await node.plugin(a=True, b=False)
        await plugin.register()
        await wait_for_devices(manager, 2, 1)
        answer = await stub.GetAllocatableResources(pb.AllocatableResourcesRequest())
        assert [list(one.device_ids) for one in answer.devices] == [["a"]]


async def test_a_socket_that_was_left_behind_is_replaced(node: Node) -> None:
    socket = node.folder / "kubelet.sock"
    async with node.manager() as manager:
        for _ in range(2):
            async with asking(manager, socket) as stub:
                assert not (await stub.List(pb.ListPodResourcesRequest())).pod_resources
            socket.touch()
