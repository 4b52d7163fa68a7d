"""`python -m gpuyard.local.daemon`: composes the yard, says when it is ready, and ends it in order.

    store ─▶ API (unix socket, HTTPS) ─▶ informers, controllers, scheduler, kubelet ─▶ agent

They start from left to right and end from right to left, so that nobody talks to a part that is gone.
Processes of runs aren't ended: the next daemon adopts them.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import fcntl
import gc
import json
import logging
import os
import platform
import random
import re
import resource
import shutil
import signal
import sys
from collections.abc import Coroutine, Iterator
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from gpuyard import __version__, errors
from gpuyard.client.informer import Informer
from gpuyard.controllers.manager import FOLLOWED, ControllerManager
from gpuyard.controllers.scheduler import Scheduler
from gpuyard.devices.simulated import parse_simulation
from gpuyard.kube.conditions import condition_is_true
from gpuyard.kube.objects import CONFIG_MAPS, NODES, PODS, SECRETS, ObjectKey, labels_of
from gpuyard.kube.quantity import to_int
from gpuyard.kube.timestamps import format_time
from gpuyard.kube.wellknown import GPU_RESOURCE, LABEL_GPU_MODEL, LABEL_SIMULATED
from gpuyard.local.agent_process import AgentProcess
from gpuyard.local.http.app import ApiApp
from gpuyard.local.http.certificates import Pki
from gpuyard.local.http.credentials import load_or_make_token, write_kubeconfig
from gpuyard.local.http.server import Listeners, serve
from gpuyard.local.kubelet.devices.manager import DeviceManager
from gpuyard.local.kubelet.devices.pod_resources import PodResourcesServer
from gpuyard.local.kubelet.kubelet import Kubelet
from gpuyard.local.objects.kinds import ALL_KINDS
from gpuyard.local.objects.verbs import ObjectApi, utc_now
from gpuyard.local.paths import YardPaths, find_paths
from gpuyard.local.runtime.podman.host import Podman
from gpuyard.local.runtime.runtime import Runtime
from gpuyard.local.settings import RunningYard, Settings, load_settings, save_running, save_settings
from gpuyard.local.store import Store

log = logging.getLogger("gpuyard.daemon")

#: A Job's failed pod is tried again after this, doubling: nobody waits ten seconds on one machine.
_JOB_BACKOFF_S = 1.0
#: Revisions that a watch can resume from; about 2 kB of memory each.
_HISTORY = 4_000
_OPEN_FILES = 65_536
#: A start isn't held up longer than this by GPUs that don't come.
_GPU_WAIT_S = 10.0


class Yard:
    """One running yard. `run` returns when it was told to stop, and raises what broke it.

    Args:
        paths: whose folders exist.
        simulate, port: what this start was told; None keeps the last choice.
        report: called once, with nothing when the yard is ready.
    """

    def __init__(self, paths: YardPaths, *, simulate: str | None, port: int | None, report: Report) -> None:
        self._paths = paths
        self._simulate = simulate
        self._port = port
        self._report = report
        self._stop = asyncio.Event()
        self.node = node_name(platform.node())

    def stop(self) -> None:
        """Begins the shutdown."""
        self._stop.set()

    async def run(self) -> None:
        """Lives."""
        paths = self._paths
        async with AsyncExitStack() as stack:
            # The lock comes with the store: until it is held nothing of another yard may be touched.
            store = await Store.open(paths.database, lock=paths.lock, history=_HISTORY)
            stack.push_async_callback(store.close)
            # Again, now that nobody else is at it: a daemon that was just ending has removed its own.
            paths.make_folders()
            # While the lock is still held: the next daemon's sockets lie in the same folder.
            stack.callback(shutil.rmtree, paths.runtime_dir, ignore_errors=True)
            stack.enter_context(_kept_from_cleaning(paths.runtime_dir))
            settings = load_settings(paths.settings).chosen(simulate=self._simulate, port=self._port)
            devices = DeviceManager(paths.device_plugins_dir, paths.device_checkpoint, utc_now)
            await devices.start()
            stack.push_async_callback(devices.stop)
            state = _State(paths, self.node)
            # Early: its interpreter starts on the other core while this one goes on.
            agent = _owned(
                stack, AgentProcess(paths, self.node, settings.simulate, on_pid=state.agent).run(), "agent"
            )
            pod_resources = PodResourcesServer(devices, paths.pod_resources_socket)
            await pod_resources.start()
            stack.push_async_callback(pod_resources.stop)

            name, search_path = paths.runtime_dir.name, os.environ.get("PATH", os.defpath)
            podman = Podman.find(name, search_path)
            api = ObjectApi(store, clock=utc_now, rng=random.SystemRandom(), no_images=lambda: podman.problem)
            await api.bootstrap()
            runtime = await Runtime.open(name, search_path, utc_now, podman=podman)
            informers = {resource: Informer(api, resource) for resource in (*FOLLOWED, CONFIG_MAPS, SECRETS)}
            kubelet = Kubelet(api, paths, self.node, devices, runtime, utc_now, pods=informers[PODS])
            tasks = [agent, await self._serve_api(stack, api, kubelet, settings, state)]
            controllers = ControllerManager(
                api,
                utc_now,
                informers,
                [kind.resource for kind in ALL_KINDS],
                job_backoff_s=_JOB_BACKOFF_S,
            )
            scheduler = Scheduler(api, utc_now, informers[NODES], informers[PODS])
            tasks += [_owned(stack, i.run(), f"informer-{r.plural}") for r, i in informers.items()]
            tasks.append(_owned(stack, controllers.run(), "controllers"))
            tasks.append(_owned(stack, scheduler.run(), "scheduler"))
            tasks.append(_owned(stack, kubelet.run(), "kubelet"))

            ready = _owned(stack, self._get_ready(informers[NODES], devices, settings), "ready")
            stopped = _owned(stack, self._stop.wait(), "stop")
            await _first_of([ready, stopped, *tasks])
            if ready.done() and not stopped.done():
                state.save()
                # What start-up left behind is garbage or lives as long as the daemon.
                gc.collect()
                gc.freeze()
                self._report.ready()
                await _first_of([stopped, *tasks])

    async def _serve_api(
        self, stack: AsyncExitStack, api: ObjectApi, kubelet: Kubelet, settings: Settings, state: _State
    ) -> asyncio.Task[Any]:
        paths = self._paths
        pki, token = Pki(paths.pki_dir), load_or_make_token(paths.token)
        pki.ensure(utc_now())
        listeners = Listeners.open(paths.api_socket, settings.port)
        save_settings(paths.settings, replace(settings, port=listeners.port))
        ca_pem = pki.ca_certificate.read_bytes()
        write_kubeconfig(paths.kubeconfig, port=listeners.port, ca_pem=ca_pem, token=token)
        state.api = f"https://127.0.0.1:{listeners.port}"
        serving = serve(ApiApp(api, logs=kubelet.logs), listeners, token=token, pki=pki, clock=utc_now)
        return _owned(stack, serving, "api")

    async def _get_ready(self, nodes: Informer, devices: DeviceManager, settings: Settings) -> None:
        """Returns when the node is ready and has the GPUs that are to be expected."""
        changed = asyncio.Event()
        nodes.add_handler(lambda old, new: changed.set())
        devices.on_change(changed.set)
        try:
            async with asyncio.timeout(_GPU_WAIT_S):
                while not (self._is_ready(nodes) and self._shows_gpus(nodes, devices, settings.simulate)):
                    await changed.wait()
                    changed.clear()
        except TimeoutError:
            if not self._is_ready(nodes):
                raise errors.YardError(
                    f"the node {self.node} didn't get ready in {_GPU_WAIT_S:.0f} s",
                    remedy=f"see {self._paths.daemon_log}",
                ) from None
            log.warning("the GPUs aren't registered after %.0f s; going on without", _GPU_WAIT_S)

    def _is_ready(self, nodes: Informer) -> bool:
        node = nodes.objects.get(ObjectKey("", self.node))
        return node is not None and condition_is_true(node, "Ready")

    def _shows_gpus(self, nodes: Informer, devices: DeviceManager, simulate: str) -> bool:
        """Whether the node shows the GPUs that this start is to have, and none of an earlier one."""
        node = nodes.objects[ObjectKey("", self.node)]
        labels = labels_of(node)
        count = to_int((node.get("status", {}).get("capacity") or {}).get(GPU_RESOURCE, 0))
        if simulate:
            wanted = parse_simulation(simulate)
            # Until the plugin has registered, the node still shows what the last start left in the store.
            registered = devices.resources().get(GPU_RESOURCE)
            if registered is None or registered.capacity != wanted.count:
                return False
            shown = (labels.get(LABEL_SIMULATED), labels.get(LABEL_GPU_MODEL), count)
            return shown == ("true", wanted.model.name, wanted.count)
        if LABEL_SIMULATED in labels:
            return False
        return not Path("/dev/nvidiactl").exists() or (count > 0 and LABEL_GPU_MODEL in labels)


class Report:
    """The one line that the starting command waits for, on a pipe that it gave us."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def ready(self) -> None:
        """The yard answers."""
        self._say({"ready": True})

    def failed(self, error: errors.GpuyardError) -> None:
        """It doesn't, and why."""
        self._say({"error": error.message, "remedy": error.remedy, "exit_code": error.exit_code})

    def _say(self, report: dict[str, Any]) -> None:
        if self._descriptor < 0:
            return
        # The command may have been interrupted: nobody reads then, and that is fine.
        try:
            os.write(self._descriptor, json.dumps(report).encode() + b"\n")
            os.close(self._descriptor)
        except BrokenPipeError:
            pass
        self._descriptor = -1


