"""A yard with AMD's GPUs: what it offers, and what a run gets of them."""

from __future__ import annotations

import json
from pathlib import Path

from tests.waiting import until

from .conftest import Yard

ENVIRONMENT = (
    "import json, os; print(json.dumps({n: v for n, v in os.environ.items() if 'VISIBLE' in n}));"
    "print(sorted(n for n in os.listdir('/dev') if n in ('kfd', 'dri')))"
)


def test_amds_gpus_from_the_node_to_the_run(stopped_yard: Yard) -> None:
    yard = stopped_yard
    yard.ok("up", "--simulate", "MI300X:4")
    (node,) = yard.get("/api/v1/nodes")["items"]
    assert node["status"]["allocatable"]["amd.com/gpu"] == "4"
    assert "nvidia.com/gpu" not in node["status"]["allocatable"]
    labels = node["metadata"]["labels"]
    assert (labels["amd.com/gpu.vram"], labels["amd.com/gpu.cu-count"]) == ("192G", "304")
    assert not [name for name in labels if name.startswith("nvidia.com/")]

    printed = yard.ok("run", "-n", "train", "--gpus", "2", "--", "python3", "-c", ENVIRONMENT).splitlines()
    visible = json.loads(printed[0])
    # An empty one beside HIP's keeps Ray from starting.
    assert ("CUDA_VISIBLE_DEVICES" in visible, visible["NVIDIA_VISIBLE_DEVICES"]) == (
        Path("/dev/nvidiactl").exists(),
        "void",
    )
    assert (visible["HIP_VISIBLE_DEVICES"], len(set(visible["ROCR_VISIBLE_DEVICES"].split(",")))) == (
        "0,1",
        2,
    )
    assert printed[1] == "['dri', 'kfd']"
    assert yard.state("train")["gpus"] == 2

    nothing = json.loads(yard.ok("run", "--", "python3", "-c", ENVIRONMENT).splitlines()[0])
    assert (nothing["ROCR_VISIBLE_DEVICES"], nothing["HIP_VISIBLE_DEVICES"]) == ("", "")
    assert '"amd.com/gpu": "1"' in yard.ok("run", "--gpus", "MI300X", "--dry-run", "-o", "json", "--", "true")
    assert '"amd.com/gpu": "3"' in yard.ok("run", "--gpus", "3", "--dry-run", "-o", "json", "--", "true")
    refusal = yard.refused(2, "run", "--gpus", "5", "--", "true")
    assert "needs 5" in refusal and "4 GPUs" in refusal
    assert "needs any H100" in yard.refused(2, "run", "--gpus", "H100", "--", "true")
    (shown,) = yard.json("node")
    assert [gpu["index"] for gpu in shown["gpus"]] == [0, 1, 2, 3]
    yard.ok("node", "fault", "--gpu", "3", "--xid", "lost")
    until(
        lambda: yard.get("/api/v1/nodes")["items"][0]["status"]["allocatable"]["amd.com/gpu"],
        "one that is lost",
        lambda found: found == "3",
    )
