import json
from pathlib import Path
from typing import Any

import pytest

from gpuyard import errors
from gpuyard.agent.gpu_use.ledger import HeldDevice, PodName, UseLedger
from gpuyard.agent.gpu_use.use_file import UseRecord, read_use, write_use
from gpuyard.devices.readings import Reading


def record() -> UseRecord:
    ledger = UseLedger()
    device = HeldDevice("GPU-a", "GPU-a")
    for at_s, held in ((1.5, {PodName("n", "a"): {device}}), (3.5, {PodName("n", "b"): {device}})):
        ledger.note(at_s, held, {"GPU-a": Reading(utilisation_percent=50, energy_mj=7)})
    return UseRecord("s", "boot").of(ledger)


def test_it_is_read_as_it_was_written(tmp_path: Path) -> None:
    file = tmp_path / "use.json"
    assert read_use(file) is None
    write_use(file, record())
    assert read_use(file) == record()
    write_use(file, UseRecord("s", "boot"))
    assert read_use(file) == UseRecord("s", "boot")


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"session": "s", "boot_id": "b", "pods": [{}], "last": 0}']
)
def test_what_it_is_not_is_said(tmp_path: Path, text: str) -> None:
    file = tmp_path / "use.json"
    file.write_text(text)
    with pytest.raises(errors.DeviceError, match=r"use\.json"):
        read_use(file)


def test_a_place_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    with pytest.raises(errors.DeviceError, match="can't write what pods use"):
        write_use(tmp_path / "gone/use.json", record())


POD = {"id": 1, "name": ["n", "a"], "use": {"gpus": 1}, "has_ended": False}
LAST = {"at_s": 1.5, "held": [["n", "a", [["GPU-a", "GPU-a", False]]]], "energy_mj": {"GPU-a": 7}}


@pytest.mark.parametrize(
    ("pod", "last"),
    [
        ({}, {"energy_mj": []}),
        ({}, {"energy_mj": {"GPU-a": float("inf")}}),
        ({}, {"energy_mj": {"GPU-a": -(10**400)}}),
        ({}, {"energy_mj": {"GPU-a": 2**64}}),
        ({}, {"at_s": float("nan")}),
        ({}, {"at_s": 10**400}),
        ({}, {"held": [["n", 1, []]]}),
        ({}, {"held": [["n", "a", [[[], "GPU-a"]]]]}),
        ({}, {"held": [["n", "a", [[1, "GPU-a"]]]]}),
        ({"id": float("inf")}, {}),
        ({"name": [[], []]}, {}),
        ({"name": [1, 2]}, {}),
        ({"name": ["n", "../../nodes/here"]}, {}),
        ({"name": ["n", "\ud800"]}, {}),
        ({"name": ["", ""]}, {}),
        ({"use": {"gpu_s": 10**400}}, {}),
    ],
)
def test_no_wrong_shape_is_taken_for_right(tmp_path: Path, pod: dict[str, Any], last: dict[str, Any]) -> None:
    file = tmp_path / "use.json"
    raw = {"session": "s", "boot_id": "b", "pods": [{**POD}], "last": {**LAST}}
    file.write_text(json.dumps(raw))
    assert read_use(file)
    file.write_text(json.dumps({**raw, "pods": [{**POD, **pod}], "last": {**LAST, **last}}))
    with pytest.raises(errors.DeviceError, match=r"use\.json"):
        read_use(file)
