"""Autoscalers on a yard's own API, with loads that the test says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from typing import Any

from gpuyard import errors
from gpuyard.autoscaling.load import ServiceLoad
from gpuyard.autoscaling.reason import ScalingReason
from gpuyard.client.api import KubeApi, WatchEvent
from gpuyard.client.informer import Informer
from gpuyard.controllers.autoscaler.controller import AutoscalerController
from gpuyard.kube.conditions import find_condition
from gpuyard.kube.objects import AUTOSCALERS, DEPLOYMENTS, EVENTS, PODS, SERVICES
from gpuyard.kube.wellknown import (
    ANNOTATION_SCALE_TO_ZERO,
    ANNOTATION_STOPPED_AT,
    METRIC_GPU_UTILIZATION,
    METRIC_IN_FLIGHT,
)

# The fixtures `yard` and `clock` are of conftest's classes, which test files can't import.
Yard = Any
Clock = Any

REFERENCE = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}


def a_deployment(replicas: int = 1) -> dict[str, Any]:
    template = {
        "metadata": {"labels": {"app": "web", "tier": "a"}},
        "spec": {"containers": [{"name": "main", "image": "i"}]},
    }
    spec = {"replicas": replicas, "selector": {"matchLabels": {"app": "web"}}, "template": template}
    return {"metadata": {"name": "web", "namespace": "default"}, "spec": spec}


def a_service(name: str = "web", app: str = "web") -> dict[str, Any]:
    spec = {"clusterIP": "None", "selector": {"app": app}, "ports": [{"port": 80}]}
    return {"metadata": {"name": name, "namespace": "default"}, "spec": spec}


def an_autoscaler(
    name: str = "web", metric: str = METRIC_IN_FLIGHT, target: str = "4", **spec: Any
) -> dict[str, Any]:
    pods = {"metric": {"name": metric}, "target": {"type": "AverageValue", "averageValue": target}}
    wanted = {"scaleTargetRef": REFERENCE, "maxReplicas": 8, "metrics": [{"type": "Pods", "pods": pods}]}
    return {"metadata": {"name": name, "namespace": "default"}, "spec": {**wanted, **spec}}


class Loads:
    """What the test says; of services that it doesn't name nothing is known."""

    def __init__(self) -> None:
        self.of: dict[str, ServiceLoad] = {}
        self.use: dict[str, float] = {}
        self.looks = 0

    async def service_load(self, namespace: str, service: str) -> ServiceLoad | None:
        assert namespace == "default"
        self.looks += 1
        return self.of.get(service)

    async def utilization(self, namespace: str, pods: Collection[str]) -> Mapping[str, float]:
        return {name: self.use[name] for name in pods if name in self.use}


async def looked(yard: Yard, loads: Loads) -> None:
    """Until a look has begun and ended since now."""
    before = loads.looks
    await yard.until(lambda: loads.looks >= before + 2)


def a_controller(yard: Yard, clock: Clock, loads: Loads) -> AutoscalerController:
    # The looks follow at once: time passes where a test lets it.
    return AutoscalerController(
        yard.api, clock, yard.informers, loads, seconds=clock.seconds, look_s=0.01, wake_s=0.01
    )


async def set_up(yard: Yard, *, replicas: int = 1, pods: int | None = None, **autoscaler: Any) -> None:
    await yard.api.create(DEPLOYMENTS, a_deployment(replicas))
    await yard.api.create(SERVICES, a_service())
    for number in range(replicas if pods is None else pods):
        await add_pod(yard, f"web-{number}")
    await yard.api.create(AUTOSCALERS, an_autoscaler(**autoscaler))


async def add_pod(yard: Yard, name: str) -> None:
    metadata = {"name": name, "namespace": "default", "labels": {"app": "web"}}
    spec = {"containers": [{"name": "main", "image": "i"}]}
    await yard.api.create(PODS, {"metadata": metadata, "spec": spec})
    ready = {"type": "Ready", "status": "True"}
    patch = {"status": {"phase": "Running", "conditions": [ready]}}
    await yard.api.patch(PODS, name, patch, "default", subresource="status")


def replicas(yard: Yard) -> int:
    return int(yard.object(DEPLOYMENTS, "web")["spec"]["replicas"])


