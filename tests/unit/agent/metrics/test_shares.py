from gpuyard.agent.gpu_use.ledger import PodName
from gpuyard.agent.metrics.holdings import Holding, Holdings
from gpuyard.agent.metrics.shares import PodShare, has_shares, pod_shares
from gpuyard.devices.readings import GpuProcess


def held(device: str, pod: str) -> Holding:
    return Holding("team", pod, "main", "nvidia.com/gpu", device)


def test_each_pod_has_what_its_processes_have() -> None:
    holdings = Holdings((held("G::0", "a"), held("G::1", "b"), held("G::2", "b"), held("H", "c")))
    environment = {1: "G::0", 2: "G::1,G::2", 3: "G::2", 4: "", 5: "G::7", 6: "G::0,G::1", 7: "H", 8: "G::0"}
    processes = {
        "G": tuple(
            GpuProcess(pid, None if pid == 8 else pid * 100, "compute") for pid in (1, 2, 3, 4, 5, 6, 8)
        ),
        "H": (GpuProcess(7, 700, "compute"),),
    }
    assert has_shares(holdings) and not has_shares(Holdings((held("H", "c"),)))
    # Whoever names no share of now, or those of two pods, is nobody's; what one has for itself is measured.
    assert pod_shares(holdings, processes, lambda pid: {*environment[pid].split(",")}) == (
        PodShare("G", PodName("team", "a"), 100),
        PodShare("G", PodName("team", "b"), 500),
    )
