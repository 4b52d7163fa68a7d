import asyncio
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager, closing
from pathlib import Path

import pynvml
import pytest

from gpuyard import errors
from gpuyard.devices.health import Pace
from gpuyard.devices.nvml.activity import ActivityMeter
from gpuyard.devices.nvml.backend import NvmlBackend
from gpuyard.devices.nvml.library import Nvml
from gpuyard.devices.nvml.readings import read_all, read_processes
from gpuyard.devices.readings import GpuProcess, Reading
from tests.unit.devices.conftest import SOURCE
from tests.waiting import until_async

Stub = Callable[..., Path]

GPU = [f"GPU-00000000-0000-0000-0000-{index:012d}" for index in range(4)]
CALLS = re.findall(r"^int (nvml\w+)\(", SOURCE.with_name("nvml_readings.h").read_text(), re.MULTILINE)
CODES = sorted({
    value for name, value in vars(pynvml).items() if name.startswith("NVML_ERROR_") and isinstance(value, int)
} | {77})  # fmt: skip
HANGS = -1


@pytest.fixture
def faults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NVML_STUB_FAULTS", str(tmp_path / "faults"))
    return tmp_path / "faults"


@pytest.fixture
def processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NVML_STUB_PROCESSES", str(tmp_path / "processes"))
    return tmp_path / "processes"


def read(root: Path, uuid: str = GPU[1]) -> Reading:
    with closing(Nvml.open(root)):
        return read_all([uuid], ActivityMeter())[uuid]


def test_all_that_a_driver_of_today_says(nvml_stub: Stub) -> None:
    assert read(nvml_stub()) == Reading(
        utilisation_percent=91,
        memory_busy_percent=41,
        encoder_percent=11,
        decoder_percent=12,
        memory_used_mib=1000,
        memory_free_mib=81559 - 1500,
        memory_reserved_mib=500,
        temperature_c=61,
        memory_temperature_c=71,
        temperature_limit_c=87,
        power_w=512.346,
        energy_mj=123456789,
        sm_clock_mhz=1980,
        memory_clock_mhz=2619,
        pcie_replays=7,
        correctable_remapped_rows=0,
        uncorrectable_remapped_rows=0,
        row_remap_failed=False,
        throttle_reasons=("sw_power_cap", "hw_thermal_slowdown"),
        vgpu_licensed=False,
    )


