"""How long a run may take and how it is told to end: of its pod and for its processes (pure)."""

from __future__ import annotations

import re
from typing import Any

from gpuyard.kube.wellknown import ENV_GRACE, ENV_SIGNAL
from gpuyard.workloads.command import display
from gpuyard.workloads.gang import is_gang, processes_per_pod
from gpuyard.workloads.spec.run_spec import RunSpec

#: What torchrun gives its workers where it isn't told otherwise, and Kubernetes a pod.
_USUAL_S = 30
#: Read by torchrun from PyTorch 2.12 on (`torch/distributed/launcher/api.py`), as whole seconds.
_ENV_TORCHRUN = "TORCH_ELASTIC_SHUTDOWN_TIMEOUT"
_TORCHRUN = r"\btorchrun\b|\btorch\.distributed\.(?:run|launch)\b|\baccelerate[ .]\S*launch\b"


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
    return values


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
