"""The memory scrub with a libcuda that is made for the test, in the process that an agent starts."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import grpc
import pytest

from gpuyard import errors
from gpuyard._proto import device_plugin_pb2 as pb
from gpuyard.agent.options.device_lists import PLAIN
from gpuyard.agent.options.sharing import Sharing, SharingStrategy
from gpuyard.agent.plugin.registration import keep_registered
from gpuyard.agent.plugin.scrubbing import MemoryScrubber
from gpuyard.agent.plugin.server import Plugin
from gpuyard.agent.plugin.sockets import OwnSockets
from gpuyard.agent.served import MigStrategy, ServedDevice, Serving, serve
from gpuyard.devices.inventory import Backend, Mig, MigInstance
from gpuyard.devices.simulated.simulation import parse_simulation, simulate
from gpuyard.gpus.mig_profiles import MigEngines
from gpuyard.gpus.resources import GPU_RESOURCE
from gpuyard.kube.wellknown import AMD
from tests.fake_driver import compiler

from .conftest import Kubelet

INVENTORY = replace(simulate(parse_simulation("H100:3"), seed="node"), backend=Backend.NVML)
DEVICES = serve(INVENTORY).devices
#: 100 MiB are free of each GPU, of which one piece may have 48; what is done is written down.
STUB = r"""
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
static unsigned long taken, next = 1 << 20; static int gpu;
static long number(const char *name, long otherwise) {
    const char *text = getenv(name);
    return text ? atol(text) : otherwise;
}
int cuInit(unsigned flags) { if (number("STUB_HANGS", 0)) for (;;) pause(); return number("STUB_INIT", 0); }
int cuDeviceGet(int *device, int index) { *device = index; taken = 0; return 0; }
int cuDevicePrimaryCtxRetain(void **context, int device) { gpu = device; *context = 0; return 0; }
int cuCtxSetCurrent(void *context) { return 0; }
int cuMemGetInfo_v2(size_t *free, size_t *total) { *free = 100 << 20; *total = 200 << 20; return 0; }
int cuMemAlloc_v2(unsigned long *pointer, size_t size) {
    if (size > (48 << 20) || taken + size > number("STUB_ROOM", 100 << 20)) return 2;
    *pointer = next; next += size; taken += size; return 0;
}
int cuMemsetD8_v2(unsigned long pointer, unsigned char value, size_t size) {
    FILE *log = fopen(getenv("STUB_LOG"), "a");
    fprintf(log, "%s %d %lu %d %zu\n", getenv("CUDA_VISIBLE_DEVICES"), gpu, pointer, value, size);
    fclose(log); return number("STUB_MEMSET", 0);
}
int cuCtxSynchronize(void) { return 0; }
"""


@pytest.fixture(scope="session")
def libcuda(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cuda")
    (folder / "stub.c").write_text(STUB)
    library = folder / "libcuda.so.1"
    subprocess.run([compiler(), "-shared", "-fPIC", "-o", library, folder / "stub.c"], check=True)
    return library


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("STUB_LOG", str(tmp_path / "log"))
    return tmp_path / "log"


def written(log: Path) -> dict[str, int]:
    """Bytes that were overwritten, by what was visible and its number; no byte twice, and all with 0."""
    sums: dict[str, int] = {}
    ends: dict[str, int] = {}
    for line in log.read_text().splitlines():
        visible, gpu, pointer, value, size = line.split()
        name = f"{visible} {gpu}"
        assert int(pointer) >= ends.get(name, 0) and value == "0"
        ends[name] = int(pointer) + int(size)
        sums[name] = sums.get(name, 0) + int(size)
    return sums


async def scrub(libcuda: Path | None, devices: Sequence[ServedDevice], limit_s: float = 60.0) -> None:
    await MemoryScrubber(lambda: libcuda, limit_s).scrub(devices)


async def test_all_that_is_free_of_each_gpu_is_overwritten(libcuda: Path, log: Path) -> None:
    await scrub(libcuda, DEVICES[:2])
    names = ",".join(device.uuid for device in DEVICES[:2])
    assert written(log) == {f"{names} 0": 100 << 20, f"{names} 1": 100 << 20}


def split(count: int) -> tuple[ServedDevice, ...]:
    parts = tuple(
        MigInstance(
            place, f"MIG-{place}", "3g.40gb", place + 1, 0, 4 * place, 4, 3, 3, 40448, 60, MigEngines(copy=3)
        )
        for place in range(count)
    )
    gpu = replace(INVENTORY.devices[0], mig=Mig(enabled=True, pending=True, instances=parts))
    return serve(replace(INVENTORY, devices=(gpu,)), Serving(mig_strategy=MigStrategy.MIXED)).devices


async def test_of_parts_each_has_a_process_as_cuda_shows_one(libcuda: Path, log: Path) -> None:
    await scrub(libcuda, split(2))
    assert written(log) == {"MIG-0 0": 100 << 20, "MIG-1 0": 100 << 20}


async def test_what_containers_share_is_left_alone(libcuda: Path, log: Path) -> None:
    rule = Sharing(SharingStrategy.TIME_SLICING, 2)
    await scrub(libcuda, serve(INVENTORY, Serving(sharing=(rule,))).devices)
    assert not log.exists()


@pytest.mark.parametrize(
    ("variables", "why"),
    [
        ({"STUB_INIT": "999"}, "CUDA's cuInit fails with error 999"),
        ({"STUB_MEMSET": "719"}, "CUDA's cuMemsetD8_v2 fails with error 719"),
        ({"STUB_ROOM": str(50 << 20)}, "of 100 MiB that are free could be had"),
    ],
)
async def test_a_driver_that_refuses_is_told(
    libcuda: Path, log: Path, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], why: str
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(errors.DeviceError, match=why) as failed:
        await scrub(libcuda, DEVICES[:1])
    assert DEVICES[0].uuid in failed.value.message


async def test_a_driver_that_hangs_is_not_waited_for(
    libcuda: Path, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STUB_HANGS", "1")
    with pytest.raises(errors.DeviceError, match="takes too long"):
        await scrub(libcuda, DEVICES[:1], limit_s=0.5)


async def test_without_a_library_and_for_others_gpus_nothing_is_promised(tmp_path: Path, log: Path) -> None:
    with pytest.raises(errors.DeviceError, match=r"isn't among what the agent sees"):
        await scrub(None, DEVICES[:1])
    with pytest.raises(errors.DeviceError, match="no-libcuda"):
        await scrub(tmp_path / "no-libcuda", DEVICES[:1])
    other = replace(DEVICES[0], gpu=replace(DEVICES[0].gpu, vendor=AMD))
    with pytest.raises(errors.DeviceError, match="only NVIDIA's can be"):
        await scrub(tmp_path / "no-libcuda", [other])


@pytest.mark.parametrize("works", [True, False])
async def test_no_container_starts_on_memory_that_was_not_overwritten(
    kubelet: Kubelet, libcuda: Path, log: Path, works: bool
) -> None:
    scrubber = MemoryScrubber(lambda: libcuda if works else None)
    handover = replace(PLAIN, checks_starts=True)
    plugin = Plugin(GPU_RESOURCE, serve(INVENTORY), handover=handover, scrub=scrubber.scrub)
    task = asyncio.create_task(
        keep_registered(plugin, kubelet.folder, OwnSockets(kubelet.folder)), name="plugin"
    )
    try:
        await asyncio.wait_for(kubelet.registered.get(), 60)
        assert kubelet.plugin is not None
        start = kubelet.plugin.PreStartContainer(
            pb.PreStartContainerRequest(devices_ids=[DEVICES[2].id]), timeout=60
        )
        if works:
            await start
            assert written(log) == {f"{DEVICES[2].uuid} 0": 100 << 20}
        else:
            with pytest.raises(grpc.aio.AioRpcError, match="couldn't be overwritten") as refused:
                await start
            assert refused.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
