"""A driver that fails in every way, at every moment: what was found stays, and comes back."""

import asyncio
import re
import signal
import sys
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager, suppress
from pathlib import Path

import pynvml
import pytest

from gpuyard import errors
from gpuyard.devices.health import Pace
from gpuyard.devices.inventory import Absence, Backend, Inventory
from gpuyard.devices.nvml.backend import NvmlBackend
from gpuyard.devices.nvml.library import Nvml
from tests.unit.devices.conftest import SOURCE
from tests.waiting import until_async

Stub = Callable[..., Path]

GPU = [f"GPU-00000000-0000-0000-0000-{index:012d}" for index in range(4)]
CALLS = re.findall(r"^int (nvml\w+)\(", SOURCE.read_text(), re.MULTILINE)
#: What is asked of GPUs that are there already.
WATCHED = [
    "nvmlDeviceGetCount_v2",
    "nvmlDeviceGetHandleByIndex_v2",
    "nvmlDeviceGetUUID",
    "nvmlDeviceGetTemperature",
    "nvmlDeviceGetTemperatureThreshold",
    "nvmlDeviceGetHandleByUUID",
    "nvmlDeviceGetPciInfo_v3",
    "nvmlDeviceGetMemoryInfo",
    "nvmlDeviceGetRetiredPagesPendingStatus",
    "nvmlDeviceGetRemappedRows",
    "nvmlEventSetWait_v2",
]
CODES = sorted({
    value for name, value in vars(pynvml).items() if name.startswith("NVML_ERROR_") and isinstance(value, int)
} | {77})  # fmt: skip
HANGS = -1
GONE = pynvml.NVML_ERROR_DRIVER_NOT_LOADED


