"""How a run ends: by its time, by a signal, or when nobody uses it; of its pod and for its processes (pure).

Whether it is used the launcher reads in files: it has no access to the API, and what the agent and the client
write onto the pod reaches it so.
"""

from __future__ import annotations

import re
from typing import Any

from gpuyard.kube.wellknown import (
    ANNOTATION_GPU_USE,
    ANNOTATION_TERMINAL,
    ENV_GRACE,
    ENV_IDLE,
    ENV_POD_INFO,
    ENV_SIGNAL,
    ENV_TERMINAL,
)
from gpuyard.workloads.command import display
from gpuyard.workloads.gang import is_gang, processes_per_pod
from gpuyard.workloads.spec.run_spec import RunSpec

#: What torchrun gives its workers where it isn't told otherwise, and Kubernetes a pod.
_USUAL_S = 30
#: Read by torchrun from PyTorch 2.12 on (`torch/distributed/launcher/api.py`), as whole seconds.
_ENV_TORCHRUN = "TORCH_ELASTIC_SHUTDOWN_TIMEOUT"
_TORCHRUN = r"\btorchrun\b|\btorch\.distributed\.(?:run|launch)\b|\baccelerate[ .]\S*launch\b"

_VOLUME = "pod-info"
#: Below a folder that every run can write, where the yard's sandbox can make a mount point.
_FOLDER = "/dev/shm/gpuyard-pod"
_FILES = {"gpu-use": ANNOTATION_GPU_USE, "terminal": ANNOTATION_TERMINAL}


def pod_fields(spec: RunSpec) -> dict[str, Any]:
    """The pod's deadline and grace period.

    The deadline isn't the Job's: a Job over its deadline deletes its pods, and with them the output.
    """
    fields: dict[str, Any] = {}
    if spec.timeout:
        fields["activeDeadlineSeconds"] = int(spec.timeout.total_seconds())
    if spec.grace:
        fields["terminationGracePeriodSeconds"] = int(spec.grace.total_seconds())
    return fields


def environment(spec: RunSpec) -> dict[str, str]:
    """What the launcher and torchrun read of it."""
    values = {}
    if spec.grace:
        values[ENV_GRACE] = values[_ENV_TORCHRUN] = str(int(spec.grace.total_seconds()))
    if spec.signal and spec.timeout:
        due_s = int((spec.timeout - spec.signal.before).total_seconds())
        values[ENV_SIGNAL] = f"{spec.signal.name} {due_s}"
    if ends_unused(spec):
        values[ENV_POD_INFO] = _FOLDER
    if spec.idle:
        values[ENV_IDLE] = str(int(spec.idle.total_seconds()))
    if spec.terminal:
        values[ENV_TERMINAL] = "1"
    return values


def ends_unused(spec: RunSpec) -> bool:
    """Whether the run ends when nobody uses it."""
    return spec.idle is not None or spec.terminal


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


def wants_launcher(spec: RunSpec) -> bool:
    """Whether the launcher is to stay beside the command, to send and to wait for what was asked for."""
    return bool(spec.grace or spec.signal)


def torchrun_warning(spec: RunSpec) -> str:
    """That an older torchrun doesn't wait for the grace that its workers were given; empty where none is in
    the way."""
    if not spec.grace or spec.grace.total_seconds() <= _USUAL_S:
        return ""
    by_us = is_gang(spec) and processes_per_pod(spec) > 1
    if not by_us and not re.search(_TORCHRUN, display(spec.run)):
        return ""
    return (
        f"torchrun kills its workers {_USUAL_S} s after SIGTERM before PyTorch 2.12, whatever the "
        f"grace; from 2.12 on it is told, by {_ENV_TORCHRUN}"
    )
