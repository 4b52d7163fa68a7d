"""A scrape of a node's exporter, beside a kubelet that lists many pods."""

from __future__ import annotations

import asyncio
import re
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import grpc.aio

from bench.memory import megabytes
from bench.row import Row
from gpuyard._proto import pod_resources_pb2 as pb
from gpuyard._proto import pod_resources_pb2_grpc as rpc
from gpuyard.devices.simulated.simulation import parse_simulation, simulate
from gpuyard.gpus.resources import GPU_RESOURCE
from tests.waiting import until_async

_NODE = "n"
_GPUS = "H100:8"
_PODS = 64
_SCRAPES = 40
#: The exporter reads its GPUs anew after 0.25 s: each scrape does all its work.
_APART_S = 0.3


def measure() -> list[Row]:
    """8 simulated GPUs, each shared by 8 pods."""
    return asyncio.run(_measure())


class _Kubelet(rpc.PodResourcesListerServicer):
    def __init__(self) -> None:
        gpus = simulate(parse_simulation(_GPUS), seed=_NODE).devices
        self._listed = pb.ListPodResourcesResponse()
        for number in range(_PODS):
            pod = self._listed.pod_resources.add(name=f"train-{number}-0-bcdfg", namespace="team")
            share, gpu = divmod(number, len(gpus))
            ids = [f"{gpus[gpu].uuid}::{share}"]
            pod.containers.add(name="main").devices.add(resource_name=GPU_RESOURCE, device_ids=ids)

    async def List(self, request: Any, context: Any) -> Any:
        return self._listed


async def _measure() -> list[Row]:
    with tempfile.TemporaryDirectory(prefix="gy-", dir="/tmp") as name:
        kubelet, socket = Path(name, "kubelet.sock"), Path(name, "metrics.sock")
        server = grpc.aio.server()
        rpc.add_PodResourcesListerServicer_to_server(_Kubelet(), server)
        server.add_insecure_port(f"unix:{kubelet}")
        await server.start()
        sockets = ("--pod-resources", str(kubelet), "--socket", str(socket))
        words = ("--node", _NODE, *sockets, "--simulate", _GPUS)
        exporter = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "gpuyard.agent.exporter", *words, stderr=asyncio.subprocess.DEVNULL
        )
        try:
            return await _scrapes(socket, exporter.pid)
        finally:
            exporter.terminate()
            await exporter.wait()
            await server.stop(None)


async def _scrapes(socket: Path, pid: int) -> list[Row]:
    text = await until_async(
        lambda: _scrape(socket),
        f"the exporter knows {_PODS} pods",
        lambda text: text.count("\ngpuyard_allocation{") == _PODS,
        # The socket is there a moment before it is listened on.
        not_yet=OSError,
    )
    before_s, took = _cpu_s(text), []
    for _ in range(_SCRAPES):
        await asyncio.sleep(_APART_S)
        began = time.perf_counter()
        text = await _scrape(socket)
        took.append((time.perf_counter() - began) * 1e3)
    cpu_ms = (_cpu_s(text) - before_s) / _SCRAPES * 1e3
    what = f"scrape, 8 GPUs, {_PODS} pods"
    return [
        Row(f"{what}, p50", statistics.median(took), "ms", 50, "", 0),
        Row(f"{what}, slowest", max(took), "ms", 50, "", 0),
        Row(f"{what}, CPU", cpu_ms, "ms", 10, "", 0),
        Row(f"exporter, {_PODS} pods, Rss", megabytes(pid, "Rss") * 1.048576, "MB", 55, "NVIDIA's", 500),
    ]


async def _scrape(socket: Path) -> str:
    reader, writer = await asyncio.open_unix_connection(socket)
    writer.write(b"GET /metrics HTTP/1.1\r\n\r\n")
    text = (await reader.read()).decode()
    writer.close()
    return text


def _cpu_s(text: str) -> float:
    found = re.search(r"^process_cpu_seconds_total{.*} (\S+)$", text, re.MULTILINE)
    assert found is not None
    return float(found[1])
