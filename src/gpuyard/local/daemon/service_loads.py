"""What a yard's autoscalers decide by: the figures of its Services' proxies, and of its exporters."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean

from gpuyard import errors
from gpuyard.autoscaling.load import ServiceLoad, service_load
from gpuyard.local.daemon.metrics import read_metrics
from gpuyard.metrics_text import MetricSample, parse_metrics

_BUSY, _ENGINE = "DCGM_FI_DEV_GPU_UTIL", "DCGM_FI_PROF_GR_ENGINE_ACTIVE"


class ServiceLoads:
    """Reads them when it is asked; what doesn't answer isn't known.

    Args:
        read: what the proxy of a Service tells now, by namespace and name; empty where it tells nothing.
        exporters: their sockets, one for each node of the yard.
    """

    def __init__(
        self, read: Callable[[str, str], Awaitable[Sequence[MetricSample]]], exporters: Sequence[Path]
    ) -> None:
        self._read = read
        self._exporters = exporters

    async def service_load(self, namespace: str, service: str) -> ServiceLoad | None:
        """Of a Service, as its proxy has it."""
        return service_load(await self._read(namespace, service), namespace, service)

    async def utilization(self, namespace: str, pods: Collection[str]) -> Mapping[str, float]:
        """Percent of the time in which a pod's GPUs were busy, on average, by pod."""
        try:
            text = await read_metrics(self._exporters)
        except errors.ServiceUnavailable:
            return {}
        return utilization_of(parse_metrics(text.decode()), namespace, pods)


def utilization_of(
    samples: Iterable[MetricSample], namespace: str, pods: Collection[str]
) -> dict[str, float]:
    """What the exporters say of GPUs that a pod has for itself; of parts of GPUs (MIG) only the engine's use
    is known. Of GPUs that several share nobody can tell whose use it is."""
    found: dict[str, dict[str, list[float]]] = {}
    for sample in samples:
        labels = sample.labels
        if sample.name not in (_BUSY, _ENGINE) or labels.get("scope") != "pod":
            continue
        if labels.get("namespace") == namespace and (pod := labels.get("pod", "")) in pods:
            percent = sample.value if sample.name == _BUSY else 100 * sample.value
            found.setdefault(pod, {}).setdefault(sample.name, []).append(percent)
    return {pod: fmean(values.get(_BUSY) or values[_ENGINE]) for pod, values in found.items()}
