from __future__ import annotations

from gpuyard.client.supervision import Supervisor
from gpuyard.controllers.manager import FOLLOWED, ControllerManager
from gpuyard.controllers.watched_time import WatchedTime
from gpuyard.kube.objects import CONFIG_MAPS, JOBS, NAMESPACES, SERVICE_ACCOUNTS, uid_of
from gpuyard.local.objects.kinds.served import yard_kinds

from .conftest import Clock, Yard


async def test_all_controllers_run_over_one_set_of_informers(yard: Yard) -> None:
    resources = [kind.resource for kind in yard_kinds()]
    informers = {resource: yard.informers[resource] for resource in (*FOLLOWED, CONFIG_MAPS)}
    async with yard.running(
        ControllerManager(yard.api, yard.clock, informers, resources, Supervisor(), job_backoff_s=1.0)
    ):
        await yard.until(lambda: yard.object(SERVICE_ACCOUNTS, "default"))
        owner = await yard.api.create(CONFIG_MAPS, {"metadata": {"name": "a", "namespace": "default"}})
        reference = {"apiVersion": "v1", "kind": "ConfigMap", "name": "a", "uid": uid_of(owner)}
        metadata = {"name": "b", "namespace": "default", "ownerReferences": [reference]}
        await yard.api.create(CONFIG_MAPS, {"metadata": metadata})
        await yard.api.delete(CONFIG_MAPS, "a", "default")
        await yard.until(lambda: not yard.objects(CONFIG_MAPS))
        await yard.api.create(NAMESPACES, {"metadata": {"name": "team"}})
        await yard.until(lambda: yard.object(SERVICE_ACCOUNTS, "default", "team"))
        await yard.api.delete(NAMESPACES, "team")
        await yard.until(lambda: yard.object(NAMESPACES, "team") is None)


async def test_a_deadline_that_passed_in_a_suspend_is_seen_when_it_is_over(yard: Yard, clock: Clock) -> None:
    """The loop's timers stood still meanwhile."""
    resources = [kind.resource for kind in yard_kinds()]
    watched = WatchedTime(clock.seconds)
    manager = ControllerManager(
        yard.api, clock, yard.informers, resources, Supervisor(), watched=watched, seconds=clock.seconds
    )
    async with yard.running(manager):
        await yard.api.create(JOBS, yard.a_job(activeDeadlineSeconds=3600))
        await yard.until(lambda: yard.job().get("status", {}).get("active") == 1)
        clock.advance(3600)
        watched()
        await yard.until(lambda: yard.job_is("FailureTarget"))
