"""Giving a service another number of replicas."""

from __future__ import annotations

from typing import Any

from gpuyard import errors
from gpuyard.kube.objects import AUTOSCALERS, DEPLOYMENTS, SCALED_OBJECTS
from gpuyard.kube.wellknown import ANNOTATION_SPEC, ANNOTATION_STOPPED_AT
from gpuyard.runs.services.rollout_watch import find_deployment
from gpuyard.runs.services.updating import find_scaler
from gpuyard.runs.target import Target
from gpuyard.workloads.spec.service.stored import StoredSpec


async def scale_service(target: Target, name: str, replicas: int) -> int:
    """Asks for so many, and gives how many there were to be before. 0 is a service that waits to be scaled.

    Raises:
        UsageError: there is no such service, or its load decides.
    """
    deployment = await find_deployment(target, name)
    for resource in (AUTOSCALERS, SCALED_OBJECTS):
        if await find_scaler(target, resource, name):
            again = target.command("update", name, "--replicas", f"1..{max(replicas, 2)}")
            raise errors.UsageError(
                f"the load of service {name!r} decides how many replicas it has",
                remedy=f"say between which numbers: `{again}`",
            )
    stored = StoredSpec.of(deployment)
    annotations: dict[str, str | None] = {}
    if replicas:
        annotations[ANNOTATION_STOPPED_AT] = None
        if stored:
            annotations[ANNOTATION_SPEC] = stored.with_replicas(replicas).annotation
    patch: dict[str, Any] = {"metadata": {"annotations": annotations}, "spec": {"replicas": replicas}}
    await target.api.patch(DEPLOYMENTS, name, patch, target.namespace)
    return int(deployment["spec"].get("replicas", 1))