class Driver:
    """What the stub driver is told to do wrong."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._faults, self._met, self._lost = folder / "faults", folder / "met", folder / "lost"
        monkeypatch.setenv("NVML_STUB_FAULTS", str(self._faults))
        monkeypatch.setenv("NVML_STUB_CALLS", str(self._met))
        monkeypatch.setenv("NVML_STUB_LOST", str(self._lost))
        # With switches every function is called.
        monkeypatch.setenv("NVML_STUB_NVSWITCH", "1")
        self._met.touch()

    def fail(self, function: str, code: int, *, restart: bool = False) -> None:
        """Replaces the faults there were, at once: they may be read at any time.

        Args:
            function, code: the fault.
            restart: the driver is gone whenever it was asked all else, so that everything begins anew.
        """
        self._met.write_text("")
        fresh = self._faults.with_suffix(".new")
        fresh.write_text(f"{function} {code}\n" + f"nvmlDeviceGetRemappedRows {GONE}\n" * restart)
        fresh.replace(self._faults)

    async def met(self, function: str, code: int) -> None:
        """Waits until somebody has met this fault, since it is there."""
        await until_async(
            self._met.read_text,
            f"{function} to fail with {code}",
            lambda text: f"{function} {code}\n" in text,
        )

    def mend(self) -> None:
        self._faults.unlink(missing_ok=True)

    def lose(self, *indices: int) -> None:
        self._lost.write_text("".join(f"{index}\n" for index in indices))


class Seen:
    """Every inventory that a follower gave. GPUs that were there once are there in every later one."""

    def __init__(self) -> None:
        self.all: list[Inventory] = []

    def take(self, inventory: Inventory) -> None:
        before = {gpu.uuid for gpu in self.all[-1].devices} if self.all else set()
        assert before <= {gpu.uuid for gpu in inventory.devices}
        self.all.append(inventory)

    def reasons(self) -> list[str]:
        return [gpu.health.reason for gpu in self.all[-1].devices] if self.all else []

    async def until(self, what: str, holds: Callable[[Inventory], bool]) -> Inventory:
        return (await until_async(lambda: self.all[-1:], what, lambda last: bool(last) and holds(last[0])))[0]

    async def well(self) -> Inventory:
        return await self.until(
            "four healthy GPUs of a driver that answers",
            lambda last: [gpu.uuid for gpu in last.devices if gpu.health.ok] == GPU and not last.detail,
        )


@pytest.fixture
def driver(nvml_stub: Stub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Driver:
    nvml_stub()
    return Driver(tmp_path, monkeypatch)


@asynccontextmanager
async def follower(root: Path, call_limit_s: float | None = None) -> AsyncIterator[Seen]:
    pace = Pace(quiet_s=0.01, probe_s=0.0, wait_s=0.01, gone_s=0.01, look_again_s=0.05)
    seen = Seen()

    async def follow() -> None:
        following = NvmlBackend(
            root, Path("/nonexistent"), pace=pace, call_limit_s=call_limit_s
        ).inventories()
        async with aclosing(following):
            async for inventory in following:
                seen.take(inventory)

    task = asyncio.create_task(follow())
    try:
        yield seen
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


@pytest.mark.parametrize("function", CALLS)
def test_reading_survives_every_error_of_every_call(nvml_stub: Stub, driver: Driver, function: str) -> None:
    root = nvml_stub()
    for code in CODES:
        driver.fail(function, code)
        try:
            inventory = Nvml.open(root, Path("/nonexistent")).inventory()
            assert len(inventory.devices) in {0, 4}
        except errors.DeviceError as error:
            assert error.message
        driver.mend()
        Nvml.close()


@pytest.mark.parametrize("function", WATCHED)
async def test_watching_survives_every_error_of_every_call(
    nvml_stub: Stub, driver: Driver, function: str
) -> None:
    async with follower(nvml_stub()) as seen:
        await seen.well()
        for code in CODES:
            driver.fail(function, code)
            await driver.met(function, code)
            driver.mend()
            await seen.well()


@pytest.mark.parametrize("function", CALLS)
async def test_a_start_anew_survives_errors_of_every_call(
    nvml_stub: Stub, driver: Driver, function: str
) -> None:
    async with follower(nvml_stub()) as seen:
        await seen.well()
        for code in (pynvml.NVML_ERROR_UNINITIALIZED, GONE, pynvml.NVML_ERROR_GPU_IS_LOST, 999):
            driver.fail(function, code, restart=True)
            await driver.met(function, code)
            driver.mend()
            await seen.well()


@pytest.mark.parametrize("function", CALLS)
async def test_a_driver_that_hangs_in_any_call_is_served_as_it_was(
    nvml_stub: Stub, driver: Driver, function: str
) -> None:
    async with follower(nvml_stub(), call_limit_s=0.2) as seen:
        await seen.well()
        driver.fail(function, HANGS, restart=True)
        hanging = await seen.until("the driver to hang", lambda last: "doesn't answer" in last.detail)
        assert [gpu.uuid for gpu in hanging.devices] == GPU
        assert [thread.name for thread in threading.enumerate()].count("gpu driver") == 1
        driver.mend()
        await seen.well()


async def test_a_driver_that_hangs_takes_no_health_away(nvml_stub: Stub, driver: Driver) -> None:
    async with follower(nvml_stub(), call_limit_s=0.2) as seen:
        await seen.well()
        driver.fail("nvmlEventSetWait_v2", HANGS)
        hanging = await seen.until("the driver to hang", lambda last: "doesn't answer" in last.detail)
        assert [gpu.health.reason for gpu in hanging.devices] == [""] * 4
        assert "in wait" in hanging.detail
        driver.mend()
        await seen.well()


async def test_a_driver_that_hangs_at_the_start_is_waited_for(nvml_stub: Stub, driver: Driver) -> None:
    driver.fail("nvmlInitWithFlags", HANGS)
    async with follower(nvml_stub(), call_limit_s=0.05) as seen:
        hanging = await seen.until("the driver to hang", lambda last: "doesn't answer" in last.detail)
        assert (hanging.backend, hanging.absence, hanging.devices) == (Backend.NONE, Absence.FAILED, ())
        driver.mend()
        await seen.well()


async def test_who_follows_a_driver_that_hangs_can_end(nvml_stub: Stub, driver: Driver) -> None:
    async with follower(nvml_stub(), call_limit_s=0.05) as seen:
        await seen.well()
        driver.fail("*", HANGS)
        await seen.until("the driver to hang", lambda last: "doesn't answer" in last.detail)
    driver.mend()


async def test_an_agent_whose_driver_hangs_ends_when_told_to(
    nvml_stub: Stub, driver: Driver, tmp_path: Path
) -> None:
    driver.fail("nvmlInitWithFlags", HANGS)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gpuyard.agent"),
        *("--plugins-dir", str(tmp_path), "--driver-root", str(nvml_stub())),
    )
    try:
        await driver.met("nvmlInitWithFlags", HANGS)
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), 60) == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_a_driver_that_is_gone_makes_its_gpus_unhealthy_until_it_is_back(
    nvml_stub: Stub, driver: Driver
) -> None:
    async with follower(nvml_stub()) as seen:
        await seen.well()
        driver.fail("*", GONE)
        gone = await seen.until(
            "the driver to be gone", lambda last: "kernel module isn't loaded" in last.detail
        )
        assert [gpu.uuid for gpu in gone.devices] == GPU
        assert seen.reasons() == ["driver gone"] * 4
        driver.mend()
        await seen.well()


async def test_a_gpu_that_is_lost_when_the_driver_comes_back_stays_the_nodes(
    nvml_stub: Stub, driver: Driver
) -> None:
    async with follower(nvml_stub()) as seen:
        await seen.well()
        driver.fail("*", GONE)
        await seen.until("the driver to be gone", lambda last: bool(last.detail))
        driver.lose(2)
        driver.mend()
        await seen.until(
            "one to be lost", lambda _: [bool(why) for why in seen.reasons()] == [False, False, True, False]
        )
        driver.lose()
        await seen.well()


async def test_a_gpu_that_was_lost_at_the_start_is_found_later(nvml_stub: Stub, driver: Driver) -> None:
    driver.lose(1)
    async with follower(nvml_stub()) as seen:
        await seen.until("three GPUs", lambda last: [gpu.index for gpu in last.devices] == [0, 2, 3])
        driver.lose()
        await seen.well()


async def test_a_reading_that_failed_in_part_is_done_again(nvml_stub: Stub, driver: Driver) -> None:
    driver.fail("nvmlDeviceGetName", 999)
    async with follower(nvml_stub()) as seen:
        await seen.until("four GPUs", lambda last: [gpu.model for gpu in last.devices] == [""] * 4)
        driver.mend()
        await seen.until("their names", lambda last: [gpu.model for gpu in last.devices] == ["H100"] * 4)
