"""The kubelet's file of who has which devices."""

import json
from pathlib import Path
from typing import Any

import pytest

from gpuyard import errors
from gpuyard.agent.metrics.kubelet_checkpoint import read_checkpoint


def entry(uid: str, ids: Any) -> dict[str, Any]:
    resource = {"ContainerName": "main", "ResourceName": "nvidia.com/gpu", "AllocResp": "CgA="}
    return {"PodUID": uid, "DeviceIDs": ids, **resource}


def write(folder: Path, entries: Any) -> Path:
    file = folder / "kubelet_internal_checkpoint"
    data = {"PodDeviceEntries": entries, "RegisteredDevices": {"nvidia.com/gpu": ["G::0"]}}
    file.write_text(json.dumps({"Data": data, "Checksum": 1834}))
    return file


def test_each_pod_has_the_devices_of_its_containers(tmp_path: Path) -> None:
    entries = [entry("a", {"0": ["G::0"], "1": ["H::1"]}), entry("a", {"-1": ["G::2"]}), entry("b", None)]
    assert read_checkpoint(write(tmp_path, entries)) == {"a": {"G::0", "H::1", "G::2"}, "b": set()}


def test_a_kubelet_that_gave_nothing_or_has_no_file(tmp_path: Path) -> None:
    assert read_checkpoint(tmp_path / "none") is None
    assert read_checkpoint(write(tmp_path, None)) == {}


@pytest.mark.parametrize("entries", [[1], [{"PodUID": "a"}], [entry("a", {"0": 3})], "x"])
def test_what_no_kubelet_writes_is_told(tmp_path: Path, entries: Any) -> None:
    with pytest.raises(errors.DeviceError, match="can't read"):
        read_checkpoint(write(tmp_path, entries))
