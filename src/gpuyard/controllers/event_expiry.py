"""Removes events that are too old to tell anybody anything."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from datetime import datetime, timedelta

from gpuyard import errors
from gpuyard.client.api import KubeApi
from gpuyard.client.supervision import ObjectReference, Supervisor
from gpuyard.kube.ages import Ages, seconds_since_boot
from gpuyard.kube.objects import EVENTS, Manifest, key_of, uid_of
from gpuyard.kube.timestamps import parse_time

#: A cluster keeps events for an hour; here they are few, and tomorrow somebody asks why a run failed.
LIFETIME = timedelta(days=1)


class EventExpiry:
    """Deletes events whose last occurrence is older than `lifetime`; looks every `interval_s`."""

    def __init__(
        self,
        api: KubeApi,
        clock: Callable[[], datetime],
        supervisor: Supervisor,
        *,
        lifetime: timedelta = LIFETIME,
        interval_s: float = 600.0,
        seconds: Callable[[], float] = seconds_since_boot,
    ) -> None:
        self._api = api
        self._age = Ages(clock, seconds)
        self._supervisor = supervisor
        self._lifetime_s = lifetime.total_seconds()
        self._interval_s = interval_s

    async def run(self) -> None:
        """Works until cancelled."""
        while True:
            with self._supervisor.guard("event-expiry"):
                await self.expire()
            await asyncio.sleep(self._interval_s)

    async def expire(self) -> int:
        """Deletes what is too old now and says how many that were."""
        count = 0
        seen: set[datetime] = set()
        for event in (await self._api.list(EVENTS)).items:
            key, uid = key_of(event), uid_of(event)
            with self._supervisor.guard("event-expiry", ObjectReference(EVENTS, key, uid)):
                seen.add(last := _last_seen(event))
                if self._age(last) > self._lifetime_s:
                    count += 1
                    with contextlib.suppress(errors.NotFound, errors.Conflict):
                        await self._api.delete(EVENTS, key.name, key.namespace, uid=uid)
        self._age.keep(seen)
        return count


def _last_seen(event: Manifest) -> datetime:
    text = event.get("lastTimestamp") or event.get("eventTime") or event["metadata"]["creationTimestamp"]
    return parse_time(text)
