"""Which pod was given which devices, by the kubelet's own file: it knows pods by their UIDs, as cgroups do.

PodResources tells pods' names alone.
Source: kubernetes 1.34 `pkg/kubelet/cm/devicemanager/checkpoint/checkpoint.go`.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from pathlib import Path
from typing import Any, TypeAlias

from gpuyard.agent.json_file import read_json

#: Below the root of its node, whatever the kubelet's --root-dir.
CHECKPOINT = Path("var/lib/kubelet/device-plugins/kubelet_internal_checkpoint")

#: UID of a pod → ids of its devices.
DevicesByPod: TypeAlias = Mapping[str, Set[str]]


def read_checkpoint(path: Path) -> DevicesByPod | None:
    """What it says, maybe also of pods that are gone; None as long as there is none.

    Raises:
        DeviceError: it isn't what a kubelet writes.
    """
    return read_json(path, _parse)


def _parse(raw: Any) -> DevicesByPod:
    found: dict[str, set[str]] = {}
    for entry in raw["Data"]["PodDeviceEntries"] or ():
        ids = found.setdefault(str(entry["PodUID"]), set())
        for of_numa_node in (entry["DeviceIDs"] or {}).values():
            ids.update(map(str, of_numa_node))
    return found
