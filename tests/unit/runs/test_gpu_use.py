from typing import Any

from gpuyard.gpus.use import GpuUse, with_session
from gpuyard.runs.gpu_use import run_use

HOUR = GpuUse(gpus=8, gpu_s=8 * 3600)


def pod(use: GpuUse | None, index: str = "") -> dict[str, Any]:
    annotations = {"gpuyard.io/gpu-use": with_session("", "a", use)} if use else {}
    if index:
        annotations["batch.kubernetes.io/job-completion-index"] = index
    return {"metadata": {"annotations": annotations}}


def test_attempts_and_pods_add_up() -> None:
    assert run_use([]) is None and run_use([pod(None)]) is None
    attempts = run_use([pod(HOUR), pod(None), pod(HOUR)])
    assert attempts is not None and (attempts.gpus, attempts.held_s) == (8, 7200)
    beside = run_use([pod(HOUR, "0"), pod(HOUR, "1")])
    assert beside is not None and (beside.gpus, beside.held_s) == (16, 3600)
    # A second attempt of the first of them.
    more = run_use([pod(HOUR, "0"), pod(HOUR, "1"), pod(HOUR, "0")])
    assert more is not None and (more.gpus, more.gpu_s) == (16, 24 * 3600)
