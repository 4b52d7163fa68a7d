"""PodResources v1: tells monitoring which container holds which devices."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from gpuyard import errors
from gpuyard._proto import pod_resources_pb2 as pb
from gpuyard._proto import pod_resources_pb2_grpc as rpc
from gpuyard.local.kubelet.devices.manager import Assignment, DeviceManager
from gpuyard.private_folders import make_private_folder


class PodResourcesServer:
    """Serves `v1.PodResourcesLister` on a unix socket. Pods without devices aren't listed.

    CPUs and memory aren't handed out exclusively here, so their lists are empty.
    """

    def __init__(self, devices: DeviceManager, socket: Path) -> None:
        self._devices = devices
        self._socket = socket
        self._server: grpc.aio.Server | None = None

    async def start(self) -> None:
        """Opens the socket, in the place of any that was left behind.

        Raises:
            DeviceError: the socket can't be made.
        """
        await self.stop()
        make_private_folder(self._socket.parent)
        self._socket.unlink(missing_ok=True)
        server = grpc.aio.server()
        rpc.add_PodResourcesListerServicer_to_server(_Lister(self._devices), server)
        try:
            server.add_insecure_port(f"unix:{self._socket}")
        except RuntimeError as error:
            await server.stop(grace=None)
            raise errors.DeviceError(f"can't listen on {self._socket}: {error}") from error
        await server.start()
        self._server = server

    async def stop(self) -> None:
        """Closes the socket."""
        if self._server is not None:
            await self._server.stop(grace=None)
            self._server = None


class _Lister(rpc.PodResourcesListerServicer):
    def __init__(self, devices: DeviceManager) -> None:
        self._devices = devices

    async def List(self, request: pb.ListPodResourcesRequest, context: Any) -> pb.ListPodResourcesResponse:
        return pb.ListPodResourcesResponse(pod_resources=_pods(self._devices.assignments()).values())

    async def Get(self, request: pb.GetPodResourcesRequest, context: Any) -> pb.GetPodResourcesResponse:
        found = _pods(
            one
            for one in self._devices.assignments()
            if (one.namespace, one.pod) == (request.pod_namespace, request.pod_name)
        )
        if not found:
            await context.abort(
                grpc.StatusCode.NOT_FOUND,
                f"no pod {request.pod_namespace}/{request.pod_name} holds devices on this node",
            )
        return pb.GetPodResourcesResponse(pod_resources=list(found.values())[-1])

    async def GetAllocatableResources(
        self, request: pb.AllocatableResourcesRequest, context: Any
    ) -> pb.AllocatableResourcesResponse:
        return pb.AllocatableResourcesResponse(
            devices=[
                _devices(resource, [name], {name: device.numa_nodes})
                for resource, devices in self._devices.devices().items()
                for name, device in devices.items()
                if device.healthy
            ]
        )


def _pods(assignments: Iterable[Assignment]) -> Mapping[str, pb.PodResources]:
    """By pod uid: a pod that is going and its successor of the same name are two."""
    pods: dict[str, pb.PodResources] = {}
    for assignment in assignments:
        pod = pods.setdefault(
            assignment.pod_uid, pb.PodResources(name=assignment.pod, namespace=assignment.namespace)
        )
        container = pod.containers.add(name=assignment.container)
        for resource, names in assignment.allocation.device_ids.items():
            container.devices.extend(_devices(resource, [name], assignment.numa_nodes) for name in names)
    return pods


def _devices(
    resource: str, names: list[str], numa_nodes: Mapping[str, tuple[int, ...]]
) -> pb.ContainerDevices:
    # As the kubelet does: one entry for each device, since each has a topology of its own.
    nodes = [pb.NUMANode(ID=node) for name in names for node in numa_nodes.get(name, ())]
    return pb.ContainerDevices(
        resource_name=resource,
        device_ids=names,
        topology=pb.TopologyInfo(nodes=nodes) if nodes else None,
    )
