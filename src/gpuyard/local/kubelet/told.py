"""What the status of a pod tells of its containers, for when their folders are lost (pure)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from gpuyard.kube.objects import Manifest
from gpuyard.kube.pods import container_statuses
from gpuyard.kube.timestamps import parse_time
from gpuyard.local.kubelet.pod_status import Run
from gpuyard.local.runtime.values import Exit, ExitReason

#: 128 + SIGKILL, as in Kubernetes.
_LOST_CODE = 137


def last_run(pod: Manifest, container: str) -> Run | None:
    """The last start of a container that its status knows of; None when it was never started."""
    told = next((one for one in container_statuses(pod, init=True) if one["name"] == container), None)
    if told is None:
        return None
    state, attempt = told.get("state") or {}, int(told.get("restartCount") or 0)
    if "running" in state:
        return Run(attempt, _moment(pod, state["running"], "startedAt"))
    # While it waits for its next start, the end of the last is told beside it.
    ended = state.get("terminated") or (told.get("lastState") or {}).get("terminated")
    if not ended:
        return None
    return Run(attempt, _moment(pod, ended, "startedAt"), _exit(pod, ended))


def lost(run: Run, now: datetime) -> Run:
    """The same start once nothing of it can be found: its end is unknown, unless it was told."""
    if run.exit is not None:
        return run
    message = "The container could not be located when the kubelet came back: the pod's folder was lost"
    return replace(run, exit=Exit(_LOST_CODE, ExitReason.UNKNOWN, now, message))


def _exit(pod: Manifest, ended: Mapping[str, Any]) -> Exit:
    known = ended.get("reason") in list(ExitReason)
    reason = ExitReason(ended["reason"]) if known else ExitReason.UNKNOWN
    finished_at = _moment(pod, ended, "finishedAt")
    return Exit(int(ended.get("exitCode") or 0), reason, finished_at, str(ended.get("message") or ""))


def _moment(pod: Manifest, told: Mapping[str, Any] | None, field: str) -> datetime:
    """Its own time, else the pod's: anybody who may write the status may leave it out."""
    text = (told or {}).get(field) or pod["status"].get("startTime") or pod["metadata"]["creationTimestamp"]
    return parse_time(str(text))