def condition(yard: Yard, type_: str, name: str = "web") -> tuple[str, str]:
    found = find_condition(yard.object(AUTOSCALERS, name), type_) or {}
    return found.get("status", ""), found.get("reason", "")


def events(yard: Yard) -> list[str]:
    return [f"{one['reason']}: {one['message']}" for one in yard.objects(EVENTS)]


async def test_more_replicas_for_more_load(yard: Yard, clock: Clock) -> None:
    loads = Loads()
    loads.of["web"] = ServiceLoad(in_flight=11)
    await set_up(yard)
    async with yard.running(a_controller(yard, clock, loads)):
        await yard.until(lambda: replicas(yard) == 3)
        await yard.until(lambda: yard.object(AUTOSCALERS, "web")["status"].get("lastScaleTime"))
    found = yard.object(AUTOSCALERS, "web")
    assert found["status"]["currentMetrics"] == [
        {"type": "Pods", "pods": {"metric": {"name": METRIC_IN_FLIGHT}, "current": {"averageValue": "11"}}}
    ]
    assert found["status"]["observedGeneration"] == 1
    reason = ScalingReason.read(found)
    assert reason is not None
    assert reason.sentence == "wants 3: 11 in flight, target 4 each"
    assert condition(yard, "ScalingActive") == ("True", "ValidMetricFound")
    (event,) = events(yard)
    assert event == (
        "SuccessfulRescale: New size: 3; reason: pods metric gpuyard_service_requests_in_flight above target"
    )


async def test_fewer_when_five_minutes_have_passed(yard: Yard, clock: Clock) -> None:
    loads = Loads()
    loads.of["web"] = ServiceLoad(in_flight=4)
    await set_up(yard, replicas=3)
    async with yard.running(a_controller(yard, clock, loads)):
        await yard.until(lambda: condition(yard, "AbleToScale") == ("True", "ScaleDownStabilized"))
        # Somebody sets the date: no time has passed.
        clock.set_by(86_400)
        await looked(yard, loads)
        assert replicas(yard) == 3
        clock.advance(301)
        await yard.until(lambda: replicas(yard) == 1)


async def test_what_is_not_known_changes_nothing_and_is_said_once(yard: Yard, clock: Clock) -> None:
    loads = Loads()
    await set_up(yard, replicas=3)
    async with yard.running(a_controller(yard, clock, loads)):
        await yard.until(lambda: condition(yard, "ScalingActive") == ("False", "FailedGetPodsMetric"))
        clock.advance(3600)
        await looked(yard, loads)
        assert replicas(yard) == 3
        assert [one["count"] for one in yard.objects(EVENTS)] == [1]
        loads.of["web"] = ServiceLoad(in_flight=30)
        await yard.until(lambda: replicas(yard) == 6)


async def test_it_sleeps_and_wakes(yard: Yard, clock: Clock) -> None:
    loads = Loads()
    loads.of["web"] = ServiceLoad(in_flight=0, idle_s=899)
    await yard.api.create(DEPLOYMENTS, a_deployment())
    await yard.api.create(SERVICES, a_service())
    autoscaler = an_autoscaler(minReplicas=0)
    autoscaler["metadata"]["annotations"] = {ANNOTATION_SCALE_TO_ZERO: "15m"}
    await yard.api.create(AUTOSCALERS, autoscaler)
    async with yard.running(a_controller(yard, clock, loads)):
        await yard.until(lambda: condition(yard, "ScaledToZero")[0] == "False")
        assert replicas(yard) == 1
        loads.of["web"] = ServiceLoad(in_flight=0, idle_s=901)
        await yard.until(lambda: replicas(yard) == 0 and condition(yard, "ScaledToZero")[0] == "True")
        loads.of["web"] = ServiceLoad(in_flight=1, held=1)
        await yard.until(lambda: replicas(yard) == 1)


