import pytest

from gpuyard import errors
from gpuyard.gpus.faults import ECC, HOT, LOST
from gpuyard.runs.nodes.simulated_fault import fault_reason


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


def test_a_fault_of_the_program_makes_no_gpu_unhealthy() -> None:
    with pytest.raises(errors.UsageError, match="XID 31 is a fault of the program"):
        fault_reason("31")
