import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import aclosing, asynccontextmanager, closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from gpuyard.devices.backend import open_backend
from gpuyard.devices.driver_thread import DriverThread
from gpuyard.devices.health import HealthTracker, Pace
from gpuyard.devices.inventory import Absence, Backend, Health
from gpuyard.devices.nvml.health import watch_health
from gpuyard.devices.nvml.library import Nvml
from gpuyard.devices.nvml.presence import Presence

Stub = Callable[..., Path]
Changes = AsyncIterator[Mapping[str, Health]]

XID, DOUBLE_BIT_ECC = 8, 2
NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
GPU = [f"GPU-00000000-0000-0000-0000-{index:012d}" for index in range(4)]


class Driver:
    """What the stub driver is told to report."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._events, self._lost = folder / "events", folder / "lost"
        monkeypatch.setenv("NVML_STUB_EVENTS", str(self._events))
        monkeypatch.setenv("NVML_STUB_LOST", str(self._lost))

    def report(self, index: int, kind: int, data: int) -> None:
        with self._events.open("a") as file:
            file.write(f"{index} {kind} {data}\n")

    def lose(self, *indices: int) -> None:
        self._lost.write_text("".join(f"{index}\n" for index in indices))


@pytest.fixture
def driver(nvml_stub: Stub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Driver:
    nvml_stub()
    return Driver(tmp_path, monkeypatch)


@pytest.fixture
async def nvml(nvml_stub: Stub, driver: Driver) -> AsyncIterator[Nvml]:
    with closing(Nvml.open(nvml_stub())) as nvml:
        yield nvml


@asynccontextmanager
async def watching(nvml: Nvml, quiet_s: float = 30.0, probe_s: float = 5.0) -> AsyncIterator[Changes]:
    thread = DriverThread()
    tracker = HealthTracker(quiet_s, lambda: NOON)
    pace = Pace(quiet_s=quiet_s, probe_s=probe_s)
    changes = watch_health(nvml.inventory().devices, Presence(nvml), thread, tracker, pace)
    async with aclosing(changes):
        yield changes
    thread.end()


async def following(changes: Changes) -> dict[str, str]:
    """The reasons of the next change."""
    found = await asyncio.wait_for(anext(changes), 60)
    assert all(health.since for health in found.values())
    return {uuid: health.reason for uuid, health in found.items()}


async def test_xid_makes_unhealthy_and_quiet_heals(nvml: Nvml, driver: Driver) -> None:
    async with watching(nvml, quiet_s=0.2, probe_s=0.05) as changes:
        driver.report(2, XID, 48)
        assert await following(changes) == {GPU[2]: "XID 48"}
        assert await following(changes) == {}


@pytest.mark.parametrize(
    ("gi_id", "xid", "hit"),
    [
        (2, 94, 0),
        (7, 94, 1),
        (7, 79, None),  # All of a GPU falls off the bus.
        (5, 94, None),  # An instance that isn't known.
        (0, 94, None),  # 0 and 0xFFFFFFFF are the whole GPU.
        (-1, 94, None),
    ],
)
async def test_a_fault_of_an_instance_leaves_its_siblings_alone(
    nvml: Nvml,
    driver: Driver,
    split: None,
    monkeypatch: pytest.MonkeyPatch,
    gi_id: int,
    xid: int,
    hit: int | None,
) -> None:
    monkeypatch.setenv("NVML_STUB_INSTANCE", str(gi_id))
    mig = nvml.inventory().devices[1].mig
    assert mig is not None
    uuid = GPU[1] if hit is None else mig.instances[hit].uuid
    async with watching(nvml, quiet_s=0.2, probe_s=0.05) as changes:
        driver.report(1, XID, xid)
        assert await following(changes) == {uuid: f"XID {xid}"}
        assert await following(changes) == {}


@pytest.fixture
def split(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """GPU 1 has the GPU instances 2 and 7."""
    (tmp_path / "mig").write_text("on 1\ngi 1 9 4 2 3\ngi 1 20 0 7 1\n")
    monkeypatch.setenv("NVML_STUB_MIG", str(tmp_path / "mig"))


async def test_a_gpu_is_too_hot_where_it_switches_itself_off(
    nvml: Nvml, driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The first GPU has this temperature, each other one degree more; the stub's limit is 87 °C.
    monkeypatch.setenv("NVML_STUB_TEMPERATURE", "85")
    async with watching(nvml, quiet_s=0.1, probe_s=0.05) as changes:
        assert await following(changes) == {GPU[2]: "too hot", GPU[3]: "too hot"}
        monkeypatch.setenv("NVML_STUB_TEMPERATURE", "60")
        assert await following(changes) == {}


@pytest.mark.parametrize("without", ["", "nvmlDeviceGetTemperatureThreshold"])
async def test_from_ada_on_the_margin_says_where_it_switches_itself_off(
    nvml: Nvml, driver: Driver, monkeypatch: pytest.MonkeyPatch, without: str
) -> None:
    monkeypatch.setenv("NVML_STUB_NOT_SUPPORTED", without)
    # It goes off 8 °C beyond what it may work at; each other GPU is one degree nearer.
    monkeypatch.setenv("NVML_STUB_MARGIN", "-6")
    async with watching(nvml, quiet_s=0.1, probe_s=0.05) as changes:
        assert await following(changes) == {GPU[2]: "too hot", GPU[3]: "too hot"}
        monkeypatch.setenv("NVML_STUB_MARGIN", "52")
        assert await following(changes) == {}


async def test_a_gpu_whose_node_is_gone_or_closed_is_unhealthy_until_it_is_back(
    nvml: Nvml, driver: Driver, nvml_stub: Stub
) -> None:
    node = nvml_stub() / "dev/nvidia2"
    async with watching(nvml, quiet_s=0.1, probe_s=0.05) as changes:
        node.unlink()
        try:
            assert await following(changes) == {GPU[2]: "device node missing"}
        finally:
            node.touch()
        assert await following(changes) == {}


async def test_faults_of_the_application_are_ignored(nvml: Nvml, driver: Driver) -> None:
    for xid in (13, 31, 43, 45, 68, 109):
        driver.report(0, XID, xid)
    driver.report(1, DOUBLE_BIT_ECC, 0)
    async with watching(nvml, quiet_s=60) as changes:
        assert await following(changes) == {GPU[1]: "uncorrectable ECC error"}


async def test_a_lost_gpu_comes_back(nvml: Nvml, driver: Driver) -> None:
    async with watching(nvml, quiet_s=0.1, probe_s=0.05) as changes:
        driver.lose(0, 3)
        assert await following(changes) == {GPU[0]: "lost", GPU[3]: "lost"}
        driver.lose(3)
        assert await following(changes) == {GPU[3]: "lost"}
        driver.lose()
        assert await following(changes) == {}


async def test_a_lost_gpu_keeps_no_event_of_another_back(nvml: Nvml, driver: Driver) -> None:
    """As long as it is waited for a lost GPU's events, that is all the driver says."""
    async with watching(nvml, quiet_s=60) as changes:
        driver.lose(0)
        assert await following(changes) == {GPU[0]: "lost"}
        driver.report(2, XID, 48)
        assert await following(changes) == {GPU[0]: "lost", GPU[2]: "XID 48"}


