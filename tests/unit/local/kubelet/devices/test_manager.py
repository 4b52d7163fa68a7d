import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gpuyard import errors
from gpuyard.local.kubelet.devices.checkpoint import DeviceMount, DeviceSpec
from gpuyard.local.kubelet.devices.manager import ContainerAllocation, DeviceManager
from gpuyard.local.kubelet.devices.plugin_client import PluginClient

from .conftest import Node, wait_for_devices

OTHER = "example.com/other"
GPU = "nvidia.com/gpu"


async def take(manager: DeviceManager, pod: str, count: int, container: str = "c", **more: Any) -> list[str]:
    allocation = await manager.allocate(f"uid-{pod}", "ns", pod, container, {OTHER: count}, **more)
    return list(allocation.device_ids[OTHER])


async def test_passes_on_everything_that_the_plugin_says(node: Node) -> None:
    async with node.manager() as manager:
        plugin = await node.plugin(a=True, b=True)
        await plugin.register()
        await wait_for_devices(manager, 2, 2)
        assert await manager.allocate("u", "ns", "p", "c", {OTHER: 1}) == ContainerAllocation(
            device_ids={OTHER: ("a",)},
            envs={"OTHER": "a"},
            devices=(DeviceSpec("/dev/a", "/dev/null", "r"),),
            mounts=(DeviceMount("/opt/other", "/tmp", True),),
            cdi_devices=("example.com/other=a",),
            annotations={"other": "yes"},
        )


async def test_the_same_container_has_the_same_answer(node: Node) -> None:
    async with node.manager() as manager:
        plugin = await node.plugin(a=True, b=True)
        await plugin.register()
        await wait_for_devices(manager, 2, 2)
        first = await manager.allocate("u", "ns", "p", "c", {OTHER: 1})
        assert await manager.allocate("u", "ns", "p", "c", {OTHER: 1}) == first
        assert plugin.allocated == [["a"]]


async def test_concurrent_containers_never_share_a_device(node: Node) -> None:
    async with node.manager() as manager:
        plugin = await node.plugin(
            "example.com/other", "other.sock", **{f"d{number:02}": True for number in range(20)}
        )
        await plugin.register()
        await wait_for_devices(manager, 20, 20)
        plugin.gate.clear()
        tasks = [asyncio.create_task(take(manager, f"p{number}", 3)) for number in range(8)]
        await asyncio.wait_for(plugin.waiting.wait(), 60)
        plugin.gate.set()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        taken = [one for answer in answers if isinstance(answer, list) for one in answer]
        assert len(taken) == len(set(taken)) == 18
        refused = [answer for answer in answers if isinstance(answer, errors.DeviceError)]
        assert len(refused) == 2
        assert "needs 3, 2 free (20 known, 20 healthy, 18 of them assigned)" in refused[0].message


async def test_unhealthy_devices_are_not_given_out(node: Node) -> None:
    async with node.manager() as manager:
        plugin = await node.plugin(a=False, b=True)
        await plugin.register()
        await wait_for_devices(manager, 2, 1)
        assert await take(manager, "p", 1) == ["b"]
        with pytest.raises(errors.DeviceError, match="needs 1, 0 free"):
            await take(manager, "q", 1)


async def test_a_device_that_falls_ill_stays_with_its_container(node: Node) -> None:
    async with node.manager() as manager:
        plugin = await node.plugin(a=True, b=True)
        await plugin.register()
        await wait_for_devices(manager, 2, 2)
        assert await take(manager, "p", 1) == ["a"]
        plugin.show(a=False)
        await wait_for_devices(manager, 2, 1)
        assert await take(manager, "p", 1) == ["a"]
        assert await take(manager, "q", 1) == ["b"]


async def test_release_and_retain_free_devices(node: Node) -> None:
    async with node.manager() as manager:
        plugin = await node.plugin(a=True, b=True)
        await plugin.register()
        await wait_for_devices(manager, 2, 2)
        assert await take(manager, "p", 1) == ["a"]
        assert await take(manager, "q", 1) == ["b"]
        await manager.release("uid-p")
        await manager.release("uid-nobody")
        assert await take(manager, "r", 1) == ["a"]
        await manager.retain(["uid-r"])
        assert await take(manager, "s", 1) == ["b"]
        assert [one.pod for one in manager.assignments()] == ["r", "s"]


async def test_prefers_what_the_plugin_prefers(node: Node) -> None:
    async with node.manager() as manager:
        plugin = await node.plugin(a=True, b=True, c=True, d=True)
        plugin.preferred = ["d", "b"]
        await plugin.register()
        await wait_for_devices(manager, 4, 4)
        assert await take(manager, "p", 2) == ["b", "d"]
        assert plugin.prefer_calls == [(["a", "b", "c", "d"], [], 2)]
        # What can't be had of the preference is filled up.
        assert await take(manager, "q", 1) == ["a"]


