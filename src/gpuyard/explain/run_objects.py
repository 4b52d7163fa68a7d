"""What has been read about one run: the objects that the steps of the ladder look at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gpuyard.kube.objects import Manifest
from gpuyard.workloads.outcome import Reason


@dataclass(frozen=True)
class RunEnd:
    """How a run ended, or its last attempt.

    Attributes:
        reason: as `gpuyard ps` has it.
        message: one clause.
        exit_code: of the process that failed first; None when none has ended.
        tail: the last lines of its output.
        is_followed: whether another attempt is made by itself.
    """

    reason: Reason
    message: str
    exit_code: int | None
    tail: tuple[str, ...] = ()
    is_followed: bool = False


@dataclass(frozen=True)
class RunObjects:
    """What has been read about one run; lists are empty where nothing is, or nothing could be read.

    Attributes:
        job: the Job; for a pod that no Job made, a stand-in with that pod's spec.
        pod: the one that is furthest behind, or that failed first; None before there is one.
        events: of the Job, the pod and its claims, in any order.
        quotas, limit_ranges: of the namespace.
        neighbours: pods of the namespace.
        claims: PersistentVolumeClaims of the namespace.
        volumes, classes: PersistentVolumes and StorageClasses.
        workloads: what Kueue made for a Job that waits in one of its queues.
        pod_group: by which the scheduler starts the run's pods together; None where it starts each by itself.
        resource_claims, claim_templates: of the namespace, for a pod that names one and has no node.
        nodes: every node, for a run that waits for one.
        has_kueue: whether the server serves Kueue's objects; only known of a Job that waits for it.
        place: what Kueue says of its place in the queue; empty where it doesn't.
        names: names that there are of a kind (`ConfigMap`, `PriorityClass`), for nearest spellings.
        agents: pods of gpuyard's agent.
        unreadable: plurals of what the user may not list, with `all ` where it was asked for everywhere.
        is_yard: a machine's own yard, not a cluster.
        node: the one that the pod is on; None also where nodes can't be read.
        full_disk: what that node, or a yard's only one, says of its full disk; empty when it has room.
        attempt_before: the last pod in the pod's place that failed; None where none did.
    """

    job: Manifest
    pod: Manifest | None = None
    events: Sequence[Manifest] = ()
    quotas: Sequence[Manifest] = ()
    limit_ranges: Sequence[Manifest] = ()
    neighbours: Sequence[Manifest] = ()
    claims: Sequence[Manifest] = ()
    volumes: Sequence[Manifest] = ()
    classes: Sequence[Manifest] = ()
    workloads: Sequence[Manifest] = ()
    pod_group: Manifest | None = None
    resource_claims: Sequence[Manifest] = ()
    claim_templates: Sequence[Manifest] = ()
    nodes: Sequence[Manifest] = ()
    has_kueue: bool = True
    place: str = ""
    names: Mapping[str, Sequence[str]] = field(default_factory=dict)
    agents: Sequence[Manifest] = ()
    unreadable: frozenset[str] = frozenset()
    is_yard: bool = False
    node: Manifest | None = None
    full_disk: str = ""
    attempt_before: Manifest | None = None

    @property
    def namespace(self) -> str:
        """The run's."""
        return str(self.job["metadata"].get("namespace", ""))

    @property
    def spec(self) -> Mapping[str, Any]:
        """The pod's spec: as admission left it, or before there is a pod as the Job has it."""
        spec: Mapping[str, Any] = self.pod["spec"] if self.pod else self.job["spec"]["template"]["spec"]
        return spec

    def last_event(self, *reasons: str, of: Manifest | None = None) -> Manifest | None:
        """The newest event with one of these reasons, of this object or of any."""
        uid = (of or {}).get("metadata", {}).get("uid")
        found = [
            event
            for event in self.events
            if event.get("reason") in reasons and (of is None or event["involvedObject"].get("uid") == uid)
        ]
        return max(found, key=event_time, default=None)


def event_time(event: Manifest) -> tuple[str, int]:
    """When it was seen last, and within one second in which order it was written."""
    version = str(event["metadata"].get("resourceVersion", ""))
    series = (event.get("series") or {}).get("lastObservedTime")
    moment = str(series or event.get("lastTimestamp") or event.get("eventTime") or "")
    return moment, int(version) if version.isdecimal() else 0


def event_text(event: Manifest) -> str:
    """Its message without what the recorder adds to repeated ones."""
    return str(event.get("message") or "").removeprefix("(combined from similar events): ").strip()
