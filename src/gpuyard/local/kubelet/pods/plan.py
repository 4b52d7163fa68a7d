"""What a pod needs next, and what it is by now (pure). All times are of one steady clock.

Sources: kubernetes `pkg/kubelet/kuberuntime/kuberuntime_manager.go` computePodActions, and
`pkg/kubelet/kubelet_pods.go` getPhase.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from gpuyard.kube.objects import Manifest
from gpuyard.workloads.stopping import StopOptions

#: What processes get whose pod was removed from the API by force.
_FORCED_GRACE_S = 1.0
ALWAYS, ON_FAILURE, NEVER = "Always", "OnFailure", "Never"


@dataclass(frozen=True)
class Observed:
    """One container, as of now.

    Attributes:
        exit_code: of its last run; None while it runs or when it never did.
        not_before_s: no start before this; None for at once.
        restarts: it was ended so that it starts again, whatever its exit code.
    """

    name: str
    is_init: bool = False
    running: bool = False
    exit_code: int | None = None
    not_before_s: float | None = None
    restarts: bool = False

    @property
    def succeeded(self) -> bool:
        """Whether its last run is over and went well."""
        return self.exit_code == 0 and not self.running and not self.restarts


@dataclass(frozen=True)
class PodPlan:
    """The next step.

    Attributes:
        start: containers to start now.
        stop: every running container has to end.
        done: nothing runs and nothing will ever be started.
        expired: the deadline has passed, which ends the pod for good.
        wake_at_s: when to look again without anything having happened; None for never.
    """

    start: tuple[str, ...] = ()
    stop: bool = False
    done: bool = False
    expired: bool = False
    wake_at_s: float | None = None


def plan(
    containers: Sequence[Observed],
    *,
    restart_policy: str,
    ending: bool,
    deadline_s: float | None,
    now_s: float,
) -> PodPlan:
    """Decides the next step.

    Args:
        containers: init containers first, both in the order of the spec.
        restart_policy: Always, OnFailure or Never.
        ending: the pod is deleted.
        deadline_s: when it has been active for long enough.
    """
    running = any(container.running for container in containers)
    if ending:
        return PodPlan(stop=running, done=not running)
    step = _next(containers, restart_policy, now_s)
    if deadline_s is None or step.done:
        return step
    if deadline_s <= now_s:
        return PodPlan(stop=running, done=not running, expired=True)
    return replace(step, wake_at_s=deadline_s if step.wake_at_s is None else min(step.wake_at_s, deadline_s))


def _next(containers: Sequence[Observed], restart_policy: str, now_s: float) -> PodPlan:
    """The step without regard to deadlines."""
    for container in (c for c in containers if c.is_init):
        if container.succeeded:
            continue
        # As in Kubernetes, Always means OnFailure to an init container.
        if container.exit_code is not None and restart_policy == NEVER:
            return PodPlan(done=True)
        return _starts([] if container.running else [container], now_s)
    mains = [c for c in containers if not c.is_init]
    wanted = [c for c in mains if not c.running and _wants_start(c, restart_policy)]
    if not wanted and not any(c.running for c in mains):
        return PodPlan(done=True)
    return _starts(wanted, now_s)


def _starts(wanted: Sequence[Observed], now_s: float) -> PodPlan:
    due = [c for c in wanted if c.not_before_s is None or c.not_before_s <= now_s]
    times = [c.not_before_s for c in wanted if c.not_before_s is not None and c.not_before_s > now_s]
    return PodPlan(start=tuple(c.name for c in due), wake_at_s=min(times, default=None))


def _wants_start(container: Observed, restart_policy: str) -> bool:
    if container.exit_code is None or restart_policy == ALWAYS:
        return True
    return restart_policy == ON_FAILURE and not container.succeeded


def phase_of(containers: Sequence[Observed], *, done: bool) -> str:
    """Pending, Running, Succeeded or Failed.

    `done` is the plan's: a pod that is done without all of its containers having run has failed.
    """
    mains = [c for c in containers if not c.is_init]
    inits_succeeded = all(c.succeeded for c in containers if c.is_init)
    if done:
        return "Succeeded" if inits_succeeded and all(c.succeeded for c in mains) else "Failed"
    if not inits_succeeded or any(not c.running and c.exit_code is None for c in mains):
        return "Pending"
    return "Running"


def stop_grace_s(pod: Manifest, *, removed: bool) -> float:
    """The time from the signal to the kill; `removed`: the pod is no longer in the API."""
    metadata, options = pod["metadata"], StopOptions.of(pod)
    grace_s = float(pod["spec"].get("terminationGracePeriodSeconds", 30))
    if options.grace_s is not None:
        grace_s = options.grace_s
    if removed:
        return min(grace_s, _FORCED_GRACE_S)
    if "deletionTimestamp" in metadata:
        return float(metadata.get("deletionGracePeriodSeconds", grace_s))
    return grace_s
