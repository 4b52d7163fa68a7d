import asyncio
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from gpuyard import errors
from gpuyard.devices import gpu_locks
from gpuyard.devices.mig_layout import parse_layout
from gpuyard.local.paths import YardPaths, find_paths
from gpuyard.local.settings import RunningYard, Settings, save_running, save_settings
from gpuyard.runs.nodes.mig import node_paths, open_machine, plan
from tests.fake_driver import install_with_nvml

NOWHERE = Path("/nonexistent/kubelet.sock")


@pytest.fixture
def paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[YardPaths]:
    """The folders of a yard that doesn't run, on a machine where no other has locked a GPU."""
    monkeypatch.setattr(gpu_locks, "find_lock_folder", lambda: None)
    paths = find_paths({"GPUYARD_HOME": str(tmp_path / "home")})
    paths.make_folders()
    yield paths
    shutil.rmtree(paths.runtime_dir)


def test_the_yard_s_simulated_gpus(paths: YardPaths) -> None:
    save_settings(paths.settings, Settings("H100:1"))
    save_running(paths.running, RunningYard(1, 2, "https://127.0.0.1:1", "node", "1", "now"))
    with open_machine(paths, NOWHERE) as machine:
        (one,), holders = asyncio.run(plan(machine, parse_layout("all: 3g.40gb"), paths, NOWHERE))
    assert machine.inventory.simulated
    assert [str(new) for new in one.create] == ["3g.40gb@4"]
    assert holders == {}


def test_of_several_nodes_one_is_named(paths: YardPaths) -> None:
    save_settings(paths.settings, Settings("A100:1,H100:2"))
    running = RunningYard(1, 2, "https://127.0.0.1:1", "a", "1", "now", further_agents={"a-2": 3})
    save_running(paths.running, running)
    with open_machine(paths, NOWHERE, "a-2") as machine:
        assert [device.model for device in machine.inventory.devices] == ["H100", "H100"]
    assert node_paths(paths, "a-2") == paths.of_node(2)
    for named, why in (("", "has 2 nodes"), ("b", "has no node 'b'")):
        with pytest.raises(errors.UsageError, match=why) as raised:
            open_machine(paths, NOWHERE, named)
        assert raised.value.remedy == "name one of a, a-2"


def test_the_machine_s_own(paths: YardPaths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NVML_STUB_MIG", str(tmp_path / "mig"))
    with open_machine(paths, install_with_nvml(tmp_path / "root")) as machine:
        (one,), _ = asyncio.run(plan(machine, parse_layout("2: 7g.80gb"), paths, NOWHERE))
        assert one.mode is True
        silent = tmp_path / "kubelet.sock"
        silent.touch()
        with pytest.raises(errors.DeviceError, match="doesn't say which pods hold GPUs"):
            asyncio.run(plan(machine, parse_layout("2: 7g.80gb"), paths, silent))
        # Its pods run on while it is down.
        silent.unlink()
        with pytest.raises(errors.DeviceError, match="no kubelet answers in"):
            asyncio.run(plan(machine, parse_layout("2: 7g.80gb"), paths, silent))


@pytest.mark.skipif(os.geteuid() != 0, reason="needs a second user")
def test_a_kubelet_that_only_root_may_ask(
    paths: YardPaths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NVML_STUB_MIG", str(tmp_path / "mig"))
    (tmp_path / "kubelet").mkdir(mode=0o700)
    with open_machine(paths, install_with_nvml(tmp_path / "root")) as machine:
        planned = plan(machine, parse_layout("2: 7g.80gb"), paths, tmp_path / "kubelet/kubelet.sock")
        os.seteuid(65534)
        try:
            with pytest.raises(errors.DeviceError, match=r"can't look at .*kubelet\.sock: Perm") as raised:
                asyncio.run(planned)
        finally:
            os.seteuid(0)
    assert raised.value.remedy == "run it as root"
