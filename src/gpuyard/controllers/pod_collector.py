"""Pods that no kubelet ends: their node is gone or confirmed to be down, or they never had one."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from datetime import datetime
from typing import Any

from gpuyard import errors
from gpuyard.client.api import KubeApi
from gpuyard.client.events import EventRecorder
from gpuyard.client.informer import Informer
from gpuyard.client.supervision import ObjectReference
from gpuyard.client.workqueue import WorkQueue
from gpuyard.kube.conditions import with_condition
from gpuyard.kube.nodes import out_of_service_taint, tolerates
from gpuyard.kube.objects import NODES, PODS, Manifest, ObjectKey, key_of, uid_of
from gpuyard.kube.pods import is_terminal
from gpuyard.kube.timestamps import format_time

_GRACE_S = 40.0


class PodCollector:
    """Fails and removes pods that are bound to a node which no longer exists, or which is down and carries
    the taint `out-of-service` that they don't tolerate, and deleted pods that never were bound; what holds
    those, as a Job's finalizer does, waits for their end.

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
        is_gone: Callable[[str], bool] = lambda node: False,
    ) -> None:
        """`is_gone` says whether a node that is missing is known not to come back."""
        self._api = api
        self._clock = clock
        self._watched_s = watched_s
        self._nodes = nodes
        self._pods = pods
        self._grace_s = grace_s
        self._is_gone = is_gone
        self._events = EventRecorder(api, "node-controller", clock)
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
        elif new is not None and out_of_service_taint(new):
            self._queue.add(new["metadata"]["name"])

    def _on_pod(self, _old: Manifest | None, new: Manifest | None) -> None:
        node = _node_of(new)
        found = self._nodes.objects.get(ObjectKey("", node))
        if found is None or out_of_service_taint(found) if node else _is_deleted(new):
            self._queue.add(node)

    async def look(self, node: str) -> float | None:
        """Removes the pods of a node that is down; gives a missing one time to come back before, and makes
        sure that it is gone.

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
        found = self._nodes.objects.get(ObjectKey("", node))
        if found is not None and (taint := out_of_service_taint(found)):
            for pod in stranded:
                if not any(tolerates(each, taint) for each in pod["spec"].get("tolerations") or ()):
                    # As the node controller and the taint manager of a cluster say it.
                    await self._events.record(pod, "Warning", "NodeNotReady", "Node is not ready")
                    told = f"Marking for deletion Pod {key_of(pod)}"
                    await self._events.record(pod, "Normal", "TaintManagerEviction", told)
                    await self._give_up(pod, "node is out of service")
        if not stranded or found is not None:
            self._missing.pop(node, None)
            return None
        now_s = self._watched_s()
        left_s = self._grace_s - (now_s - self._missing.setdefault(node, now_s))
        if left_s > 0 and not self._is_gone(node):
            return left_s
        with contextlib.suppress(errors.NotFound):
            await self._api.get(NODES, node)
            return self._grace_s
        for pod in stranded:
            await self._give_up(pod, "node no longer exists")
        return None

    async def _give_up(self, pod: Manifest, why: str) -> None:
        status = pod.get("status") or {}
        conditions = with_condition(
            status.get("conditions") or (),
            "DisruptionTarget",
            "True",
            now=format_time(self._clock()),
            reason="DeletionByPodGC",
            message=f"PodGC: {why}",
        )
        await self._remove(pod, conditions=conditions)

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