class _State:
    """Keeps the file that tells commands about this daemon."""

    def __init__(self, paths: YardPaths, node: str) -> None:
        self.api = ""
        self._paths = paths
        self._node = node
        self._agent_pid = 0
        self._started_at = format_time(utc_now())
        self._saved = False

    def agent(self, pid: int) -> None:
        """The agent's pid changed; 0 when it is gone."""
        self._agent_pid = pid
        if self._saved:
            self.save()

    def save(self) -> None:
        """Writes it."""
        self._saved = True
        running = RunningYard(
            os.getpid(), self._agent_pid, self.api, self._node, __version__, self._started_at
        )
        save_running(self._paths.running, running)


def node_name(host: str) -> str:
    """The host's name as Kubernetes wants a node's."""
    return re.sub(r"[^a-z0-9.]+", "-", host.lower()).strip("-.") or "yard"


@contextlib.contextmanager
def _kept_from_cleaning(folder: Path) -> Iterator[None]:
    """Locks a folder below /tmp, since systemd-tmpfiles removes what is old there unless it is locked."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def _owned(stack: AsyncExitStack, work: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
    """A task that ends when the stack unwinds to it."""
    task = asyncio.create_task(work, name=name)

    async def end() -> None:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    stack.push_async_callback(end)
    return task


async def _first_of(tasks: list[asyncio.Task[Any]]) -> None:
    """Waits for the first to end and raises what it raised: none of the parts ends by itself."""
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in done:
        task.result()


async def _main(options: argparse.Namespace, report: Report) -> None:
    paths = find_paths(os.environ)
    paths.make_folders()
    yard = Yard(paths, simulate=options.simulate, port=options.port, report=report)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, yard.stop)
    await yard.run()


def _allow_many_files() -> None:
    """Raises the usual soft limit of 1,024: each pod, watch and followed log holds descriptors.

    Runs inherit it, as containers do; it is bounded, since some programs close all that they might have.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, _OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def main() -> int:
    """Runs the yard until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(prog="gpuyard.local.daemon", description=__doc__)
    parser.add_argument("--simulate", help="GPUs to simulate, such as H100:8; kept")
    parser.add_argument("--port", type=int, help="of the HTTPS API; kept")
    parser.add_argument("--ready-fd", type=int, default=-1, help="where to say that the yard is ready")
    options = parser.parse_args()
    _allow_many_files()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    report = Report(options.ready_fd)
    try:
        asyncio.run(_main(options, report))
    except errors.GpuyardError as error:
        log.error("%s; %s", error.message, error.remedy)
        report.failed(error)
        return error.exit_code
    except Exception as error:
        log_file = find_paths(os.environ).daemon_log
        failure = errors.YardError(f"the yard failed: {_in_one_line(error)}", remedy=f"see {log_file}")
        log.critical(failure.message, exc_info=True)
        report.failed(failure)
        return failure.exit_code
    return 0


def _in_one_line(error: Exception) -> str:
    """What went wrong at the bottom of it: parts that run in groups wrap what ended them."""
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return " ".join(f"{type(error).__name__}: {error}".split())


if __name__ == "__main__":
    sys.exit(main())
