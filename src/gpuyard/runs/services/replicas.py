"""Giving a service another number of replicas."""

from __future__ import annotations

from typing import Any

from gpuyard import errors
from gpuyard.kube.objects import AUTOSCALERS, DEPLOYMENTS, SCALED_OBJECTS
from gpuyard.kube.wellknown import ANNOTATION_SPEC, ANNOTATION_STOPPED_AT
from gpuyard.runs.services.rollout_watch import find_deployment
from gpuyard.runs.services.stopping import resume_scaling
from gpuyard.runs.services.updating import find_scaler
from gpuyard.runs.target import Target
from gpuyard.workloads.serving.service_state import is_stopped
from gpuyard.workloads.spec.service.stored import StoredSpec


async def scale_service(target: Target, name: str, replicas: int) -> int:
    """Asks for so many, and gives how many there were to be before. 0 is a service that waits to be scaled.

    One that was stopped begins with so many, also where its load decides from then on.

    Raises:
        UsageError: there is no such service, or its load decides.
    """
    deployment = await find_deployment(target, name)
    is_scaled = any([await find_scaler(target, one, name) for one in (AUTOSCALERS, SCALED_OBJECTS)])
    if is_scaled and not (replicas and is_stopped(deployment)):
        raise errors.UsageError(
            f"the load of service {name!r} decides how many replicas it has",
            remedy=_instead(target, name, replicas),
        )
    if is_scaled and not target.is_yard:
        await resume_scaling(target, name)
    stored = None if is_scaled else StoredSpec.of(deployment)
    annotations: dict[str, str | None] = {}
    if replicas:
        annotations[ANNOTATION_STOPPED_AT] = None
        if stored:
            annotations[ANNOTATION_SPEC] = stored.with_replicas(replicas).annotation
    patch: dict[str, Any] = {"metadata": {"annotations": annotations}, "spec": {"replicas": replicas}}
    await target.api.patch(DEPLOYMENTS, name, patch, target.namespace)
    return int(deployment["spec"].get("replicas", 1))


def _instead(target: Target, name: str, replicas: int) -> str:
    if not replicas:
        return f"for none: `{target.command('stop', name)}`"
    fixed = target.command("update", name, "--replicas", str(replicas))
    between = target.command("update", name, "--replicas", f"1..{max(replicas, 2)}")
    return f"always so many: `{fixed}`; between two numbers: `{between}`"
