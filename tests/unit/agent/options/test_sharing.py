from dataclasses import replace

import pytest

from gpuyard.agent.options.sharing import Sharing, SharingStrategy
from gpuyard.devices.inventory import Mig, MigInstance
from gpuyard.devices.simulated.simulation import parse_simulation, simulate
from gpuyard.gpus.mig_profiles import MigEngines
from gpuyard.kube.wellknown import AMD

H100 = simulate(parse_simulation("H100:1"), seed="node").devices[0]
P100 = simulate(parse_simulation("P100:1"), seed="node").devices[0]
PART = MigInstance(2, "MIG-1", "1g.10gb", 7, 0, 0, 1, 1, 1, 9856, 16, MigEngines())
MPS = Sharing(SharingStrategy.MPS, 4)
SLICED = Sharing(SharingStrategy.TIME_SLICING, 4)


def test_clients_of_mps_have_equal_shares_unless_it_is_said() -> None:
    assert (MPS.client_memory_mib(H100), MPS.client_thread_percent) == (81559 // 4, 25)
    limited = replace(MPS, memory_mib=1000, thread_percent=60)
    assert (limited.client_memory_mib(H100), limited.client_thread_percent) == (1000, 60)


def test_what_mps_can_not_share_is_said() -> None:
    assert MPS.problem(H100, None) == "" and SLICED.problem(replace(H100, vendor=AMD), PART) == ""
    assert "is split" in MPS.problem(H100, PART)
    assert "is split" in MPS.problem(replace(H100, mig=Mig(True, True)), None)
    assert "isn't NVIDIA's" in MPS.problem(replace(H100, vendor=AMD), None)
    assert replace(MPS, replicas=48).problem(H100, None) == ""
    assert replace(MPS, replicas=17).problem(P100, None) == "can have 16 clients of MPS, not 17"
    assert "not the 120000 of 4" in replace(MPS, memory_mib=30000).problem(H100, None)


@pytest.mark.parametrize(
    ("devices", "whole", "part"),
    [
        ((), True, True),
        (("0",), True, False),
        ((H100.uuid,), True, False),
        (("0:2",), False, True),
        (("1",), False, False),
    ],
)
def test_a_rule_is_about_what_it_names(devices: tuple[str, ...], whole: bool, part: bool) -> None:
    rule = replace(SLICED, devices=devices)
    assert rule.is_of("nvidia.com/gpu", H100, None) == whole
    assert rule.is_of("nvidia.com/gpu", H100, PART) == part
    assert not rule.is_of("nvidia.com/mig-1g.10gb", H100, PART)
