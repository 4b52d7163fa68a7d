import pytest

from gpuyard import errors
from gpuyard.gpus.faults import ECC, HOT, LOST, RAS
from gpuyard.runs.nodes.simulated_fault import fault_reason, for_maker


@pytest.mark.parametrize(
    ("text", "reason"),
    [("79", "XID 79"), ("lost", LOST), ("hot", HOT), ("ecc", ECC), ("recovered", "")],
)
def test_what_a_fault_is_called(text: str, reason: str) -> None:
    assert fault_reason(text) == reason


@pytest.mark.parametrize("text", ["", "-1", "0", "1000", "7.9", "fire", "٧٩"])
def test_what_is_no_fault(text: str) -> None:
    with pytest.raises(errors.UsageError, match="is no fault") as raised:
        fault_reason(text)
    assert "lost, hot, ecc, recovered" in raised.value.remedy


def test_xids_are_nvidias() -> None:
    amd = {"metadata": {"name": "a"}, "status": {"capacity": {"amd.com/gpu": "8"}}}
    nvidia = {"metadata": {"name": "a"}, "status": {"capacity": {"nvidia.com/gpu": "8"}}}
    with pytest.raises(errors.UsageError, match="XID 79 is a fault of NVIDIA's GPUs") as raised:
        for_maker(amd, 3, "XID 79")
    assert "give lost, hot or ecc" in raised.value.remedy
    assert [for_maker(amd, 3, each) for each in (LOST, HOT, ECC, "")] == [LOST, HOT, RAS, ""]
    assert for_maker(nvidia, 3, "XID 79") == "XID 79"


def test_a_fault_of_the_program_makes_no_gpu_unhealthy() -> None:
    with pytest.raises(errors.UsageError, match="XID 31 is a fault of the program"):
        fault_reason("31")
