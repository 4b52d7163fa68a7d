"""Nodes that have fallen silent."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from gpuyard import errors
from gpuyard.client.api import KubeApi
from gpuyard.client.informer import Informer
from gpuyard.client.supervision import ObjectReference
from gpuyard.client.workqueue import WorkQueue
from gpuyard.kube.conditions import find_condition, with_condition
from gpuyard.kube.objects import NODES, Manifest, ObjectKey, with_kind
from gpuyard.kube.timestamps import format_time
from gpuyard.kube.wellknown import TAINT_UNREACHABLE

_LEASES_NAMESPACE = "kube-node-lease"
_GRACE_S = 40.0
_EFFECTS = ("NoSchedule", "NoExecute")


class NodeLifecycle:
    """Marks a node Ready=Unknown, with the taint `unreachable`, when its lease hasn't moved for 40 s.

    The time runs from when this controller saw the lease move, and only while it watches, so that neither a
    restart or a pause of this process nor anybody's wrong clock condemns a node. The taint goes when the
    kubelet reports Ready again.
    Source: `pkg/controller/nodelifecycle` of Kubernetes 1.34, without evictions.
    """

    def __init__(
        self,
        api: KubeApi,
        clock: Callable[[], datetime],
        watched_s: Callable[[], float],
        nodes: Informer,
        leases: Informer,
        *,
        grace_s: float = _GRACE_S,
    ) -> None:
        self._api = api
        self._clock = clock
        self._watched_s = watched_s
        self._nodes = nodes
        self._leases = leases
        self._grace_s = grace_s
        #: node → (what its lease said, when that was first seen, in watched seconds).
        self._beats: dict[str, tuple[str, float]] = {}
        self._queue: WorkQueue[str] = WorkQueue("node", self.look, nodes.supervisor, self._reference)
        nodes.add_handler(self._on_node)
        leases.add_handler(self._on_lease)

    async def run(self) -> None:
        """Works until cancelled."""
        await self._nodes.synced()
        await self._leases.synced()
        await self._queue.run()

    def _reference(self, node: str) -> ObjectReference:
        return self._nodes.reference(ObjectKey("", node))

    def _on_node(self, old: Manifest | None, new: Manifest | None) -> None:
        if new is not None:
            self._queue.add(new["metadata"]["name"])
        elif old is not None:
            self._beats.pop(old["metadata"]["name"], None)

    def _on_lease(self, _old: Manifest | None, new: Manifest | None) -> None:
        if new is not None and new["metadata"]["namespace"] == _LEASES_NAMESPACE:
            self._queue.add(new["metadata"]["name"])

    async def look(self, name: str) -> float | None:
        """Judges a node by its silence; returns the seconds until it is to be looked at again."""
        node = self._nodes.objects.get(ObjectKey("", name))
        if node is None:
            return None
        lease = self._leases.objects.get(ObjectKey(_LEASES_NAMESPACE, name))
        beat = str(((lease or {}).get("spec") or {}).get("renewTime", ""))
        now_s = self._watched_s()
        if name not in self._beats or self._beats[name][0] != beat:
            self._beats[name] = (beat, now_s)
        left_s = self._grace_s - (now_s - self._beats[name][1])
        if left_s > 0:
            if (find_condition(node, "Ready") or {}).get("status") == "True" and is_unreachable(node):
                await self._write_taints(node, unreachable=False)
            return left_s
        if (find_condition(node, "Ready") or {}).get("status") != "Unknown":
            status = silent_status(node.get("status") or {}, self._clock())
            with contextlib.suppress(errors.NotFound):
                await self._api.update(
                    NODES, {**with_kind(NODES, node), "status": status}, subresource="status"
                )
        elif not is_unreachable(node):
            await self._write_taints(node, unreachable=True)
        return None

    async def _write_taints(self, node: Manifest, *, unreachable: bool) -> None:
        spec = node.get("spec") or {}
        taints = [taint for taint in spec.get("taints") or () if taint["key"] != TAINT_UNREACHABLE]
        if unreachable:
            at = format_time(self._clock())
            taints += [{"key": TAINT_UNREACHABLE, "effect": effect, "timeAdded": at} for effect in _EFFECTS]
        with contextlib.suppress(errors.NotFound):
            await self._api.update(NODES, {**with_kind(NODES, node), "spec": {**spec, "taints": taints}})


def is_unreachable(node: Manifest) -> bool:
    """Whether the node carries the taint."""
    taints = (node.get("spec") or {}).get("taints") or ()
    return any(taint["key"] == TAINT_UNREACHABLE for taint in taints)


def silent_status(status: Mapping[str, Any], now: datetime) -> dict[str, Any]:
    """A node's status with every condition that its kubelet keeps set to Unknown."""
    conditions: list[dict[str, Any]] = [dict(c) for c in status.get("conditions") or ()]
    for type_ in dict.fromkeys([*(c["type"] for c in conditions), "Ready"]):
        conditions = with_condition(
            conditions,
            type_,
            "Unknown",
            now=format_time(now),
            reason="NodeStatusUnknown",
            message="Kubelet stopped posting node status.",
        )
    return {**status, "conditions": conditions}
