"""How far a service's update is, read from its objects (pure).

Sources: kubernetes `pkg/controller/deployment/util/deployment_util.go` (which ReplicaSet is the new one),
`staging/src/k8s.io/kubectl/pkg/polymorphichelpers/rollout_status.go` (when a rollout is through).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gpuyard.kube.conditions import find_condition
from gpuyard.kube.objects import (
    DEPLOYMENTS,
    REPLICA_SETS,
    Manifest,
    controller_uid,
    revision_of,
    uid_of,
)
from gpuyard.kube.pods import container_statuses
from gpuyard.workloads.serving.service_state import TIMED_OUT, is_ready, is_staying

_CRASHING = "CrashLoopBackOff"


@dataclass(frozen=True)
class ServiceRollout:
    """An update under way, a service's start included.

    Attributes:
        name: of the service.
        wanted: replicas.
        ready: those of the newest template that are ready.
        old: those of earlier templates that are still there.
        old_ready: of these, that go on serving.
        is_seen: whether its controller has seen the newest template; else all this is of the one before.
        is_done: whether all are of the newest template, and ready.
        has_stalled: whether none has become ready for as long as an update may take.
        has_earlier: whether there is an earlier template to go back to.
        is_hopeless: whether a replica of the newest template starts and ends again and again.
    """

    name: str
    wanted: int
    ready: int
    old: int
    old_ready: int
    is_seen: bool
    is_done: bool
    has_stalled: bool = False
    is_hopeless: bool = False
    has_earlier: bool = False

    @classmethod
    def of(
        cls, deployment: Manifest, replica_sets: Sequence[Manifest], pods: Sequence[Manifest]
    ) -> ServiceRollout:
        """Of a Deployment, with all ReplicaSets and pods that may be its own."""
        own = [rs for rs in replica_sets if controller_uid(rs, DEPLOYMENTS) == uid_of(deployment)]
        new = newest(deployment, own)
        uid = uid_of(new) if new else ""
        alive = [pod for pod in pods if is_staying(pod)]
        mine = [pod for pod in alive if uid and controller_uid(pod, REPLICA_SETS) == uid]
        uids = {uid_of(rs) for rs in own} - {uid}
        old = [pod for pod in alive if controller_uid(pod, REPLICA_SETS) in uids]
        status, wanted = deployment.get("status") or {}, int(deployment["spec"].get("replicas", 1))
        is_seen = status.get("observedGeneration", 0) >= deployment["metadata"].get("generation", 0)
        counts = ("updatedReplicas", "replicas", "availableReplicas")
        progress = find_condition(deployment, "Progressing") or {}
        return cls(
            name=deployment["metadata"]["name"],
            wanted=wanted,
            ready=sum(map(is_ready, mine)),
            old=len(old),
            old_ready=sum(map(is_ready, old)),
            is_seen=is_seen,
            is_done=is_seen and all(status.get(name, 0) == wanted for name in counts),
            has_stalled=is_seen and progress.get("reason") == TIMED_OUT,
            is_hopeless=any(map(is_crashing, mine)),
            has_earlier=any(0 < revision_of(rs) < revision_of(deployment) for rs in own),
        )

    @property
    def text(self) -> str:
        """`2/3 replicas ready`, and how many of the earlier ones are left."""
        left = f", {self.old} of the earlier ones left" if self.old else ""
        noun = "replica" if self.wanted == 1 else "replicas"
        return f"{min(self.ready, self.wanted)}/{self.wanted} {noun} ready{left}"


def newest(deployment: Manifest, replica_sets: Sequence[Manifest]) -> Manifest | None:
    """The ReplicaSet of the template that the Deployment has now; None before its controller has made it."""
    numbered = [rs for rs in replica_sets if revision_of(rs)]
    current = revision_of(deployment)
    status = deployment.get("status") or {}
    if status.get("observedGeneration", 0) < deployment["metadata"].get("generation", 0):
        return None
    return next((rs for rs in numbered if revision_of(rs) == current), None)


def is_crashing(pod: Manifest) -> bool:
    """Whether its container has ended more than once, and its node waits before it starts it again."""
    return any(
        ((status.get("state") or {}).get("waiting") or {}).get("reason") == _CRASHING
        and int(status.get("restartCount") or 0) > 0
        for status in container_statuses(pod)
    )
