"""One running yard, composed of its parts.

    lock and store ─▶ devices, agent ─▶ API (unix socket, HTTPS) ─▶ informers ─▶ controllers, scheduler,
    kubelet

They start from left to right; `Parts` ends them from right to left. Processes of runs aren't ended: the
next daemon adopts them.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import platform
import random
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from gpuyard import errors
from gpuyard.client.events import EventRecorder
from gpuyard.client.informer import Informer
from gpuyard.client.supervision import ObjectReference, Supervisor, set_aside_text
from gpuyard.controllers.manager import FOLLOWED, ControllerManager
from gpuyard.controllers.scheduler import Scheduler
from gpuyard.controllers.watched_time import WatchedTime
from gpuyard.devices.gpu_locks import GpuLocks, find_lock_folder
from gpuyard.kube.objects import (
    CONFIG_MAPS,
    JOBS,
    NODES,
    PERSISTENT_VOLUME_CLAIMS,
    PODS,
    SECRETS,
    ObjectKey,
    Resource,
)
from gpuyard.kube.wellknown import ANNOTATION_NO_GPUS
from gpuyard.local.daemon.agent_process import AgentProcess
from gpuyard.local.daemon.metrics import read_metrics
from gpuyard.local.daemon.parts import Parts
from gpuyard.local.daemon.readiness import Readiness
from gpuyard.local.daemon.runtime_folder import RuntimeFolder
from gpuyard.local.daemon.snapshots import Snapshots
from gpuyard.local.daemon.volumes import FOLLOWED as VOLUMES_FOLLOWED
from gpuyard.local.daemon.volumes import VolumeController
from gpuyard.local.http.app import ApiApp
from gpuyard.local.http.server.certificates import Pki
from gpuyard.local.http.server.credentials import load_or_make_token, write_kubeconfig
from gpuyard.local.http.server.listeners import Listeners, serve
from gpuyard.local.kubelet.devices.manager import DeviceManager
from gpuyard.local.kubelet.devices.pod_resources import PodResourcesServer
from gpuyard.local.kubelet.devices.registration import KUBELET_SOCKET
from gpuyard.local.kubelet.kubelet import Kubelet
from gpuyard.local.objects.kinds.served import yard_kinds
from gpuyard.local.objects.stored import find_fault
from gpuyard.local.objects.verbs import ObjectApi, utc_now
from gpuyard.local.paths import YardPaths
from gpuyard.local.running_file import RunningFile
from gpuyard.local.runtime.podman.host import Podman
from gpuyard.local.runtime.runtimes import Runtimes
from gpuyard.local.settings import Choices, Settings, load_settings, save_settings
from gpuyard.local.store import Store
from gpuyard.regular_files import read_regular

log = logging.getLogger(__name__)

#: `doctor` names at most so many objects that were set aside.
_MAX_TOLD_SET_ASIDE = 50
#: A Job's failed pod is tried again after this, doubling: nobody waits ten seconds on one machine.
_JOB_BACKOFF_S = 1.0


@dataclass(frozen=True)
class Periods:
    """What tests shorten.

    Attributes:
        heartbeat_s: between two signs of life of the node.
        node_grace_s: how long a node may be silent before it counts as unreachable.
    """

    heartbeat_s: float = 10.0
    node_grace_s: float = 40.0


class Yard:
    """One running yard. `run` returns when it was told to stop, and raises what broke it.

    Args:
        paths: whose folders exist.
        choices: what this start was told.
        on_ready: called once, when the yard is ready.
    """

    def __init__(
        self,
        paths: YardPaths,
        *,
        choices: Choices,
        on_ready: Callable[[], None],
        periods: Periods = Periods(),
    ) -> None:
        self._paths = paths
        self._choices = choices
        self._on_ready = on_ready
        self._periods = periods
        self._folder = RuntimeFolder(paths)
        self._stop = asyncio.Event()
        self.node = node_name(platform.node())

    def stop(self) -> None:
        """Begins the shutdown."""
        self._stop.set()

    async def run(self) -> None:
        """Starts the parts one after another, waits for `stop`, and ends them in the reverse order."""
        async with Parts() as parts:
            store = await self._open_store(parts)
            kept = load_settings(self._paths.settings)
            settings = kept.chosen(self._choices)
            if kept.simulate and kept.simulate.lower() != settings.simulate.lower():
                # What was said of the former GPUs, their faults and their splits, isn't meant for these.
                self._paths.simulated_health.unlink(missing_ok=True)
                log.info("%s is removed: it was about %s", self._paths.simulated_health, kept.simulate)
            running = RunningFile(self._paths.running, self.node)
            devices = await self._start_devices(parts, settings, running)
            search_path = os.environ.get("PATH", os.defpath)
            podman = Podman.find(self._paths.runtime_dir.name, search_path)
            kinds = yard_kinds()
            api = ObjectApi(
                store, kinds, clock=utc_now, rng=random.SystemRandom(), no_images=lambda: podman.problem
            )
            await api.bootstrap()
            # What the agent of the last start said isn't known to hold; this one's can't have spoken yet. The
            # first start has no node, and a full disk keeps no yard from starting.
            with suppress(errors.GpuyardError):
                former: dict[str, Any] = {"metadata": {"annotations": {ANNOTATION_NO_GPUS: None}}}
                await api.patch(NODES, self.node, former)
            runtime = await Runtimes.open(self._paths.runtime_dir.name, search_path, utc_now, podman=podman)
            supervisor = Supervisor(EventRecorder(api, "gpuyard", utc_now, host=self.node))
            followed = (*FOLLOWED, *VOLUMES_FOLLOWED, CONFIG_MAPS, SECRETS)
            running.set_aside = await _name_set_aside(store, api, supervisor)
            informers = {r: Informer(api, r, supervisor=supervisor) for r in followed}
            kubelet = Kubelet(
                api,
                self._paths,
                self.node,
                devices,
                runtime,
                utc_now,
                pods=informers[PODS],
                heartbeat_s=self._periods.heartbeat_s,
            )
            running.api = self._serve_api(parts, api, kubelet, settings)
            self._start_loops(parts, api, supervisor, informers, kubelet)
            readiness = Readiness(
                self.node, informers[NODES], devices, settings.simulate, self._paths.daemon_log
            )
            await self._until_stopped(parts, readiness, running, settings)

    async def _open_store(self, parts: Parts) -> Store:
        """The store, and the folders that its lock makes ours."""
        paths = self._paths
        # The lock comes with the store: until it is held nothing of another yard may be touched.
        store = await Store.open(paths.database, lock=paths.lock, find_fault=find_fault)
        parts.at_end(store.close)
        parts.run(store.wait_broken(), "store")
        # Again, now that nobody else is at it: a daemon that was just ending has removed its own.
        paths.make_folders()
        parts.enter(self._folder)
        return store

    async def _start_devices(self, parts: Parts, settings: Settings, running: RunningFile) -> DeviceManager:
        """What hands GPUs out: the device manager, the agent beside it, and the list of who holds which."""
        paths = self._paths
        folder = self._lock_folder(settings)
        locks = None if folder is None else GpuLocks(folder, paths.data_dir, utc_now)
        devices = DeviceManager(paths.device_plugins_dir, paths.device_checkpoint, utc_now, locks=locks)
        await devices.start()
        parts.at_end(devices.stop)
        # Early: its interpreter starts on the other core while this one goes on.
        paths.marks_file.unlink(missing_ok=True)  # of a daemon that was killed
        agent = AgentProcess.plugin(paths, self.node, settings, folder, on_pid=running.note_agent)
        labeller = AgentProcess.labeller(paths, self.node)
        # They report to the log alone: there is no API yet that an Event could go to.
        supervisor = Supervisor()
        parts.run(supervisor.keep("agent", agent.run), "agent")
        parts.run(supervisor.keep("labeller", labeller.run), "labeller")
        pod_resources = PodResourcesServer(devices, paths.pod_resources_socket)
        await pod_resources.start()
        parts.at_end(pod_resources.stop)
        self._folder.hold(paths.device_plugins_dir / KUBELET_SOCKET, devices.listen)
        self._folder.hold(paths.pod_resources_socket, pod_resources.start)
        self._folder.hold(paths.marks_file, agent.restart)
        return devices

    def _lock_folder(self, settings: Settings) -> Path | None:
        """Where GPUs are locked against the machine's other yards; simulated ones each has for itself."""
        if settings.simulate:
            return self._paths.locks_dir
        folder = find_lock_folder()
        if folder is None:
            log.warning(
                "no folder is root's and open to all users (/run/lock, /dev/shm or /tmp with mode 1777): "
                "GPUs aren't locked against other yards of this machine"
            )
        return folder

    def _serve_api(self, parts: Parts, api: ObjectApi, kubelet: Kubelet, settings: Settings) -> str:
        """Serves the API on both sockets; its HTTPS address, which the kubeconfig names from now on."""
        paths = self._paths
        pki, token = Pki(paths.pki_dir), load_or_make_token(paths.token)
        pki.ensure(utc_now())
        listeners = Listeners.open(paths.api_socket, settings.port)
        save_settings(paths.settings, replace(settings, port=listeners.port))
        ca_pem = read_regular(pki.ca_certificate)
        write_kubeconfig(paths.kubeconfig, port=listeners.port, ca_pem=ca_pem, token=token)
        app = ApiApp(api, logs=kubelet.logs, read_metrics=partial(read_metrics, paths.metrics_socket))
        parts.run(serve(app, listeners, token=token, pki=pki, clock=utc_now), "api")
        return f"https://127.0.0.1:{listeners.port}"

    def _start_loops(
        self,
        parts: Parts,
        api: ObjectApi,
        supervisor: Supervisor,
        informers: dict[Resource, Informer],
        kubelet: Kubelet,
    ) -> None:
        """The loops over the objects. Each adds its handlers to the informers before these run.

        One that fails is reported and run again: whatever is stored, the others and the API go on.
        """
        resources = [kind.resource for kind in api.kinds]
        watched = WatchedTime()
        watched.on_pause(kubelet.wake)
        controllers = ControllerManager(
            api,
            utc_now,
            informers,
            resources,
            supervisor,
            job_backoff_s=_JOB_BACKOFF_S,
            node_grace_s=self._periods.node_grace_s,
            watched=watched,
        )
        snapshots = Snapshots(self._paths.snapshots_dir, informers[JOBS])
        volumes = VolumeController(api, utc_now, informers, self._paths.volumes_dir)
        scheduler = Scheduler(
            api, utc_now, informers[NODES], informers[PODS], informers[PERSISTENT_VOLUME_CLAIMS]
        )
        parts.run(supervisor.run(), "supervisor")
        for resource, informer in informers.items():
            name = f"informer-{resource.plural}"
            parts.run(supervisor.keep(name, informer.run), name)
        parts.run(controllers.run(), "controllers")
        parts.run(supervisor.keep("snapshots", snapshots.run), "snapshots")
        parts.run(supervisor.keep("volumes", volumes.run), "volumes")
        parts.run(supervisor.keep("scheduler", scheduler.run), "scheduler")
        parts.run(supervisor.keep("kubelet", kubelet.run), "kubelet")

    async def _until_stopped(
        self, parts: Parts, readiness: Readiness, running: RunningFile, settings: Settings
    ) -> None:
        ready = parts.task(readiness.wait(), "ready")
        stopped = parts.task(self._stop.wait(), "stop")
        await parts.wait(ready, stopped)
        if stopped.done():
            return
        running.save()
        parts.run(running.keep(), "running file")
        # Now: nothing that a run needs waits for it.
        exporter = AgentProcess.exporter(self._paths, self.node, settings)
        parts.run(exporter.run(), "exporter")
        self._folder.hold(self._paths.metrics_socket, exporter.restart)
        self._folder.hold(self._paths.running, running.save_again)
        parts.run(self._folder.keep(), "runtime folder")
        # What start-up left behind is garbage or lives as long as the daemon.
        gc.collect()
        gc.freeze()
        self._on_ready()
        await parts.wait(stopped)


async def _name_set_aside(store: Store, api: ObjectApi, supervisor: Supervisor) -> tuple[str, ...]:
    """Has each row that the store couldn't read named by an Event; gives the last of them for `doctor`."""
    resources = {kind.resource.qualified: kind.resource for kind in api.kinds}
    told: list[str] = []
    for fault in await store.faults():
        key = ObjectKey(fault.namespace, fault.name)
        message = f"revision {fault.revision} of it in the yard's store is set aside: {fault.fault}"
        resource = resources.get(fault.resource)
        if resource is not None:
            supervisor.tell(ObjectReference(resource, key), message)
        told.append(set_aside_text(resource.kind if resource else fault.resource, key, message))
    return tuple(told[-_MAX_TOLD_SET_ASIDE:])


def node_name(host: str) -> str:
    """The host's name as Kubernetes wants a node's."""
    return re.sub(r"[^a-z0-9.]+", "-", host.lower()).strip("-.") or "yard"
