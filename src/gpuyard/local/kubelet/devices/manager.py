"""The kubelet's device manager: which devices the node has, and which container holds which.

Plugins register over gRPC on `kubelet.sock` (device plugin API v1beta1), as with any kubelet. A plugin
whose stream ends keeps its devices as unhealthy capacity for a grace period; assignments outlive plugins,
the grace and this process.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

import grpc.aio

from gpuyard import errors
from gpuyard._proto import device_plugin_pb2_grpc as rpc
from gpuyard.client.supervision import Supervisor
from gpuyard.devices.gpu_locks import GpuLocks, gpu_of
from gpuyard.local.kubelet.devices.checkpoint import (
    Assignment,
    ContainerAllocation,
    read_checkpoint,
    write_checkpoint,
)
from gpuyard.local.kubelet.devices.free import free_devices
from gpuyard.local.kubelet.devices.locks import DeviceLocks
from gpuyard.local.kubelet.devices.plugin_client import PluginClient, PluginDevice
from gpuyard.local.kubelet.devices.registration import KUBELET_SOCKET, Registration
from gpuyard.private_folders import make_private_folder

__all__ = ["Assignment", "ContainerAllocation", "DeviceCount", "DeviceManager"]

_LONGEST_SOCKET_PATH = 107
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class DeviceCount:
    """Devices of one resource: all that are known, and those that are healthy."""

    capacity: int
    allocatable: int


@dataclass
class _ServedResource:
    """One resource, while its plugin lives and for the grace period after."""

    client: PluginClient | None = None
    devices: Mapping[str, PluginDevice] = field(default_factory=dict)
    follower: asyncio.Task[None] | None = None


class DeviceManager:
    """Owns the Registration socket, the connections to plugins and the checkpoint.

    Allocations are made one container at a time under a lock, and are on the disk before they are answered.
    All methods belong to the event loop that `start` ran in.

    Args:
        plugins_dir: folder of the sockets; every socket in it is removed at start, as the kubelet does.
        checkpoint: file of the assignments.
        clock: aware UTC now.
        grace_s: how long devices outlive their plugin, as unhealthy capacity.
        locks: against the other yards of this machine; None where nothing is shared with them.
    """

    def __init__(
        self,
        plugins_dir: Path,
        checkpoint: Path,
        clock: Callable[[], datetime],
        *,
        grace_s: float = 300.0,
        locks: GpuLocks | None = None,
    ) -> None:
        self._plugins_dir = plugins_dir
        self._checkpoint = checkpoint
        self._clock = clock
        self._grace_s = grace_s
        self._served: dict[str, _ServedResource] = {}
        self._locks = DeviceLocks(locks)
        self._assignments: dict[tuple[str, str], Assignment] = {}
        self._callbacks: list[Callable[[], None]] = []
        self._supervisor = Supervisor()
        self._allocating = asyncio.Lock()
        self._registering = asyncio.Lock()
        self._server: grpc.aio.Server | None = None

    async def start(self) -> None:
        """Restores the assignments and opens the Registration socket.

        Raises:
            DeviceError: the checkpoint can't be read, or the socket can't be made.
        """
        socket = self._plugins_dir / KUBELET_SOCKET
        if len(bytes(socket)) > _LONGEST_SOCKET_PATH:
            raise errors.DeviceError(
                f"the path of the socket {socket} has more than {_LONGEST_SOCKET_PATH} bytes",
                remedy="use a runtime folder with a shorter path",
            )
        for assignment in await asyncio.to_thread(read_checkpoint, self._checkpoint, self._clock()):
            self._assignments[assignment.pod_uid, assignment.container] = assignment
            await self._locks.restore(assignment.allocation.device_ids, assignment.pod)
        await self.listen()

    async def listen(self) -> None:
        """Opens the Registration socket, anew where its file is gone; plugins notice, and register again.

        Raises:
            DeviceError: the socket can't be made.
        """
        socket = self._plugins_dir / KUBELET_SOCKET
        if self._server is not None:
            await self._server.stop(grace=None)
            self._server = None
        server = grpc.aio.server()
        rpc.add_RegistrationServicer_to_server(Registration(self.register), server)
        try:
            make_private_folder(self._plugins_dir)
            _remove_sockets(self._plugins_dir)
            server.add_insecure_port(f"unix:{socket}")
        except (OSError, RuntimeError) as error:
            await server.stop(grace=None)
            raise errors.DeviceError(f"can't listen on {socket}: {error}") from error
        await server.start()
        self._server = server

    async def stop(self) -> None:
        """Closes the socket and leaves the plugins; assignments stay in the checkpoint."""
        if self._server is not None:
            await self._server.stop(grace=None)
            self._server = None
        for served in self._served.values():
            await _end(served)
        self._served.clear()
        self._locks.close()

    def resources(self) -> Mapping[str, DeviceCount]:
        """Counts by resource; a resource stays, with zeros, when its plugin is gone for good."""
        return {
            name: DeviceCount(len(served.devices), sum(d.healthy for d in served.devices.values()))
            for name, served in self._served.items()
        }

    def devices(self) -> Mapping[str, Mapping[str, PluginDevice]]:
        """Every known device by resource and id."""
        return {name: served.devices for name, served in self._served.items()}

    def assignments(self) -> Sequence[Assignment]:
        """Who holds what, in the order of assignment."""
        return tuple(self._assignments.values())

    def lock_descriptors(self, allocation: ContainerAllocation) -> Sequence[int]:
        """What the processes beside a container inherit, so that its GPUs stay its own without this one."""
        return self._locks.descriptors(allocation.device_ids)

    def on_change(self, callback: Callable[[], None]) -> None:
        """Calls `callback` in the event loop whenever `resources()` may have changed."""
        self._callbacks.append(callback)

    async def allocate(
        self,
        pod_uid: str,
        namespace: str,
        pod: str,
        container: str,
        requests: Mapping[str, int],
        *,
        run: str = "",
        reusable: bool = False,
    ) -> ContainerAllocation:
        """Gives a container its devices; the same answer again when it has them already.

        Call it before every start of the container: plugins may ask to be told of each.

        Args:
            requests: number of devices by resource; every resource named has to be served by a plugin.
            run: what other yards are told of who holds them; empty for the pod's name.
            reusable: the container is an ordinary init container, whose devices the pod's later containers
                may take over.

        Raises:
            DeviceError: too few healthy devices are free, or a plugin refuses; nothing was assigned.
            CheckpointError: the choice can't be written down now; nothing was assigned.
        """
        # Who needs none doesn't wait for a plugin that is slow to answer others.
        if (pod_uid, container) not in self._assignments and not any(n > 0 for n in requests.values()):
            return ContainerAllocation()
        async with self._allocating:
            held = self._assignments.get((pod_uid, container))
            if held is None and any(count > 0 for count in requests.values()):
                who = Assignment(pod_uid, namespace, pod, container, ContainerAllocation(), reusable=reusable)
                held = await self._assign(who, requests, run or pod)
            elif held is not None:
                await self._locks.take(held.allocation.device_ids, run or pod)
                if held.allocation == _only_ids(held.allocation):
                    held = await self._ask_again(held)
        if held is None:
            return ContainerAllocation()
        for resource, ids in held.allocation.device_ids.items():
            served = self._served.get(resource)
            if served is not None and served.client is not None:
                await served.client.pre_start(ids)
        return held.allocation

    def recover(
        self, pod_uid: str, namespace: str, pod: str, container: str, ids: Mapping[str, tuple[str, ...]]
    ) -> None:
        """Notes devices of a container that the checkpoint has lost; nothing happens when it knows the
        container. They aren't given to others, and the plugin is asked anew before the next start."""
        key = (pod_uid, container)
        if key not in self._assignments:
            allocation = ContainerAllocation(device_ids=dict(ids))
            self._assignments[key] = Assignment(pod_uid, namespace, pod, container, allocation)
            _LOG.warning("%s/%s holds %s, which the checkpoint has lost", namespace, pod, dict(ids))

    async def release(self, pod_uid: str) -> None:
        """Frees what the containers of a pod hold; nothing happens when they hold nothing.

        Where the checkpoint can't be written, on a full disk, they are free all the same: the next write has
        it, and a later start frees what belongs to pods that are over.
        """
        await self._drop(lambda assignment: assignment.pod_uid == pod_uid)

    async def retain(self, live_pod_uids: Iterable[str]) -> None:
        """As `release`, for every pod but these, such as those deleted while the kubelet was down."""
        live = frozenset(live_pod_uids)
        await self._drop(lambda assignment: assignment.pod_uid not in live)

    async def _drop(self, doomed: Callable[[Assignment], bool]) -> None:
        async with self._allocating:
            dropped = [one for one in self._assignments.values() if doomed(one)]
            if dropped:
                kept = {key: one for key, one in self._assignments.items() if not doomed(one)}
                self._assignments = kept
                await self._unlock([one.allocation for one in dropped])
                try:
                    await self._save(kept)
                except errors.DeviceError as error:
                    _LOG.warning("%s; the devices are free all the same", error.message)

    async def _unlock(self, dropped: Iterable[ContainerAllocation]) -> None:
        kept = [one.allocation.device_ids for one in self._assignments.values()]
        await self._locks.release([one.device_ids for one in dropped], kept)

    async def _assign(self, who: Assignment, requests: Mapping[str, int], run: str) -> Assignment:
        parts: list[ContainerAllocation] = []
        chosen: dict[str, Sequence[str]] = {}
        numa_nodes: dict[str, tuple[int, ...]] = {}
        try:
            for resource, count in sorted(requests.items()):
                if count <= 0:
                    continue
                client = self._client_of(resource)
                devices = self._served[resource].devices
                chosen[resource] = await self._choose(client, devices, who.pod_uid, count, run)
                numa_nodes |= {one: devices[one].numa_nodes for one in chosen[resource]}
                parts.append(await client.allocate(chosen[resource]))
            assignment = replace(who, allocation=ContainerAllocation.merged(parts), numa_nodes=numa_nodes)
            await self._save({**self._assignments, (who.pod_uid, who.container): assignment})
        except BaseException:
            await self._unlock([ContainerAllocation({key: tuple(ids) for key, ids in chosen.items()})])
            raise
        return assignment

    async def _ask_again(self, held: Assignment) -> Assignment:
        """Completes what `recover` noted."""
        ids = held.allocation.device_ids
        parts = [await self._client_of(resource).allocate(ids[resource]) for resource in sorted(ids)]
        again = replace(held, allocation=ContainerAllocation.merged(parts))
        await self._save({**self._assignments, (held.pod_uid, held.container): again})
        return again

    def _client_of(self, resource: str) -> PluginClient:
        served = self._served.get(resource)
        if served is None or served.client is None:
            raise errors.DeviceError(
                f"no device plugin serves {resource} on this node now",
                remedy="start the agent of that device, or remove the request",
            )
        return served.client

    async def _choose(
        self,
        client: PluginClient,
        devices: Mapping[str, PluginDevice],
        pod_uid: str,
        count: int,
        run: str,
    ) -> Sequence[str]:
        """So many devices, locked against the machine's other yards."""
        others: dict[str, errors.GpuHeld] = {}
        while True:
            ids = await self._wish(client, devices, pod_uid, count, others)
            try:
                await self._locks.take({client.resource: ids}, run)
                return ids
            except BaseException as error:
                await self._unlock([ContainerAllocation({client.resource: tuple(ids)})])
                if not isinstance(error, errors.GpuHeld):
                    raise
                others |= {one: error for one in devices if gpu_of(one) == error.gpu}

    async def _wish(
        self,
        client: PluginClient,
        devices: Mapping[str, PluginDevice],
        pod_uid: str,
        count: int,
        others: Mapping[str, errors.GpuHeld],
    ) -> Sequence[str]:
        """So many devices that nobody here holds, without those that other yards have."""
        free, must = free_devices(
            client.resource, devices, self._assignments.values(), pod_uid, count, others
        )
        wanted: Sequence[str] = ()
        if client.prefers and len(free) > count:
            try:
                wanted = await client.prefer(free, must, count)
            except errors.DeviceError as error:
                _LOG.warning("%s; choosing by id", error.message)
        # A preference is a wish: what can't be had is ignored, what is missing is filled up.
        wishes = [*must, *(one for one in wanted if one in free), *free]
        return sorted(tuple(dict.fromkeys(wishes))[:count])

    async def _save(self, assignments: dict[tuple[str, str], Assignment]) -> None:
        await asyncio.to_thread(write_checkpoint, self._checkpoint, tuple(assignments.values()))
        self._assignments = assignments

    async def register(self, resource: str, endpoint: str) -> None:
        """Dials a plugin back and follows it, in the place of any that served the resource before.

        Raises:
            DeviceError: nobody answers on the endpoint.
        """
        async with self._registering:
            client = PluginClient(resource, self._plugins_dir / endpoint)
            try:
                await client.connect()
            except BaseException:
                await client.close()
                raise
            served = self._served.setdefault(resource, _ServedResource())
            # The old stream is over before the new one counts, so that its end can't take the new one down.
            await _end(served)
            served.client = client
            served.follower = asyncio.create_task(
                self._follow(served, client), name=f"device plugin {resource}"
            )
            served.follower.add_done_callback(_report)
            _LOG.info("device plugin %s registered for %s", endpoint, resource)

    async def _follow(self, served: _ServedResource, client: PluginClient) -> None:
        # However it stops telling of its devices: nobody knows any more whether they are healthy.
        with self._supervisor.guard(f"device plugin {client.resource}"):
            async for devices in client.devices():
                served.devices = devices
                self._changed()
        await client.close()
        served.client = None
        served.devices = {one: replace(device, healthy=False) for one, device in served.devices.items()}
        _LOG.warning("the device plugin of %s is gone; its devices count as unhealthy", client.resource)
        self._changed()
        await asyncio.sleep(self._grace_s)
        served.devices = {}
        self._changed()

    def _changed(self) -> None:
        for callback in self._callbacks:
            callback()


def _report(follower: asyncio.Task[None]) -> None:
    if not follower.cancelled() and (error := follower.exception()) is not None:
        _LOG.error("%s is no longer followed", follower.get_name(), exc_info=error)


async def _end(served: _ServedResource) -> None:
    if served.follower is not None:
        served.follower.cancel()
        await asyncio.wait([served.follower])
        served.follower = None
    if served.client is not None:
        await served.client.close()
        served.client = None


def _only_ids(allocation: ContainerAllocation) -> ContainerAllocation:
    return ContainerAllocation(device_ids=allocation.device_ids)


def _remove_sockets(folder: Path) -> None:
    for socket in (entry for entry in folder.iterdir() if entry.is_socket()):
        socket.unlink()
