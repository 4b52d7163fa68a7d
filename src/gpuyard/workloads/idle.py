"""Runs that end when nobody uses them: what the launcher reads of their pod, and their terminal (pure).

The launcher has no access to the API. What the agent and the client write onto the pod reaches it as files.
"""

from __future__ import annotations

from typing import Any

from gpuyard.kube.wellknown import (
    ANNOTATION_GPU_USE,
    ANNOTATION_TERMINAL,
    ENV_IDLE,
    ENV_POD_INFO,
    ENV_TERMINAL,
)
from gpuyard.workloads.spec.run_spec import RunSpec

_VOLUME = "pod-info"
#: Below a folder that every run can write, where the yard's sandbox can make a mount point.
_FOLDER = "/dev/shm/gpuyard-pod"
_FILES = {"gpu-use": ANNOTATION_GPU_USE, "terminal": ANNOTATION_TERMINAL}


def ends_unused(spec: RunSpec) -> bool:
    """Whether the run ends when nobody uses it."""
    return spec.idle is not None or spec.terminal


def environment(spec: RunSpec) -> dict[str, str]:
    """What the launcher reads of it."""
    if not ends_unused(spec):
        return {}
    found = {ENV_POD_INFO: _FOLDER}
    if spec.idle:
        found[ENV_IDLE] = str(int(spec.idle.total_seconds()))
    if spec.terminal:
        found[ENV_TERMINAL] = "1"
    return found


def container_fields(spec: RunSpec) -> dict[str, Any]:
    """The terminal, for the first who attaches to it."""
    return {"stdin": True, "stdinOnce": True, "tty": True} if spec.terminal else {}


def mounts(spec: RunSpec) -> list[dict[str, Any]]:
    """Where the container has the files."""
    return [{"name": _VOLUME, "mountPath": _FOLDER, "readOnly": True}] if ends_unused(spec) else []


def pod_volumes(spec: RunSpec) -> list[dict[str, Any]]:
    """The files, which follow the pod's annotations."""
    if not ends_unused(spec):
        return []
    items = [
        {"path": path, "fieldRef": {"fieldPath": f"metadata.annotations['{annotation}']"}}
        for path, annotation in _FILES.items()
    ]
    return [{"name": _VOLUME, "downwardAPI": {"items": items}}]