def test_a_virtual_gpu_says_whether_it_has_its_license(
    nvml_stub: Stub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NVML_STUB_LICENSES", "2")
    assert read(nvml_stub()).vgpu_licensed is True


@pytest.mark.parametrize(("margin", "limit"), [("", None), ("27", 61 + 26 + 2)])
def test_where_no_threshold_is_told_the_margin_tells_the_limit(
    nvml_stub: Stub, monkeypatch: pytest.MonkeyPatch, margin: str, limit: int | None
) -> None:
    monkeypatch.setenv("NVML_STUB_NOT_SUPPORTED", "nvmlDeviceGetTemperatureThreshold")
    if margin:
        monkeypatch.setenv("NVML_STUB_MARGIN", margin)
    assert read(nvml_stub()).temperature_limit_c == limit


def test_a_driver_of_2018_says_less(nvml_stub: Stub, processes: Path) -> None:
    processes.write_text("1 compute 4711 20 -1\n")
    # In a process of its own: a library of the same SONAME is loaded once per process.
    script = (
        "import sys; from pathlib import Path; from gpuyard.devices.nvml.library import Nvml\n"
        "from gpuyard.devices.nvml.activity import ActivityMeter\n"
        "from gpuyard.devices.nvml.readings import read_all, read_processes\n"
        "Nvml.open(Path(sys.argv[1])); meter, uuids = ActivityMeter(), sys.argv[2:]\n"
        "read_all(uuids, meter); print(read_all(uuids, meter), read_processes(uuids))"
    )
    root = nvml_stub("-DOLD_DRIVER")
    shown = subprocess.check_output([sys.executable, "-c", script, str(root), GPU[1]], text=True)
    reading = Reading(
        utilisation_percent=91,
        memory_busy_percent=41,
        memory_used_mib=0,
        memory_free_mib=81559,
        temperature_c=61,
        temperature_limit_c=87,
        power_w=512.346,
        sm_clock_mhz=1980,
        memory_clock_mhz=2619,
        pcie_replays=7,
        throttle_reasons=("sw_power_cap",),
    )
    opened = {GPU[1]: (GpuProcess(4711, 20, "compute"),)}
    assert shown.strip() == f"{ {GPU[1]: reading} } {opened}"


@pytest.mark.parametrize("function", CALLS)
def test_a_getter_that_fails_leaves_its_value_out(nvml_stub: Stub, faults: Path, function: str) -> None:
    root, meter = nvml_stub(), ActivityMeter()
    with closing(Nvml.open(root)):
        whole = read_all(GPU, meter)
        assert set(whole) == set(GPU)
        for code in CODES:
            faults.write_text(f"{function} {code}\n")
            found = read_all(GPU, meter)
            assert set(found) == set(read_processes(GPU)) == set(GPU)
            assert found[GPU[0]].temperature_c in {60, None}
        faults.unlink()
        meter.keep(())
    assert whole[GPU[0]].temperature_c == 60


def test_processes_of_every_kind_are_told_once(nvml_stub: Stub, processes: Path) -> None:
    processes.write_text(
        "1 compute 4711 21504 -1\n1 compute 4712 -1 3\n1 mps 4713 64 0\n"
        "1 graphics 900 12 0\n1 graphics 4711 21504 0\n2 compute 8 1 -1\n"
    )
    with closing(Nvml.open(nvml_stub())):
        assert read_processes([GPU[1]]) == {
            GPU[1]: (
                GpuProcess(4711, 21504, "compute"),
                GpuProcess(4712, None, "compute", gi_id=3),
                GpuProcess(4713, 64, "compute"),
                GpuProcess(900, 12, "graphics"),
            )
        }


def test_a_lost_gpu_has_no_reading(nvml_stub: Stub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = nvml_stub()
    monkeypatch.setenv("NVML_STUB_LOST", str(tmp_path / "lost"))
    (tmp_path / "lost").write_text("2\n")
    with closing(Nvml.open(root)):
        assert set(read_all(GPU, ActivityMeter())) == set(read_processes(GPU)) == set(GPU) - {GPU[2]}


def test_a_driver_that_is_gone_says_nothing_at_all(nvml_stub: Stub, faults: Path) -> None:
    with closing(Nvml.open(nvml_stub())):
        faults.write_text(f"* {pynvml.NVML_ERROR_DRIVER_NOT_LOADED}\n")
        with pytest.raises(errors.DriverGone):
            read_all(GPU, ActivityMeter())
        with pytest.raises(errors.DriverGone):
            read_processes(GPU)


@asynccontextmanager
async def following(root: Path, call_limit_s: float | None = None) -> AsyncIterator[NvmlBackend]:
    pace = Pace(quiet_s=0.05, probe_s=0.01, wait_s=0.01, gone_s=0.01, look_again_s=0.05)
    backend = NvmlBackend(root, Path("/nonexistent"), pace=pace, call_limit_s=call_limit_s)
    inventories = backend.inventories()

    async def follow() -> None:
        async with aclosing(inventories):
            async for _ in inventories:
                pass

    task = asyncio.create_task(follow(), name="follow")
    try:
        yield backend
    finally:
        task.cancel()
        await asyncio.wait([task])


async def test_the_backend_reads_while_it_follows_the_gpus(nvml_stub: Stub) -> None:
    backend = NvmlBackend(nvml_stub(), Path("/nonexistent"))
    assert (await backend.readings(), await backend.processes()) == ({}, {})
    async with following(nvml_stub()) as backend:
        found = await until_async(backend.readings, "readings")
        assert [found[uuid].temperature_c for uuid in GPU] == [60, 61, 62, 63]
        assert set(await backend.processes()) == set(GPU)
        second = await backend.readings()
        assert second[GPU[2]].engine_active == 0.03


async def test_every_xid_counts_also_the_applications_own_and_of_a_gpu_that_is_lost(
    nvml_stub: Stub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = nvml_stub()
    monkeypatch.setenv("NVML_STUB_EVENTS", str(tmp_path / "events"))
    monkeypatch.setenv("NVML_STUB_LOST", str(tmp_path / "lost"))
    (tmp_path / "events").write_text("1 8 13\n1 8 79\n1 8 13\n0 2 0\n")
    async with following(root) as backend:
        found = await until_async(
            backend.readings,
            "XIDs",
            lambda found: GPU[1] in found and sum(found[GPU[1]].xids.values()) == 3,
        )
        assert (found[GPU[1]].xids, found[GPU[1]].last_xid) == ({13: 2, 79: 1}, 13)
        assert (found[GPU[1]].temperature_c, found[GPU[0]].xids) == (61, {})
        (tmp_path / "lost").write_text("1\n")
        assert (await backend.readings())[GPU[1]] == Reading(xids={13: 2, 79: 1}, last_xid=13)


async def test_a_driver_that_hangs_in_a_reading_keeps_nobody(nvml_stub: Stub, faults: Path) -> None:
    async with following(nvml_stub(), call_limit_s=0.1) as backend:
        await until_async(backend.readings, "readings")
        faults.write_text(f"nvmlDeviceGetPowerUsage {HANGS}\n")
        assert await backend.readings() == {}
        assert await backend.readings() == {}
        faults.unlink()
        assert set(await until_async(backend.readings, "readings again")) == set(GPU)
