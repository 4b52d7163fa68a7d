from __future__ import annotations

from datetime import timedelta

import pytest

from gpuyard.workloads.grace import environment, pod_fields, torchrun_warning
from gpuyard.workloads.spec.gpu_request import GpuRequest
from gpuyard.workloads.spec.run_spec import RunSpec, load_spec


def test_a_grace_is_the_pod_s_and_is_told_to_who_ends_processes() -> None:
    spec = load_spec("run: x\ngrace: 5m\ntimeout: 2h", "spec.yaml", (), {})
    assert pod_fields(spec) == {"activeDeadlineSeconds": 7200, "terminationGracePeriodSeconds": 300}
    assert environment(spec) == {"GPUYARD_GRACE_S": "300", "TORCH_ELASTIC_SHUTDOWN_TIMEOUT": "300"}


def test_a_signal_before_the_timeout_is_due_so_long_after_the_start() -> None:
    spec = load_spec("run: x\ntimeout: 2h\nsignal: usr1@2m", "spec.yaml", (), {})
    assert environment(spec) == {"GPUYARD_SIGNAL": "SIGUSR1 7080"}


def test_without_one_it_is_kubernetes_own() -> None:
    assert (pod_fields(RunSpec("x")), environment(RunSpec("x"))) == ({}, {})


@pytest.mark.parametrize(
    ("run", "grace_s", "nodes", "gpus", "is_warned"),
    [
        ("torchrun --nproc_per_node=2 train.py", 31, 1, 2, True),
        (("/opt/venv/bin/torchrun", "train.py"), 31, 1, 2, True),
        ("python -m torch.distributed.run train.py", 31, 1, 2, True),
        ("cd src && accelerate launch train.py", 31, 1, 2, True),
        (("train.py",), 31, 2, 2, True),  # gpuyard starts it by torchrun
        (("train.py",), 31, 2, 1, False),
        ("torchrun train.py", 30, 1, 2, False),
        ("python train.py", 31, 1, 2, False),
        ("python train.py --accelerate", 31, 1, 2, False),
    ],
)
def test_torchrun_s_own_30_s_are_warned_of(
    run: str | tuple[str, ...], grace_s: int, nodes: int, gpus: int, is_warned: bool
) -> None:
    spec = RunSpec(run, grace=timedelta(seconds=grace_s), nodes=nodes, gpus=GpuRequest(gpus))
    assert bool(torchrun_warning(spec)) is is_warned
