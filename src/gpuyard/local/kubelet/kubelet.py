"""The kubelet: runs the pods that are bound to this node, as processes of this host or by podman."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from gpuyard import errors
from gpuyard.client.api import KubeApi
from gpuyard.client.events import EventRecorder
from gpuyard.client.informer import Informer
from gpuyard.kube.ages import seconds_since_boot
from gpuyard.kube.objects import PODS, Manifest, key_of, uid_of
from gpuyard.kube.pods import is_terminal
from gpuyard.local.kubelet.back_off import BackOff
from gpuyard.local.kubelet.context import KubeletContext
from gpuyard.local.kubelet.devices.manager import DeviceManager
from gpuyard.local.kubelet.machine import Machine
from gpuyard.local.kubelet.node import HEARTBEAT_S, NodeReporter
from gpuyard.local.kubelet.pod_folders import PodFolder, pod_folders
from gpuyard.local.kubelet.pods.device_recovery import told_devices
from gpuyard.local.kubelet.pods.reservation import ports_before
from gpuyard.local.kubelet.pods.worker import PodWorker
from gpuyard.local.runtime import journal as journals
from gpuyard.local.runtime.container import Container
from gpuyard.local.runtime.runtimes import Runtimes

log = logging.getLogger(__name__)

#: How long device plugins have to come back before a pod that waits for one is refused.
_DEVICES_DUE_S = 30.0
_ORPHAN_GRACE_S = 1.0


class Kubelet:
    """Owns the pods' folders and processes, and the Node object. Each pod has a worker; see `PodWorker`.

    Processes outlive it: cancelling `run` leaves them alone, and the next `run` over the same folders adopts
    them, ends those whose pods were deleted meanwhile, and removes the folders of pods that are gone.
    """

    def __init__(
        self,
        api: KubeApi,
        machine: Machine,
        node_name: str,
        devices: DeviceManager,
        *,
        pods: Informer,
        back_off: BackOff | None = None,
        devices_due_s: float = _DEVICES_DUE_S,
        heartbeat_s: float = HEARTBEAT_S,
        seconds: Callable[[], float] = seconds_since_boot,
    ) -> None:
        """Makes the kubelet in the loop that it will run in; nothing happens before `run`.

        Args:
            api: the yard's.
            machine: that it is on.
            node_name: this node's, which the machine knows.
            devices: of this node; started by the caller.
            pods: of all namespaces; run by the caller, and not before the kubelet is made.
            back_off: between restarts of a container; None for Kubernetes' own.
            devices_due_s: how long after the start a pod waits for its device plugin.
            heartbeat_s: between two signs of life of the node.
            seconds: a steady clock that goes on in a suspend; see `wake`.
        """
        self._machine = machine
        self._name = node_name
        self._pods = pods
        self._supervisor = pods.supervisor
        self._node = _node_reporter(api, machine, node_name, devices, heartbeat_s)
        self._context = KubeletContext(
            api=api,
            runtimes=machine.runtimes,
            devices=devices,
            events=EventRecorder(api, "kubelet", machine.clock, host=node_name),
            node=self._node,
            clock=machine.clock,
            seconds=seconds,
            pods_dir=machine.paths.pods_dir,
            back_off=back_off or BackOff(),
            devices_due_s=asyncio.get_running_loop().time() + devices_due_s,
            images=machine.images,
            logs=machine.logs,
            cdi_dir=machine.cdi_dir(node_name),
            host_names=machine.host_names,
            ports=machine.ports,
            streams=machine.streams,
        )
        self._workers: dict[str, PodWorker] = {}
        #: Pods whose worker is through, though the informer may still show an older state of them.
        self._over: set[str] = set()
        self._group: asyncio.TaskGroup | None = None
        for handler in (self._context.host_names.note, self._on_pod):  # a pod finds its own name
            pods.add_handler(handler)
        devices.on_change(self._look_at_pods)  # a pod's status says whether its devices are healthy

    def wake(self) -> None:
        """This process stood still: has the node report itself alive at once, and looks at all pods, since
        the loop's timers are late by that."""
        self._node.wake()
        self._look_at_pods()

    async def lose_power(self) -> None:
        """As in a power cut, after `run` was cancelled: kills all that runs on the node, and has its object
        say at once what others find out by its silence."""
        folders = [
            folder for folder in pod_folders(self._context.pods_dir).values() if folder.node == self._name
        ]
        with self._supervisor.guard(f"power cut of {self._name}"):
            await asyncio.gather(
                *(end_processes(self._context.runtimes, folder, grace_s=0) for folder in folders)
            )
        with self._supervisor.guard(f"power cut of {self._name}"):
            await self._node.fall_silent()

    def _look_at_pods(self) -> None:
        for worker in self._workers.values():
            worker.update(worker.pod)

    async def run(self) -> None:
        """Works until cancelled."""
        await self._pods.synced()
        if self._context.runtimes.process.isolation.warning:
            log.warning("isolation: none: %s", self._context.runtimes.process.isolation.warning)
        try:
            async with asyncio.TaskGroup() as self._group:
                try:
                    await self._take_over()
                    for name, run in (
                        ("node", self._node.run),
                        ("podman", self._prepare_podman),
                    ):
                        self._group.create_task(self._supervisor.keep(f"kubelet: {name}", run), name=name)
                    await asyncio.Event().wait()
                finally:
                    # Pods that are heard of from here on are the next kubelet's: the group takes none.
                    self._group = None
        finally:
            self._context.runtimes.cgroups.remove_all()

    def _on_pod(self, old: Manifest | None, new: Manifest | None) -> None:
        """Handler of the informer."""
        pod = new or old
        if self._group is None or pod is None or not self._looks_after(pod):
            return
        uid = uid_of(pod)
        worker = self._workers.get(uid)
        if worker is not None:
            if new is None:
                worker.remove()
            else:
                worker.update(new)
        elif new is None:
            self._over.discard(uid)
            self._group.create_task(self._clean_up(uid), name=f"clean up {uid}")
        elif uid not in self._over and not is_terminal(new):
            if self._is_here(new):
                self._work_on(new)
        elif _waits_for_kubelet(new):
            self._group.create_task(self._let_go(new), name=f"let go {uid}")

    def _is_here(self, pod: Manifest) -> bool:
        return bool(pod["spec"].get("nodeName") == self._name)

    def _looks_after(self, pod: Manifest) -> bool:
        node = pod["spec"].get("nodeName")
        return bool(node) and self._machine.looks_after(self._name, node)

    def _work_on(self, pod: Manifest) -> None:
        assert self._group is not None
        worker = PodWorker(self._context, pod)
        self._workers[worker.uid] = worker
        self._group.create_task(self._supervise(worker), name=f"pod {worker.uid}")

    async def _supervise(self, worker: PodWorker) -> None:
        """Sees a pod to its end. Where a worker fails in an unforeseen way, another takes the pod's processes
        over; a pod that is being deleted loses them after the second, since nobody else can end them."""
        uid, failures = worker.uid, 0
        try:
            while True:
                with self._supervisor.guard("kubelet", self._pods.reference(key_of(worker.pod))):
                    if failures:
                        worker = self._workers[uid] = PodWorker(self._context, worker.pod)
                    await worker.run()
                    failures = 0
                    break
                failures += 1
                if worker.is_removed or (worker.is_deleted and failures > 1):
                    break
                await asyncio.sleep(self._context.back_off.obstacle_s)
                # What was told to the old worker meanwhile, its successor wouldn't know.
                if worker.is_removed:
                    break
        finally:
            del self._workers[uid]
        if worker.is_removed or failures:
            await self._clean_up(uid)
        if worker.is_removed:
            return
        self._over.add(uid)
        if failures or _waits_for_kubelet(worker.pod):
            await self._let_go(worker.pod)

    async def _take_over(self) -> None:
        """Goes on with what an earlier kubelet left."""
        assert self._group is not None
        live: list[Manifest] = []
        over: list[Manifest] = []
        lost: list[Manifest] = []
        for key, pod in self._pods.objects.items():
            with self._supervisor.guard("kubelet", self._pods.reference(key)):
                if self._looks_after(pod):
                    (over if is_terminal(pod) else live if self._is_here(pod) else lost).append(pod)
        known = {uid_of(pod) for pod in self._pods.objects.values()}
        folders = pod_folders(self._context.pods_dir)
        orphans = {
            uid
            for uid, folder in folders.items()
            if uid not in known and self._machine.looks_after(self._name, folder.node)
        }
        self._context.forget_all_but({uid_of(pod) for pod in live})
        # Of all nodes, before any pod is given one that another has.
        for key, pod in self._pods.objects.items():
            with self._supervisor.guard("kubelet", self._pods.reference(key)):
                if pod["spec"].get("nodeName") in self._machine.nodes and not is_terminal(pod):
                    folder = PodFolder(self._context.pods_dir / uid_of(pod))
                    self._context.ports.keep(uid_of(pod), ports_before(pod, folder))
        # A pod that nobody understands keeps what it has: its processes may go on.
        await self._context.devices.retain((known | orphans) - {uid_of(pod) for pod in over})
        for pod in live:
            with self._supervisor.guard("kubelet", self._pods.reference(key_of(pod))):
                for container, ids in told_devices(pod).items():
                    self._context.devices.recover(uid_of(pod), *key_of(pod), container, ids)
        for pod in live:
            with self._supervisor.guard("kubelet", self._pods.reference(key_of(pod))):
                self._work_on(pod)
        for pod in over:
            if _waits_for_kubelet(pod):
                self._group.create_task(self._let_go(pod), name=f"let go {uid_of(pod)}")
        for uid in orphans:
            self._group.create_task(self._clean_up(uid), name=f"clean up {uid}")
        for pod in lost:
            if self._machine.was_here(pod["spec"]["nodeName"]):
                self._group.create_task(self._end(uid_of(pod)), name=f"end {uid_of(pod)}")

    async def _let_go(self, pod: Manifest) -> None:
        """Has a pod removed that is over, and whose deletion its worker didn't see: that came as it ended,
        or the worker was killed between telling its end and this."""
        key = key_of(pod)
        with (
            self._supervisor.guard("kubelet", self._pods.reference(key)),
            suppress(errors.NotFound, errors.Conflict),
        ):
            await self._context.api.delete(PODS, key.name, key.namespace, grace_period_s=0, uid=uid_of(pod))

    async def _prepare_podman(self) -> None:
        """Finds out whether containers can run here, and removes those of pods that are gone."""
        await self._machine.probe_podman()
        self._node.refresh()
        if self._name == self._machine.nodes[0]:
            await self._context.runtimes.podman.host.sweep(_is_to_be_concluded)

    async def _clean_up(self, uid: str) -> None:
        """Ends and removes what is left of a pod that is no longer in the API."""
        await self._end(uid)
        with self._supervisor.guard(f"clean-up after pod {uid}"):
            await self._context.devices.release(uid)
            self._context.ports.give_back(uid)
            await asyncio.to_thread(PodFolder(self._context.pods_dir / uid).remove)

    async def _end(self, uid: str) -> None:
        """Ends what still runs of a pod that nobody works on."""
        with self._supervisor.guard(f"end of pod {uid}"):
            await end_processes(self._context.runtimes, PodFolder(self._context.pods_dir / uid))


