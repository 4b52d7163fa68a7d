"""What the kubelet writes of one pod: its status and a few annotations."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from gpuyard import errors
from gpuyard.client.api import KubeApi, PatchType
from gpuyard.kube.objects import PODS, Manifest, annotations_of, key_of, uid_of
from gpuyard.kube.wellknown import (
    ANNOTATION_DEVICES,
    ANNOTATION_ISOLATION,
    ANNOTATION_NOT_APPLIED,
    ANNOTATION_PORTS,
    ENV_SIMULATED,
    LABEL_SIMULATED,
)
from gpuyard.local.kubelet.devices.manager import ContainerAllocation
from gpuyard.local.kubelet.environment import CUDA_VISIBLE_DEVICES, ROCR_VISIBLE_DEVICES

#: A status that lasts shorter than this isn't written: most of it is a process that ends at once.
_SETTLE_S = 0.03


class PodWriter:
    """Writes to the pod of this very uid: once that is gone, nothing happens, whoever has its name by then.

    Attributes:
        status: as last written, or as found.
    """

    def __init__(self, api: KubeApi, pod: Manifest) -> None:
        self.status: Mapping[str, Any] = dict(pod.get("status") or {})
        self._api = api
        self._key = key_of(pod)
        self._uid = uid_of(pod)
        self._annotations = annotations_of(pod)
        self._unsettled_since_s: float | None = None

    async def settle(self, status: Mapping[str, Any], now_s: float) -> float | None:
        """Writes a status that changes something and is likely to last; else says when to come again with it.

        Raises:
            GpuyardError: it can't be written now.
        """
        if all(self.status.get(field) == value for field, value in status.items()):
            self._unsettled_since_s = None
            return None
        if self._unsettled_since_s is None:
            self._unsettled_since_s = now_s
        if (settled_at_s := self._unsettled_since_s + _SETTLE_S) > now_s:
            return settled_at_s
        await self.write_status(status)
        self._unsettled_since_s = None
        return None

    async def write_status(self, status: Mapping[str, Any]) -> None:
        """Replaces the fields of the status that are given; None removes one.

        Args:
            status: a strategic merge patch, since others have conditions in it, too.

        Raises:
            GpuyardError: it can't be written now.
        """
        await self._patch({"status": status}, "status", PatchType.STRATEGIC)
        self.status = status

    async def annotate(
        self,
        isolation: str,
        allocations: Sequence[ContainerAllocation],
        ports: Mapping[int, int],
        not_applied: Sequence[str],
    ) -> None:
        """Says what the pod got, and what of its spec it didn't get.

        Args:
            isolation: of its containers.
            allocations: their devices.
            ports: that stand in for containerPorts.
            not_applied: fields of its spec.

        Raises:
            GpuyardError: it can't be written now.
        """
        ids = [one for allocation in allocations for one in _in_order(allocation)]
        simulated = any(ENV_SIMULATED in allocation.envs for allocation in allocations)
        texts = {
            ANNOTATION_ISOLATION: isolation,
            # An init container's devices are its successors' too.
            ANNOTATION_DEVICES: ",".join(dict.fromkeys(ids)),
            ANNOTATION_NOT_APPLIED: ",".join(not_applied),
            ANNOTATION_PORTS: json.dumps(ports) if ports else "",
            LABEL_SIMULATED: "true" if simulated else "",
        }
        # What its template says of them in a kubelet's place isn't so.
        said = self._annotations
        wrong = {name: text or None for name, text in texts.items() if said.get(name, "") != text}
        if wrong:
            await self.patch_annotations(wrong)

    async def patch_annotations(self, annotations: Mapping[str, str | None]) -> None:
        """Sets these; None removes one.

        Raises:
            GpuyardError: it can't be written now.
        """
        await self._patch({"metadata": {"annotations": annotations}}, "")

    async def _patch(
        self, patch: Mapping[str, Any], subresource: str, patch_type: PatchType = PatchType.MERGE
    ) -> None:
        # With another uid than the pod's the server answers Conflict.
        metadata = {**patch.get("metadata", {}), "uid": self._uid}
        with suppress(errors.NotFound, errors.Conflict):
            await self._api.patch(
                PODS,
                self._key.name,
                {**patch, "metadata": metadata},
                self._key.namespace,
                subresource=subresource,
                patch_type=patch_type,
            )


def _in_order(allocation: ContainerAllocation) -> list[str]:
    """The ids as the process counts its devices, where the plugin says how; the others after them."""
    envs = allocation.envs
    visible = (envs.get(CUDA_VISIBLE_DEVICES) or envs.get(ROCR_VISIBLE_DEVICES, "")).split(",")
    places = {one: place for place, one in enumerate(visible)}
    ids = [one for ids in allocation.device_ids.values() for one in ids]
    return sorted(ids, key=lambda one: places.get(one, len(places)))
