"""One running yard, composed of its parts.

    lock and store ─▶ devices, agent ─▶ API (unix socket, HTTPS) ─▶ informers ─▶ controllers, scheduler,
    kubelet, proxies of Services

They start from left to right; `Parts` ends them from right to left. Processes of runs and proxies of
Services aren't ended: the next daemon adopts them.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import platform
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from gpuyard.client.events import EventRecorder
from gpuyard.client.informer import Informer
from gpuyard.client.supervision import ObjectReference, Supervisor, set_aside_text
from gpuyard.controllers.manager import FOLLOWED, ControllerManager
from gpuyard.controllers.scheduler import Scheduler
from gpuyard.controllers.watched_time import WatchedTime
from gpuyard.devices.gpu_locks import find_lock_folder
from gpuyard.kube.objects import (
    CONFIG_MAPS,
    DEPLOYMENTS,
    JOBS,
    NODES,
    PERSISTENT_VOLUME_CLAIMS,
    PODS,
    REPLICA_SETS,
    SECRETS,
    SERVICES,
    ObjectKey,
    Resource,
)
from gpuyard.local.daemon.metrics import read_metrics
from gpuyard.local.daemon.parts import Parts
from gpuyard.local.daemon.readiness import Readiness
from gpuyard.local.daemon.runtime_folder import RuntimeFolder
from gpuyard.local.daemon.service_loads import ServiceLoads
from gpuyard.local.daemon.service_proxies import ServiceProxies
from gpuyard.local.daemon.snapshots import Snapshots
from gpuyard.local.daemon.volumes import FOLLOWED as VOLUMES_FOLLOWED
from gpuyard.local.daemon.volumes import VolumeController
from gpuyard.local.daemon.yard_node import (
    NodePlan,
    YardNode,
    forget_former_files,
    forget_former_nodes,
    plan_nodes,
)
from gpuyard.local.http.app import ApiApp
from gpuyard.local.http.server.certificates import Pki
from gpuyard.local.http.server.credentials import load_or_make_token, write_kubeconfig
from gpuyard.local.http.server.listeners import Listeners, serve
from gpuyard.local.kubelet.machine import Machine
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

    def stop(self) -> None:
        """Begins the shutdown."""
        self._stop.set()

    async def run(self) -> None:
        """Starts the parts one after another, waits for `stop`, and ends them in the reverse order."""
        async with Parts() as parts:
            store = await self._open_store(parts)
            kept = load_settings(self._paths.settings)
            settings = kept.chosen(self._choices)
            plans = plan_nodes(platform.node(), self._paths, settings.simulate)
            self._paths.make_folders(len(plans))
            self._folder.nodes = len(plans)
            running = RunningFile(self._paths.running, [plan.name for plan in plans])
            forget_former_files(self._paths, kept, plans)
            nodes = await self._start_devices(parts, settings, plans, running)
            search_path = os.environ.get("PATH", os.defpath)
            podman = Podman.find(self._paths.runtime_dir.name, search_path)
            kinds = yard_kinds()
            api = ObjectApi(
                store, kinds, clock=utc_now, rng=random.SystemRandom(), no_images=lambda: podman.problem
            )
            await api.bootstrap()
            await forget_former_nodes(api, [plan.name for plan in plans])
            runtimes = await Runtimes.open(
                self._paths.runtime_dir.name, search_path, utc_now, podman=podman, yard=self._paths
            )
            supervisor = Supervisor(EventRecorder(api, "gpuyard", utc_now, host=plans[0].name))
            followed = (*FOLLOWED, *VOLUMES_FOLLOWED, CONFIG_MAPS, SECRETS)
            running.set_aside = await _name_set_aside(store, api, supervisor)
            informers = {r: Informer(api, r, supervisor=supervisor) for r in followed}
            machine = Machine(self._paths, runtimes, utc_now, [plan.name for plan in plans])
            for node in nodes:
                node.make_kubelet(
                    api,
                    machine,
                    informers[PODS],
                    informers[NODES],
                    supervisor,
                    heartbeat_s=self._periods.heartbeat_s,
                )
            proxies = ServiceProxies(self._paths, informers[SERVICES])
            running.api = self._serve_api(parts, api, machine, settings, plans, proxies)
            parts.run(supervisor.keep("logs", machine.logs.run), "logs")
            parts.task(machine.streams.end_former(), "end of former commands")
            loads = ServiceLoads(proxies.read, [plan.paths.metrics_socket for plan in plans])
            self._start_loops(parts, api, supervisor, informers, nodes, machine, loads)
            parts.run(supervisor.keep("service proxies", proxies.run), "service proxies")
            readiness = Readiness(informers[NODES], nodes, self._paths.daemon_log)
            await self._until_stopped(parts, readiness, running, nodes)

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

    async def _start_devices(
        self, parts: Parts, settings: Settings, plans: Sequence[NodePlan], running: RunningFile
    ) -> list[YardNode]:
        locks = self._lock_folder(settings)
        nodes = [
            YardNode(plan, self._paths, settings, locks, self._folder, partial(running.note_agent, plan.name))
            for plan in plans
        ]
        for node in nodes:
            await node.start_devices(parts)
        return nodes

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

    def _serve_api(
        self,
        parts: Parts,
        api: ObjectApi,
        machine: Machine,
        settings: Settings,
        plans: Sequence[NodePlan],
        proxies: ServiceProxies,
    ) -> str:
        """Serves the API on both sockets; its HTTPS address, which the kubeconfig names from now on."""
        paths = self._paths
        pki, token = Pki(paths.pki_dir), load_or_make_token(paths.token)
        pki.ensure(utc_now())
        listeners = Listeners.open(paths.api_socket, settings.port)
        save_settings(paths.settings, replace(settings, port=listeners.port))
        ca_pem = read_regular(pki.ca_certificate)
        write_kubeconfig(paths.kubeconfig, port=listeners.port, ca_pem=ca_pem, token=token)
        sockets = [plan.paths.metrics_socket for plan in plans]
        app = ApiApp(
            api,
            logs=machine.logs,
            streams=machine.streams,
            read_metrics=lambda: read_metrics([*sockets, *proxies.sockets]),
        )
        parts.run(serve(app, listeners, token=token, pki=pki, clock=utc_now), "api")
        return f"https://127.0.0.1:{listeners.port}"

    def _start_loops(
        self,
        parts: Parts,
        api: ObjectApi,
        supervisor: Supervisor,
        informers: dict[Resource, Informer],
        nodes: Sequence[YardNode],
        machine: Machine,
        loads: ServiceLoads,
    ) -> None:
        """The loops over the objects. Each adds its handlers to the informers before these run.

        One that fails is reported and run again: whatever is stored, the others and the API go on.
        """
        resources = [kind.resource for kind in api.kinds]
        watched = WatchedTime()
        for node in nodes:
            watched.on_pause(node.wake)
        controllers = ControllerManager(
            api,
            utc_now,
            informers,
            resources,
            supervisor,
            job_backoff_s=_JOB_BACKOFF_S,
            node_grace_s=self._periods.node_grace_s,
            watched=watched,
            is_gone=machine.was_here,
            loads=loads,
        )
        naming = (informers[resource] for resource in (JOBS, DEPLOYMENTS, REPLICA_SETS))
        snapshots = Snapshots(self._paths.snapshots_dir, *naming)
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
        for node in nodes:
            node.start_kubelet(parts)

    async def _until_stopped(
        self, parts: Parts, readiness: Readiness, running: RunningFile, nodes: Sequence[YardNode]
    ) -> None:
        ready = parts.task(readiness.wait(), "ready")
        stopped = parts.task(self._stop.wait(), "stop")
        await parts.wait(ready, stopped)
        if stopped.done():
            return
        running.save()
        parts.run(running.keep(), "running file")
        # Now: nothing that a run needs waits for it.
        for node in nodes:
            node.start_exporter(parts)
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
