from gpuyard.runs.nodes.gpu_node import GpuLoad, GpuNode, GpuPart, GpuUser, NodeGpu, run_loads, sum_load

TRAIN, WEB = GpuUser("default", "train-0", run="train"), GpuUser("team", "web")


def test_loads_add_up() -> None:
    assert sum_load([GpuLoad(90, 10, 80, 500, 60, 5), GpuLoad(50, 30, 80, 300, 70, 7), GpuLoad()]) == GpuLoad(
        utilisation_percent=70, memory_used_mib=40, memory_mib=160, power_w=800, temperature_c=70, energy_j=12
    )
    assert sum_load([]) == GpuLoad()


def test_a_run_has_what_its_pods_have_on_all_nodes() -> None:
    other_pod = GpuUser("default", "train-1", run="train")
    nodes = [
        GpuNode("a", gpus=(NodeGpu(0, "GPU-a", load=GpuLoad(80), users=(TRAIN,)),)),
        GpuNode("b", gpus=(NodeGpu(0, "GPU-b", load=GpuLoad(40), users=(other_pod,)), NodeGpu(1, "GPU-c"))),
    ]
    [run] = run_loads(nodes)
    assert (run.user.name, run.nodes, run.gpus, run.load.utilisation_percent) == ("train", ("a", "b"), 2, 60)
    assert not run.shared and not run.simulated


def test_a_gpu_of_two_is_said_to_be_shared() -> None:
    gpu = NodeGpu(0, "GPU-a", load=GpuLoad(80), users=(TRAIN, WEB), replicas=2)
    assert [(run.user.name, run.shared) for run in run_loads([GpuNode("a", gpus=(gpu,))])] == [
        ("train", True),
        ("team/web", True),
    ]


def test_what_all_on_a_gpu_have_together_is_nobodys_own() -> None:
    known = GpuUser("default", "train-0", run="train", memory_mib=512)
    gpu = NodeGpu(0, "GPU-a", load=GpuLoad(80, 9000, 81559, 600, 70, 5), users=(known, WEB), replicas=2)
    loads = [run.load for run in run_loads([GpuNode("a", gpus=(gpu,))])]
    assert loads == [GpuLoad(80, 512, 81559, None, 70), GpuLoad(80, None, 81559, None, 70)]


def test_a_part_is_its_own() -> None:
    part = GpuPart("1", "3g.40gb", users=(WEB,), load=GpuLoad(memory_used_mib=5))
    gpu = NodeGpu(0, "GPU-a", load=GpuLoad(power_w=400), parts=(part,))
    [run] = run_loads([GpuNode("a", simulated=True, gpus=(gpu,))])
    assert (run.gpus, run.simulated, run.load) == (1, True, GpuLoad(memory_used_mib=5))
