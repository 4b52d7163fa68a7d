"""One pod on this node, from its admission to its end."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import signal
from contextlib import suppress
from typing import Any, Literal

from gpuyard import errors
from gpuyard.kube.ages import Ages
from gpuyard.kube.objects import PODS, Manifest, key_of, uid_of
from gpuyard.kube.timestamps import later, parse_time
from gpuyard.local.kubelet.context import KubeletContext
from gpuyard.local.kubelet.pod_folders import PodFolder
from gpuyard.local.kubelet.pods.container_states import ContainerState, container_states, waiting_of
from gpuyard.local.kubelet.pods.lifecycle import ContainerLifecycle
from gpuyard.local.kubelet.pods.not_applied import not_applied
from gpuyard.local.kubelet.pods.oom_kills import OomKills
from gpuyard.local.kubelet.pods.plan import NEVER, phase_of, plan, stop_grace_s
from gpuyard.local.kubelet.pods.rejection import Rejection, refused_by_devices
from gpuyard.local.kubelet.pods.reservation import Reservation
from gpuyard.local.kubelet.pods.starting import NOT_BY_TIME_S, ContainerStarter, is_process
from gpuyard.local.kubelet.pods.status import ContainerView, device_health, pod_status, rejected_status
from gpuyard.local.kubelet.pods.writer import PodWriter
from gpuyard.local.kubelet.ports import with_free_port
from gpuyard.local.runtime.container import Container
from gpuyard.local.runtime.values import Exit
from gpuyard.workloads.stopping import StopOptions

log = logging.getLogger(__name__)

#: Nothing wakes us when the kernel kills a process of a container: it is looked for.
_OOM_LOOK_S = 10.0
_RETRY_S = 0.1
_RETRY_MAX_S = 30.0
_DEADLINE = Rejection("DeadlineExceeded", "Pod was active on the node longer than the specified deadline")


class PodWorker:
    """Handles one pod, one step after another; other pods go on beside it.

    `run` returns when nothing of the pod is left but its folder, and its status says how it ended. When it is
    cancelled the processes go on, for a later worker of the same pod to adopt.

    Attributes:
        pod: as it was last seen.
        is_removed: it is no longer in the API.
    """

    def __init__(self, context: KubeletContext, pod: Manifest) -> None:
        self.uid = uid_of(pod)
        self.states = container_states(pod)
        self._context = context
        self.pod = pod
        self._folder = PodFolder(context.pods_dir / self.uid)
        started_at = (pod.get("status") or {}).get("startTime")
        self._started_at = parse_time(started_at) if started_at else context.clock()
        self._now_s = context.seconds
        self._age = Ages(context.clock, self._now_s)
        self._age(self._started_at)
        self._reservation = Reservation(context, pod, self._folder)
        self._writer = PodWriter(context.api, pod)
        self._oom_kills = OomKills(pod)
        self._ended_by: Rejection | None = None
        self.is_removed = False
        self._admitted = self._annotated = False
        self._wake = asyncio.Event()
        self._group = asyncio.TaskGroup()
        wake = self._wake.set
        self._starter = ContainerStarter(
            context, self._folder, self._reservation, self._group, self._tell, wake
        )
        self._lifecycle = ContainerLifecycle(context, self._group, self._tell, wake)

    def update(self, pod: Manifest) -> None:
        """The pod changed."""
        self.pod = pod
        self._wake.set()

    def remove(self) -> None:
        """The pod is no longer in the API."""
        self.is_removed = True
        self._wake.set()

    @property
    def is_deleted(self) -> bool:
        """Whether somebody asked for the pod's deletion, or it is no longer in the API."""
        return self.is_removed or "deletionTimestamp" in self.pod["metadata"]

    @property
    def _is_ending(self) -> bool:
        return self.is_deleted or self._ended_by is not None

    async def run(self) -> None:
        """Runs the pod to its end."""
        retry_s = _RETRY_S
        restored = done = False
        try:
            async with self._group:
                while not done:
                    self._wake.clear()
                    try:
                        if not restored:
                            await self._restore()
                            restored = True
                        wake_at_s = await self._step()
                        done = wake_at_s is None
                        retry_s = _RETRY_S
                    except errors.GpuyardError as error:
                        log.warning("pod %s: %s; again in %.1f s", key_of(self.pod), error, retry_s)
                        wake_at_s = self._now_s() + retry_s
                        retry_s = min(retry_s * 2, _RETRY_MAX_S)
                    if wake_at_s is not None:
                        await self._sleep(wake_at_s)
        finally:
            for state in self.states:
                if state.container is not None:
                    state.container.close()

    async def _sleep(self, until_s: float) -> None:
        """Until then, or until something happens that calls for a step."""
        while not self._wake.is_set() and (now_s := self._now_s()) < until_s:
            counts = any(state.container and state.container.counts_oom_kills for state in self.states)
            with suppress(TimeoutError):
                async with asyncio.timeout(min(until_s - now_s, _OOM_LOOK_S if counts else NOT_BY_TIME_S)):
                    await self._wake.wait()
            if self._oom_kills.look(self.states):
                return

    # -- steps ------------------------------------------------------------------------------------------

    async def _step(self) -> float | None:
        """Does what is to be done now; returns when to look again, None when the pod is over."""
        now_s = self._now_s()
        if not self._is_ending and not self._admitted:
            rejection = await self._admit(now_s)
            if isinstance(rejection, float):
                return rejection
            if rejection is not None:
                await self._reject(rejection)
                return None
        if not self._is_ending and not self._annotated:
            await self._annotate()
        if not self._is_ending and any(state.current for state in self.states):
            await self._starter.rewrite_files(self.pod)
        spec = self.pod["spec"]
        observed = [state.observed() for state in self.states]
        step = plan(
            observed,
            restart_policy=spec["restartPolicy"],
            ending=self._is_ending,
            deadline_s=self._deadline_s(),
            now_s=now_s,
        )
        if step.expired:
            self._ended_by = _DEADLINE
        if step.stop:
            self._stop()
        elif not self._is_ending:
            self._stop_failed()
        due = [state for state in self.states if state.name in step.start]
        if due and await self._starter.mount(self.pod, due):
            for state in due:
                await self._start(state)
        if step.done:
            await self._finish()
            return None
        if step.start:
            return now_s
        return await self._report(step.wake_at_s)

    async def _restore(self) -> None:
        """Takes over what an earlier kubelet started."""
        for state in self.states:
            await state.restore(self._context.runtimes, self._folder, self.pod, self._context.clock())
        # Once all are there: what can't be read now is read again, and each is watched once.
        for state in self.states:
            if state.container is not None:
                self._watch(state, state.container)
        if self._reservation.restore(self.states):
            self._admitted = self._annotated = True
            self._give_ports()
        for state in self.states:
            if state.container is not None:
                self._lifecycle.resume(state, state.container, self._reservation.ports, self.pod)
        seconds = self.pod["spec"].get("activeDeadlineSeconds")
        ends = [s.current.exit for s in self.states if not s.is_init and s.current and s.current.exit]
        if seconds is not None and any(e.finished_at >= later(self._started_at, seconds) for e in ends):
            # It was being stopped for its deadline when the earlier kubelet went away, or would have been.
            self._ended_by = _DEADLINE

    def _deadline_s(self) -> float | None:
        seconds = self.pod["spec"].get("activeDeadlineSeconds")
        return None if seconds is None else self._now_s() - self._age(self._started_at) + seconds

    async def _admit(self, now_s: float) -> Rejection | float | None:
        """Reserves what the pod asks for; a moment when that is to be tried again."""
        context = self._context
        try:
            rejection = await self._reservation.take(self.states)
        except (errors.CheckpointError, errors.ProcessError) as error:
            # It passes, as a full disk does: the pod keeps what it has, and says what it waits for.
            for state in self.states:
                state.obstacle = ("CreateContainerError", error.in_one_line)
            return await self._report(now_s + context.back_off.obstacle_s)
        except errors.DeviceError as error:
            if asyncio.get_running_loop().time() < context.devices_due_s:
                return now_s + _RETRY_S
            return refused_by_devices(error.message)
        if rejection is not None:
            return rejection
        for state in self.states:
            state.obstacle = ("", "")
        self._admitted = True
        self._give_ports()
        return None

    def _give_ports(self) -> None:
        for state in self.states:
            state.spec = with_free_port(state.spec, self._reservation.ports)

    async def _annotate(self) -> None:
        """Says on the pod what it got, before anything of it starts."""
        applied = self._context.runtimes.choose(image=not is_process(self.pod)).applied
        fields = not_applied(self.pod["spec"], applied)
        held = self._reservation
        await self._writer.annotate(applied.isolation, list(held.allocations.values()), held.ports, fields)
        self._annotated = True

    async def _reject(self, rejection: Rejection) -> None:
        log.info("pod %s: %s", key_of(self.pod), rejection.message)
        now = self._context.clock()
        status = rejected_status(self.pod, reason=rejection.reason, message=rejection.message, now=now)
        await self._writer.write_status(status)
        self._tell("Warning", rejection.reason, rejection.message)

    async def _start(self, state: ContainerState) -> None:
        started = await self._starter.start(self.pod, state)
        if isinstance(started, Exit):
            self._ended(state, started)
        elif started is not None:
            self._watch(state, started)
            self._lifecycle.begin(state, started, self._reservation.ports)

    def _watch(self, state: ContainerState, container: Container) -> None:
        async def watch() -> None:
            with self._context.logs.dating(container.folder):
                exit_ = await container.wait()
            self._context.logs.end(container.folder)
            self._ended(state, exit_)

        self._group.create_task(watch(), name=f"container {self.uid}/{state.name}")

    def _ended(self, state: ContainerState, exit_: Exit) -> None:
        self._oom_kills.add(state)
        state.end(exit_, self._context.back_off, self._now_s())
        self._wake.set()
        if state.delay_s > 0 and self._waiting(state)[0]:
            self._tell("Warning", "BackOff", f"Back-off restarting failed container {state.name}")

    def _stop(self) -> None:
        """Ends all that runs."""
        grace_s, by = self._how_to_stop()
        for state in self.states:
            self._lifecycle.end(state, self._reservation.ports, grace_s, by)

    def _stop_failed(self) -> None:
        """Ends what has failed a probe or a hook."""
        grace_s, by = self._how_to_stop()
        restarts = self.pod["spec"]["restartPolicy"] != NEVER
        is_last = sum(state.container is not None for state in self.states) == 1
        for state in self.states:
            self._lifecycle.end_failed(
                state, self._reservation.ports, grace_s, by, restarts=restarts, is_last=is_last
            )

    def _how_to_stop(self) -> tuple[float, signal.Signals]:
        by = signal.Signals[StopOptions.of(self.pod).signal or "SIGTERM"]
        return stop_grace_s(self.pod, removed=self.is_removed), by

    async def _finish(self) -> None:
        """Gives everything back, and only then says so: whoever waits for it may take it at once."""
        context, key = self._context, key_of(self.pod)
        for state in self.states:
            if state.pull.task is not None:
                state.pull.task.cancel()
        await self._reservation.give_back()
        await asyncio.to_thread(self._folder.remove_volumes)
        if self.is_removed:
            return
        await self._tell_oom_kills()
        await self._writer.write_status(self._make_status(done=True))
        if "deletionTimestamp" in self.pod["metadata"]:
            with suppress(errors.NotFound, errors.Conflict):
                await context.api.delete(PODS, key.name, key.namespace, grace_period_s=0, uid=self.uid)

    # -- what the API is told ---------------------------------------------------------------------------

    async def _report(self, wake_at_s: float | None) -> float:
        """Tells what has changed; returns when to look again."""
        now_s = self._now_s()
        wake_at_s = now_s + NOT_BY_TIME_S if wake_at_s is None else wake_at_s
        await self._tell_oom_kills()
        settled_at_s = await self._writer.settle(self._make_status(done=False), now_s)
        return wake_at_s if settled_at_s is None else min(wake_at_s, settled_at_s)

    async def _tell_oom_kills(self) -> None:
        """Says what the kernel killed, also while the pod goes on without it."""
        if text := await self._oom_kills.tell(self.states, self._writer):
            self._tell("Warning", "OOMKilling", text)

    def _make_status(self, *, done: bool) -> dict[str, Any]:
        ended_by = self._ended_by if done else None
        return pod_status(
            {**self.pod, "status": {**(self.pod.get("status") or {}), **self._writer.status}},
            [self._view(state, done=done) for state in self.states],
            phase="Failed" if ended_by else phase_of([state.observed() for state in self.states], done=done),
            reason=ended_by.reason if ended_by else "",
            message=ended_by.message if ended_by else "",
            started_at=self._started_at,
            now=self._context.clock(),
        )

    def _view(self, state: ContainerState, *, done: bool) -> ContainerView:
        view, devices = state.view(("", "") if done else self._waiting(state)), self._context.devices
        held = (
            one for one in devices.assignments() if (one.pod_uid, one.container) == (self.uid, state.name)
        )
        ids = next((one.allocation.device_ids for one in held), {})
        return dataclasses.replace(view, devices=device_health(ids, devices.devices()))

    def _waiting(self, state: ContainerState) -> tuple[str, str]:
        if self._is_ending:
            return ("", "") if state.current else ("ContainerCreating", "")
        return waiting_of(state, self.states, self.pod)

    def _tell(self, type_: Literal["Normal", "Warning"], reason: str, message: str) -> None:
        if self.is_removed:
            return
        telling = self._context.events.record(self.pod, type_, reason, message)
        self._group.create_task(telling, name=f"event {self.uid} {reason}")
