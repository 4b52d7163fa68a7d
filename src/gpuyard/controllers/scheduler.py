"""Binds pending pods to nodes: `scheduling` decides, this watches and writes."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime
from typing import Any, TypeVar

from gpuyard import errors
from gpuyard.client.api import KubeApi
from gpuyard.client.events import EventRecorder
from gpuyard.client.informer import Informer
from gpuyard.kube.conditions import find_condition, with_condition
from gpuyard.kube.objects import PODS, Manifest, ObjectKey, key_of
from gpuyard.kube.storage import claims_of
from gpuyard.kube.timestamps import format_time
from gpuyard.scheduling.decide import decide, decide_gang, order
from gpuyard.scheduling.requests import Gang, PodRequest
from gpuyard.scheduling.snapshot import NodeState, Snapshot, holds, waits

log = logging.getLogger(__name__)

#: What a pod's `schedulerName` says when it is ours.
NAME = "default-scheduler"

Parsed = TypeVar("Parsed", NodeState, PodRequest)
_SIMPLE: Mapping[str, type] = {"str": str, "int": int, "bool": bool}

_WRITES_AT_ONCE = 64
_RETRY_S = 0.5
_RETRY_MAX_S = 30.0


@dataclass(frozen=True)
class _PendingPod:
    """A pending pod, as last seen and as parsed."""

    pod: Manifest
    request: PodRequest


class Scheduler:
    """Binds pods in rounds, one round at a time, woken by changes that can matter to a pod.

    A round takes the pods that arrived since the last one, and all that found no place when something
    was freed or a node changed. The more important go first; one that fits nowhere doesn't hold up the
    others. A pod counts as bound from the decision on, until the binding is seen or has failed.
    """

    def __init__(
        self,
        api: KubeApi,
        clock: Callable[[], datetime],
        nodes: Informer,
        pods: Informer,
        claims: Informer,
    ) -> None:
        self._api = api
        self._clock = clock
        self._informers = (nodes, pods, claims)
        self._pods = pods
        self._claims = claims
        self._supervisor = pods.supervisor
        self._events = EventRecorder(api, NAME, clock)
        self._nodes: dict[str, NodeState] = {}
        self._bound: dict[ObjectKey, PodRequest] = {}
        self._assumed: dict[ObjectKey, PodRequest] = {}
        #: Pods for the next round, and those that wait until something changes.
        self._pending: dict[ObjectKey, _PendingPod] = {}
        self._stuck: dict[ObjectKey, _PendingPod] = {}
        #: Who came first among those of one second.
        self._arrivals: dict[ObjectKey, int] = {}
        self._count = itertools.count()
        self._wake = asyncio.Event()
        self._writes = asyncio.Semaphore(_WRITES_AT_ONCE)
        nodes.add_handler(self._on_node)
        pods.add_handler(self._on_pod)
        claims.add_handler(lambda _old, _new: self._retry_all())

    async def run(self) -> None:
        """Schedules until cancelled. The informers must be running."""
        for informer in self._informers:
            await informer.synced()
        retry_s: float | None = None
        # Where a round failed in an unforeseen way, its pods are still pending.
        self._wake.set()
        while True:
            try:
                async with asyncio.timeout(retry_s):
                    await self._wake.wait()
            except TimeoutError:
                pass
            self._wake.clear()
            failed = await self._round()
            retry_s = min((retry_s or _RETRY_S / 2) * 2, _RETRY_MAX_S) if failed else None

    # -- what changes -----------------------------------------------------------------------------------

    def _on_node(self, old: Manifest | None, new: Manifest | None) -> None:
        name = (new or old or {})["metadata"]["name"]
        before = self._nodes.pop(name, None)
        if new is not None:
            self._nodes[name] = _of_its_types(NodeState.of(new))
        # A heartbeat changes nothing that a pod could wait for.
        if self._nodes.get(name) != before:
            self._retry_all()

    def _on_pod(self, old: Manifest | None, new: Manifest | None) -> None:
        key = key_of(new or old or {})
        if new is None or not _is_waiting(new):
            self._pending.pop(key, None)
            self._stuck.pop(key, None)
            self._assumed.pop(key, None)
            self._arrivals.pop(key, None)
        if new is not None and holds(new):
            self._bound[key] = _of_its_types(PodRequest.of(new))
        elif self._bound.pop(key, None) is not None:
            self._retry_all()
        if new is not None and _is_waiting(new) and key not in self._assumed:
            self._queue(key, old, new)

    def _queue(self, key: ObjectKey, old: Manifest | None, new: Manifest) -> None:
        # Our own report of why it is stuck comes back as a change too.
        if key in self._stuck and old is not None and old["spec"] == new["spec"]:
            self._stuck[key] = replace(self._stuck[key], pod=new)
            return
        self._stuck.pop(key, None)
        request = _of_its_types(PodRequest.of(new))
        self._pending[key] = _PendingPod(new, request)
        if request.gang is not None:
            # The last one to come is what the others have waited for.
            for other in [k for k, waiting in self._stuck.items() if waiting.request.gang == request.gang]:
                self._pending[other] = self._stuck.pop(other)
        self._arrivals.setdefault(key, next(self._count))
        self._wake.set()

    def _retry_all(self) -> None:
        self._pending |= self._stuck
        self._stuck.clear()
        if self._pending:
            self._wake.set()

    # -- a round ----------------------------------------------------------------------------------------

    async def _round(self) -> bool:
        """Decides on every pending pod and carries it out; whether something has to be tried again."""
        requests = order((waiting.request for waiting in self._pending.values()), self._arrivals)
        snapshot = Snapshot.build(self._nodes.values(), {**self._assumed, **self._bound}.values())
        tasks = []
        async with asyncio.TaskGroup() as group:
            for members in _by_gang(requests):
                nodes: Mapping[ObjectKey, str] = {}
                message = ""
                with self._supervisor.guard(NAME, self._pods.reference(members[0].key)):
                    nodes, message = self._place(members, snapshot)
                for request in members:
                    waiting, node = self._pending.pop(request.key), nodes.get(request.key)
                    if node is None:
                        self._stuck[request.key] = waiting
                        if not message:
                            continue
                        work = self._report_stuck(waiting, message)
                    else:
                        snapshot = snapshot.assume(request, node)
                        self._assumed[request.key] = replace(request, node_name=node)
                        work = self._bind(waiting, node)
                    name = f"schedule-{request.key}"
                    tasks.append(group.create_task(self._guarded(work, waiting), name=name))
        return not all(task.result() for task in tasks)

    def _place(
        self, members: Sequence[PodRequest], snapshot: Snapshot
    ) -> tuple[Mapping[ObjectKey, str], str]:
        """The node of each of these pods, or none and why: a pod by itself, or what waits of one gang.

        Of a gang that isn't complete nothing is said: its pods are being made.
        """
        if unready := _unready_claim(self._pending[members[0].key].pod, self._claims.objects):
            return {}, unready
        gang = members[0].gang
        if gang is None:
            decision = decide(members[0], snapshot)
            return ({members[0].key: decision.node} if decision.node else {}), decision.message
        # A pod that is ending makes room for the one that follows it, and isn't one to start with.
        placed = {**self._assumed, **self._bound}.values()
        together = decide_gang(members, sum(p.gang == gang and not p.ending for p in placed), snapshot)
        return together.nodes, together.message

    async def _guarded(self, work: Coroutine[Any, Any, bool], waiting: _PendingPod) -> bool:
        """Does the work of one pod; what it trips over is reported, and it is tried again."""
        key = waiting.request.key
        with self._supervisor.guard(NAME, self._pods.reference(key)):
            return await work
        if self._assumed.pop(key, None) or self._stuck.pop(key, None):
            self._pending.setdefault(key, waiting)
        return False

    async def _bind(self, waiting: _PendingPod, node: str) -> bool:
        """Binds; False when it has to be tried again."""
        pod, key, uid = waiting.pod, waiting.request.key, waiting.request.uid
        async with self._writes:
            try:
                await self._api.bind(key.namespace, key.name, node, uid=uid)
            except (errors.Conflict, errors.NotFound) as error:
                # Gone, being deleted or bound by another: its next change, if any, says what it is now.
                log.info("pod %s not bound to %s: %s", key, node, error)
                self._assumed.pop(key, None)
                self._retry_all()
                return True
            except errors.GpuyardError as error:
                log.warning("pod %s not bound to %s: %s; trying again", key, node, error)
                # Nothing is woken here: the retry comes with back-off. A pod that went meanwhile stays gone.
                if self._assumed.pop(key, None):
                    self._pending.setdefault(key, waiting)
                return False
            message = f"Successfully assigned {key.namespace}/{key.name} to {node}"
            await self._events.record(pod, "Normal", "Scheduled", message)
            return True

    async def _report_stuck(self, waiting: _PendingPod, message: str) -> bool:
        """Sets PodScheduled=False and writes the event, unless that is what the pod says already."""
        pod, key = waiting.pod, waiting.request.key
        known = find_condition(pod, "PodScheduled") or {}
        if known.get("status") == "False" and known.get("message") == message:
            return True
        conditions = with_condition(
            (pod.get("status") or {}).get("conditions") or (),
            "PodScheduled",
            "False",
            now=format_time(self._clock()),
            reason="Unschedulable",
            message=message,
        )
        async with self._writes:
            try:
                await self._api.patch(
                    PODS,
                    key.name,
                    {"status": {"conditions": conditions}},
                    key.namespace,
                    subresource="status",
                )
            except errors.NotFound:
                return True
            except errors.GpuyardError as error:
                log.warning("pod %s: can't report that it fits nowhere: %s; trying again", key, error)
                if self._stuck.pop(key, None):
                    self._pending.setdefault(key, waiting)
                return False
            await self._events.record(pod, "Warning", "FailedScheduling", message)
            return True


def _by_gang(requests: Sequence[PodRequest]) -> list[list[PodRequest]]:
    """Each pod by itself, but those of one gang together, at the place of their first."""
    groups: dict[Gang | ObjectKey, list[PodRequest]] = {}
    for request in requests:
        groups.setdefault(request.gang or request.key, []).append(request)
    return list(groups.values())


def _of_its_types(parsed: Parsed) -> Parsed:
    """The same value.

    Raises:
        TypeError: a field isn't what it is declared as, since something odd was stored. A round works with
            all pods and nodes at once, so such a one must not get into it.
    """
    for field in fields(parsed):
        expected = _SIMPLE.get(str(field.type))
        value = getattr(parsed, field.name)
        if expected is not None and not isinstance(value, expected):
            raise TypeError(f"{field.name} is {value!r}, not {field.type}")
    if isinstance(parsed, NodeState):
        for taint in parsed.taints:
            if not isinstance(taint, Mapping) or not all(isinstance(text, str) for text in taint.values()):
                raise TypeError(f"{taint!r} is no taint")
        if not isinstance(parsed.labels, Mapping):
            raise TypeError(f"{parsed.labels!r} are no labels")
    return parsed


def _unready_claim(pod: Manifest, claims: Mapping[ObjectKey, Manifest]) -> str:
    """What is to be said of a claim of the pod's that isn't there or isn't bound; empty for none.

    In kube-scheduler's words (`volumebinding`), which `explain` reads.
    """
    namespace = key_of(pod).namespace
    for name in claims_of(pod["spec"]):
        claim = claims.get(ObjectKey(namespace, name))
        if claim is None:
            return f'persistentvolumeclaim "{name}" not found'
        if "deletionTimestamp" in claim["metadata"]:
            return f'persistentvolumeclaim "{name}" is being deleted'
        phase = (claim.get("status") or {}).get("phase")
        if phase == "Lost":
            return f'persistentvolumeclaim "{name}" bound to non-existent persistentvolume'
        if phase != "Bound":
            return "pod has unbound immediate PersistentVolumeClaims"
    return ""


def _is_waiting(pod: Manifest) -> bool:
    """Whether the pod is ours to place."""
    return waits(pod) and pod["spec"].get("schedulerName", NAME) == NAME
