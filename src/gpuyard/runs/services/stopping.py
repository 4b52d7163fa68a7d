"""Stopping and removing services, as `stop`, `rm` and `down` need it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Any

from gpuyard import errors
from gpuyard.client.api import Propagation
from gpuyard.kube.objects import DEPLOYMENTS, PODS, SCALED_OBJECTS, key_of, uid_of
from gpuyard.kube.timestamps import format_time
from gpuyard.kube.wellknown import ANNOTATION_STOPPED_AT
from gpuyard.runs.notices import Late, Notify, ignore
from gpuyard.runs.services.service import Service, find_service
from gpuyard.runs.target import Target

#: By which KEDA leaves a Deployment at so many replicas. Source: its documentation, "Pause autoscaling".
KEDA_PAUSED = "autoscaling.keda.sh/paused-replicas"
_POLL_S = 0.1


async def stop_service(target: Target, service: Service) -> bool:
    """Asks for no replica any more; False when it has none and is to have none.

    What scales it lets it be: Kubernetes' autoscaler doesn't touch what has 0 replicas, a yard's heeds the
    mark, and KEDA is told to pause. `scale` and `update` bring it back.
    """
    already = ANNOTATION_STOPPED_AT in (service.deployment["metadata"].get("annotations") or {})
    if already and not service.state.wanted and not service.alive:
        return False
    mark = {"metadata": {"annotations": {ANNOTATION_STOPPED_AT: format_time(datetime.now(UTC))}}}
    patch: Mapping[str, Any] = {**mark, "spec": {"replicas": 0}}
    name, namespace = key_of(service.deployment).name, service.namespace
    if not target.is_yard:
        # Before, or it would take the stop for a change of the load.
        await _pause_scaling(target, name, "0")
    await target.api.patch(DEPLOYMENTS, name, dict(patch), namespace)
    return True


async def resume_scaling(target: Target, name: str) -> None:
    """Has KEDA scale a service again that was stopped."""
    await _pause_scaling(target, name, None)


async def _pause_scaling(target: Target, name: str, replicas: str | None) -> None:
    with contextlib.suppress(errors.NotFound, errors.Forbidden):
        pause = {"metadata": {"annotations": {KEDA_PAUSED: replicas}}}
        await target.api.patch(SCALED_OBJECTS, name, pause, target.namespace)


async def wait_until_stopped(target: Target, service: Service, notify: Notify = ignore) -> None:
    """Returns once none of its replicas is alive.

    Args:
        target: where it is.
        service: which was asked to stop.
        notify: told once what it waits for, unless that ends within a second.
    """
    late = Late(notify)
    while found := await find_service(target, service.name):
        if not found.alive or uid_of(found.deployment) != uid_of(service.deployment):
            return
        late.say(partial(_what_it_waits_for, found.name, len(found.alive)))
        await asyncio.sleep(_POLL_S)


async def remove_service(target: Target, service: Service, notify: Notify = ignore) -> None:
    """Deletes the Deployment and, in the background, all that belongs to it; returns when its replicas and
    what they had are gone."""
    late = Late(notify)
    key, uid = key_of(service.deployment), uid_of(service.deployment)
    with contextlib.suppress(errors.NotFound, errors.Conflict):
        await target.api.delete(
            DEPLOYMENTS, key.name, key.namespace, propagation=Propagation.BACKGROUND, uid=uid
        )
    left = [key_of(pod).name for pod in service.pods]
    while True:
        left = [name for name in left if await _is_there(target, name, key.namespace)]
        if not left and not await _has_deployment(target, key.name, key.namespace, uid):
            return
        late.say(partial(_what_it_waits_for, service.name, len(left)))
        await asyncio.sleep(_POLL_S)


async def _is_there(target: Target, pod: str, namespace: str) -> bool:
    try:
        await target.api.get(PODS, pod, namespace)
    except errors.NotFound:
        return False
    return True


async def _has_deployment(target: Target, name: str, namespace: str, uid: str) -> bool:
    try:
        return uid_of(await target.api.get(DEPLOYMENTS, name, namespace)) == uid
    except errors.NotFound:
        return False


def _what_it_waits_for(name: str, count: int) -> str:
    replicas = f"{count} replica{'s finish what they have' if count > 1 else ' finishes what it has'}"
    return f"Waiting for {name}: {replicas if count else 'its objects go'}"
