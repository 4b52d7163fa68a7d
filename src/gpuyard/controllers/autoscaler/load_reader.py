"""Who measures what autoscalers decide by; the daemon of a yard gives one."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Protocol

from gpuyard.autoscaling.load import ServiceLoad


class LoadReader(Protocol):
    """Reads what is known now. What can't be read isn't there; nothing is made up, and nothing raised."""

    async def service_load(self, namespace: str, service: str) -> ServiceLoad | None:
        """Of a Service, from whoever passes its requests on; None where nobody tells."""
        ...

    async def utilization(self, namespace: str, pods: Collection[str]) -> Mapping[str, float]:
        """Percent of the time in which a pod's GPUs were busy, on average, by pod."""
        ...
