"""Kubernetes' events about a run: of its Job, of its pods, also those that are gone, and of its claims."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any

from gpuyard import errors
from gpuyard.kube.objects import EVENTS, JOBS, PERSISTENT_VOLUME_CLAIMS, PODS, Manifest, uid_of
from gpuyard.kube.wellknown import LABEL_RUN
from gpuyard.runs.run import Run
from gpuyard.runs.target import Target
from gpuyard.workloads.outcome import is_stopped

#: Of the Job's controller. It counts the eleventh and further pods within ten minutes as one event, whose
#: message is of the last one. Source: client-go `tools/record/events_cache.go`.
_CREATED = re.compile(r"Created pod: (\S+)")
#: Events of a Job's controller that gives up.
_GIVEN_UP = ("BackoffLimitExceeded", "PodFailurePolicy")


class EventsOfRun:
    """Which events are about a run: of objects whose names its Job and its pods say.

    Names of pods that are gone come from the events of the Job.
    """

    def __init__(self, run: Run) -> None:
        self._job_uid = uid_of(run.job)
        self._job = (JOBS.kind, run.job["metadata"]["name"])
        self._named: set[tuple[str, str]] = set()
        self._add_claims(run.job["spec"]["template"]["spec"])
        for pod in run.pods:
            self.add_pod(pod)

    def add_pod(self, pod: Manifest) -> None:
        """A pod of the run, be it gone by now."""
        name = pod["metadata"]["name"]
        self._named.add((PODS.kind, name))
        self._add_claims(pod["spec"], name)

    def _add_claims(self, pod_spec: Mapping[str, Any], pod: str = "") -> None:
        from gpuyard.kube.storage import claims_of  # `show` imports this module for the words alone.

        self._named.update((PERSISTENT_VOLUME_CLAIMS.kind, claim) for claim in claims_of(pod_spec, pod))

    def of(self, events: Sequence[Manifest]) -> list[Manifest]:
        """Those that are about the run, oldest first."""
        for event in events:
            if self._is_of_job(event) and (found := _CREATED.search(str(event.get("message") or ""))):
                self._named.add((PODS.kind, found[1]))
        return in_order([event for event in events if self._is_of_job(event) or _about(event) in self._named])

    def _is_of_job(self, event: Manifest) -> bool:
        return _about(event) == self._job and event["involvedObject"].get("uid") == self._job_uid


def _about(event: Manifest) -> tuple[str, str]:
    involved = event["involvedObject"]
    return involved.get("kind", ""), involved.get("name", "")


async def read_events(target: Target, run: Run) -> list[Manifest]:
    """All of them, oldest first.

    Raises:
        Forbidden: the user may not list events.
    """
    return telling_events(run, EventsOfRun(run).of((await target.api.list(EVENTS, target.namespace)).items))


async def follow_events(target: Target, run: Run) -> AsyncGenerator[Manifest, None]:
    """Those that are there, oldest first, and then each one as it comes, or comes again; without an end.

    Raises:
        Forbidden: the user may not list or watch events.
        ConnectionFailed: the API has been away for a minute.
    """
    from gpuyard.client.informer import Informer

    objects, changed = EventsOfRun(run), asyncio.Event()
    events = Informer(target.api, EVENTS, namespace=target.namespace)
    selector = f"{LABEL_RUN}={run.name}"
    pods = Informer(target.api, PODS, namespace=target.namespace, label_selector=selector)
    pods.add_handler(lambda old, new: objects.add_pod(new or old or {}))
    for informer in (events, pods):
        informer.add_handler(lambda old, new: changed.set())
    tasks = [asyncio.create_task(i.run(), name=f"watch {i.resource.plural}") for i in (events, pods)]
    told: dict[str, str] = {}
    try:
        while True:
            changed.clear()
            there = {uid_of(event): event for event in objects.of(list(events.objects.values()))}
            for uid, event in there.items():
                if told.get(uid) != (version := event["metadata"]["resourceVersion"]):
                    told[uid] = version
                    yield event
            await _change(changed, events)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _change(changed: asyncio.Event, events: Any) -> None:
    """Waits for one.

    Raises:
        GpuyardError: the API refuses, or has been away for long.
    """
    from gpuyard.runs.following.pod_log import AWAY_S

    waited_s = 0.0
    while not changed.is_set():
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1):
                await changed.wait()
        waited_s = waited_s + 1 if events.failure else 0
        if isinstance(events.failure, errors.Unauthorized | errors.Forbidden) or waited_s > AWAY_S:
            raise events.failure


def telling_events(run: Run, events: Sequence[Manifest]) -> list[Manifest]:
    """Without the one that misleads: a run is stopped by allowing it no more attempts, and then its Job's
    controller warns that it gave up."""
    if not is_stopped(run.job):
        return list(events)
    return [event for event in events if event.get("reason") not in _GIVEN_UP]


def in_order(events: Sequence[Manifest]) -> list[Manifest]:
    """By time, and within one second in the order in which they were written."""

    def key(event: Manifest) -> tuple[str, int]:
        version = str(event["metadata"].get("resourceVersion", ""))
        return last_seen(event)[:19], int(version) if version.isdecimal() else 0

    return sorted(events, key=key)


def last_seen(event: Manifest) -> str:
    """When it was written last, RFC 3339; empty where nobody says.

    Source: `v1.Event`; kube-scheduler writes events of the newer form, which count in `series`.
    """
    series: Mapping[str, Any] = event.get("series") or {}
    moment = series.get("lastObservedTime") or event.get("lastTimestamp") or event.get("eventTime")
    return str(moment or event.get("firstTimestamp") or "")


def event_count(event: Manifest) -> int:
    """How often it has happened."""
    return int((event.get("series") or {}).get("count") or event.get("count") or 1)


def object_text(event: Manifest) -> str:
    """What it is about: `Pod/train-x7k2q`."""
    involved = event["involvedObject"]
    return f"{involved.get('kind', '')}/{involved.get('name', '')}"


def event_json(event: Manifest) -> dict[str, Any]:
    """For machines: the same keys in `show` and `events`."""
    return {
        "last_seen": last_seen(event) or None,
        "type": event.get("type"),
        "reason": event.get("reason"),
        "message": event.get("message"),
        "count": event_count(event),
        "object": object_text(event),
    }