def _node_reporter(
    api: KubeApi, machine: Machine, name: str, devices: DeviceManager, heartbeat_s: float
) -> NodeReporter:
    return NodeReporter(
        api,
        name,
        devices,
        machine.runtimes,
        machine.clock,
        data_dir=machine.paths.data_dir,
        heartbeat_s=heartbeat_s,
        nodes=len(machine.nodes),
    )


async def end_processes(runtimes: Runtimes, folder: PodFolder, grace_s: float = _ORPHAN_GRACE_S) -> None:
    """Ends what still runs of a pod; its folder stays."""
    for name in folder.containers():
        for attempt in folder.attempts(name)[-1:]:
            found = await runtimes.adopt(folder.attempt(name, attempt))
            if found is None:
                await runtimes.end_lost(folder.start_name(name, attempt))
            elif isinstance(found, Container):
                log.info("ending %s/%s: its pod is gone", folder.path.name, name)
                await found.stop(grace_s)
                await found.wait()


def _is_to_be_concluded(folder: Path) -> bool:
    """Whether a start goes on or its end isn't noted yet."""
    try:
        journal = journals.read(folder / journals.JOURNAL)
    except errors.ProcessError:
        return True
    return journal is not None and journal.exit is None


def _waits_for_kubelet(pod: Manifest) -> bool:
    """Whether it is being deleted with a grace period that only its kubelet ends."""
    return bool(pod["metadata"].get("deletionGracePeriodSeconds"))
