"""A proxy's figures as Prometheus' text, on a unix socket of its own."""

from __future__ import annotations

import asyncio
import math
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from gpuyard.local.service_proxy.endpoints import ServiceReplica
from gpuyard.local.service_proxy.figures import Figures
from gpuyard.metrics_text import label_value

_QUANTILES = (0.5, 0.9, 0.99)
_REQUEST_S = 5.0
_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\n"
    b"Content-Length: %d\r\nConnection: close\r\n\r\n"
)


def metrics_text(
    namespace: str,
    service: str,
    figures: Figures,
    now: float,
    *,
    held: int,
    in_flight: Iterable[Mapping[ServiceReplica, int]],
) -> str:
    """The page.

    Args:
        namespace, service: whose figures these are.
        figures: of all its ports.
        now: of the figures' clock.
        held: requests that wait for a replica.
        in_flight: by replica, of each port.
    """
    page = _FiguresPage({"namespace": namespace, "service": service})
    page.family(
        "gpuyard_service_requests_total",
        "counter",
        "Answers by replica; without one: the proxy's, and long gone replicas'.",
    )
    for replica, counts in figures.answers.items():
        for code, count in sorted(counts.items()):
            page.sample(count, replica=replica, code=code)
    page.family("gpuyard_service_requests_in_flight", "gauge", "Requests under way, held ones included.")
    page.sample(figures.in_flight)
    page.family("gpuyard_service_requests_held", "gauge", "Requests that wait for a replica to be ready.")
    page.sample(held)
    page.family(
        "gpuyard_service_replica_requests_in_flight", "gauge", "Requests that a replica is answering."
    )
    by_replica: Counter[str] = Counter()
    for counts_of_port in in_flight:
        for replica_at, count in counts_of_port.items():
            by_replica[replica_at.name] += count
    for replica, count in sorted(by_replica.items()):
        page.sample(count, replica=replica)
    page.family("gpuyard_service_requests_per_second", "gauge", "Over the last 60 s.")
    page.sample(round(figures.per_second(now), 3))
    page.family(
        "gpuyard_service_request_seconds", "gauge", "Time to an answer's last byte, over the last 60 s."
    )
    for quantile, value in zip(_QUANTILES, figures.quantiles(now, _QUANTILES), strict=True):
        if not math.isnan(value):
            page.sample(round(value, 6), quantile=str(quantile))
    page.family("gpuyard_service_seconds_since_last_request", "gauge", "0 while one is under way.")
    page.sample(round(figures.idle_s(now), 3))
    return page.text()


class _FiguresPage:
    """Families of samples with the same first labels.

    Values of labels are escaped here: a replica's name is what an EndpointSlice says, a user's to write.
    """

    def __init__(self, labels: Mapping[str, str]) -> None:
        self._labels = labels
        self._name = ""
        self._lines: list[str] = []

    def family(self, name: str, kind: str, meaning: str) -> None:
        self._name = name
        self._lines += [f"# HELP {name} {meaning}", f"# TYPE {name} {kind}"]

    def sample(self, value: float, **labels: str) -> None:
        labels = {**self._labels, **labels}
        written = ",".join(f'{name}="{label_value(text)}"' for name, text in labels.items())
        self._lines.append(f"{self._name}{{{written}}} {value}")

    def text(self) -> str:
        return "\n".join(self._lines) + "\n"


async def serve_metrics(socket: Path, page: Callable[[], str]) -> asyncio.Server:
    """Answers every request on the socket with the page; one that is there is of a proxy that has ended.

    Raises:
        OSError: it can't be made.
    """

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_REQUEST_S):
                await reader.readuntil(b"\r\n\r\n")
                text = page().encode()
                writer.write(_HEAD % len(text) + text)
                await writer.drain()
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass
        finally:
            writer.close()

    # Made under another name: who finds the socket can connect to it, and only its user can.
    unready = socket.with_name(f".{socket.name}.{os.getpid()}")
    unready.unlink(missing_ok=True)
    old_umask = os.umask(0o177)
    try:
        server = await asyncio.start_unix_server(answer, unready)
    finally:
        os.umask(old_umask)
    unready.rename(socket)
    return server