async def test_who_waits_is_seen_long_before_the_next_look(yard: Yard, clock: Clock) -> None:
    loads = Loads()
    loads.of["web"] = ServiceLoad(in_flight=0)
    await set_up(yard, replicas=0, minReplicas=0)
    controller = AutoscalerController(
        yard.api, clock, yard.informers, loads, seconds=clock.seconds, look_s=3600, wake_s=0.01
    )
    async with yard.running(controller):
        await yard.until(lambda: yard.object(AUTOSCALERS, "web")["status"].get("observedGeneration"))
        loads.of["web"] = ServiceLoad(in_flight=1, held=1)
        await yard.until(lambda: replicas(yard) == 1)


class Troubled(Loads):
    """As `Loads`; a stopped proxy doesn't answer, and a broken one trips its reader over."""

    async def service_load(self, namespace: str, service: str) -> ServiceLoad | None:
        if service == "stopped":
            await asyncio.Event().wait()
        if service == "broken":
            raise ZeroDivisionError("nobody foresaw it")
        return await super().service_load(namespace, service)


async def add_sleeper(yard: Yard, name: str) -> None:
    reference = {**REFERENCE, "name": name}
    deployment = a_deployment(0)
    deployment["metadata"]["name"] = name
    labels = {"app": name}
    deployment["spec"]["selector"]["matchLabels"] = labels
    deployment["spec"]["template"]["metadata"]["labels"] = labels
    await yard.api.create(DEPLOYMENTS, deployment)
    await yard.api.create(SERVICES, a_service(name, app=name))
    await yard.api.create(AUTOSCALERS, an_autoscaler(name, scaleTargetRef=reference, minReplicas=0))


async def test_who_waits_is_seen_whatever_is_wrong_with_others(yard: Yard, clock: Clock) -> None:
    loads = Troubled()
    loads.of["web"] = ServiceLoad(in_flight=0)
    for name in ("broken", "stopped"):
        await add_sleeper(yard, name)
    await set_up(yard, replicas=0, minReplicas=0)
    controller = AutoscalerController(
        yard.api, clock, yard.informers, loads, seconds=clock.seconds, look_s=3600, wake_s=0.01
    )
    async with yard.running(controller):
        # More than one round, so that each of the others has had its turn.
        await looked(yard, loads)
        await looked(yard, loads)
        loads.of["web"] = ServiceLoad(in_flight=1, held=1)
        await yard.until(lambda: replicas(yard) == 1)
    assert (yard.object(DEPLOYMENTS, "stopped") or {})["spec"]["replicas"] == 0


async def test_what_its_owner_has_stopped_stays_so(yard: Yard, clock: Clock) -> None:
    loads = Loads()
    loads.of["web"] = ServiceLoad(in_flight=2)
    await set_up(yard, minReplicas=0)
    async with yard.running(a_controller(yard, clock, loads)):
        await yard.until(lambda: condition(yard, "ScaledToZero")[0] == "False")
        await yard.api.patch(DEPLOYMENTS, "web", {"spec": {"replicas": 0}}, "default", subresource="scale")
        await yard.until(lambda: condition(yard, "ScalingActive") == ("False", "ScalingDisabled"))
        await looked(yard, loads)
        assert replicas(yard) == 0


async def test_what_its_user_stopped_while_it_slept_sleeps_on(yard: Yard, clock: Clock) -> None:
    loads = Loads()
    loads.of["web"] = ServiceLoad(in_flight=1, held=1)
    await set_up(yard, replicas=0, minReplicas=0)
    stop = {"metadata": {"annotations": {ANNOTATION_STOPPED_AT: "2026-01-31T12:00:00Z"}}}
    await yard.api.patch(DEPLOYMENTS, "web", stop, "default")
    async with yard.running(a_controller(yard, clock, loads)):
        await looked(yard, loads)
        assert replicas(yard) == 0
        stop["metadata"]["annotations"][ANNOTATION_STOPPED_AT] = None  # type: ignore[assignment]
        await yard.api.patch(DEPLOYMENTS, "web", stop, "default")
        await yard.until(lambda: replicas(yard) == 1)


class Failing:
    """An API that fails to write an autoscaler's status, or a scale, while the test says so."""

    def __init__(self, api: Any, status: Callable[[], bool], scale: Callable[[], bool]) -> None:
        self._api = api
        self._status, self._scale = status, scale

    def __getattr__(self, name: str) -> Any:
        return getattr(self._api, name)

    async def update(self, resource: Any, *arguments: Any, **options: Any) -> Any:
        if resource == AUTOSCALERS and self._status():
            raise errors.Conflict("it has changed")
        return await self._api.update(resource, *arguments, **options)

    async def patch(self, *arguments: Any, **options: Any) -> Any:
        if options.get("subresource") == "scale" and self._scale():
            raise errors.ServiceUnavailable("no answer")
        return await self._api.patch(*arguments, **options)