async def test_the_same_wish_twice_is_one_device(node: Node) -> None:
    async with node.manager() as manager:
        plugin = await node.plugin(a=True, b=True, c=True)
        plugin.preferred = ["c", "c", "unknown"]
        await plugin.register()
        await wait_for_devices(manager, 3, 3)
        assert await take(manager, "p", 2) == ["a", "c"]


async def test_init_containers_leave_their_devices_to_the_pod(node: Node) -> None:
    async with node.manager() as manager:
        plugin = await node.plugin(a=True, b=True, c=True, d=True)
        plugin.preferred = []
        await plugin.register()
        await wait_for_devices(manager, 4, 4)
        assert await take(manager, "p", 2, "init-1", reusable=True) == ["a", "b"]
        assert await take(manager, "p", 1, "init-2", reusable=True) == ["a"]
        assert await take(manager, "q", 1) == ["c"]
        assert await take(manager, "p", 1, "main") == ["a"]
        assert await take(manager, "p", 2, "side") == ["b", "d"]
        assert plugin.prefer_calls[-1] == (["a", "b", "d"], ["a"], 1)
        with pytest.raises(errors.DeviceError):
            await take(manager, "r", 1)


async def test_a_refusal_of_the_plugin_assigns_nothing(node: Node) -> None:
    async with node.manager() as manager:
        plugin = await node.plugin(a=True)
        await plugin.register()
        await wait_for_devices(manager, 1, 1)
        plugin.refuse = True
        with pytest.raises(errors.DeviceError, match="the plugin says no"):
            await take(manager, "p", 1)
        assert manager.assignments() == ()
        plugin.refuse = False
        assert await take(manager, "q", 1) == ["a"]


async def test_one_resource_that_fails_assigns_none_of_the_others(node: Node) -> None:
    async with node.manager() as manager:
        plugin = await node.plugin(a=True)
        await plugin.register()
        await wait_for_devices(manager, 1, 1)
        with pytest.raises(errors.DeviceError, match=r"no device plugin serves example\.com/zebra"):
            await manager.allocate("u", "ns", "p", "c", {OTHER: 1, "example.com/zebra": 1})
        assert await take(manager, "q", 1) == ["a"]


async def test_nothing_asked_nothing_given(node: Node) -> None:
    async with node.manager() as manager:
        assert await manager.allocate("u", "ns", "p", "c", {GPU: 0}) == ContainerAllocation()
        assert manager.assignments() == ()


async def test_a_container_without_devices_waits_for_no_plugin(node: Node) -> None:
    async with node.manager() as manager:
        plugin = await node.plugin(a=True)
        await plugin.register()
        await wait_for_devices(manager, 1, 1)
        plugin.gate.clear()
        hanging = asyncio.create_task(take(manager, "p", 1))
        await plugin.waiting.wait()
        assert await manager.allocate("u", "ns", "q", "c", {}) == ContainerAllocation()
        assert not hanging.done()
        plugin.gate.set()
        assert await hanging == ["a"]


async def test_a_plugin_that_wants_to_know_of_each_start_is_told(node: Node) -> None:
    async with node.manager() as manager:
        plugin = await node.plugin(a=True)
        plugin.pre_start = True
        await plugin.register()
        await wait_for_devices(manager, 1, 1)
        await take(manager, "p", 1)
        await take(manager, "p", 1)
        assert plugin.started == [["a"], ["a"]]
        assert plugin.allocated == [["a"]]


async def test_our_agent_hands_over_its_gpus(node: Node) -> None:
    async with node.manager() as manager:
        await node.agent()
        await wait_for_devices(manager, 4, 4, GPU)
        first = await manager.allocate("u", "ns", "p", "c", {GPU: 2})
        second = await manager.allocate("v", "ns", "q", "c", {GPU: 2})
        assert len({*first.device_ids[GPU], *second.device_ids[GPU]}) == 4
        assert sorted(first.envs["CUDA_VISIBLE_DEVICES"].split(",")) == sorted(first.device_ids[GPU])
        assert first.envs["GPUYARD_SIMULATED"] == "1"
        assert {device.host_path for device in first.devices} == {"/dev/null"}


async def test_a_plugin_that_can_not_be_followed_counts_as_gone(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    devices = PluginClient.devices

    async def breaks(self: PluginClient) -> AsyncIterator[Any]:
        async for listed in devices(self):
            yield listed
            raise ValueError("a bug")

    monkeypatch.setattr(PluginClient, "devices", breaks)
    async with node.manager() as manager:
        plugin = await node.plugin(a=True)
        await plugin.register()
        await wait_for_devices(manager, 1, 0)
        with pytest.raises(errors.DeviceError, match="no device plugin serves"):
            await manager.allocate("u", "default", "p", "main", {"example.com/other": 1})
