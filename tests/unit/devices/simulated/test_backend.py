import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path

import pytest

from gpuyard import errors
from gpuyard.devices.inventory import DeviceNode, Inventory, Mig, PcieLevel
from gpuyard.devices.readings import Reading
from gpuyard.devices.simulated.backend import SimulatedBackend
from gpuyard.devices.simulated.simulation import parse_simulation, simulate
from tests.waiting import until_async


def made(text: str, seed: str = "node") -> Inventory:
    return simulate(parse_simulation(text), seed=seed)


def nvlinks(inventory: Inventory, one: int, other: int) -> int:
    return inventory.link(inventory.devices[one].uuid, inventory.devices[other].uuid).nvlinks


def test_everything_that_names_a_gpu_says_simulated() -> None:
    inventory = made("H100:2")
    assert inventory.simulated
    gpu = inventory.devices[1]
    assert (gpu.product, gpu.model) == ("Simulated NVIDIA H100 80GB HBM3", "H100")
    assert (gpu.memory_mib, gpu.compute_capability) == (81559, (9, 0))
    assert gpu.nodes == (DeviceNode("/dev/nvidia1", "/dev/null"),)


def test_ids_are_stable_and_differ_between_nodes() -> None:
    assert made("H100:8") == made("H100:8")
    ids = {gpu.uuid for seed in "ab" for gpu in made("H100:8", seed).devices}
    assert len(ids) == 16


def test_switched_boards_form_islands_of_eight() -> None:
    inventory = made("H100:16")
    assert nvlinks(inventory, 0, 7) == 18
    assert nvlinks(inventory, 7, 8) == 0


def test_older_boards_form_islands_of_four() -> None:
    inventory = made("V100:8")
    assert nvlinks(inventory, 0, 3) == 2
    assert nvlinks(inventory, 3, 4) == 0


def test_boards_without_nvlink_have_none() -> None:
    inventory = made("L4:8")
    assert {link.nvlinks for link in inventory.links.values()} == {0}
    near, far = inventory.devices[1].uuid, inventory.devices[5].uuid
    assert inventory.link(inventory.devices[0].uuid, near).pcie is PcieLevel.HOST_BRIDGE
    assert inventory.link(inventory.devices[0].uuid, far).pcie is PcieLevel.DIFFERENT_CPU


@pytest.mark.parametrize(
    ("text", "shown"), [("H100:8", "H100:8"), ("h100", "H100:1"), ("nvidia-l4:64", "L4:64")]
)
def test_spellings(text: str, shown: str) -> None:
    assert str(parse_simulation(text)) == shown


@pytest.mark.parametrize(
    "text", ["", "H100:", "H100:0", "H100:65", "H100:-1", "H100:x", "H100:²", "8", "H1000:2"]
)
def test_what_cannot_be_simulated_is_refused_with_a_remedy(text: str) -> None:
    with pytest.raises(errors.UsageError, match="can't simulate") as caught:
        parse_simulation(text)
    assert caught.value.remedy


def changes(simulation: str, control: Path) -> AsyncGenerator[Inventory, None]:
    return SimulatedBackend(parse_simulation(simulation), seed="node", control=control).inventories()


async def test_control_file_changes_health(tmp_path: Path) -> None:
    control = tmp_path / "health.json"
    async with aclosing(changes("H100:2", control)) as inventories:
        inventory = await anext(inventories)
        assert [gpu.health.ok for gpu in inventory.devices] == [True, True]
        control.write_text(json.dumps({"unhealthy": {inventory.devices[0].uuid: "XID 79"}}))
        inventory = await asyncio.wait_for(anext(inventories), 60)
        assert [gpu.health.reason for gpu in inventory.devices] == ["XID 79", ""]
        since = inventory.devices[0].health.since
        control.write_text(json.dumps({"unhealthy": {"0": "XID 79", "1": "lost"}}))
        inventory = await asyncio.wait_for(anext(inventories), 60)
        assert [gpu.health.reason for gpu in inventory.devices] == ["XID 79", "lost"]
        assert inventory.devices[0].health.since == since
        control.unlink()
        inventory = await asyncio.wait_for(anext(inventories), 60)
        assert [gpu.health.ok for gpu in inventory.devices] == [True, True]


async def test_the_control_file_splits_gpus(tmp_path: Path) -> None:
    control = tmp_path / "state.json"
    async with aclosing(changes("H100:2", control)) as inventories:
        whole = await anext(inventories)
        assert [gpu.mig for gpu in whole.devices] == [Mig(), Mig()]
        control.write_text('{"mig": {"1": ["3g.40gb@4", "1g.10gb@0"]}, "unhealthy": {"1": "XID 79"}}')
        first, second = (await asyncio.wait_for(anext(inventories), 60)).devices
        assert first.mig == Mig()
        assert second.mig is not None
        assert second.mig.enabled
        assert [part.profile for part in second.mig.instances] == ["3g.40gb", "1g.10gb"]
        assert {part.health.reason for part in second.mig.instances} == {"XID 79"}
        control.write_text("{}")
        assert await asyncio.wait_for(anext(inventories), 60) == whole


async def test_a_broken_control_file_breaks_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    control = tmp_path / "health.json"
    control.write_text("{")
    async with aclosing(changes("H100:2", control)) as inventories:
        assert all(gpu.health.ok for gpu in (await anext(inventories)).devices)
    assert str(control) in caplog.text


async def test_readings_follow_what_is_allotted_and_what_fails(tmp_path: Path) -> None:
    control = tmp_path / "health.json"
    backend = SimulatedBackend(parse_simulation("H100:3"), seed="node", control=control)
    assert await backend.readings() == {}
    async with aclosing(backend.inventories()) as inventories:
        uuids = [gpu.uuid for gpu in (await anext(inventories)).devices]
        assert [each.last_xid for each in (await backend.readings()).values()] == [0, 0, 0]
        await until_async(
            lambda: backend.readings([uuids[0]]),
            "a busy GPU",
            lambda found: (found[uuids[0]].memory_used_mib or 0) > 0,
        )
        assert set(await backend.processes()) == set(uuids)
        control.write_text(json.dumps({"unhealthy": {"1": "XID 48", "2": "XID 79"}}))
        await anext(inventories)
        found = await backend.readings()
    assert [dict(found[uuid].xids) for uuid in uuids] == [{}, {48: 1}, {79: 1}]
    assert found[uuids[1]].memory_used_mib == 0
    assert set(await backend.processes()) == set(uuids[:2])
    assert found[uuids[2]] == Reading(xids={79: 1}, last_xid=79), "it doesn't answer"


async def test_a_control_file_that_cannot_be_looked_at_ends_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    backend = SimulatedBackend(
        parse_simulation("H100:2"), seed="node", control=tmp_path / "file" / "health.json"
    )
    async with aclosing(backend.inventories()) as inventories:
        assert len((await anext(inventories)).devices) == 2
