from __future__ import annotations

from gpuyard.cli.describe import _device_texts, _in_order


def test_events_of_one_second_are_in_the_order_of_their_writing() -> None:
    def event(version: str, moment: str = "2026-01-31T12:00:00Z") -> dict[str, object]:
        return {"metadata": {"resourceVersion": version}, "lastTimestamp": moment}

    events = [event("100"), event("9"), event("11"), event("200", "2026-01-31T11:00:00Z"), event("odd")]
    found = [one["metadata"]["resourceVersion"] for one in _in_order(events)]
    assert found == ["200", "odd", "9", "11", "100"]


def test_devices_are_numbered_as_the_process_does() -> None:
    annotations = {"gpuyard.io/devices": "GPU-b,GPU-a"}
    pod = {"metadata": {"annotations": annotations}, "spec": {"nodeName": "n"}}
    assert _device_texts(pod, {"n": "H100"}) == ["cuda:0 H100 GPU-b", "cuda:1 H100 GPU-a"]
    assert _device_texts(pod, {}) == ["cuda:0 GPU-b", "cuda:1 GPU-a"]
