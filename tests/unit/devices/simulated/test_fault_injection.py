import json
from pathlib import Path

import pytest

from gpuyard import errors
from gpuyard.devices.simulated.fault_injection import set_fault
from gpuyard.devices.simulated.simulation import parse_simulation, simulate
from gpuyard.devices.simulated.state import SimulatedState, read_state


def test_the_backend_reads_what_is_written(tmp_path: Path) -> None:
    inventory = simulate(parse_simulation("H100:4"), seed="node")
    file, uuid = tmp_path / "health.json", inventory.devices[3].uuid
    set_fault(file, 3, "", "XID 79")
    assert read_state(file, inventory) == (SimulatedState({uuid: "XID 79"}), ())
    set_fault(file, 3, uuid, "")
    assert read_state(file, inventory) == (SimulatedState(), ())


def test_the_rest_of_the_file_stays(tmp_path: Path) -> None:
    file = tmp_path / "health.json"
    file.write_text('{"mig": {"0": []}, "unhealthy": {"GPU-3": "XID 48", "1": "lost"}}')
    set_fault(file, 3, "GPU-3", "XID 79")
    assert json.loads(file.read_text()) == {"mig": {"0": []}, "unhealthy": {"1": "lost", "3": "XID 79"}}


@pytest.mark.parametrize("text", ["{", "[]", '{"unhealthy": []}'])
def test_a_file_that_is_wrong_is_named(tmp_path: Path, text: str) -> None:
    file = tmp_path / "health.json"
    file.write_text(text)
    with pytest.raises(errors.DeviceError, match=r"can't read .*health\.json") as raised:
        set_fault(file, 3, "", "XID 79")
    assert "remove it" in raised.value.remedy
    assert file.read_text() == text


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(errors.DeviceError, match=r"can't write .*health\.json"):
        set_fault(tmp_path / "gone" / "health.json", 3, "", "XID 79")