async def test_a_gpu_that_is_back_has_events_again(nvml: Nvml, driver: Driver) -> None:
    async with watching(nvml, quiet_s=0.1, probe_s=0.05) as changes:
        driver.lose(0)
        assert await following(changes) == {GPU[0]: "lost"}
        driver.lose()
        assert await following(changes) == {}
        driver.report(0, XID, 48)
        assert await following(changes) == {GPU[0]: "XID 48"}


async def test_a_gpu_that_needs_a_reset_stays_unhealthy(
    nvml: Nvml, driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NVML_STUB_RESET", "1")
    async with watching(nvml, quiet_s=0.2, probe_s=0.05) as changes:
        driver.report(1, XID, 63)
        assert await following(changes) == {GPU[1]: "XID 63"}
        # Once the event is past, what the GPU itself says is the reason.
        assert await following(changes) == {GPU[1]: "row remap pending"}
        # Another GPU's fault comes and goes; the first one is still there.
        driver.report(2, XID, 79)
        assert await following(changes) == {GPU[1]: "row remap pending", GPU[2]: "XID 79"}
        assert await following(changes) == {GPU[1]: "row remap pending"}
        monkeypatch.setenv("NVML_STUB_RESET", "-1")
        assert await following(changes) == {}


async def test_a_driver_without_events_is_asked(
    nvml: Nvml, driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NVML_STUB_NOT_SUPPORTED", "nvmlEventSetCreate")
    async with watching(nvml, probe_s=0.05) as changes:
        driver.lose(1)
        assert await following(changes) == {GPU[1]: "lost"}


async def test_follow_shows_health_with_the_inventory(nvml_stub: Stub, driver: Driver) -> None:
    async with aclosing(
        open_backend(
            None, seed="", control=None, driver_root=nvml_stub(), sys_root=Path("/nonexistent")
        ).inventories()
    ) as inventories:
        first = await anext(inventories)
        assert [gpu.health.ok for gpu in first.devices] == [True] * 4
        driver.report(3, XID, 79)
        second = await asyncio.wait_for(anext(inventories), 60)
        assert [gpu.health.reason for gpu in second.devices] == ["", "", "", "XID 79"]


async def test_follow_looks_again_for_a_driver(
    nvml_stub: Stub, driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NVML_STUB_INIT", "18")
    async with aclosing(
        open_backend(
            None, seed="", control=None, driver_root=nvml_stub(), pace=Pace(look_again_s=0.01)
        ).inventories()
    ) as inventories:
        broken = await anext(inventories)
        assert (broken.backend, broken.absence) == (Backend.NONE, Absence.FAILED)
        assert "reboot" in broken.detail
        monkeypatch.setenv("NVML_STUB_INIT", "0")
        assert len((await asyncio.wait_for(anext(inventories), 60)).devices) == 4
