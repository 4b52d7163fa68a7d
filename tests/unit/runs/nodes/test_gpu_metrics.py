from gpuyard.gpus.faults import GpuFault
from gpuyard.runs.nodes.gpu_metrics import gpus_of
from gpuyard.runs.nodes.gpu_node import GpuLoad, GpuUser
from gpuyard.runs.nodes.metrics_text import parse_metrics

from .layouts import METRICS


def test_what_a_whole_gpu_does_and_whose_it_is() -> None:
    gpu = gpus_of(parse_metrics(METRICS), runs={("default", "train-x1"): "train"})[0]
    assert (gpu.index, gpu.uuid, gpu.product, gpu.pci_bus_id) == (0, "GPU-a", "H100", "0000:10:00.0")
    assert gpu.load == GpuLoad(97, 70000, 81559, 640.5, 65, 7200)
    assert gpu.users == (GpuUser("default", "train-x1", "main", "train"),)
    assert gpu.users[0].name == "train" and gpu.parts == ()


def test_parts_have_their_own_users_and_values() -> None:
    gpu = gpus_of(parse_metrics(METRICS))[1]
    assert [(part.gi_id, part.profile, part.load.memory_used_mib) for part in gpu.parts] == [
        ("1", "3g.40gb", 0),
        ("2", "3g.40gb", 1024),
    ]
    # What is the GPU's own isn't a part's, and the other way round.
    assert gpu.load == GpuLoad(temperature_c=30) and gpu.users == ()
    assert gpu.all_users == (GpuUser("team", "web"),)
    assert gpu.all_users[0].name == "team/web"


def test_a_fault_is_the_gpu_s_whose_uuid_it_names() -> None:
    fault = GpuFault(1, "GPU-b", "XID 79", "")
    assert [gpu.fault for gpu in gpus_of(parse_metrics(METRICS), [fault])] == [None, fault]


def test_what_an_agent_may_send_instead() -> None:
    assert gpus_of(parse_metrics('m{gpu="0"} 1\n<html>')) == ()
    [gpu] = gpus_of(parse_metrics('DCGM_FI_DEV_GPU_UTIL{UUID="GPU-x",gpu="first"} NaN\n'))
    assert gpu.index == -1
