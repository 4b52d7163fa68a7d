"""The exporter's process over simulated GPUs and a real gRPC server in the kubelet's place."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import grpc.aio
import pytest

from gpuyard._proto import pod_resources_pb2 as pb
from gpuyard._proto import pod_resources_pb2_grpc as rpc
from gpuyard.agent.marks_file import NodeMarks, write_marks
from gpuyard.devices.simulated.simulation import parse_simulation, simulate
from tests.waiting import until_async

GPUS = simulate(parse_simulation("H100:4"), seed="node-1").devices


class Kubelet(rpc.PodResourcesListerServicer):
    """Says which pod has which device; hangs where it is told to."""

    def __init__(self) -> None:
        self.held: dict[str, str] = {}
        self.answers = asyncio.Event()
        self.answers.set()

    async def List(self, request: pb.ListPodResourcesRequest, context: Any) -> pb.ListPodResourcesResponse:
        await self.answers.wait()
        answer = pb.ListPodResourcesResponse()
        for pod, device in self.held.items():
            container = answer.pod_resources.add(name=pod, namespace="team").containers.add(name="main")
            container.devices.add(resource_name="nvidia.com/gpu", device_ids=[device])
            container.devices.add(resource_name="example.com/nic", device_ids=["nic-0"])
        return answer


Scrape = Callable[[], Any]


class Node:
    """One exporter, and what it asks."""

    def __init__(self, folder: Path) -> None:
        self.kubelet = Kubelet()
        self.health = folder / "health.json"
        self.socket = folder / "metrics.sock"
        self.marks = folder / "marks.json"
        self.kubelet_socket = folder / "kubelet.sock"

    async def scrape(self) -> str:
        reader, writer = await asyncio.open_unix_connection(self.socket)
        writer.write(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
        answer = (await reader.read()).decode()
        writer.close()
        return answer

    async def until(self, what: str, *lines: str) -> str:
        """The first scrape that has a line with all of these."""
        return await until_async(
            self.scrape,
            what,
            lambda text: any(all(part in line for part in lines) for line in text.splitlines()),
            not_yet=(FileNotFoundError, ConnectionRefusedError),
        )


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    node = Node(tmp_path)
    server = grpc.aio.server()
    rpc.add_PodResourcesListerServicer_to_server(node.kubelet, server)
    server.add_insecure_port(f"unix:{node.kubelet_socket}")
    await server.start()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gpuyard.agent.exporter", "--node", "node-1", "--simulate", "H100:4"),
        *("--simulated-health", str(node.health), "--pod-resources", str(node.kubelet_socket)),
        *("--socket", str(node.socket), "--marks-file", str(node.marks)),
    )
    write_marks(node.marks, NodeMarks())
    try:
        yield node
    finally:
        process.terminate()
        ended = await asyncio.wait_for(process.wait(), 60)
        node.kubelet.answers.set()
        await server.stop(grace=None)
    assert ended == 0


async def test_pods_come_and_go_and_their_gpus_follow(node: Node) -> None:
    gpu = GPUS[2].uuid
    await node.until("all four GPUs", "gpuyard_gpu_holders{", 'gpu="3"', "} 0")
    node.kubelet.held = {"train-0-x7k2p": gpu}
    text = await node.until("its pod", "DCGM_FI_DEV_GPU_TEMP", gpu, 'pod="train-0-x7k2p"', 'scope="pod"')
    assert "nic-0" not in text
    await node.until("its energy", "gpuyard_pod_energy_joules_total", 'pod="train-0-x7k2p"')
    text = await node.until("memory in use", "gpuyard_gpu_holders", gpu, "} 1")
    node.kubelet.held = {}
    text = await node.until("nobody", "gpuyard_gpu_holders", gpu, "} 0")
    assert 'pod="train-0-x7k2p"' not in [line for line in text.splitlines() if "DCGM" in line]


async def test_a_gpu_that_fails_is_told_with_its_reason(node: Node) -> None:
    await node.until("four GPUs", "gpuyard_gpu_healthy", 'gpu="1"', "} 1")
    node.health.write_text(json.dumps({"unhealthy": {"1": "XID 48"}}))
    text = await node.until("the fault", "gpuyard_gpu_fault_since_seconds", 'gpu="1"', 'reason="XID 48"')
    assert [line for line in text.splitlines() if "gpuyard_gpu_xids_total{" in line and line.endswith(" 1")]


async def test_a_kubelet_that_does_not_answer_costs_no_gpu_and_is_told(node: Node) -> None:
    gpu = GPUS[0].uuid
    node.kubelet.held = {"train-0-x7k2p": gpu}
    await node.until("its pod", "DCGM_FI_DEV_GPU_TEMP", gpu, 'pod="train-0-x7k2p"')
    node.kubelet.answers.clear()
    text = await node.until("its silence", "gpuyard_pod_resources_up", "} 0")
    assert 'pod="train-0-x7k2p"' in text, "what it said last is served"
    assert "gpuyard_pod_resources_age_seconds" in text
    assert text.count("DCGM_FI_DEV_GPU_TEMP{") == 4
    node.kubelet.held = {}
    node.kubelet.answers.set()
    await node.until("its answer", "gpuyard_pod_resources_up", "} 1")


async def test_beside_another_installs_agent_it_tells_of_no_gpus(node: Node) -> None:
    await node.until("four GPUs", "gpuyard_gpu_healthy", 'gpu="3"')
    node.marks.unlink()
    text = await until_async(node.scrape, "it stands back", lambda text: "GPU-" not in text)
    # Nor of the kubelet, which it doesn't ask: an alert takes 0 for its silence.
    assert "gpuyard_pod_resources_" not in text
    # Whose they are says that there are some, not what is in them.
    node.marks.write_text("{")
    await node.until("four GPUs again", "gpuyard_gpu_healthy", 'gpu="3"')


async def test_wrong_arguments_are_told_in_a_line() -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gpuyard.agent.exporter", "--node", "n", "--pod-resources", "/x"),
        *("--socket", "/nonexistent/metrics.sock", "--simulate", "H100:1"),
        stderr=asyncio.subprocess.PIPE,
    )
    _, said = await process.communicate()
    assert process.returncode == 1
    assert said.decode().startswith("gpuyard.agent.exporter: can't serve metrics on /nonexistent")
    assert "Traceback" not in said.decode()
