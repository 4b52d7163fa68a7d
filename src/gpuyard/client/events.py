"""Events: what a controller or a kubelet tells `kubectl describe` and `gpuyard show` about an object."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from datetime import datetime
from typing import Literal

from gpuyard import errors
from gpuyard.client.api import KubeApi
from gpuyard.kube.objects import EVENTS, Manifest, uid_of
from gpuyard.kube.timestamps import format_time

log = logging.getLogger(__name__)

_ATTEMPTS = 3


class EventRecorder:
    """Writes `v1.Event` objects. One that says the same of the same object again raises `count` instead.

    The event's name is a digest of what it says, so that counting goes on after a restart.
    Safe to use from several tasks at once.
    """

    def __init__(
        self, api: KubeApi, component: str, clock: Callable[[], datetime], *, host: str = ""
    ) -> None:
        self._api = api
        self._component = component
        self._clock = clock
        self._host = host

    async def record(
        self, regarding: Manifest, type_: Literal["Normal", "Warning"], reason: str, message: str
    ) -> None:
        """Writes the event into the object's namespace (`default` for cluster-scoped ones).

        An event that can't be written is logged and dropped: nothing may fail for lack of one.
        `regarding` needs its `kind` and `apiVersion`, which items of a list from a cluster don't carry.
        """
        event = self._event(regarding, type_, reason, message)
        try:
            await self._write(event)
        except errors.GpuyardError as error:
            name = regarding["metadata"]["name"]
            log.info("event %s for %s %s not written: %s", reason, regarding.get("kind"), name, error)

    async def _write(self, event: Manifest) -> None:
        namespace, name = event["metadata"]["namespace"], event["metadata"]["name"]
        for _ in range(_ATTEMPTS):
            try:
                await self._api.create(EVENTS, event, namespace)
                return
            except errors.AlreadyExists:
                pass
            try:
                old = await self._api.get(EVENTS, name, namespace)
                again = {**old, "count": old.get("count", 1) + 1, "lastTimestamp": event["lastTimestamp"]}
                await self._api.update(EVENTS, again)
                return
            except (errors.Conflict, errors.NotFound):
                continue

    def _event(self, regarding: Manifest, type_: str, reason: str, message: str) -> Manifest:
        metadata = regarding["metadata"]
        reference = {
            "apiVersion": regarding.get("apiVersion"),
            "kind": regarding.get("kind"),
            "name": metadata["name"],
            "namespace": metadata.get("namespace"),
            "uid": uid_of(regarding),
            "resourceVersion": metadata.get("resourceVersion"),
        }
        said = "\0".join((self._component, self._host, uid_of(regarding), type_, reason, message))
        digest = hashlib.sha256(said.encode()).hexdigest()[:16]
        now = format_time(self._clock())
        return {
            "apiVersion": EVENTS.api_version,
            "kind": EVENTS.kind,
            "metadata": {
                "name": f"{metadata['name'][:236].rstrip('.-')}.{digest}",
                "namespace": metadata.get("namespace") or "default",
            },
            "involvedObject": {field: value for field, value in reference.items() if value},
            "type": type_,
            "reason": reason,
            "message": message,
            "count": 1,
            "firstTimestamp": now,
            "lastTimestamp": now,
            "source": {"component": self._component, **({"host": self._host} if self._host else {})},
            "reportingComponent": self._component,
            "reportingInstance": self._host or self._component,
        }
