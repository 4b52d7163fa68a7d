"""The EndpointSlice controller: keeps the slices of each Service as its pods are."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable

from gpuyard import errors
from gpuyard.client.api import KubeApi
from gpuyard.client.informer import Informer
from gpuyard.client.workqueue import WorkQueue
from gpuyard.controllers.endpoint_slice.slices import MANAGER, selects, wanted_slices
from gpuyard.kube.objects import (
    ENDPOINT_SLICES,
    Manifest,
    ObjectKey,
    annotations_of,
    key_of,
    labels_of,
    uid_of,
    with_kind,
)
from gpuyard.kube.wellknown import ANNOTATION_PORTS, LABEL_SERVICE_NAME, LABEL_SLICE_MANAGER

_WORKERS = 4


class EndpointSliceController:
    """Writes down which pods are behind each Service that has a selector.

    Every Service is handled by one worker at a time. It keeps nothing: what it writes follows from the
    Service and its pods, and a write on a late copy of a slice is a Conflict.

    Args:
        services, pods, slices: informers that someone else runs.
    """

    def __init__(self, api: KubeApi, services: Informer, pods: Informer, slices: Informer) -> None:
        self._api = api
        self._services = services
        self._pods = pods
        self._slices = slices
        self._queue: WorkQueue[ObjectKey] = WorkQueue(
            "endpoint-slice", self._sync, services.supervisor, services.reference
        )
        services.add_handler(self._on_service)
        pods.add_handler(self._on_pod)
        slices.add_handler(self._on_slice)

    async def run(self) -> None:
        """Works until cancelled."""
        for informer in (self._services, self._pods, self._slices):
            await informer.synced()
        await self._queue.run(_WORKERS)

    def _on_service(self, _old: Manifest | None, new: Manifest | None) -> None:
        if new is not None:
            self._queue.add(key_of(new))

    def _on_pod(self, old: Manifest | None, new: Manifest | None) -> None:
        if old is not None and new is not None and _seen_of(old) == _seen_of(new):
            return
        changed = [pod for pod in (old, new) if pod is not None]
        namespace = key_of(changed[0]).namespace
        for key, service in self._services.objects.items():
            if key.namespace == namespace and any(selects(service, pod) for pod in changed):
                self._queue.add(key)

    def _on_slice(self, old: Manifest | None, new: Manifest | None) -> None:
        for one in (old, new):
            if one is not None and (key := _service_of(one)) in self._services.objects:
                self._queue.add(key)

    async def _sync(self, key: ObjectKey) -> None:
        service = self._services.objects.get(key)
        if service is None or service["metadata"].get("deletionTimestamp"):
            return
        if not service["spec"].get("selector"):
            # Its slices are somebody else's.
            return
        existing = {
            one["metadata"]["name"]: one
            for one in self._slices.objects.values()
            if _service_of(one) == key and labels_of(one).get(LABEL_SLICE_MANAGER) == MANAGER
        }
        wanted = wanted_slices(service, self._pods_of(service), list(existing.values()))
        for one in wanted:
            old = existing.pop(one["metadata"]["name"], None)
            if old is None:
                with contextlib.suppress(errors.AlreadyExists):
                    await self._api.create(ENDPOINT_SLICES, one)
            elif one != with_kind(ENDPOINT_SLICES, old):
                await self._api.update(ENDPOINT_SLICES, one)
        # Last, so that an endpoint that changes its slice is in one at any time.
        for one in existing.values():
            await self._delete(one)

    def _pods_of(self, service: Manifest) -> Iterable[Manifest]:
        namespace = key_of(service).namespace
        return [
            pod
            for key, pod in self._pods.objects.items()
            if key.namespace == namespace and selects(service, pod)
        ]

    async def _delete(self, endpoint_slice: Manifest) -> None:
        key = key_of(endpoint_slice)
        with contextlib.suppress(errors.NotFound, errors.Conflict):
            await self._api.delete(ENDPOINT_SLICES, key.name, key.namespace, uid=uid_of(endpoint_slice))


def _service_of(endpoint_slice: Manifest) -> ObjectKey:
    name = labels_of(endpoint_slice).get(LABEL_SERVICE_NAME, "")
    return ObjectKey(key_of(endpoint_slice).namespace, name)


def _seen_of(pod: Manifest) -> tuple[object, ...]:
    """All of a pod that a slice may tell: another change needs no look."""
    status, spec = pod.get("status") or {}, pod["spec"]
    ready = [
        condition.get("status")
        for condition in status.get("conditions") or ()
        if condition.get("type") == "Ready"
    ]
    return (
        labels_of(pod),
        annotations_of(pod).get(ANNOTATION_PORTS),
        spec.get("nodeName"),
        status.get("phase"),
        status.get("podIPs"),
        ready,
        pod["metadata"].get("deletionTimestamp"),
    )