async def falls_asleep(
    yard: Yard, clock: Clock, loads: Loads, *, status: Callable[[], bool], scale: Callable[[], bool]
) -> AutoscalerController:
    """A service that nobody has asked for an hour, and its controller with an API that fails."""
    loads.of["web"] = ServiceLoad(in_flight=0, idle_s=3600)
    await yard.api.create(DEPLOYMENTS, a_deployment())
    await yard.api.create(SERVICES, a_service())
    await add_pod(yard, "web-0")
    autoscaler = an_autoscaler(minReplicas=0)
    autoscaler["metadata"]["annotations"] = {ANNOTATION_SCALE_TO_ZERO: "15m"}
    await yard.api.create(AUTOSCALERS, autoscaler)
    failing: Any = Failing(yard.api, status, scale)
    return AutoscalerController(
        failing, clock, yard.informers, loads, seconds=clock.seconds, look_s=0.01, wake_s=0.01
    )


async def test_what_sleeps_is_woken_although_nothing_could_be_said_after_it(yard: Yard, clock: Clock) -> None:
    loads = Loads()
    controller = await falls_asleep(
        yard, clock, loads, status=lambda: replicas(yard) == 0, scale=lambda: False
    )
    loads.of["web"] = ServiceLoad(in_flight=1)
    async with yard.running(controller):
        await yard.until(lambda: condition(yard, "ScaledToZero")[0] == "False")
        loads.of["web"] = ServiceLoad(in_flight=0, idle_s=3600)
        await yard.until(lambda: replicas(yard) == 0)
        await looked(yard, loads)
    loads.of["web"] = ServiceLoad(in_flight=1, held=1)
    async with yard.running(a_controller(yard, clock, loads)):
        await yard.until(lambda: replicas(yard) == 1)


async def test_nothing_sleeps_while_that_can_not_be_said(yard: Yard, clock: Clock) -> None:
    loads = Loads()
    fails = True
    controller = await falls_asleep(yard, clock, loads, status=lambda: fails, scale=lambda: False)
    async with yard.running(controller):
        await looked(yard, loads)
        assert replicas(yard) == 1
        fails = False
        await yard.until(lambda: replicas(yard) == 0)


async def test_a_sleep_that_was_said_and_did_not_begin_is_taken_back(yard: Yard, clock: Clock) -> None:
    loads = Loads()
    controller = await falls_asleep(yard, clock, loads, status=lambda: False, scale=lambda: True)
    async with yard.running(controller):
        await yard.until(lambda: condition(yard, "ScaledToZero")[0] == "True")
        await yard.until(lambda: condition(yard, "AbleToScale")[1] == "FailedUpdateScale")
        assert replicas(yard) == 1
        loads.of["web"] = ServiceLoad(in_flight=1)
        await yard.until(lambda: condition(yard, "ScaledToZero")[0] == "False")


async def test_what_falls_asleep_says_all_of_it_in_one_look(yard: Yard, clock: Clock) -> None:
    loads = Loads()
    controller = await falls_asleep(yard, clock, loads, status=lambda: False, scale=lambda: False)
    async with yard.running(controller):
        await yard.until(lambda: replicas(yard) == 0)
        await yard.until(lambda: "lastScaleTime" in yard.object(AUTOSCALERS, "web")["status"])
    assert [one["count"] for one in yard.objects(EVENTS)] == [1]


async def test_by_what_its_gpus_do(yard: Yard, clock: Clock) -> None:
    loads = Loads()
    loads.use = {"web-0": 90.0, "web-1": 100.0}
    await set_up(yard, replicas=2, metric=METRIC_GPU_UTILIZATION, target="50")
    async with yard.running(a_controller(yard, clock, loads)):
        await yard.until(lambda: replicas(yard) == 4)


