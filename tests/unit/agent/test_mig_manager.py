import json
import os
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc.aio
import pytest

from gpuyard import errors
from gpuyard._proto import pod_resources_pb2 as pb
from gpuyard._proto import pod_resources_pb2_grpc as rpc
from gpuyard.agent.mig_manager import pods_by_device, real_machine, simulated_machine
from gpuyard.devices.gpu_locks import GpuLocks, find_lock_folder, user_name
from gpuyard.devices.mig_layout import parse_layout
from gpuyard.devices.simulated.simulation import parse_simulation
from tests.fake_driver import install_with_nvml


class Kubelet(rpc.PodResourcesListerServicer):
    async def List(self, request: pb.ListPodResourcesRequest, context: Any) -> pb.ListPodResourcesResponse:
        devices = [
            pb.ContainerDevices(resource_name="nvidia.com/mig-1g.10gb", device_ids=["MIG-1"]),
            pb.ContainerDevices(resource_name="nvidia.com/gpu.shared", device_ids=["GPU-2::3"]),
        ]
        container = pb.ContainerResources(name="main", devices=devices)
        pod = pb.PodResources(name="trainer", namespace="team", containers=[container])
        return pb.ListPodResourcesResponse(pod_resources=[pod])


@pytest.fixture
async def kubelet(tmp_path: Path) -> AsyncIterator[Path]:
    """The socket of one that has given out a part and a share."""
    server = grpc.aio.server()
    rpc.add_PodResourcesListerServicer_to_server(Kubelet(), server)
    server.add_insecure_port(f"unix:{tmp_path}/kubelet.sock")
    await server.start()
    yield tmp_path / "kubelet.sock"
    await server.stop(None)


async def test_who_has_what(kubelet: Path) -> None:
    assert await pods_by_device([kubelet]) == {"MIG-1": "pod team/trainer", "GPU-2": "pod team/trainer"}
    assert await pods_by_device([]) == {}


async def test_a_kubelet_that_does_not_say(tmp_path: Path) -> None:
    with pytest.raises(errors.DeviceError, match="doesn't say which pods hold GPUs"):
        await pods_by_device([tmp_path / "gone.sock"])


def test_simulated_gpus_are_split_by_their_file(tmp_path: Path) -> None:
    file, simulation = tmp_path / "state.json", parse_simulation("H100:2")
    with simulated_machine(simulation, "node", file) as machine:
        plans = machine.plan(parse_layout("0: 3g.40gb 1g.10gb; 1: all 2g.20gb"), {})
        machine.apply(plans)
    with simulated_machine(simulation, "node", file) as machine:
        first, second = machine.inventory.devices
        assert first.mig is not None
        assert [f"{part.profile}@{part.start}" for part in first.mig.instances] == ["3g.40gb@4", "1g.10gb@0"]
        assert second.mig is not None
        assert len(second.mig.instances) == 3
        held = {first.mig.instances[0].uuid: "pod a/b"}
        one, other = machine.plan(parse_layout("0: 3g.40gb 2g.20gb; 1: whole"), held)
        assert [part.profile for part in one.keep] == ["3g.40gb"]
        machine.apply([one, other])
    assert json.loads(file.read_text()) == {"mig": {"0": ["3g.40gb@4", "2g.20gb@0"]}}


def test_real_gpus_are_those_of_the_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = install_with_nvml(tmp_path / "root")
    (tmp_path / "mig").write_text("on 1\ngi 1 9 4 2 3\n")
    (tmp_path / "processes").write_text("0 compute 4711 1024 -1\n")
    monkeypatch.setenv("NVML_STUB_MIG", str(tmp_path / "mig"))
    monkeypatch.setenv("NVML_STUB_PROCESSES", str(tmp_path / "processes"))
    with real_machine(root) as machine:
        first, second = machine.plan(parse_layout("0: 1g.10gb; 1: 3g.40gb 1g.10gb"), {})
        assert [why.partition(" has ")[0] for why in first.refusals] == ["it stays as it is: process 4711"]
        assert [part.profile for part in second.keep] == ["3g.40gb"]
        machine.apply([second])
    with real_machine(root) as machine:
        mig = machine.inventory.devices[1].mig
        assert mig is not None
        assert sorted(part.profile for part in mig.instances) == ["1g.10gb", "3g.40gb"]
        part = mig.instances[0].uuid
        folder = find_lock_folder()
        assert folder is not None
        locks = GpuLocks(folder, tmp_path, lambda: datetime(2026, 11, 29, tzinfo=UTC))
        locks.take(part, "train")
    try:
        with real_machine(root) as machine:
            (one,) = machine.plan(parse_layout("1: whole"), {})
            assert (
                f"run train of the yard of {user_name(os.geteuid())} ({tmp_path}) has it" in one.refusals[0]
            )
    finally:
        locks.release(part)
    monkeypatch.setenv("NVML_STUB_GPUS", "0")
    with pytest.raises(errors.DeviceError, match="finds no GPU"), real_machine(root):
        pass
