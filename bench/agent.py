"""A node's agent beside a kubelet's device manager, and what the agent's processes hold in memory."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.message import Message

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
_SERVICE = "/v1beta1.DevicePlugin"
_GO_CLIENT = Path(__file__).with_name("calls")


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
        first: Any = next(iter(rpc.DevicePluginStub(channel).ListAndWatch(pb.Empty(), timeout=60)))
    ids = [device.ID for device in first.devices]
    give = pb.AllocateRequest(container_requests=[pb.ContainerAllocateRequest(devices_ids=ids)])
    wish = pb.ContainerPreferredAllocationRequest(available_deviceIDs=ids, allocation_size=size)
    prefer = pb.PreferredAllocationRequest(container_requests=[wish])
    calls = {"GetDevicePluginOptions": pb.Empty(), "Allocate": give, "GetPreferredAllocation": prefer}
    client, took = _take_turns(socket, {f"{_SERVICE}/{name}": sent for name, sent in calls.items()})
    # What gRPC alone takes: the first of them does nothing.
    nothing, p50, chosen = map(statistics.median, took)
    chosen_of = f"prefer {size} of {gpus}, p50, {client}"
    rows = [Row(chosen_of, chosen, "ms", 2 if gpus == 8 else 20, _PEER, 6.4 if gpus == 8 else 0)]
    if gpus == 8:
        p99 = statistics.quantiles(took[1], n=100)[98]
        rows.append(Row(f"Allocate 8 GPUs, p50, {client}", p50, "ms", 0.8, _PEER, 0.8))
        rows.append(Row(f"Allocate 8 GPUs, p99, {client}", p99, "ms", 4, _PEER, 5))
        rows.append(Row("of an empty call, p50", p50 / nothing, "×", 1.2, f"which takes {nothing:.2f} ms", 0))
    return rows


def _take_turns(socket: Path, calls: Mapping[str, Message]) -> tuple[str, list[list[float]]]:
    """Which client called, and the milliseconds of each method, one call of each after the other.

    The kubelet's client is Go's; Python's own takes as long again as some of the calls.
    """
    requests = {method: request.SerializeToString() for method, request in calls.items()}
    if shutil.which("go") is None:
        return "Python client", _in_python(socket, requests)
    program = _GO_CLIENT.parents[1] / "build" / "bench-calls"
    environ = os.environ | {"CGO_ENABLED": "0"}
    subprocess.run(["go", "build", "-o", str(program), "."], cwd=_GO_CLIENT, env=environ, check=True)
    words = [word for method, request in requests.items() for word in (method, request.hex())]
    done = subprocess.run([program, socket, str(_CALLS), *words], stdout=subprocess.PIPE, check=True)
    took: list[list[float]] = json.loads(done.stdout)
    return "Go client", took


def _in_python(socket: Path, requests: Mapping[str, bytes]) -> list[list[float]]:
    took: list[list[float]] = [[] for _ in requests]
    with grpc.insecure_channel(f"unix:{socket}") as channel:
        for turn in range(-_CALLS // 10, _CALLS):
            for place, (method, request) in enumerate(requests.items()):
                call: Any = channel.unary_unary(method)
                began = time.perf_counter()
                call(request, timeout=60)
                if turn >= 0:
                    took[place].append((time.perf_counter() - began) * 1e3)
    return took


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
