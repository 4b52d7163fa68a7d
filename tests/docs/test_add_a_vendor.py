"""The vendor of the page works, as it stands there, in an agent that a kubelet asks."""

import asyncio
import os
import re
import sys
from pathlib import Path
from typing import Any

from gpuyard._proto import device_plugin_pb2 as pb
from gpuyard.agent.marks_file import read_marks
from tests.unit.agent.plugin.conftest import Kubelet, folder, kubelet

__all__ = ["folder", "kubelet"]

PAGE = Path(__file__).parents[2] / "docs/how-to/add-a-vendor.md"
#: Reads a folder of the test's in the place of /sys.
AT = """
from pathlib import Path
from acme_gpus import AcmeBackend
def open_backend(sys_root, host_root):
    return AcmeBackend(Path({!r}))
"""


def card(sys_root: Path, number: int, vendor: str = "0xacee") -> Path:
    device = sys_root / f"devices/0000:0{number}:00.0"
    device.mkdir(parents=True)
    said = {"vendor": vendor, "state": "ok", "serial": f"7{number}", "product": "Acme One", "numa_node": "0"}
    for name, value in {**said, "memory_bytes": str(16 * 2**30)}.items():
        (device / name).write_text(f"{value}\n")
    node = sys_root / f"class/accel/accel{number}"
    node.mkdir(parents=True)
    (node / "device").symlink_to(device)
    return device


async def soon(queue: asyncio.Queue[Any]) -> Any:
    return await asyncio.wait_for(queue.get(), 60)


async def test_the_vendor_of_the_page_is_served(kubelet: Kubelet, folder: Path, tmp_path: Path) -> None:
    (code,) = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    (tmp_path / "acme_gpus.py").write_text(code)
    (tmp_path / "acme_here.py").write_text(AT.format(str(tmp_path / "sys")))
    card(tmp_path / "sys", 0)
    card(tmp_path / "sys", 1, vendor="0x1234")
    second = card(tmp_path / "sys", 2)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gpuyard.agent", "--plugins-dir", str(folder)),
        *("--driver-root", str(tmp_path), "--gpu-backend", "acme_here"),
        *("--marks-file", str(tmp_path / "marks.json")),
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )
    try:
        assert (await soon(kubelet.registered)).resource_name == "acme.example/gpu"
        assert await soon(kubelet.lists) == {"ACME-70": "Healthy", "ACME-72": "Healthy"}
        assert kubelet.plugin is not None
        asked = pb.ContainerAllocateRequest(devices_ids=["ACME-72"])
        given = await kubelet.plugin.Allocate(pb.AllocateRequest(container_requests=[asked]), timeout=60)
        (container,) = given.container_responses
        assert [node.host_path for node in container.devices] == ["/dev/accel/accel2"]
        assert not container.envs
        marks = read_marks(tmp_path / "marks.json")
        assert marks is not None
        labels = marks.labels
        assert labels["acme.example/gpu.product"] == "Acme-One"
        assert (labels["acme.example/gpu.count"], labels["acme.example/gpu.memory"]) == ("2", "16384")
        (second / "state").write_text("dead\n")
        assert await soon(kubelet.lists) == {"ACME-70": "Healthy", "ACME-72": "Unhealthy"}
    finally:
        process.terminate()
        await process.wait()
