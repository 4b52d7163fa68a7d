import json
import os
from typing import Any

import pytest

from gpuyard import errors

from .conftest import Node, wait_for_devices

OTHER = "example.com/other"
_ALLOCATION: dict[str, Any] = {
    "device_ids": {}, "envs": {}, "devices": [], "mounts": [], "cdi_devices": [], "annotations": {},
}  # fmt: skip
_WHOLE: dict[str, Any] = {
    "pod_uid": "u", "namespace": "ns", "pod": "p", "container": "c", "reusable": False, "numa_nodes": {},
    "allocation": _ALLOCATION,
}  # fmt: skip


async def test_a_new_manager_knows_who_holds_what(node: Node) -> None:
    async with node.manager() as manager:
        plugin = await node.plugin(a=True, b=True, c=True)
        await plugin.register()
        await wait_for_devices(manager, 3, 3)
        first = await manager.allocate("u", "ns", "p", "c", {OTHER: 2}, reusable=True)
        assignments = manager.assignments()
    await plugin.stop()
    async with node.manager() as manager:
        # Before the plugin is back, too.
        assert manager.assignments() == assignments
        assert await manager.allocate("u", "ns", "p", "c", {OTHER: 2}) == first
        await plugin.serve()
        await plugin.register()
        await wait_for_devices(manager, 3, 3)
        second = await manager.allocate("v", "ns", "q", "c", {OTHER: 1})
        assert second.device_ids == {OTHER: ("c",)}


async def test_what_was_freed_while_nobody_ran_is_free(node: Node) -> None:
    async with node.manager() as manager:
        plugin = await node.plugin(a=True)
        await plugin.register()
        await wait_for_devices(manager, 1, 1)
        await manager.allocate("u", "ns", "p", "c", {OTHER: 1})
    async with node.manager() as manager:
        await manager.retain([])
        assert manager.assignments() == ()
    async with node.manager() as manager:
        assert manager.assignments() == ()


async def test_the_answer_is_on_the_disk_before_it_is_given(node: Node) -> None:
    async with node.manager() as manager:
        plugin = await node.plugin(a=True)
        await plugin.register()
        await wait_for_devices(manager, 1, 1)
        await manager.allocate("u", "ns", "p", "c", {OTHER: 1})
        raw = json.loads(node.checkpoint.read_text())
        assert [one["pod_uid"] for one in raw["assignments"]] == ["u"]
        assert os.stat(node.checkpoint).st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"[]",
        b'{"version": 2, "assignments": []}',
        b'{"version": 1, "assignments": [{}]}',
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"version": 1, "assignments": {"a": 1}}',
        json.dumps({"version": 1, "assignments": [{**_WHOLE, "namespace": ["a"]}]}).encode(),
        json.dumps({"version": 1, "assignments": [{**_WHOLE, "numa_nodes": {"a": [1e400]}}]}).encode(),
        json.dumps(
            {"version": 1, "assignments": [{**_WHOLE, "allocation": {**_ALLOCATION, "envs": {"A": 1}}}]}
        ).encode(),
    ],
)
async def test_a_damaged_checkpoint_is_moved_aside(
    node: Node, text: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    node.checkpoint.write_bytes(text)
    async with node.manager() as manager:
        assert manager.assignments() == ()
    aside = node.folder / "devices.json.damaged-20260102T000000Z"
    assert aside.read_bytes() == text
    assert str(aside) in caplog.text


async def test_what_a_lost_checkpoint_knew_is_not_given_out_again(node: Node) -> None:
    async with node.manager() as manager:
        plugin = await node.plugin(a=True, b=True)
        await plugin.register()
        await wait_for_devices(manager, 2, 2)
        manager.recover("u", "ns", "p", "c", {OTHER: ("a",)})
        assert (await manager.allocate("v", "ns", "q", "c", {OTHER: 1})).device_ids == {OTHER: ("b",)}
        # Its next start gets what the plugin says of the same device.
        again = await manager.allocate("u", "ns", "p", "c", {OTHER: 1})
        assert (again.device_ids, again.envs) == ({OTHER: ("a",)}, {"OTHER": "a"})
        manager.recover("u", "ns", "p", "c", {OTHER: ("b",)})
        assert await manager.allocate("u", "ns", "p", "c", {OTHER: 1}) == again


async def test_a_checkpoint_that_cannot_be_written_assigns_nothing(node: Node) -> None:
    async with node.manager() as manager:
        plugin = await node.plugin(a=True)
        await plugin.register()
        await wait_for_devices(manager, 1, 1)
        node.checkpoint.mkdir()
        with pytest.raises(errors.DeviceError, match="can't write the device checkpoint"):
            await manager.allocate("u", "ns", "p", "c", {OTHER: 1})
        assert manager.assignments() == ()
        node.checkpoint.rmdir()
        assert (await manager.allocate("v", "ns", "q", "c", {OTHER: 1})).device_ids == {OTHER: ("a",)}


async def test_a_fifo_in_the_place_of_the_checkpoint_is_named(node: Node) -> None:
    os.mkfifo(node.checkpoint)
    with pytest.raises(errors.DeviceError, match="it isn't a regular file") as caught:
        async with node.manager():
            pass
    assert f"remove {node.checkpoint}" in caught.value.remedy
