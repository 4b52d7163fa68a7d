"""One pod on this node, from its admission to its end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any, Literal

from gpuyard import errors
from gpuyard.kube.objects import PODS, Manifest, key_of, uid_of
from gpuyard.kube.timestamps import parse_time
from gpuyard.kube.wellknown import RUNTIME_CLASS_PROCESS
from gpuyard.local.kubelet.admission import Rejection, admit, refused_by_devices
from gpuyard.local.kubelet.config_volumes import write_config_maps
from gpuyard.local.kubelet.devices.manager import ContainerAllocation
from gpuyard.local.kubelet.host import Host
from gpuyard.local.kubelet.image_containers import start_image_container
from gpuyard.local.kubelet.image_pulls import CannotGet
from gpuyard.local.kubelet.lifecycle import phase_of, plan
from gpuyard.local.kubelet.not_applied import not_applied
from gpuyard.local.kubelet.pod_folders import PodFolder, PodRecord
from gpuyard.local.kubelet.pod_status import pod_status, rejected_status
from gpuyard.local.kubelet.pod_writer import PodWriter
from gpuyard.local.kubelet.slots import Slot, slots_of
from gpuyard.local.kubelet.starting import device_requests, start_container
from gpuyard.local.runtime.container import Container
from gpuyard.local.runtime.podman.host import PODMAN
from gpuyard.local.runtime.values import Exit, ExitReason
from gpuyard.scheduling.requests import effective_requests

log = logging.getLogger(__name__)

#: A status that lasts shorter than this isn't written: most of it is a process that ends at once.
_SETTLE_S = 0.03
_RETRY_S = 0.1
_RETRY_MAX_S = 30.0
_DEADLINE = Rejection("DeadlineExceeded", "Pod was active on the node longer than the specified deadline")
#: What processes get whose pod was removed from the API by force.
_FORCED_GRACE_S = 1.0
#: A start that waits for something else than a moment.
_NOT_BY_TIME = timedelta(days=1)


class PodWorker:
    """Handles one pod, one step after another; other pods go on beside it.

    `run` returns when nothing of the pod is left but its folder, and its status says how it ended. When it is
    cancelled the processes go on, for a later worker of the same pod to adopt.
    """

    def __init__(self, host: Host, pod: Manifest) -> None:
        self.uid = uid_of(pod)
        self.slots = slots_of(pod)
        self._host = host
        self._pod = pod
        self._folder = PodFolder(host.pods_dir / self.uid)
        self._started_at = _start_time(pod) or host.clock()
        self._allocations: dict[str, ContainerAllocation] = {}
        self._writer = PodWriter(host.api, pod)
        self._unsettled_since: float | None = None
        self._ended_by: Rejection | None = None
        self._removed = False
        self._admitted = False
        self._mounted = False
        self._wake = asyncio.Event()
        self._group = asyncio.TaskGroup()

    def update(self, pod: Manifest) -> None:
        """The pod changed."""
        self._pod = pod
        self._wake.set()

    def remove(self) -> None:
        """The pod is no longer in the API."""
        self._removed = True
        self._wake.set()

    @property
    def pod(self) -> Manifest:
        """As it was last seen."""
        return self._pod

    @property
    def is_removed(self) -> bool:
        """Whether the pod is no longer in the API."""
        return self._removed

    @property
    def is_deleted(self) -> bool:
        """Whether somebody asked for the pod's deletion, or it is no longer in the API."""
        return self._removed or "deletionTimestamp" in self._pod["metadata"]

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
                        wake_at = await self._step()
                        done = wake_at is None
                        retry_s = _RETRY_S
                    except errors.GpuyardError as error:
                        log.warning("pod %s: %s; again in %.1f s", key_of(self._pod), error, retry_s)
                        wake_at = self._host.clock() + timedelta(seconds=retry_s)
                        retry_s = min(retry_s * 2, _RETRY_MAX_S)
                    if wake_at is not None:
                        await self._sleep_until(wake_at)
        finally:
            for slot in self.slots:
                if slot.container is not None:
                    slot.container.close()

    async def _sleep_until(self, moment: datetime) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout((moment - self._host.clock()).total_seconds()):
                await self._wake.wait()

    # -- steps ------------------------------------------------------------------------------------------

    async def _step(self) -> datetime | None:
        """Does what is to be done now; returns when to look again, None when the pod is over."""
        now = self._host.clock()
        if not self._is_ending and not self._admitted:
            rejection = await self._admit(now)
            if isinstance(rejection, datetime):
                return rejection
            if rejection is not None:
                await self._reject(rejection)
                return None
        spec = self._pod["spec"]
        observed = [slot.observed() for slot in self.slots]
        step = plan(
            observed,
            restart_policy=spec["restartPolicy"],
            ending=self._is_ending,
            deadline_at=self._deadline(),
            now=now,
        )
        if step.expired:
            self._ended_by = _DEADLINE
        if step.stop:
            await self._stop()
        due = [slot for slot in self.slots if slot.name in step.start]
        if due and await self._mount(due):
            for slot in due:
                await self._start(slot)
        if step.done:
            await self._finish()
            return None
        if step.start:
            return now
        return await self._report(step.wake_at)

    async def _restore(self) -> None:
        """Takes over what an earlier kubelet started."""
        for slot in self.slots:
            known = slot.container
            await slot.restore(self._host.runtime, self._folder, self._pod, self._host.clock())
            if slot.container is not None and known is None:
                self._watch(slot, slot.container)
        if any(slot.current is not None for slot in self.slots):
            self._host.held[self.uid] = effective_requests(self._pod["spec"])
            self._admitted = self._mounted = True
        record = self._folder.read_record()
        if record is not None:
            self._host.ports.keep(self.uid, record.master_port)
        deadline = self._deadline()
        ends = [s.current.exit for s in self.slots if not s.is_init and s.current and s.current.exit]
        if deadline is not None and any(end.finished_at >= deadline for end in ends):
            # It was being stopped for its deadline when the earlier kubelet went away, or would have been.
            self._ended_by = _DEADLINE

    def _deadline(self) -> datetime | None:
        seconds = self._pod["spec"].get("activeDeadlineSeconds")
        return None if seconds is None else self._started_at + timedelta(seconds=seconds)

    async def _admit(self, now: datetime) -> Rejection | datetime | None:
        """Reserves what the pod asks for; a moment when that is to be tried again."""
        host, spec = self._host, self._pod["spec"]
        requests = effective_requests(spec)
        others = [held for uid, held in host.held.items() if uid != self.uid]
        rejection = admit(requests, others, host.node.allocatable)
        if rejection is not None:
            return rejection
        host.held[self.uid] = requests
        try:
            for slot in self.slots:
                self._allocations[slot.name] = await self._allocate(slot)
        except errors.DeviceError as error:
            del host.held[self.uid]
            await host.devices.release(self.uid)
            if now < host.devices_due:
                return now + timedelta(seconds=_RETRY_S)
            return refused_by_devices(error.message)
        self._folder.write_record(PodRecord(*key_of(self._pod), host.ports.take(self.uid)))
        self._admitted = True
        isolation = host.runtime.isolation.level if self._is_process else PODMAN
        fields = not_applied(spec, isolation)
        await self._writer.annotate(isolation, list(self._allocations.values()), fields)
        return None

    async def _allocate(self, slot: Slot) -> ContainerAllocation:
        key = key_of(self._pod)
        return await self._host.devices.allocate(
            self.uid, key.namespace, key.name, slot.name, device_requests(slot.spec), reusable=slot.is_init
        )

    async def _reject(self, rejection: Rejection) -> None:
        log.info("pod %s: %s", key_of(self._pod), rejection.message)
        now = self._host.clock()
        status = rejected_status(self._pod, reason=rejection.reason, message=rejection.message, now=now)
        await self._writer.write_status(status)
        self._tell("Warning", rejection.reason, rejection.message)

    @property
    def _is_process(self) -> bool:
        return bool(self._pod["spec"].get("runtimeClassName") == RUNTIME_CLASS_PROCESS)

    async def _mount(self, due: Sequence[Slot]) -> bool:
        """Writes the pod's volumes before anything of it starts; False when these starts have to wait."""
        if self._mounted:
            return True
        try:
            await write_config_maps(self._host, self._pod, self._folder)
        except errors.MountError as error:
            self._tell("Warning", "FailedMount", error.message)
            for slot in due:
                slot.not_before = self._host.clock() + timedelta(seconds=self._host.back_off.obstacle_s)
            return False
        self._mounted = True
        return True

    async def _start(self, slot: Slot) -> None:
        host, attempt = self._host, slot.next_attempt
        if not self._is_process and slot.pull.is_due:
            self._get_image(slot)
            return
        try:
            allocation = self._allocations.pop(slot.name, None) or await self._allocate(slot)
            port, image = host.ports.take(self.uid), slot.pull.image
            if image is None:
                container = await start_container(host, self._pod, slot.spec, attempt, allocation, port)
            else:
                container = await start_image_container(
                    host, self._pod, slot.spec, attempt, allocation, port, image
                )
        except errors.StartError as error:
            slot.begin(None, host.clock())
            self._tell("Warning", "Failed", f"Error: {error.message}")
            self._ended(slot, Exit(error.code, ExitReason.START_ERROR, host.clock(), _told(error)))
            return
        except (errors.ProcessError, errors.DeviceError, errors.ImageError) as error:
            missing = isinstance(error, errors.ContainerConfigError)
            reason = "CreateContainerConfigError" if missing else "CreateContainerError"
            if slot.obstacle != (reason, error.message):
                self._tell("Warning", "Failed", f"Error: {error.message}")
            slot.obstacle = (reason, error.message)
            slot.not_before = host.clock() + timedelta(seconds=host.back_off.obstacle_s)
            return
        slot.begin(container, container.started_at)
        self._watch(slot, container)
        self._tell("Normal", "Created", f"Created container: {slot.name}")
        self._tell("Normal", "Started", f"Started container {slot.name}")
        if attempt >= 2:
            # Its log and that of the run before are kept, as in Kubernetes.
            await asyncio.to_thread(self._folder.remove_attempt, slot.name, attempt - 2)

    def _get_image(self, slot: Slot) -> None:
        """Pulls beside everything else: it may take minutes, and the pod may be deleted meanwhile."""
        now = self._host.clock()
        backed_off = slot.pull.backed_off(slot.spec["image"], now)
        if backed_off is not None:
            slot.obstacle, slot.not_before = backed_off, slot.pull.retry_at
        elif slot.pull.task is None:
            slot.obstacle, slot.not_before = ("ContainerCreating", ""), now + _NOT_BY_TIME
            slot.pull.task = self._group.create_task(self._pull(slot), name=f"image {self.uid}/{slot.name}")

    async def _pull(self, slot: Slot) -> None:
        host, name = self._host, slot.spec["image"]
        try:
            slot.pull.succeeded(await host.images.get(name, slot.spec["imagePullPolicy"]))
            slot.obstacle, slot.not_before = ("", ""), None
        except CannotGet as error:
            now = host.clock()
            slot.pull.failed(error, host.back_off, now)
            slot.obstacle = (error.reason, error.message)
            # Long enough to be seen before the back-off is.
            slot.not_before = now + timedelta(seconds=host.back_off.obstacle_s)
            self._tell("Warning", "Failed", f'Failed to pull image "{name}": {error.message}')
        self._wake.set()

    def _watch(self, slot: Slot, container: Container) -> None:
        async def watch() -> None:
            self._ended(slot, await container.wait())

        self._group.create_task(watch(), name=f"container {self.uid}/{slot.name}")

    def _ended(self, slot: Slot, exit_: Exit) -> None:
        delay_s = slot.end(exit_, self._host.back_off)
        self._wake.set()
        if delay_s > 0 and self._waiting(slot)[0]:
            self._tell("Warning", "BackOff", f"Back-off restarting failed container {slot.name}")

    async def _stop(self) -> None:
        metadata = self._pod["metadata"]
        grace_s = float(self._pod["spec"].get("terminationGracePeriodSeconds", 30))
        if self._removed:
            grace_s = min(grace_s, _FORCED_GRACE_S)
        elif "deletionTimestamp" in metadata:
            grace_s = float(metadata.get("deletionGracePeriodSeconds", grace_s))
        for slot in self.slots:
            if slot.container is None or (slot.stop_grace_s is not None and slot.stop_grace_s <= grace_s):
                continue
            if slot.stop_grace_s is None:
                self._tell("Normal", "Killing", f"Stopping container {slot.name}")
            slot.stop_grace_s = grace_s
            self._group.create_task(slot.container.stop(grace_s), name=f"stop {self.uid}/{slot.name}")

    async def _finish(self) -> None:
        """Gives everything back, and only then says so: whoever waits for it may take it at once."""
        host, key = self._host, key_of(self._pod)
        for slot in self.slots:
            if slot.pull.task is not None:
                slot.pull.task.cancel()
        await host.devices.release(self.uid)
        host.ports.give_back(self.uid)
        host.held.pop(self.uid, None)
        await asyncio.to_thread(self._folder.remove_volumes)
        if self._removed:
            return
        await self._writer.write_status(self._make_status(done=True))
        if "deletionTimestamp" in self._pod["metadata"]:
            with suppress(errors.NotFound, errors.Conflict):
                await host.api.delete(PODS, key.name, key.namespace, grace_period_s=0, uid=self.uid)

    # -- what the API is told ---------------------------------------------------------------------------

    async def _report(self, wake_at: datetime | None) -> datetime:
        """Writes the status if it has changed and is likely to last."""
        now, loop = self._host.clock(), asyncio.get_running_loop()
        wake_at = wake_at or now + timedelta(days=1)
        status = self._make_status(done=False)
        if self._writer.is_written(status):
            self._unsettled_since = None
            return wake_at
        if self._unsettled_since is None:
            self._unsettled_since = loop.time()
        left_s = self._unsettled_since + _SETTLE_S - loop.time()
        if left_s > 0:
            return min(wake_at, now + timedelta(seconds=left_s))
        await self._writer.write_status(status)
        self._unsettled_since = None
        return wake_at

    def _make_status(self, *, done: bool) -> dict[str, Any]:
        phase = phase_of([slot.observed() for slot in self.slots], done=done)
        ended_by = self._ended_by if done else None
        return pod_status(
            {**self._pod, "status": {**(self._pod.get("status") or {}), **self._writer.status}},
            [slot.view(("", "") if done else self._waiting(slot)) for slot in self.slots],
            phase="Failed" if ended_by else phase,
            reason=ended_by.reason if ended_by else "",
            message=ended_by.message if ended_by else "",
            started_at=self._started_at,
            now=self._host.clock(),
        )

    def _waiting(self, slot: Slot) -> tuple[str, str]:
        if self._is_ending:
            return ("", "") if slot.current else ("ContainerCreating", "")
        reason, message = slot.waiting(self._pod)
        if reason == "ContainerCreating" and not slot.is_init:
            inits_left = any(s.is_init and not s.observed().succeeded for s in self.slots)
            return ("PodInitializing" if inits_left else reason, message)
        return (reason, message)

    def _tell(self, type_: Literal["Normal", "Warning"], reason: str, message: str) -> None:
        if self._removed:
            return
        telling = self._host.events.record(self._pod, type_, reason, message)
        self._group.create_task(telling, name=f"event {self.uid} {reason}")


def _start_time(pod: Manifest) -> datetime | None:
    text = (pod.get("status") or {}).get("startTime")
    return parse_time(text) if text else None


def _told(error: errors.GpuyardError) -> str:
    return f"{error.message}: {error.remedy}" if error.remedy else error.message
