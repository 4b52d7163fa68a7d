"""Pods that no kubelet ends: their node is gone, or they never had one."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from datetime import datetime
from typing import Any

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
    """Fails and removes pods that are bound to a node which no longer exists, and deleted pods that never
    were bound; what holds those, as a Job's finalizer does, waits for their end.

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
        if ObjectKey("", node) not in self._nodes.objects if node else _is_deleted(new):
            self._queue.add(node)

    async def look(self, node: str) -> float | None:
        """Gives a missing node time to come back, makes sure that it is gone, and removes its pods.

        Args:
            node: its name; empty for deleted pods without a node.

        Returns the seconds until it is to be looked at again; None for a node that misses nothing.
        """
        if not node:
            for pod in list(self._pods.objects.values()):
                if not _node_of(pod) and _is_deleted(pod) and not is_terminal(pod):
                    await self._remove(pod)
            return None
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
            status = pod.get("status") or {}
            conditions = with_condition(
                status.get("conditions") or (),
                "DisruptionTarget",
                "True",
                now=format_time(self._clock()),
                reason="DeletionByPodGC",
                message="PodGC: node no longer exists",
            )
            await self._remove(pod, conditions=conditions)
        return None

    async def _remove(self, pod: Manifest, **status: Any) -> None:
        key = key_of(pod)
        patch = {"metadata": {"uid": uid_of(pod)}, "status": {"phase": "Failed", **status}}
        with contextlib.suppress(errors.NotFound, errors.Conflict):
            await self._api.patch(PODS, key.name, patch, key.namespace, subresource="status")
            await self._api.delete(PODS, key.name, key.namespace, grace_period_s=0, uid=uid_of(pod))


def _is_deleted(pod: Manifest | None) -> bool:
    return bool(pod and pod["metadata"].get("deletionTimestamp"))


def _node_of(pod: Manifest | None) -> str:
    return str(((pod or {}).get("spec") or {}).get("nodeName") or "")