async def test_a_target_that_is_missing_is_named(yard: Yard, clock: Clock) -> None:
    await yard.api.create(AUTOSCALERS, an_autoscaler())
    loads = Loads()
    loads.of["web"] = ServiceLoad(in_flight=8)
    async with yard.running(a_controller(yard, clock, loads)):
        await yard.until(lambda: condition(yard, "AbleToScale") == ("False", "FailedGetScale"))
        assert 'deployments.apps "web" not found' in events(yard)[0]
        await yard.api.create(SERVICES, a_service())
        await yard.api.create(DEPLOYMENTS, a_deployment())
        await yard.until(lambda: replicas(yard) == 2)
        await yard.until(lambda: condition(yard, "AbleToScale")[0] == "True")


async def test_two_of_one_target_do_nothing(yard: Yard, clock: Clock) -> None:
    loads = Loads()
    loads.of["web"] = ServiceLoad(in_flight=30)
    await yard.api.create(AUTOSCALERS, an_autoscaler("other"))
    await set_up(yard)
    async with yard.running(a_controller(yard, clock, loads)):
        for name in ("web", "other"):
            await yard.until(
                lambda name=name: condition(yard, "ScalingActive", name)[1] == "AmbiguousSelector"
            )
        assert replicas(yard) == 1
        await yard.api.delete(AUTOSCALERS, "other", "default")
        await yard.until(lambda: replicas(yard) == 4)


async def test_the_service_is_found_by_its_selector(yard: Yard, clock: Clock) -> None:
    loads = Loads()
    loads.of = {"front": ServiceLoad(in_flight=11), "api": ServiceLoad(in_flight=90)}
    await yard.api.create(SERVICES, a_service("front"))
    await yard.api.create(SERVICES, a_service("api", app="api"))
    await yard.api.create(DEPLOYMENTS, a_deployment())
    await add_pod(yard, "web-0")
    await yard.api.create(AUTOSCALERS, an_autoscaler())
    async with yard.running(a_controller(yard, clock, loads)):
        await yard.until(lambda: replicas(yard) == 3)


class Held:
    """An API whose changes are shown when the test says so."""

    def __init__(self, api: KubeApi) -> None:
        self._api = api
        self.shown = asyncio.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._api, name)

    async def watch(self, *arguments: Any, **options: Any) -> AsyncIterator[WatchEvent]:
        async for event in self._api.watch(*arguments, **options):
            await self.shown.wait()
            yield event


async def test_a_target_that_is_not_shown_yet_is_not_missed(yard: Yard, clock: Clock) -> None:
    loads = Loads()
    loads.of["web"] = ServiceLoad(in_flight=8)
    held: Any = Held(yard.api)
    yard.informers[DEPLOYMENTS] = Informer(held, DEPLOYMENTS)
    async with yard.running(a_controller(yard, clock, loads)):
        await yard.informers[DEPLOYMENTS].synced()
        await set_up(yard)
        await yard.until(lambda: yard.informers[AUTOSCALERS].objects, "the autoscaler is shown")
        held.shown.set()
        await yard.until(lambda: replicas(yard) == 2)
    assert all("FailedGetScale" not in event for event in events(yard))


class Refusing:
    """An API that takes no scale."""

    def __init__(self, api: Any) -> None:
        self._api = api

    def __getattr__(self, name: str) -> Any:
        return getattr(self._api, name)

    async def patch(self, *arguments: Any, **options: Any) -> Any:
        if options.get("subresource") == "scale":
            raise errors.Forbidden("no")
        return await self._api.patch(*arguments, **options)


async def test_a_scale_that_is_refused_is_said(yard: Yard, clock: Clock) -> None:
    loads = Loads()
    loads.of["web"] = ServiceLoad(in_flight=11)
    await set_up(yard)
    refusing: Any = Refusing(yard.api)
    controller = AutoscalerController(
        refusing, clock, yard.informers, loads, seconds=clock.seconds, look_s=0.01, wake_s=0.01
    )
    async with yard.running(controller):
        await yard.until(lambda: condition(yard, "AbleToScale") == ("False", "FailedUpdateScale"))
        assert replicas(yard) == 1
        assert events(yard)[0].startswith("FailedRescale: New size: 3; reason: pods metric")
