import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace
from typing import Any

import grpc
import grpc.aio
import pytest

from gpuyard._proto import device_plugin_pb2 as pb
from gpuyard._proto import device_plugin_pb2_grpc as rpc
from gpuyard.agent.options.device_lists import PLAIN, DeviceList
from gpuyard.agent.plugin.registration import keep_registered
from gpuyard.agent.plugin.server import Plugin, describe
from gpuyard.agent.plugin.sockets import OwnSockets
from gpuyard.agent.served import serve
from gpuyard.devices.inventory import Backend, Health, Inventory
from gpuyard.devices.simulated.simulation import parse_simulation, simulate
from gpuyard.gpus.resources import GPU_RESOURCE

from .conftest import Kubelet

INVENTORY = simulate(parse_simulation("V100:8"), seed="node")
SERVED = serve(INVENTORY)
UUIDS = [gpu.uuid for gpu in INVENTORY.devices]


@pytest.fixture
async def stub(kubelet: Kubelet) -> AsyncIterator[rpc.DevicePluginStub]:
    """The plugin as a kubelet calls it, over its socket."""
    task = asyncio.create_task(
        keep_registered(Plugin(GPU_RESOURCE, SERVED), kubelet.folder, OwnSockets(kubelet.folder)),
        name="plugin",
    )
    await asyncio.wait_for(kubelet.registered.get(), 60)
    assert kubelet.plugin is not None
    yield kubelet.plugin
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def allocate(*containers: list[str]) -> pb.AllocateRequest:
    return pb.AllocateRequest(
        container_requests=[pb.ContainerAllocateRequest(devices_ids=ids) for ids in containers]
    )


def preference(available: list[str], must: list[str], size: int) -> pb.PreferredAllocationRequest:
    return pb.PreferredAllocationRequest(
        container_requests=[
            pb.ContainerPreferredAllocationRequest(
                available_deviceIDs=available, must_include_deviceIDs=must, allocation_size=size
            )
        ]
    )


async def test_allocate_hands_over_exactly_what_was_asked_for(stub: rpc.DevicePluginStub) -> None:
    response = await stub.Allocate(allocate([UUIDS[5], UUIDS[2]], [UUIDS[7]]))
    first, second = response.container_responses
    visible = f"{UUIDS[2]},{UUIDS[5]}"
    assert dict(first.envs) == {
        "NVIDIA_VISIBLE_DEVICES": visible,
        "CUDA_VISIBLE_DEVICES": visible,
        "GPUYARD_SIMULATED": "1",
    }
    assert [(d.container_path, d.host_path, d.permissions) for d in first.devices] == [
        ("/dev/nvidia2", "/dev/null", "rw"),
        ("/dev/nvidia5", "/dev/null", "rw"),
    ]
    assert second.envs["NVIDIA_VISIBLE_DEVICES"] == UUIDS[7]


@pytest.mark.parametrize("ids", [["GPU-unknown"], [UUIDS[0], UUIDS[0]]])
async def test_allocate_refuses_what_it_does_not_have(stub: rpc.DevicePluginStub, ids: list[str]) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.Allocate(allocate(ids))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_repeated_answer_is_of_the_gpus_now_and_in_any_order() -> None:
    plugin = Plugin(GPU_RESOURCE, SERVED)

    async def paths(*ids: str) -> list[str]:
        answer = await plugin.Allocate(allocate(list(ids)), None)
        return [node.container_path for node in answer.container_responses[0].devices]

    before = await paths(UUIDS[5], UUIDS[2])
    assert before == await paths(UUIDS[2], UUIDS[5]) == ["/dev/nvidia2", "/dev/nvidia5"]
    moved = [
        replace(gpu, nodes=tuple(replace(node, path=f"{node.path}-new") for node in gpu.nodes))
        for gpu in INVENTORY.devices
    ]
    plugin.update(serve(replace(INVENTORY, devices=tuple(moved))))
    assert await paths(UUIDS[5], UUIDS[2]) == ["/dev/nvidia2-new", "/dev/nvidia5-new"]


async def test_no_two_answers_have_one_key_of_annotations() -> None:
    lists = frozenset({DeviceList.CDI_ANNOTATIONS})
    plugin = Plugin(GPU_RESOURCE, SERVED, handover=replace(PLAIN, lists=lists))
    answers = [await plugin.Allocate(allocate(UUIDS[:1]), None) for _ in range(2)]
    one, other = (set(answer.container_responses[0].annotations) for answer in answers)
    assert one and other and not one & other


