"""What autoscalers decide by, from sockets that answer as proxies and exporters do."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from gpuyard.autoscaling.load import ServiceLoad
from gpuyard.local.daemon.metrics import read_metrics
from gpuyard.local.daemon.service_loads import ServiceLoads
from gpuyard.metrics_text import MetricSample, parse_metrics

PROXY = """\
gpuyard_service_requests_total{namespace="default",service="web",replica="web-1",code="2xx"} 90
gpuyard_service_requests_in_flight{namespace="default",service="web"} 7
gpuyard_service_requests_held{namespace="default",service="web"} 2
gpuyard_service_replica_requests_in_flight{namespace="default",service="web",replica="web-1"} 5
gpuyard_service_seconds_since_last_request{namespace="default",service="web"} 0
"""
EXPORTER = """\
DCGM_FI_DEV_GPU_UTIL{gpu="0",namespace="default",pod="web-1",scope="pod"} 90
DCGM_FI_DEV_GPU_UTIL{gpu="1",namespace="default",pod="web-1",scope="pod"} 70
DCGM_FI_PROF_GR_ENGINE_ACTIVE{gpu="0",namespace="default",pod="web-1",scope="pod"} 0.1
DCGM_FI_PROF_GR_ENGINE_ACTIVE{gpu="2",namespace="default",pod="web-2",scope="pod",GPU_I_ID="3"} 0.25
DCGM_FI_DEV_GPU_UTIL{gpu="3",scope="gpu"} 50
DCGM_FI_DEV_GPU_UTIL{gpu="4",namespace="other",pod="web-1",scope="pod"} 1
"""


@contextlib.asynccontextmanager
async def answering(socket: Path, text: str) -> AsyncIterator[Path]:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n" + text.encode())
        await writer.drain()
        writer.close()

    async with await asyncio.start_unix_server(answer, socket):
        yield socket


async def nothing(namespace: str, service: str) -> list[MetricSample]:
    return []


async def test_a_service_and_its_proxy(tmp_path: Path) -> None:
    async with answering(tmp_path / "proxy.sock", PROXY) as socket:

        async def read(namespace: str, service: str) -> list[MetricSample]:
            return parse_metrics((await read_metrics([socket])).decode())

        loads = ServiceLoads(read, [])
        assert await loads.service_load("default", "web") == ServiceLoad(
            in_flight=7, held=2, idle_s=0.0, answered=90.0, by_replica={"web-1": 5}
        )
        assert await loads.service_load("default", "api") is None


async def test_nothing_is_known_where_nobody_answers(tmp_path: Path) -> None:
    loads = ServiceLoads(nothing, [tmp_path / "none.sock"])
    assert await loads.service_load("default", "web") is None
    assert await loads.utilization("default", ["web-1"]) == {}


async def test_what_gpus_of_pods_do(tmp_path: Path) -> None:
    async with answering(tmp_path / "metrics.sock", EXPORTER) as socket:
        loads = ServiceLoads(nothing, [socket])
        assert await loads.utilization("default", ["web-1", "web-2", "web-3"]) == {
            "web-1": 80.0,
            "web-2": 25.0,
        }
        assert await loads.utilization("default", ["web-3"]) == {}
