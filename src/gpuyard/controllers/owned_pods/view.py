"""What a controller reads of a pod that it owns, parsed once (pure).

What is counted for Jobs alone is part of it: a pod is read without knowing whose it is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from gpuyard.kube.conditions import condition_is_true, find_condition
from gpuyard.kube.objects import Manifest, ObjectKey, annotations_of, key_of, labels_of, uid_of
from gpuyard.kube.pods import container_statuses, is_terminal
from gpuyard.kube.timestamps import parse_time
from gpuyard.kube.wellknown import (
    ANNOTATION_COMPLETION_INDEX,
    ANNOTATION_DELETION_COST,
    ANNOTATION_INDEX_FAILURES,
    ANNOTATION_INDEX_IGNORED,
    FINALIZER_JOB_TRACKING,
)

#: Of a number in an annotation, which anybody may write.
_MAX_DIGITS = 9


class IndexFailures(NamedTuple):
    """How often the pods of an index failed before this one.

    Attributes:
        counted: towards the index's limit.
        ignored: by a rule of the podFailurePolicy; they lengthen the back-off all the same.
    """

    counted: int = 0
    ignored: int = 0

    @property
    def total(self) -> int:
        """All of them."""
        return self.counted + self.ignored


@dataclass(frozen=True)
class PodView:
    """One pod of a Job, or of a ReplicaSet.

    Attributes:
        tracked: it carries the tracking finalizer: its outcome is not counted for good yet.
        index: completion index, None without a valid one.
        restarts: of its containers, in place.
        finished_at: when its last container ended, for a pod that failed or succeeded.
        status: as its kubelet wrote it, for a podFailurePolicy.
        index_failures: of its index, before it.
        node: where it is bound to, empty before.
        labels: its own.
        deletion_cost: what its annotation says; of several pods the cheaper ones are deleted first.
    """

    key: ObjectKey
    uid: str
    phase: str
    ready: bool
    deleting: bool
    tracked: bool
    finalizers: tuple[str, ...]
    scheduled: bool
    index: int | None
    restarts: int
    created_at: str
    finished_at: datetime | None
    status: Mapping[str, Any] = field(default_factory=dict)
    index_failures: IndexFailures = field(default_factory=IndexFailures)
    node: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    deletion_cost: int = 0

    @property
    def terminal(self) -> bool:
        """Whether its processes have ended for good."""
        return self.phase in ("Succeeded", "Failed")

    @property
    def active(self) -> bool:
        """Whether it runs or may still run, and nobody has asked it to stop."""
        return not self.terminal and not self.deleting

    @property
    def terminating(self) -> bool:
        """Whether it has been asked to stop and has not ended yet."""
        return self.deleting and not self.terminal


def view_pod(manifest: Manifest) -> PodView:
    """Reads a pod."""
    metadata, status = manifest["metadata"], manifest.get("status") or {}
    phase = status.get("phase", "Pending")
    finalizers = tuple(metadata.get("finalizers") or ())
    return PodView(
        key=key_of(manifest),
        uid=uid_of(manifest),
        phase=phase,
        ready=condition_is_true(manifest, "Ready"),
        deleting=metadata.get("deletionTimestamp") is not None,
        tracked=FINALIZER_JOB_TRACKING in finalizers,
        finalizers=finalizers,
        scheduled=bool((manifest.get("spec") or {}).get("nodeName")),
        index=_number(manifest, ANNOTATION_COMPLETION_INDEX),
        restarts=sum(
            container.get("restartCount", 0) for container in container_statuses(manifest, init=True)
        ),
        created_at=metadata.get("creationTimestamp", ""),
        finished_at=_finished_at(manifest) if is_terminal(manifest) else None,
        status=status,
        index_failures=IndexFailures(
            _number(manifest, ANNOTATION_INDEX_FAILURES) or 0,
            _number(manifest, ANNOTATION_INDEX_IGNORED) or 0,
        ),
        node=(manifest.get("spec") or {}).get("nodeName", ""),
        labels=labels_of(manifest),
        deletion_cost=_cost(manifest),
    )


def _number(pod: Manifest, annotation: str) -> int | None:
    text = annotations_of(pod).get(annotation, "")
    return int(text) if text.isdecimal() and len(text) <= _MAX_DIGITS else None


def _cost(pod: Manifest) -> int:
    text = annotations_of(pod).get(ANNOTATION_DELETION_COST, "")
    cost = int(text) if re.fullmatch(r"-?[0-9]{1,10}", text) else 0
    return cost if -(2**31) <= cost < 2**31 else 0


def _finished_at(pod: Manifest) -> datetime | None:
    """The end of the last container, else when it stopped being ready, else the delete, else its start.

    A pod that its node refused, maybe after a plugin's time ran out, is said to have started at that moment.
    Kubernetes takes its creation, and so counts the time that the refusal took as part of the back-off.
    """
    metadata = pod["metadata"]
    ends = [
        (container.get("state") or {}).get("terminated", {}).get("finishedAt")
        for container in container_statuses(pod)
    ]
    if ends and all(ends):
        return max(parse_time(end) for end in ends)
    ready = find_condition(pod, "Ready")
    if ready and ready.get("status") == "False" and ready.get("lastTransitionTime"):
        return parse_time(ready["lastTransitionTime"])
    if asked := metadata.get("deletionTimestamp"):
        return parse_time(asked) - timedelta(seconds=metadata.get("deletionGracePeriodSeconds") or 0)
    begun = (pod.get("status") or {}).get("startTime") or metadata.get("creationTimestamp")
    return parse_time(begun) if begun else None
