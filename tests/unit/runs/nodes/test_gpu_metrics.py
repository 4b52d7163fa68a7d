from gpuyard.gpus.faults import GpuFault
from gpuyard.metrics_text import parse_metrics
from gpuyard.runs.nodes.gpu_metrics import gpus_of
from gpuyard.runs.nodes.gpu_node import GpuLink, GpuLoad, GpuUser

from .layouts import METRICS


def test_what_a_whole_gpu_does_and_whose_it_is() -> None:
    gpu = gpus_of(parse_metrics(METRICS), runs={("default", "train-0-x"): "train-of-its-label"})[0]
    assert (gpu.index, gpu.uuid, gpu.model, gpu.product) == (0, "GPU-a", "H100", "NVIDIA H100")
    assert (gpu.pci_bus_id, gpu.numa_node, gpu.mig, gpu.replicas) == ("00000000:10:00.0", 0, "off", 1)
    assert gpu.load == GpuLoad(97, 70000, 81559, 640.5, 65, 7200)
    assert gpu.users == (GpuUser("default", "train-0-x", "main", "train-of-its-label"),)
    assert gpu.links == (GpuLink(1, 18, "host-bridge"),)
    assert gpu.fault is None and gpu.parts == ()


def test_an_agent_that_tells_of_thousands_is_cut_short() -> None:
    text = "".join(f'gpuyard_gpu_info{{gpu="{n}",UUID="GPU-{n}"}} 1\n' for n in range(5000))
    assert [gpu.index for gpu in gpus_of(parse_metrics(text * 2))] == list(range(128))
    text = "".join(f'gpuyard_mig_instance_info{{gpu="0",UUID="GPU",GPU_I_ID="{n}"}} 1\n' for n in range(500))
    (gpu,) = gpus_of(parse_metrics(text * 2))
    assert [part.gi_id for part in gpu.parts] == [str(n) for n in range(16)]


def test_whose_pod_cannot_be_seen_is_named_by_it() -> None:
    assert gpus_of(parse_metrics(METRICS))[0].users[0].name == "default/train-0-x"


def test_parts_have_their_own_users_and_values() -> None:
    gpu = gpus_of(parse_metrics(METRICS))[1]
    assert [
        (part.gi_id, part.index, part.uuid, part.placement, part.load.memory_used_mib) for part in gpu.parts
    ] == [
        ("1", 0, "MIG-b1", "0:4", 0),
        ("2", -1, "", "", 1024),
    ]
    assert gpu.parts[0].load.memory_mib == 40448 and gpu.mig == "on"
    # What is the GPU's own isn't a part's, and the other way round.
    assert gpu.load == GpuLoad(temperature_c=30, memory_mib=81559) and gpu.users == ()
    assert [user.name for user in gpu.all_users] == ["team/web"]
    # Agents name each pair once.
    assert gpu.links == (GpuLink(0, 18, "host-bridge"),)


def test_a_fault_is_what_the_node_says_and_else_what_its_agent_says() -> None:
    said = GpuFault(1, "GPU-b", "XID 48", "")
    assert [gpu.fault for gpu in gpus_of(parse_metrics(METRICS), [said])] == [None, said]
    measured = gpus_of(parse_metrics(METRICS))[1].fault
    assert measured == GpuFault(1, "GPU-b", "XID 79", "2023-11-14T22:13:20Z")


def test_what_an_agent_may_send_instead() -> None:
    assert gpus_of(parse_metrics('m{gpu="0"} 1\n<html>')) == ()
    [gpu] = gpus_of(
        parse_metrics(
            'DCGM_FI_DEV_GPU_UTIL{UUID="GPU-x",gpu="first"} 5\n'
            'gpuyard_gpu_info{UUID="GPU-x",memory_mib="much",numa_node="-1"} 1\n'
            'gpuyard_gpu_nvlinks{UUID="GPU-x",peer="GPU-gone"} 4\n'
            'gpuyard_gpu_fault_since_seconds{UUID="GPU-x",reason="lost"} 1e300\n'
        )
    )
    assert (gpu.index, gpu.load.memory_mib, gpu.numa_node, gpu.links) == (-1, None, None, ())
    assert gpu.fault == GpuFault(-1, "GPU-x", "lost", "")


def test_a_pod_has_memory_of_its_own_on_a_gpu_that_it_shares() -> None:
    [gpu] = gpus_of(
        parse_metrics(
            'gpuyard_allocation{UUID="GPU-x",gpu="0",namespace="n",pod="a",scope="share"} 1\n'
            'gpuyard_allocation{UUID="GPU-x",gpu="0",namespace="n",pod="b",scope="share"} 1\n'
            'gpuyard_pod_gpu_memory_bytes{UUID="GPU-x",namespace="n",pod="a",scope="share"} 536870912\n'
        )
    )
    assert [(user.pod, user.memory_mib) for user in gpu.users] == [("a", 512), ("b", None)]


def test_sharing_and_what_is_not_offered() -> None:
    [gpu] = gpus_of(
        parse_metrics(
            'gpuyard_gpu_info{UUID="GPU-x",gpu="0",sharing="mps",replicas="4"} 1\n'
            'gpuyard_gpu_unoffered{UUID="GPU-x",gpu="0",reason="has 1c.3g.40gb"} 1\n'
            'gpuyard_mig_instance_info{UUID="GPU-x",GPU_I_ID="1",sharing="time-slicing",replicas="2"} 1\n'
        )
    )
    assert (gpu.sharing, gpu.replicas, gpu.unoffered) == ("mps", 4, "has 1c.3g.40gb")
    assert [(part.sharing, part.replicas) for part in gpu.parts] == [("time-slicing", 2)]
