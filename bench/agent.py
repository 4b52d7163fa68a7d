"""A node's agent beside a kubelet's device manager, and what the agent's processes hold in memory."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc

from bench.memory import children, megabytes
from bench.row import Row
from bench.yard import running_yard
from gpuyard._proto import device_plugin_pb2 as pb
from gpuyard._proto import device_plugin_pb2_grpc as rpc
from gpuyard.gpus.resources import GPU_RESOURCE
from gpuyard.local.kubelet.devices.manager import DeviceManager
from tests.waiting import until_async

_TIMES = 9
_CALLS = 500
_SETTLE_S = 5.0
_PEER = "NVIDIA's plugin"


def measure() -> list[Row]:
    """Starts, calls, a change of health, memory."""
    # The manager says each time that the plugin has gone.
    logging.disable()
    return [*asyncio.run(_starts()), *asyncio.run(_calls(8, 4)), *asyncio.run(_calls(16, 8)), *_resident()]


@contextlib.contextmanager
def _agent(folder: Path, gpus: int) -> Iterator[None]:
    words = ("--plugins-dir", folder, "--cdi-dir", folder / "cdi", "--marks-file", folder / "marks.json")
    control = ("--simulate", f"H100:{gpus}", "--simulated-health", folder / "control.json")
    with subprocess.Popen(
        [sys.executable, "-m", "gpuyard.agent", *map(str, (*words, *control)), "--exit-with-stdin"],
        stdin=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            yield
        finally:
            process.terminate()


@contextlib.asynccontextmanager
async def _kubelet(folder: Path) -> Any:
    manager = DeviceManager(folder, folder / "checkpoint", lambda: datetime.now(UTC), grace_s=0.0)
    await manager.start()
    try:
        yield manager
    finally:
        await manager.stop()


async def _starts() -> list[Row]:
    starts, changes = [], []
    with tempfile.TemporaryDirectory(prefix="gy-", dir="/tmp") as name:
        for turn in range(_TIMES + 1):
            folder = Path(name) / str(turn)
            folder.mkdir()
            async with _kubelet(folder) as manager:
                began = time.perf_counter()
                with _agent(folder, 8):
                    await _allocatable(manager, 8)
                    starts.append(time.perf_counter() - began)
                    (folder / "control.json").write_text(json.dumps({"unhealthy": {"3": "XID 79"}}))
                    began = time.perf_counter()
                    await _allocatable(manager, 7)
                    changes.append(time.perf_counter() - began)
    # The first fills caches.
    return [
        Row("agent, start to registered", statistics.median(starts[1:]), "s", 0.5, _PEER, 0.03),
        Row("health to allocatable", max(changes), "s", 2, "", 0),
    ]


async def _allocatable(manager: DeviceManager, wanted: int) -> None:
    def count() -> int:
        found = manager.resources().get(GPU_RESOURCE)
        return found.allocatable if found else 0

    await until_async(count, f"{wanted} GPUs can be had", lambda found: found == wanted)


async def _calls(gpus: int, size: int) -> list[Row]:
    with tempfile.TemporaryDirectory(prefix="gy-", dir="/tmp") as name:
        folder = Path(name)
        async with _kubelet(folder) as manager:
            with _agent(folder, gpus):
                await _allocatable(manager, gpus)
                return await asyncio.to_thread(_timed_calls, folder, gpus, size)


def _timed_calls(folder: Path, gpus: int, size: int) -> list[Row]:
    socket = max(path for path in folder.glob("*.sock") if path.name != "kubelet.sock")
    with grpc.insecure_channel(f"unix:{socket}") as channel:
        plugin = rpc.DevicePluginStub(channel)
        first: Any = next(iter(plugin.ListAndWatch(pb.Empty(), timeout=60)))
        ids = [device.ID for device in first.devices]
        give = pb.AllocateRequest(container_requests=[pb.ContainerAllocateRequest(devices_ids=ids)])
        wish = pb.ContainerPreferredAllocationRequest(available_deviceIDs=ids, allocation_size=size)
        prefer = pb.PreferredAllocationRequest(container_requests=[wish])
        chosen, _ = _ms(lambda: plugin.GetPreferredAllocation(prefer, timeout=60))
        peer = 6.4 if gpus == 8 else 0
        rows = [Row(f"prefer {size} of {gpus}, p50", chosen, "ms", 2 if gpus == 8 else 20, _PEER, peer)]
        if gpus == 8:
            p50, p99 = _ms(lambda: plugin.Allocate(give, timeout=60))
            rows.append(Row("Allocate 8 GPUs, p50", p50, "ms", 0.8, _PEER, 0.8))
            rows.append(Row("Allocate 8 GPUs, p99", p99, "ms", 4, _PEER, 5))
    return rows


def _ms(call: Callable[[], object]) -> tuple[float, float]:
    """Median and 99th percentile."""
    took = []
    for _ in range(_CALLS):
        began = time.perf_counter()
        call()
        took.append((time.perf_counter() - began) * 1e3)
    return statistics.median(took), statistics.quantiles(took, n=100)[98]


def _resident() -> list[Row]:
    limits = {"gpuyard.agent": 45, "gpuyard.agent.labelling": 35, "gpuyard.agent.exporter": 55}
    peers = {"gpuyard.agent": 32, "gpuyard.agent.labelling": 50, "gpuyard.agent.exporter": 500}
    with running_yard() as yard:
        time.sleep(_SETTLE_S)
        rows = []
        for pid in children(yard.status()["daemon_pid"]):
            words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
            module = words[words.index("-m") + 1] if "-m" in words else ""
            if module in limits:
                figure = megabytes(pid, "Rss") * 1.048576
                rows.append(Row(f"{module}, Rss", figure, "MB", limits[module], "NVIDIA's", peers[module]))
    return rows
