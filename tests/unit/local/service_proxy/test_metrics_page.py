from __future__ import annotations

import asyncio
import os
from pathlib import Path

from hypothesis import example, given
from hypothesis import strategies as st

from gpuyard.local.service_proxy.endpoints import ServiceReplica
from gpuyard.local.service_proxy.figures import Figures
from gpuyard.local.service_proxy.metrics_page import metrics_text, serve_metrics
from gpuyard.metrics_text import parse_metrics

_PAGE = """\
# HELP gpuyard_service_requests_total Answers by replica; without one: the proxy's, and long gone replicas'.
# TYPE gpuyard_service_requests_total counter
gpuyard_service_requests_total{namespace="default",service="d",replica="a",code="2xx"} 1
# HELP gpuyard_service_requests_in_flight Requests under way, held ones included.
# TYPE gpuyard_service_requests_in_flight gauge
gpuyard_service_requests_in_flight{namespace="default",service="d"} 1
# HELP gpuyard_service_requests_held Requests that wait for a replica to be ready.
# TYPE gpuyard_service_requests_held gauge
gpuyard_service_requests_held{namespace="default",service="d"} 0
# HELP gpuyard_service_replica_requests_in_flight Requests that a replica is answering.
# TYPE gpuyard_service_replica_requests_in_flight gauge
gpuyard_service_replica_requests_in_flight{namespace="default",service="d",replica="a"} 3
# HELP gpuyard_service_requests_per_second Over the last 60 s.
# TYPE gpuyard_service_requests_per_second gauge
gpuyard_service_requests_per_second{namespace="default",service="d"} 0.2
# HELP gpuyard_service_request_seconds Time to an answer's last byte, over the last 60 s.
# TYPE gpuyard_service_request_seconds gauge
gpuyard_service_request_seconds{namespace="default",service="d",quantile="0.5"} 0.101042
gpuyard_service_request_seconds{namespace="default",service="d",quantile="0.9"} 0.101042
gpuyard_service_request_seconds{namespace="default",service="d",quantile="0.99"} 0.101042
# HELP gpuyard_service_seconds_since_last_request 0 while one is under way.
# TYPE gpuyard_service_seconds_since_last_request gauge
gpuyard_service_seconds_since_last_request{namespace="default",service="d"} 0.0
"""


def test_the_page_has_every_figure() -> None:
    figures = Figures(0.0)
    figures.begin(5.0)
    figures.end(5.1, "a", 204, 0.1)
    figures.begin(6.0)
    ports = [{ServiceReplica("a", "127.0.0.1", 41000): 1}, {ServiceReplica("a", "127.0.0.1", 41001): 2}]
    assert metrics_text("default", "d", figures, 10.0, held=0, in_flight=ports) == _PAGE


@given(st.text())
@example('a"} 1\ngpuyard_service_requests_in_flight{namespace="default",service="other"} 9\n# \\')
def test_whatever_a_replica_is_called_it_forges_no_sample(name: str) -> None:
    figures = Figures(0.0)
    figures.begin(5.0)
    figures.end(5.1, name, 200, 0.1)
    page = metrics_text("default", "d", figures, 10.0, held=0, in_flight=[{ServiceReplica(name, "", 1): 1}])
    samples = parse_metrics(page)
    assert {(one.labels["namespace"], one.labels["service"]) for one in samples} == {("default", "d")}
    names = [one.labels["replica"] for one in samples if "replica" in one.labels]
    assert names == [name, name]


async def test_the_socket_is_its_users_alone_and_replaces_a_dead_one(tmp_path: Path) -> None:
    socket = tmp_path / "d.sock"
    socket.write_text("left behind")
    server = await serve_metrics(socket, lambda: "figure 1\n")
    assert os.stat(socket).st_mode & 0o777 == 0o600
    reader, writer = await asyncio.open_unix_connection(socket)
    writer.write(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ")
    assert body == b"figure 1\n"
    writer.close()
    server.close()
