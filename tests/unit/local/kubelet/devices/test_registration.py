import json

import grpc
import grpc.aio
import pytest

from gpuyard import errors
from gpuyard.local.kubelet.devices.manager import DeviceManager

from .conftest import Node, wait_for_devices


async def test_counts_devices_and_follows_their_health(node: Node) -> None:
    async with node.manager() as manager:
        plugin = await node.plugin(a=True, b=False)
        await plugin.register()
        await wait_for_devices(manager, 2, 1)
        plugin.show(b=True)
        await wait_for_devices(manager, 2, 2)
        plugin.show(a=False)
        await wait_for_devices(manager, 2, 1)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"version": "v1alpha1"}, "v1beta1"),
        ({"resource": "cpu"}, "extended resource"),
        ({"resource": "kubernetes.io/gpu"}, "extended resource"),
        ({"resource": "example.com/"}, "extended resource"),
        ({"resource": "Example.com/gpu"}, "extended resource"),
        ({"resource": "example.com/gpü"}, "extended resource"),
        ({"resource": "requests.example.com/gpu"}, "extended resource"),
        ({"endpoint": "../other.sock"}, "file name"),
        ({"endpoint": ".."}, "file name"),
        ({"endpoint": "kubelet.sock"}, "file name"),
    ],
)
async def test_refuses_a_wrong_registration(node: Node, wrong: dict[str, str], said: str) -> None:
    async with node.manager() as manager:
        plugin = await node.plugin(a=True)
        with pytest.raises(grpc.aio.AioRpcError, match=said) as caught:
            await plugin.register(**wrong)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert manager.resources() == {}


async def test_a_stream_that_ends_leaves_unhealthy_capacity_for_the_grace(node: Node) -> None:
    async with node.manager(grace_s=0.3) as manager:
        plugin = await node.plugin(a=True, b=True)
        await plugin.register()
        await wait_for_devices(manager, 2, 2)
        await plugin.stop()
        await wait_for_devices(manager, 2, 0)
        await wait_for_devices(manager, 0, 0)


async def test_a_plugin_that_is_back_within_the_grace_has_its_devices(node: Node) -> None:
    async with node.manager() as manager:
        plugin = await node.plugin(a=True, b=True)
        await plugin.register()
        await wait_for_devices(manager, 2, 2)
        plugin.end_streams()
        await wait_for_devices(manager, 2, 0)
        await plugin.register()
        await wait_for_devices(manager, 2, 2)


async def test_the_end_of_an_old_stream_does_not_touch_its_successor(node: Node) -> None:
    async with node.manager() as manager:
        old = await node.plugin(a=True, endpoint="old.sock")
        await old.register()
        await wait_for_devices(manager, 1, 1)
        new = await node.plugin(a=True, b=True, endpoint="new.sock")
        await new.register()
        await wait_for_devices(manager, 2, 2)
        await old.stop()
        # Something that comes after the old one's end, on the same loop and the same manager.
        new.show(b=False)
        await wait_for_devices(manager, 2, 1)
        assert (await manager.allocate("u", "ns", "p", "c", {"example.com/other": 1})).device_ids == {
            "example.com/other": ("a",)
        }
        assert (old.allocated, new.allocated) == ([], [["a"]])


async def test_start_removes_stale_sockets(node: Node) -> None:
    async with node.manager():
        plugin = await node.plugin(a=True)
        (node.plugins_dir / "notes").write_text("not a socket")
    async with node.manager() as manager:
        assert sorted(path.name for path in node.plugins_dir.iterdir()) == ["kubelet.sock", "notes"]
        await plugin.stop()
        await plugin.serve()
        await plugin.register()
        await wait_for_devices(manager, 1, 1)


async def test_a_path_that_no_socket_can_have_is_an_error(node: Node) -> None:
    node.plugins_dir = node.folder / ("x" * 100)
    with pytest.raises(errors.DeviceError, match="107 bytes"):
        async with node.manager():
            pass


async def test_our_agent_registers_falls_ill_and_recovers(node: Node) -> None:
    control = node.folder / "health.json"
    async with node.manager() as manager:
        await node.agent("--simulated-health", str(control))
        await wait_for_devices(manager, 4, 4, "nvidia.com/gpu")
        uuids = sorted(manager.devices()["nvidia.com/gpu"])
        for sick, allocatable in ((1, 3), (0, 4), (1, 3), (2, 2), (1, 3), (0, 4)):
            control.write_text(json.dumps({"unhealthy": dict.fromkeys(uuids[:sick], "XID 79")}))
            await wait_for_devices(manager, 4, allocatable, "nvidia.com/gpu")


async def test_our_agent_outlives_the_manager_and_the_manager_the_agent(node: Node) -> None:
    async with node.manager() as manager:
        agent = await node.agent()
        await wait_for_devices(manager, 4, 4, "nvidia.com/gpu")
    async with node.manager(grace_s=0.3) as manager:
        await wait_for_devices(manager, 4, 4, "nvidia.com/gpu")
        agent.kill()
        await wait_for_devices(manager, 4, 0, "nvidia.com/gpu")
        await wait_for_devices(manager, 0, 0, "nvidia.com/gpu")
        await node.agent()
        await wait_for_devices(manager, 4, 4, "nvidia.com/gpu")


async def test_two_resources_live_beside_each_other(node: Node) -> None:
    async with node.manager() as manager:
        first = await node.plugin("example.com/one", "one.sock", a=True)
        second = await node.plugin("example.com/two", "two.sock", a=True, b=True)
        await first.register()
        await second.register()
        await wait_for_devices(manager, 1, 1, "example.com/one")
        await wait_for_devices(manager, 2, 2, "example.com/two")
        await first.stop()
        await wait_for_devices(manager, 1, 0, "example.com/one")
        assert isinstance(manager, DeviceManager)
        allocation = await manager.allocate("u", "ns", "p", "c", {"example.com/two": 2})
        assert allocation.device_ids == {"example.com/two": ("a", "b")}
