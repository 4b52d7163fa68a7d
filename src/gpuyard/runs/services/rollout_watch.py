"""Following a service until all of its replicas are of its newest template, and ready."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from gpuyard import errors
from gpuyard.kube.objects import DEPLOYMENTS, PODS, REPLICA_SETS, Manifest, labels_of
from gpuyard.kube.wellknown import LABEL_RUN
from gpuyard.runs.following.named_watch import NamedWatch
from gpuyard.runs.services.rollout import ServiceRollout
from gpuyard.runs.target import Target


async def follow_rollout(target: Target, name: str) -> AsyncGenerator[ServiceRollout, None]:
    """The rollout each time that something of it has changed; the last one is done, has stalled or is
    hopeless.

    Raises:
        GpuyardError: somebody removed the service.
        ConnectionFailed: the API has been away for a minute.
    """
    watch = NamedWatch(target, name, (DEPLOYMENTS, REPLICA_SETS, PODS))
    async with watch.watching():
        while True:
            if watch.is_synced:
                deployments, replica_sets, pods = (list(i.objects.values()) for i in watch.informers.values())
                if not deployments:
                    raise errors.GpuyardError(f"{name} was removed while it was followed")
                rollout = ServiceRollout.of(deployments[0], replica_sets, pods)
                yield rollout
                if rollout.is_done or rollout.has_stalled or rollout.is_hopeless:
                    return
            await watch.change()


async def find_deployment(target: Target, name: str) -> Manifest:
    """The service's.

    Raises:
        UsageError: there is no such service.
    """
    try:
        found = await target.api.get(DEPLOYMENTS, name, target.namespace)
    except errors.NotFound:
        found = {"metadata": {}}
    if labels_of(found).get(LABEL_RUN) != name:
        raise errors.UsageError(
            f"no service {name!r} in namespace {target.namespace}",
            remedy="`gpuyard ps` lists them, `gpuyard serve` starts one",
        )
    return found
