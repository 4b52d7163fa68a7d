"""What make-believe GPUs are, beside what they measure: as the backends of real ones would find them."""

import pytest

from gpuyard import errors
from gpuyard.devices.inventory import AmdTraits, Link, PcieLevel
from gpuyard.devices.simulated.simulation import parse_simulation, parse_simulations, simulate
from gpuyard.kube.wellknown import AMD, NVIDIA


def test_amds_are_as_its_driver_shows_real_ones() -> None:
    found = simulate(parse_simulation("MI300X:8"), seed="node")
    assert (found.driver_version, found.cuda_version, found.common_nodes) == ("", (0, 0), ())
    assert {(gpu.vendor, gpu.model, gpu.memory_mib) for gpu in found.devices} == {(AMD, "MI300X", 196592)}
    third = found.devices[2]
    assert len(third.uuid) == len("GPU-99dd665d87e8bd00") and third.node_name == "renderD130"
    assert [node.path for node in third.nodes] == ["/dev/kfd", "/dev/dri/card2", "/dev/dri/renderD130"]
    assert third.amd == AmdTraits(
        device_id="74a1",
        family="AI",
        compute_units=304,
        simds=1216,
        partition="spx_nps1",
        can_split_compute=True,
        can_split_memory=True,
        driver_version="6.16.6",
    )
    assert found.link(found.devices[0].uuid, found.devices[3].uuid) == Link(PcieLevel.SAME_CPU, 1)
    assert found.link(found.devices[0].uuid, found.devices[7].uuid) == Link(PcieLevel.DIFFERENT_CPU, 1)


def test_a_radeon_has_what_is_known_of_it() -> None:
    (gpu,) = simulate(parse_simulation("RX-7900-XTX"), seed="node").devices
    assert gpu.amd == AmdTraits(device_id="744c", driver_version="6.16.6")


def test_nvidias_are_not() -> None:
    (gpu,) = simulate(parse_simulation("H100"), seed="node").devices
    assert (gpu.vendor, gpu.amd, gpu.node_name) == (NVIDIA, None, "nvidia0")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", []),
        ("H100", ["H100:1"]),
        ("H100:8, A100:4", ["H100:8", "A100-40GB:4"]),
        ("h100:2,H100:2", ["H100:2"] * 2),
    ],
)
def test_what_each_node_simulates(text: str, found: list[str]) -> None:
    assert [str(each) for each in parse_simulations(text)] == found


@pytest.mark.parametrize("text", [",", "H100:8,", "H100:8,,A100:4", "H100:8;A100:4", ",".join(["H100"] * 17)])
def test_what_no_nodes_simulate(text: str) -> None:
    with pytest.raises(errors.UsageError, match="can't simulate"):
        parse_simulations(text)
