"""Fields of a pod's spec that the runtime takes and doesn't apply (pure): listed, not silently dropped."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from gpuyard.local.runtime.runtime import Applied

#: Nothing reads what a container says at its end. The API sets these; other values are somebody's wish.
_UNREAD = (("terminationMessagePath", "/dev/termination-log"), ("terminationMessagePolicy", "File"))


def not_applied(spec: Mapping[str, Any], applied: Applied) -> list[str]:
    """Field paths, in the order of the spec.

    Args:
        spec: of the pod.
        applied: what its runtime applies.
    """
    found = ["spec.shareProcessNamespace"] if spec.get("shareProcessNamespace") else []
    found += [
        f"spec.securityContext.{name}"
        for name in _set_fields(spec.get("securityContext"))
        if name not in applied.pod_security
    ]
    for field in ("initContainers", "containers"):
        for index, container in enumerate(spec.get(field) or ()):
            path = f"spec.{field}[{index}]"
            names = _set_fields(container.get("securityContext"))
            found += [
                f"{path}.securityContext.{name}" for name in names if name not in applied.container_security
            ]
            found += [f"{path}.{name}" for name, usual in _UNREAD if container.get(name, usual) != usual]
    for index, volume in enumerate(spec.get("volumes") or ()):
        found += _of_volume(f"spec.volumes[{index}].emptyDir", volume, spec, applied.mounts)
    return found


def _set_fields(context: Mapping[str, Any] | None) -> Iterator[str]:
    return (name for name, value in (context or {}).items() if value not in (None, {}, []))


def _of_volume(path: str, volume: Mapping[str, Any], spec: Mapping[str, Any], mounts: bool) -> list[str]:
    empty_dir = volume.get("emptyDir") or {}
    containers = [*(spec.get("initContainers") or ()), *(spec.get("containers") or ())]
    targets = {
        mount["mountPath"].rstrip("/")
        for container in containers
        for mount in container.get("volumeMounts") or ()
        if mount["name"] == volume["name"]
    }
    in_memory = empty_dir.get("medium") == "Memory"
    found = []
    if in_memory and targets - {"/dev/shm"}:
        found.append(f"{path}.medium")
    if "sizeLimit" in empty_dir and not (in_memory and mounts and targets <= {"/dev/shm"}):
        found.append(f"{path}.sizeLimit")
    return found
