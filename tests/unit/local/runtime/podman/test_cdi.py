import json
from pathlib import Path
from typing import Any

import pytest

from gpuyard import errors
from gpuyard.local.runtime.podman.cdi import CdiEdits, resolve
from gpuyard.local.runtime.values import HostDevice, Mount


def write(folder: Path, **fields: Any) -> None:
    def node(number: int) -> dict[str, str]:
        return {"path": f"/dev/nvidia{number}", "hostPath": "/dev/null", "permissions": "rw"}

    spec = {
        "cdiVersion": "0.5.0",
        "kind": "nvidia.com/gpu",
        "devices": [
            {"name": "0", "containerEdits": {"deviceNodes": [node(0)]}},
            {"name": "1", "containerEdits": {"deviceNodes": [node(1)]}},
            {"name": "all", "containerEdits": {"deviceNodes": [node(0), node(1)]}},
        ],
        "containerEdits": {
            "env": ["NVIDIA_VISIBLE_DEVICES=void"],
            "deviceNodes": [{"path": "/dev/nvidiactl"}],
            "mounts": [{"hostPath": "/lib/a", "containerPath": "/lib/b", "options": ["ro", "nodev", "bind"]}],
        },
        **fields,
    }
    (folder / "spec.json").write_text(json.dumps(spec))


def test_each_edit_once(tmp_path: Path) -> None:
    write(tmp_path)
    assert resolve(tmp_path, ["nvidia.com/gpu=0", "nvidia.com/gpu=all"]) == CdiEdits(
        (
            HostDevice("/dev/nvidiactl", "/dev/nvidiactl"),
            HostDevice("/dev/null", "/dev/nvidia0"),
            HostDevice("/dev/null", "/dev/nvidia1"),
        ),
        (Mount(Path("/lib/a"), "/lib/b", read_only=True, options=("nodev",)),),
        (("NVIDIA_VISIBLE_DEVICES", "void"),),
    )


def test_without_names_nothing_is_read(tmp_path: Path) -> None:
    (tmp_path / "spec.json").write_text("{")
    assert resolve(tmp_path, []) == CdiEdits()


@pytest.mark.parametrize("name", ["nvidia.com/gpu=2", "amd.com/gpu=0", "nvidia.com/gpu"])
def test_a_device_that_no_spec_has_is_named(tmp_path: Path, name: str) -> None:
    write(tmp_path)
    with pytest.raises(errors.DeviceError) as caught:
        resolve(tmp_path, [name])
    assert name in caught.value.message


def test_what_it_does_not_know_is_refused_and_not_left_out(tmp_path: Path) -> None:
    write(tmp_path, containerEdits={"hooks": [{"hookName": "createContainer", "path": "/bin/x"}]})
    with pytest.raises(errors.DeviceError, match="hooks"):
        resolve(tmp_path, ["nvidia.com/gpu=0"])


def test_a_damaged_spec_is_named(tmp_path: Path) -> None:
    (tmp_path / "spec.json").write_text("{")
    with pytest.raises(errors.DeviceError, match=r"spec\.json"):
        resolve(tmp_path, ["nvidia.com/gpu=0"])
