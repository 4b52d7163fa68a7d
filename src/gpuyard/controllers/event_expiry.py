"""Removes events that are too old to tell anybody anything."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from datetime import datetime, timedelta

from gpuyard import errors
from gpuyard.client.api import KubeApi
from gpuyard.kube.objects import EVENTS, Manifest
from gpuyard.kube.timestamps import parse_time

log = logging.getLogger(__name__)

#: A cluster keeps events for an hour; here they are few, and tomorrow somebody asks why a run failed.
LIFETIME = timedelta(days=1)


class EventExpiry:
    """Deletes events whose last occurrence is older than `lifetime`; looks every `interval_s`."""

    def __init__(
        self,
        api: KubeApi,
        clock: Callable[[], datetime],
        *,
        lifetime: timedelta = LIFETIME,
        interval_s: float = 600.0,
    ) -> None:
        self._api = api
        self._clock = clock
        self._lifetime = lifetime
        self._interval_s = interval_s

    async def run(self) -> None:
        """Works until cancelled."""
        while True:
            try:
                await self.expire()
            except errors.GpuyardError as error:
                log.warning("old events stay for now: %s", error)
            await asyncio.sleep(self._interval_s)

    async def expire(self) -> int:
        """Deletes what is too old now and says how many that were."""
        border = self._clock() - self._lifetime
        old = [event for event in (await self._api.list(EVENTS)).items if _last_seen(event) < border]
        for event in old:
            metadata = event["metadata"]
            with contextlib.suppress(errors.NotFound, errors.Conflict):
                await self._api.delete(EVENTS, metadata["name"], metadata["namespace"], uid=metadata["uid"])
        return len(old)


def _last_seen(event: Manifest) -> datetime:
    text = event.get("lastTimestamp") or event.get("eventTime") or event["metadata"]["creationTimestamp"]
    return parse_time(text)
