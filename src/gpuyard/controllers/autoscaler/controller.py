"""The HorizontalPodAutoscaler controller: it looks every few seconds, and at once when a request waits.

A look is: what is asked for now (informers), what there is to do (`LoadReader`), the decision (`autoscaling`)
and the writes: first the target's scale, then the autoscaler's status. What it has seen lives in memory
alone, as in Kubernetes' controller: after a restart fewer replicas are wanted only when a window has passed.

Source of its behaviour: kubernetes `pkg/controller/podautoscaler/horizontal.go`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime

from gpuyard import errors
from gpuyard.autoscaling.decision import ABLE, ACTIVE, ASLEEP, Said, ScalingDecision, asleep, decide, done
from gpuyard.autoscaling.limits import ScalingHistory
from gpuyard.autoscaling.load import LoadSample, LoadWindow
from gpuyard.autoscaling.metrics import Measured
from gpuyard.autoscaling.replicas import ScaledPod
from gpuyard.autoscaling.spec import AutoscalerSpec
from gpuyard.client.api import KubeApi
from gpuyard.client.events import EventRecorder
from gpuyard.client.informer import Informer
from gpuyard.client.workqueue import WorkQueue
from gpuyard.controllers.autoscaler.load_reader import LoadReader
from gpuyard.controllers.autoscaler.status import with_conditions, with_decision
from gpuyard.controllers.autoscaler.target import SCALABLE, ScaleTarget, reference_of
from gpuyard.kube.ages import seconds_since_boot
from gpuyard.kube.conditions import find_condition
from gpuyard.kube.objects import (
    AUTOSCALERS,
    DEPLOYMENTS,
    PODS,
    REPLICA_SETS,
    SERVICES,
    Manifest,
    ObjectKey,
    Resource,
    key_of,
    uid_of,
    with_kind,
)
from gpuyard.kube.wellknown import METRIC_GPU_UTILIZATION

_WORKERS = 4
#: Kubernetes looks every 15 s, see docs/adr/0061.
LOOK_S = 5.0
#: An informer is behind the API for less.
_LATE_S = 0.05
#: How soon a request is seen that waits for a service without replicas.
WAKE_S = 0.2
#: What a proxy gets to answer that: the others' requests wait for as long.
_SLEEPER_LOOK_S = 1.0


@dataclass
class _AutoscalerMemory:
    """What was seen of an autoscaler and its service so far."""

    history: ScalingHistory = field(default_factory=ScalingHistory)
    window: LoadWindow = field(default_factory=LoadWindow)


class AutoscalerController:
    """Gives Deployments and ReplicaSets as many replicas as their autoscalers say.

    Every autoscaler is handled by one worker at a time; different ones run in parallel.

    Args:
        informers: of autoscalers, Deployments, ReplicaSets, Services and pods; someone else runs them.
        loads: measures what is decided by.
        seconds: a steady clock that goes on in a suspend.
        look_s: between two looks at one autoscaler.
        wake_s: between two looks for a request that waits for a service without replicas.
    """

    def __init__(
        self,
        api: KubeApi,
        clock: Callable[[], datetime],
        informers: Mapping[Resource, Informer],
        loads: LoadReader,
        *,
        seconds: Callable[[], float] = seconds_since_boot,
        look_s: float = LOOK_S,
        wake_s: float = WAKE_S,
    ) -> None:
        self._api = api
        self._clock = clock
        self._informers = informers
        self._loads = loads
        self._seconds = seconds
        self._look_s = look_s
        self._wake_s = wake_s
        self._events = EventRecorder(api, "horizontal-pod-autoscaler", clock)
        self._seen: dict[str, _AutoscalerMemory] = {}
        #: Of them nobody can tell whether a request waits, until their next look.
        self._unclear: set[ObjectKey] = set()
        self._autoscalers = informers[AUTOSCALERS]
        self._queue: WorkQueue[ObjectKey] = WorkQueue(
            "autoscaler", self._sync, self._autoscalers.supervisor, self._autoscalers.reference
        )
        self._autoscalers.add_handler(self._on_autoscaler)

    def wake(self) -> None:
        """This process stood still: looks at all autoscalers, whose timers are late by that."""
        for key in self._autoscalers.objects:
            self._queue.add(key)

    async def run(self) -> None:
        """Works until cancelled."""
        for resource in (AUTOSCALERS, DEPLOYMENTS, REPLICA_SETS, SERVICES, PODS):
            await self._informers[resource].synced()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._queue.run(_WORKERS), name="autoscaler-queue")
            group.create_task(self._watch_sleepers(), name="autoscaler-sleepers")

    def _on_autoscaler(self, old: Manifest | None, new: Manifest | None) -> None:
        if new is None:
            if old is not None:
                self._seen.pop(uid_of(old), None)
                self._unclear.discard(key_of(old))
        elif old is None or old["metadata"].get("generation") != new["metadata"].get("generation"):
            self._queue.add(key_of(new))

    async def _watch_sleepers(self) -> None:
        """Looks at services without replicas, and has those handled that a request waits for."""
        while True:
            await asyncio.sleep(self._wake_s)
            keys = self._autoscalers.objects.keys() - self._unclear
            await asyncio.gather(*map(self._wake_if_waited_for, keys))

    async def _wake_if_waited_for(self, key: ObjectKey) -> None:
        """Where that fails or takes long, its next look has to do: it mustn't hold up the others again."""
        self._unclear.add(key)
        with (
            self._autoscalers.supervisor.guard("autoscaler-sleepers", self._autoscalers.reference(key)),
            suppress(TimeoutError),
        ):
            async with asyncio.timeout(_SLEEPER_LOOK_S):
                waits = await self._is_waited_for(key)
            self._unclear.discard(key)
            if waits:
                self._queue.add(key)

    async def _is_waited_for(self, key: ObjectKey) -> bool:
        autoscaler = self._autoscalers.objects.get(key)
        target = self._target(autoscaler) if autoscaler is not None else None
        if autoscaler is None or target is None or target.replicas or not _may_wake(autoscaler, target):
            return False
        service = target.service(self._informers[SERVICES].objects.values())
        load = await self._loads.service_load(key.namespace, service) if service else None
        return load is not None and load.in_flight > 0

    async def _sync(self, key: ObjectKey) -> float | None:
        self._unclear.discard(key)
        autoscaler = self._autoscalers.objects.get(key)
        if autoscaler is None or autoscaler["metadata"].get("deletionTimestamp"):
            return None
        target = self._target(autoscaler)
        if target is None:
            if await self._is_on_its_way(autoscaler):
                return _LATE_S
            await self._fail(autoscaler, ABLE, "FailedGetScale", self._no_target(autoscaler))
        elif rivals := self._rivals(key, target):
            await self._fail(autoscaler, ACTIVE, "AmbiguousSelector", rivals)
        else:
            await self._look(autoscaler, target)
        return self._look_s

    def _target(self, autoscaler: Manifest) -> ScaleTarget | None:
        reference = reference_of(autoscaler)
        resource = SCALABLE.get((reference.get("apiVersion", ""), reference["kind"]))
        if resource is None:
            return None
        key = ObjectKey(key_of(autoscaler).namespace, reference["name"])
        found = self._informers[resource].objects.get(key)
        return ScaleTarget(resource, found) if found is not None else None

    async def _is_on_its_way(self, autoscaler: Manifest) -> bool:
        """Whether its target is there, and only this side hasn't been shown it yet."""
        reference = reference_of(autoscaler)
        resource = SCALABLE.get((reference.get("apiVersion", ""), reference["kind"]))
        if resource is None:
            return False
        try:
            await self._api.get(resource, reference["name"], key_of(autoscaler).namespace)
        except errors.NotFound:
            return False
        return True

    def _no_target(self, autoscaler: Manifest) -> str:
        reference = reference_of(autoscaler)
        resource = SCALABLE.get((reference.get("apiVersion", ""), reference["kind"]))
        missing = f'{resource.qualified} "{reference["name"]}" not found' if resource else "no such kind"
        return f"the HPA controller was unable to get the target's current scale: {missing}"

    def _pods(self, target: ScaleTarget) -> list[Manifest]:
        return [pod for pod in self._informers[PODS].objects.values() if target.selects(pod)]

    def _rivals(self, key: ObjectKey, target: ScaleTarget) -> str:
        """What is said where another autoscaler has the same target; empty where none does."""
        same = [
            str(other)
            for other, autoscaler in sorted(self._autoscalers.objects.items())
            if other.namespace == key.namespace
            and (found := self._target(autoscaler)) is not None
            and uid_of(found.manifest) == uid_of(target.manifest)
        ]
        if len(same) < 2:
            return ""
        return f"the target is controlled by more than one HPA (e.g. [{' '.join(same[:2])}])"

    async def _look(self, autoscaler: Manifest, target: ScaleTarget) -> None:
        """One look at one autoscaler."""
        spec, now_s = AutoscalerSpec.of(autoscaler), self._seconds()
        seen = self._seen.setdefault(uid_of(autoscaler), _AutoscalerMemory())
        measured = await self._measure(spec, target, seen, now_s)
        decision = decide(spec, measured, seen.history, now_s, slept=_may_wake(autoscaler, target))
        changes = decision.replicas != target.replicas
        said = [_GOT_SCALE, *decision.said]
        if changes:
            if decision.replicas == 0:
                # Said before it is done: without it nobody ever wakes what has no replicas. Where it isn't
                # done after all, it says nothing to anybody, and the next look takes it back.
                sleeps = with_conditions(autoscaler, [asleep(decision, target.replicas)], self._clock())
                autoscaler = await self._write(autoscaler, sleeps)
            try:
                await self._scale(target, decision.replicas)
            except errors.Conflict:
                # It has changed since: what was decided may not hold any more.
                raise
            except errors.GpuyardError as error:
                await self._not_scaled(autoscaler, decision, error)
                return
            said.append(_rescaled(decision.replicas))
        seen.history = done(decision, spec, target.replicas, now_s)
        if changes or target.replicas:
            said.append(asleep(decision, target.replicas))
        await self._tell(autoscaler, target.replicas, decision, said)

    async def _measure(
        self, spec: AutoscalerSpec, target: ScaleTarget, seen: _AutoscalerMemory, now_s: float
    ) -> Measured:
        namespace = key_of(target.manifest).namespace
        replicas = [ScaledPod.of(pod) for pod in self._pods(target)]
        service = target.service(self._informers[SERVICES].objects.values())
        load = await self._loads.service_load(namespace, service) if service else None
        if load is not None:
            ready = sum(one.ready for one in replicas)
            seen.window = seen.window.with_sample(LoadSample(now_s, load, ready))
        utilization: Mapping[str, float] = {}
        if any(metric.name == METRIC_GPU_UTILIZATION for metric in spec.metrics):
            names = [one.name for one in replicas if one.ready]
            utilization = await self._loads.utilization(namespace, names)
        return Measured(target.replicas, replicas, load, seen.window, utilization)

    async def _scale(self, target: ScaleTarget, replicas: int) -> None:
        """Writes how many there are to be, if nobody has changed the target since it was looked at."""
        namespace, name = key_of(target.manifest)
        version = target.manifest["metadata"]["resourceVersion"]
        patch = {"metadata": {"resourceVersion": version}, "spec": {"replicas": replicas}}
        await self._api.patch(target.resource, name, patch, namespace, subresource="scale")

    async def _tell(
        self, autoscaler: Manifest, before: int, decision: ScalingDecision, said: list[Said]
    ) -> None:
        """Writes the status where it says something new, and an event where something has happened."""
        now = self._clock()
        regarding = with_kind(AUTOSCALERS, autoscaler)
        if decision.replicas != before:
            text = f"New size: {decision.replicas}; reason: {decision.why}"
            await self._events.record(regarding, "Normal", "SuccessfulRescale", text)
        if decision.failure and (find_condition(autoscaler, ACTIVE) or {}).get("status") != "False":
            await self._events.record(regarding, "Warning", decision.said[0].reason, decision.failure)
        await self._write(autoscaler, with_decision(autoscaler, decision, before, said, now))

    async def _not_scaled(
        self, autoscaler: Manifest, decision: ScalingDecision, error: errors.GpuyardError
    ) -> None:
        text = f"New size: {decision.replicas}; reason: {decision.why}; error: {error.message}"
        await self._events.record(with_kind(AUTOSCALERS, autoscaler), "Warning", "FailedRescale", text)
        message = f"the HPA controller was unable to update the target scale: {error.message}"
        said = Said(ABLE, False, "FailedUpdateScale", message)
        await self._write(autoscaler, with_conditions(autoscaler, [said], self._clock()))

    async def _fail(self, autoscaler: Manifest, condition: str, reason: str, message: str) -> None:
        """Says why it can't be looked at; once, and not with every look."""
        if (find_condition(autoscaler, condition) or {}).get("message") != message:
            await self._events.record(with_kind(AUTOSCALERS, autoscaler), "Warning", reason, message)
        said = Said(condition, False, reason, message)
        await self._write(autoscaler, with_conditions(autoscaler, [said], self._clock()))

    async def _write(self, old: Manifest, new: Manifest) -> Manifest:
        """Writes what is new, if anything is; gives it as it is stored then."""
        if with_kind(AUTOSCALERS, old) == new:
            return old
        return await self._api.update(AUTOSCALERS, new, subresource="status")


_GOT_SCALE = Said(
    ABLE, True, "SucceededGetScale", "the HPA controller was able to get the target's current scale"
)


def _rescaled(replicas: int) -> Said:
    message = f"the HPA controller was able to update the target scale to {replicas}"
    return Said(ABLE, True, "SucceededRescale", message)


def _may_wake(autoscaler: Manifest, target: ScaleTarget) -> bool:
    """Whether its target may be woken: its user didn't stop it, and it has put it to sleep itself, or has
    never seen it awake."""
    if target.is_stopped:
        return False
    if autoscaler["spec"].get("minReplicas", 1) != 0:
        return (find_condition(autoscaler, ASLEEP) or {}).get("status") == "True"
    return (find_condition(autoscaler, ASLEEP) or {}).get("status") != "False"
