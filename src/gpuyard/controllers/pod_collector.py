"""Pods whose node is gone."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from datetime import datetime

from gpuyard import errors
from gpuyard.client.api import KubeApi
from gpuyard.client.informer import Informer
from gpuyard.client.supervision import ObjectReference
from gpuyard.client.workqueue import WorkQueue
from gpuyard.kube.conditions import with_condition
from gpuyard.kube.objects import NODES, PODS, Manifest, ObjectKey, key_of, uid_of
from gpuyard.kube.pods import is_terminal
from gpuyard.kube.timestamps import format_time

_GRACE_S = 40.0


class PodCollector:
    """Fails and removes pods that are bound to a node which no longer exists.

    Unlike a cluster's pod garbage collector it leaves finished pods: on a yard they are the record of a run.
    """

    def __init__(
        self,
        api: KubeApi,
        clock: Callable[[], datetime],
        watched_s: Callable[[], float],
        nodes: Informer,
        pods: Informer,
        *,
        grace_s: float = _GRACE_S,
    ) -> None:
        self._api = api
        self._clock = clock
        self._watched_s = watched_s
        self._nodes = nodes
        self._pods = pods
        self._grace_s = grace_s
        #: node → since when it is known to be missing, in watched seconds.
        self._missing: dict[str, float] = {}
        self._queue: WorkQueue[str] = WorkQueue("pod-collector", self.look, nodes.supervisor, self._reference)
        nodes.add_handler(self._on_node)
        pods.add_handler(self._on_pod)

    async def run(self) -> None:
        """Works until cancelled."""
        await self._nodes.synced()
        await self._pods.synced()
        await self._queue.run()

    def _reference(self, node: str) -> ObjectReference:
        return self._nodes.reference(ObjectKey("", node))

    def _on_node(self, old: Manifest | None, new: Manifest | None) -> None:
        if new is None and old is not None:
            self._queue.add(old["metadata"]["name"])

    def _on_pod(self, _old: Manifest | None, new: Manifest | None) -> None:
        node = _node_of(new)
        if node and ObjectKey("", node) not in self._nodes.objects:
            self._queue.add(node)

    async def look(self, node: str) -> float | None:
        """Gives a missing node time to come back, makes sure that it is gone, and removes its pods.

        Returns the seconds until it is to be looked at again; None for a node that misses nothing.
        """
        stranded = [
            pod for pod in self._pods.objects.values() if _node_of(pod) == node and not is_terminal(pod)
        ]
        if not stranded or ObjectKey("", node) in self._nodes.objects:
            self._missing.pop(node, None)
            return None
        now_s = self._watched_s()
        left_s = self._grace_s - (now_s - self._missing.setdefault(node, now_s))
        if left_s > 0:
            return left_s
        with contextlib.suppress(errors.NotFound):
            await self._api.get(NODES, node)
            return self._grace_s
        for pod in stranded:
            with contextlib.suppress(errors.NotFound, errors.Conflict):
                await self._remove(pod)
        return None

    async def _remove(self, pod: Manifest) -> None:
        key, now = key_of(pod), format_time(self._clock())
        status = pod.get("status") or {}
        conditions = with_condition(
            status.get("conditions") or (),
            "DisruptionTarget",
            "True",
            now=now,
            reason="DeletionByPodGC",
            message="PodGC: node no longer exists",
        )
        patch = {
            "metadata": {"uid": uid_of(pod)},
            "status": {"phase": "Failed", "conditions": conditions},
        }
        await self._api.patch(PODS, key.name, patch, key.namespace, subresource="status")
        await self._api.delete(PODS, key.name, key.namespace, grace_period_s=0, uid=uid_of(pod))


def _node_of(pod: Manifest | None) -> str:
    return str(((pod or {}).get("spec") or {}).get("nodeName") or "")
