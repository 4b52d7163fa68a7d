"""What a run has used of its GPUs: all its pods together, attempt after attempt (pure)."""

from __future__ import annotations

from collections.abc import Iterable

from gpuyard.gpus.use import GpuUse, pod_use
from gpuyard.kube.objects import Manifest, annotations_of
from gpuyard.kube.wellknown import ANNOTATION_COMPLETION_INDEX


def run_use(pods: Iterable[Manifest]) -> GpuUse | None:
    """Of pods in the order of their creation; None where none says anything.

    Pods of one completion index are attempts, one after another; those of others ran beside them.
    """
    by_index: dict[str, GpuUse] = {}
    for pod in pods:
        if (use := pod_use(pod)) is not None:
            index = annotations_of(pod).get(ANNOTATION_COMPLETION_INDEX, "")
            by_index[index] = by_index[index].then(use) if index in by_index else use
    total: GpuUse | None = None
    for use in by_index.values():
        total = use if total is None else total.beside(use)
    return total
