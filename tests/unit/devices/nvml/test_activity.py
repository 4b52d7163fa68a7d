from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pynvml
import pytest

from gpuyard.devices.nvml.activity import ActivityMeter
from gpuyard.devices.nvml.library import Nvml

Stub = Callable[..., Path]

GPU = [f"GPU-00000000-0000-0000-0000-{index:012d}" for index in range(4)]
#: GPU 1: a 3g.40gb and a 1g.10gb+me; GPU 2: two of three slices of a 3g.40gb.
LAYOUT = "on 1\non 2\ngi 1 9 4 2 3\ngi 1 20 0 7 1\ngi 2 9 0 1 2\n"
PART = "MIG-00000000-0000-0000-0000-000001000002"
PIECE = "MIG-00000000-0000-0000-0000-000002000001"


@pytest.fixture
def nvml(nvml_stub: Stub) -> Iterator[None]:
    with closing(Nvml.open(nvml_stub())):
        yield


def handle(uuid: str) -> Any:
    return pynvml.nvmlDeviceGetHandleByUUID(uuid)


def samples() -> int:
    """How many buffers the stub has given and not got back."""
    count: int = pynvml.nvmlLib.stub_samples()
    return count


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_it_is_measured_from_one_look_to_the_next(nvml: None) -> None:
    meter, before = ActivityMeter(), samples()
    assert meter.measure(GPU[1], handle(GPU[1])) == {}
    for _ in range(3):
        assert meter.measure(GPU[1], handle(GPU[1])) == {
            "engine_active": 0.02,
            "sm_active": 0.03,
            "sm_occupancy": 0.04,
            # The driver may say a little more than all.
            "tensor_active": 1.0,
            "memory_active": 0.11,
            "pcie_sent_bytes_per_s": 21 << 20,
            "pcie_received_bytes_per_s": 22 << 20,
        }
    assert samples() == before + 2
    meter.keep([GPU[0]])
    assert samples() == before
    assert meter.measure(GPU[1], handle(GPU[1])) == {}
    meter.keep(())


def test_what_was_not_counted_and_what_fails_is_left_out(nvml: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NVML_STUB_GPM_PASSED", "0")
    monkeypatch.setenv("NVML_STUB_GPM_OUTCOME", "3")
    meter = ActivityMeter()
    meter.measure(GPU[0], handle(GPU[0]))
    assert meter.measure(GPU[0], handle(GPU[0])).keys() == {
        *("engine_active", "sm_active", "tensor_active"),
        *("pcie_sent_bytes_per_s", "pcie_received_bytes_per_s"),
    }
    meter.keep(())


@pytest.mark.parametrize(
    "code",
    [
        pynvml.NVML_ERROR_NOT_SUPPORTED,
        pynvml.NVML_ERROR_FUNCTION_NOT_FOUND,
        pynvml.NVML_ERROR_NO_PERMISSION,
    ],
)
@pytest.mark.parametrize("function", ["nvmlGpmQueryDeviceSupport", "nvmlGpmSampleGet"])
def test_what_never_will_answer_is_asked_once(
    nvml: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str, code: int
) -> None:
    faults, calls, before = tmp_path / "faults", tmp_path / "calls", samples()
    monkeypatch.setenv("NVML_STUB_FAULTS", str(faults))
    monkeypatch.setenv("NVML_STUB_CALLS", str(calls))
    faults.write_text(f"{function} {code}\n")
    meter = ActivityMeter()
    assert [meter.measure(GPU[0], handle(GPU[0])) for _ in range(3)] == [{}] * 3
    assert calls.read_text() == f"{function} {code}\n"
    assert samples() == before


def test_a_gpu_older_than_hopper_says_nothing(nvml: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NVML_STUB_WITHOUT_GPM", "1")
    meter, before = ActivityMeter(), samples()
    assert [meter.measure(GPU[0], handle(GPU[0])) for _ in range(2)] == [{}] * 2
    assert samples() == before


def test_a_fault_that_passes_costs_two_looks(
    nvml: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    faults, before = tmp_path / "faults", samples()
    monkeypatch.setenv("NVML_STUB_FAULTS", str(faults))
    meter = ActivityMeter()
    faults.write_text(f"nvmlGpmSampleGet {pynvml.NVML_ERROR_UNKNOWN}\n")
    assert meter.measure(GPU[0], handle(GPU[0])) == {}
    assert samples() == before
    faults.unlink()
    assert [len(meter.measure(GPU[0], handle(GPU[0]))) for _ in range(2)] == [0, 7]
    meter.keep(())


def test_a_mig_instance_is_measured_by_itself_and_a_piece_of_one_is_not(
    nvml: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NVML_STUB_MIG", str(tmp_path / "mig"))
    (tmp_path / "mig").write_text(LAYOUT)
    meter, before = ActivityMeter(), samples()
    meter.measure(PART, handle(PART))
    assert meter.measure(PART, handle(PART))["engine_active"] == 0.21
    assert [meter.measure(PIECE, handle(PIECE)) for _ in range(2)] == [{}] * 2
    meter.keep(())
    assert samples() == before


def test_links_carry_what_their_counter_grew_by() -> None:
    clock = Clock()
    meter = ActivityMeter(clock)
    assert meter.link_mib_per_s(GPU[0], 5 << 20) is None
    clock.now_s += 2
    assert meter.link_mib_per_s(GPU[0], (5 << 20) + 6 * 1024) == 3
    assert meter.link_mib_per_s(GPU[0], 6 << 20) is None, "no time has passed"
    clock.now_s += 1
    assert meter.link_mib_per_s(GPU[0], 1024) is None, "the driver was loaded anew"
    clock.now_s += 1
    assert meter.link_mib_per_s(GPU[0], None) is None
    assert meter.link_mib_per_s(GPU[0], 1024) is None
