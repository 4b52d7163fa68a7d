import pytest

from gpuyard.cli.output.node_report import link_texts, print_node
from gpuyard.gpus.faults import GpuFault
from gpuyard.gpus.occupants import Occupant
from gpuyard.runs.nodes.gpu_node import GpuLink, GpuNode, GpuPart, GpuUser, NodeGpu


def linked(count: int, island: int, nvlinks: int) -> GpuNode:
    """A node whose GPUs have that many NVLinks within islands, and a CPU for every four."""

    def link(one: int, other: int) -> GpuLink:
        pcie = "host-bridge" if one // 4 == other // 4 else "different-cpu"
        return GpuLink(other, nvlinks if one // island == other // island else 0, pcie)

    gpus = (
        NodeGpu(n, f"GPU-{n}", links=tuple(link(n, m) for m in range(count) if m != n), numa_node=n // 4)
        for n in range(count)
    )
    return GpuNode("a", gpu_count=count, model="H100", gpus=tuple(gpus))


def test_links_are_said_once() -> None:
    assert link_texts(linked(8, 8, 18)) == [
        "18 NVLinks between any two of GPUs 0-7",
        "one PCIe host bridge between any two of GPUs 0-3, and of GPUs 4-7",
    ]
    assert link_texts(linked(4, 2, 1))[0] == "1 NVLink between any two of GPUs 0-1, and of GPUs 2-3"
    assert link_texts(linked(1, 1, 0)) == []


def test_links_that_form_no_groups_are_named() -> None:
    chain = tuple(
        NodeGpu(n, f"GPU-{n}", links=tuple(GpuLink(m, 4, "") for m in (n - 1, n + 1) if 0 <= m < 3))
        for n in range(3)
    )
    assert link_texts(GpuNode("a", gpus=chain)) == ["4 NVLinks between 0 and 1, 1 and 2"]


def test_a_node_is_told_whole(capsys: pytest.CaptureFixture[str]) -> None:
    fault = GpuFault(1, "GPU-1", "XID 79", "2026-01-31T12:00:00Z")
    stranger = Occupant(1, "GPU-1", "alice", pid=4711, command="python", memory_mib=21 * 1024)
    gpus = (
        NodeGpu(0, "GPU-0", numa_node=0, mig="off", users=(GpuUser("default", "p", run="train"),)),
        NodeGpu(1, "GPU-1", numa_node=1, mig="off", fault=fault, occupants=(stranger,)),
    )
    print_node(
        GpuNode(
            "a",
            "",
            2,
            "H100",
            True,
            "580.95.05",
            "13.0",
            faults=(fault,),
            occupants=(stranger,),
            gpus=gpus,
            unread="",
        )
    )
    said = capsys.readouterr().out
    for text in (
        "GPUs:     2 × H100 (simulated)",
        "Driver:   580.95.05, CUDA 13.0",
        "NUMA:     0: GPU 0\n          1: GPU 1",
        "MIG:      off",
        "GPU 1 is unhealthy: XID 79 (GPU has fallen off the bus) since 2026-01-31 12:00 UTC",
        "GPU 1: held by alice, pid 4711 (python), 21 GiB, not a run",
    ):
        assert text in said


def test_a_node_that_says_little(capsys: pytest.CaptureFixture[str]) -> None:
    user = GpuUser("default", "p", run="train")
    print_node(GpuNode("a", gpu_count=8, model="H100", users=(user, user), unread="no agent"))
    out, err = capsys.readouterr()
    assert "Its GPUs are held by train." in out
    assert "isn't known: no agent" in err


def test_how_gpus_are_shared_and_what_is_not_offered(capsys: pytest.CaptureFixture[str]) -> None:
    part = GpuPart("1", "3g.40gb", sharing="time-slicing", replicas=4)
    gpus = (
        NodeGpu(0, "GPU-0", sharing="time-slicing", replicas=4),
        NodeGpu(1, "GPU-1", sharing="mps", replicas=2, unoffered="has 1c.3g.40gb"),
        NodeGpu(2, "GPU-2", parts=(part, part)),
    )
    print_node(GpuNode("a", gpu_count=3, gpus=gpus))
    said = capsys.readouterr().out
    assert "time-slicing ×4: GPUs 0, 2" in said
    assert "mps ×2: GPU 1" in said
    assert "GPU 1 has 1c.3g.40gb" in said