async def test_preference_keeps_islands_whole(stub: rpc.DevicePluginStub) -> None:
    response = await stub.GetPreferredAllocation(preference(UUIDS[2:], [], 4))
    assert list(response.container_responses[0].deviceIDs) == UUIDS[4:]


async def test_an_impossible_preference_is_an_invalid_argument(stub: rpc.DevicePluginStub) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.GetPreferredAllocation(preference(UUIDS[:2], [], 3))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_pre_start_is_harmless(stub: rpc.DevicePluginStub) -> None:
    answer = await stub.PreStartContainer(pb.PreStartContainerRequest(devices_ids=UUIDS[:1]))
    assert answer == pb.PreStartContainerResponse()


async def test_a_start_on_a_gpu_that_can_not_be_used_is_refused_where_starts_are_checked(
    kubelet: Kubelet,
) -> None:
    sick = serve(INVENTORY.with_health({UUIDS[3]: Health("XID 79")}))
    plugin = Plugin(GPU_RESOURCE, sick, handover=replace(PLAIN, checks_starts=True))
    task = asyncio.create_task(
        keep_registered(plugin, kubelet.folder, OwnSockets(kubelet.folder)), name="plugin"
    )
    try:
        request = await asyncio.wait_for(kubelet.registered.get(), 60)
        assert request.options.pre_start_required and kubelet.plugin is not None
        await kubelet.plugin.PreStartContainer(pb.PreStartContainerRequest(devices_ids=UUIDS[:2]))
        for ids, why in ((UUIDS[2:4], "can't be used: XID 79"), (["GPU-7"], "isn't there any more")):
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await kubelet.plugin.PreStartContainer(pb.PreStartContainerRequest(devices_ids=ids))
            assert refused.value.code() is grpc.StatusCode.FAILED_PRECONDITION
            assert why in (refused.value.details() or "")
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_what_is_too_large_or_no_message_ends_that_call_alone(
    stub: rpc.DevicePluginStub, kubelet: Kubelet, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await stub.Allocate(allocate(["GPU-" + "x" * (5 << 20)]))
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    (socket,) = kubelet.folder.glob("gpuyard-*.sock")
    async with grpc.aio.insecure_channel(f"unix:{socket}") as channel:
        raw: Any = channel.unary_unary("/v1beta1.DevicePlugin/Allocate")
        with pytest.raises(grpc.aio.AioRpcError):
            await raw(b"\xff" * 100)
    assert "DecodeError" in caplog.text and "Traceback" not in caplog.text
    response = await stub.Allocate(allocate(UUIDS[:1]))
    assert response.container_responses[0].envs["NVIDIA_VISIBLE_DEVICES"] == UUIDS[0]


@pytest.mark.parametrize(
    "garbage",
    [b"GET / HTTP/1.1\r\n\r\n", b"\0" * 65536, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 65536, b""],
)
async def test_what_speaks_no_grpc_ends_its_own_connection_alone(
    stub: rpc.DevicePluginStub, kubelet: Kubelet, garbage: bytes
) -> None:
    (socket,) = kubelet.folder.glob("gpuyard-*.sock")
    for _ in range(5):
        reader, writer = await asyncio.open_unix_connection(socket)
        with suppress(ConnectionError):  # It may be shut before all is said.
            writer.write(garbage)
            writer.write_eof()
            async with asyncio.timeout(60):
                await reader.read()
        writer.close()
    response = await stub.Allocate(allocate(UUIDS[:1]))
    assert response.container_responses[0].envs["NVIDIA_VISIBLE_DEVICES"] == UUIDS[0]


@pytest.mark.parametrize(
    "ids", [[f"GPU-{number}" for number in range(10_000)], UUIDS * 1250, ["", "::", "\0"]]
)
async def test_ten_thousand_ids_are_refused_in_few_words(stub: rpc.DevicePluginStub, ids: list[str]) -> None:
    for answer in (
        stub.Allocate(allocate(ids)),
        stub.GetPreferredAllocation(preference(ids, ids[:1], len(ids) + 1)),
        stub.GetPreferredAllocation(preference(UUIDS, [*ids, "GPU-7"], 8)),
        stub.GetPreferredAllocation(preference(UUIDS, [], -1)),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await answer
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert len(refused.value.details() or "") < 1000


def test_numa_node_is_the_topology() -> None:
    gpus = (INVENTORY.devices[0], replace(INVENTORY.devices[7], numa_node=None))
    near, nowhere = describe(serve(Inventory(Backend.NVML, devices=gpus)).devices).devices
    assert [node.ID for node in near.topology.nodes] == [0]
    assert not nowhere.HasField("topology")
