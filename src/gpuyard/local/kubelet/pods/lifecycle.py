"""What goes on around the command of a container: hooks, probes, and how it is stopped.

Sources: kubernetes `pkg/kubelet/kuberuntime/kuberuntime_container.go` (startContainer, killContainer) and
`pkg/kubelet/prober/prober.go` (probe).
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from gpuyard.kube.objects import Manifest
from gpuyard.local.kubelet.context import KubeletContext
from gpuyard.local.kubelet.pods.container_states import ContainerState
from gpuyard.local.kubelet.pods.starting import Tell
from gpuyard.local.kubelet.probing.answer import ProbeAnswer, ProbeResult
from gpuyard.local.kubelet.probing.handlers import ProbeTarget
from gpuyard.local.kubelet.probing.health import ContainerHealth
from gpuyard.local.kubelet.probing.probe import ContainerProbe, probes_of
from gpuyard.local.kubelet.probing.prober import Prober
from gpuyard.local.runtime.container import Container

#: What a container has at least from the signal on, when its hook has used its grace up.
_LEAST_GRACE_S = 2.0

#: So many answers of a probe are told one by one, and then one in so many seconds: a program that never gets
#: well would fill the store with events, the more so where it says something else each time.
_TOLD_AT_ONCE, _TOLD_EVERY_S = 10, 10.0


class Sparing:
    """Whether one more is to be told."""

    def __init__(self, seconds: Callable[[], float]) -> None:
        self._seconds = seconds
        self._count = 0
        self._told_s = 0.0

    def allows(self) -> bool:
        """Says so, and counts it."""
        now_s = self._seconds()
        if self._count >= _TOLD_AT_ONCE and now_s - self._told_s < _TOLD_EVERY_S:
            return False
        self._count += 1
        self._told_s = now_s
        return True


class ContainerLifecycle:
    """Attends the containers of one pod. Its tasks are of the pod's group.

    A daemon that goes away takes probes and hooks with it. The next one goes on probing with what the pod's
    status says was found. It doesn't run a postStart hook again; a preStop hook it does, with the whole
    grace, since it begins the stop again.
    """

    def __init__(
        self,
        context: KubeletContext,
        group: asyncio.TaskGroup,
        tell: Tell,
        wake: Callable[[], None],
    ) -> None:
        """Makes it.

        Args:
            context: of the kubelet.
            group: of the pod's tasks.
            tell: for events of the pod.
            wake: calls for the next step of the pod.
        """
        self._context = context
        self._group = group
        self._tell = tell
        self._wake = wake

    def begin(self, state: ContainerState, container: Container, ports: Mapping[int, int]) -> None:
        """A container has just been started."""
        hook = _hooks(state).get("postStart")
        probes = probes_of(state.spec)
        if hook is None and not probes:
            return
        target = ProbeTarget(state.spec, container, self._context.streams, ports)
        self._attend(state, target, ContainerHealth.of(probes, held=hook is not None), age_s=0.0)
        if hook is not None:
            self._create_task(state, self._after_start(state, target, hook), "postStart")

    def resume(
        self, state: ContainerState, container: Container, ports: Mapping[int, int], pod: Manifest
    ) -> None:
        """A container was found that an earlier kubelet started: what that told of it stands."""
        probes = probes_of(state.spec)
        if not probes:
            return
        started, ready = state.told_health(pod)
        health = ContainerHealth.of(probes, started=started, ready=ready)
        age_s = (self._context.clock() - container.started_at).total_seconds()
        target = ProbeTarget(state.spec, container, self._context.streams, ports)
        self._attend(state, target, health, age_s=max(0.0, age_s))

    def _attend(
        self, state: ContainerState, target: ProbeTarget, health: ContainerHealth, *, age_s: float
    ) -> None:
        told = {kind: Sparing(self._context.seconds) for kind in health.probes}

        def tell(probe: ContainerProbe, answer: ProbeAnswer) -> None:
            if answer.result is not ProbeResult.SUCCESS and told[probe.kind].allows():
                reason = "ProbeWarning" if answer.result is ProbeResult.WARNING else "Unhealthy"
                self._tell("Warning", reason, f"{probe.kind} probe {answer.result}: {answer.text}")

        state.prober = Prober(
            health,
            target,
            age_s=age_s,
            seconds=self._context.seconds,
            on_answer=tell,
            on_change=self._wake,
        )
        self._create_task(state, state.prober.run(), "probes")

    async def _after_start(self, state: ContainerState, target: ProbeTarget, hook: Mapping[str, Any]) -> None:
        failed = await target.run_hook(hook)
        if state.container is not target.container or state.prober is None:
            return
        if failed:
            # As in Kubernetes what it said isn't told: it may have secrets.
            self._tell("Warning", "FailedPostStartHook", "PostStartHook failed")
            state.hook_failed = True
        else:
            state.prober.release()
        self._wake()

    def end(
        self, state: ContainerState, ports: Mapping[int, int], grace_s: float, by: signal.Signals
    ) -> None:
        """Has a container end with its pod, within the grace; another call can only shorten it."""
        if state.prober is not None:
            state.prober.end()
        self._stop(state, ports, grace_s, by, f"Stopping container {state.name}")

    def end_failed(
        self,
        state: ContainerState,
        ports: Mapping[int, int],
        grace_s: float,
        by: signal.Signals,
        *,
        restarts: bool,
        is_last: bool,
    ) -> None:
        """Has a container end that has failed a probe or its postStart hook.

        Args:
            state: of the container.
            ports: that stand in for its own.
            grace_s: of its pod.
            by: the signal that ends it.
            restarts: whether it is started again then.
            is_last: whether no other one of the pod runs: its end is the pod's, where it isn't.
        """
        probe = state.health.failed
        if probe is not None:
            own_grace_s = state.health.probes[probe].grace_s
            state.restarts = restarts
            why = f"Container {state.name} failed {probe.lower()} probe"
            why += ", will be restarted" if restarts else ""
            if is_last and not restarts:
                why = f"Stopping container {state.name}"
            self._stop(state, ports, grace_s if own_grace_s is None else own_grace_s, by, why)
        elif state.hook_failed:
            self._stop(state, ports, grace_s, by, "FailedPostStartHook")

    def _stop(
        self,
        state: ContainerState,
        ports: Mapping[int, int],
        grace_s: float,
        by: signal.Signals,
        why: str,
    ) -> None:
        container = state.container
        if container is None or (state.stop_grace_s is not None and state.stop_grace_s <= grace_s):
            return
        if state.stop_grace_s is None:
            self._tell("Normal", "Killing", why)
            if grace_s > 0 and (hook := _hooks(state).get("preStop")):
                target = ProbeTarget(state.spec, container, self._context.streams, ports)
                state.pre_stop = self._create_task(state, self._before_stop(target, hook), "preStop")
        state.stop_grace_s = grace_s
        self._group.create_task(
            self._await_stop(state, container, grace_s, by), name=f"stop {container.name}"
        )

    async def _await_stop(
        self, state: ContainerState, container: Container, grace_s: float, by: signal.Signals
    ) -> None:
        if state.pre_stop is not None:
            began_s = self._context.seconds()
            await asyncio.wait({state.pre_stop}, timeout=grace_s)
            state.pre_stop.cancel()
            grace_s = max(_LEAST_GRACE_S, grace_s - (self._context.seconds() - began_s))
        await container.stop(grace_s, by)

    async def _before_stop(self, target: ProbeTarget, hook: Mapping[str, Any]) -> None:
        if await target.run_hook(hook):
            self._tell("Warning", "FailedPreStopHook", "PreStopHook failed")

    def _create_task(
        self, state: ContainerState, work: Coroutine[Any, Any, None], what: str
    ) -> asyncio.Task[None]:
        task = self._group.create_task(work, name=f"{what} {state.name}")
        state.tasks.append(task)
        return task


def _hooks(state: ContainerState) -> Mapping[str, Mapping[str, Any]]:
    return state.spec.get("lifecycle") or {}
